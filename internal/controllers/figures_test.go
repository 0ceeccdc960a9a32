package controllers

import (
	"context"
	"maps"
	"slices"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/client-go/rest"
)

// TestRunningControllers: a controller that works is shown as running, one that has nothing to work with is not.
func TestRunningControllers(t *testing.T) {
	t.Parallel()
	r := prometheus.NewRegistry()
	c := start(t, func(c *Config, _ *rest.Config) { c.Metrics = r })
	const prefix = "running_managed_controllers "
	c.eventually("controllers run", func(context.Context) (string, error) {
		now := figuresOf(t, r, prefix)
		for _, name := range []string{"deployment-controller", "nodeipam"} {
			if now[prefix+"manager=kube-controller-manager name="+name] != 1 {
				return name, nil
			}
		}
		return "", nil
	})
	if now := figuresOf(t, r, prefix); now[prefix+"manager=kube-controller-manager name=certificatesigningrequest-signing-controller"] != 0 {
		t.Errorf("certificates are signed without an authority: %q", slices.Sorted(maps.Keys(now)))
	}
}
