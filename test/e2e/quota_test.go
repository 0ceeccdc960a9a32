package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"canopus/test/harness"
)

// quotas: a quota and a limit range refuse with the reason; what is deleted can be used again; a ReplicationController runs within
// them, by a runtime class that costs something, and says why it cannot grow.
func quotas(t *testing.T, s *scenario) {
	t.Cleanup(func() {
		for _, name := range []string{"e2e-runc", "e2e-none"} {
			_ = s.Client.NodeV1().RuntimeClasses().Delete(context.WithoutCancel(t.Context()), name, metav1.DeleteOptions{})
		}
	})
	s.apply(t, "quota.yaml")
	s.used(t, "pods=0 requests.memory=0 configmaps=1 count/deployments.apps=0") // kube-root-ca.crt
	s.apply(t, "controller.yaml")
	harness.Until(t, patience, "two pods of the controller", func() error {
		if ready := s.jsonpath(t, "rc/web", "{.status.readyReplicas}"); ready != "2" {
			return fmt.Errorf("%q ready", ready)
		}
		return nil
	})
	pod := s.pods(t, "app=web")[0]
	if got := pod.Spec.Containers[0].Resources; got.Requests.Memory().String() != "20Mi" || got.Limits.Memory().String() != "40Mi" ||
		!strings.Contains(pod.Annotations["kubernetes.io/limit-ranger"], "cpu, memory request for container web; memory limit for container web") {
		t.Errorf("the limit range gave %v, %v", got, pod.Annotations)
	}
	s.used(t, "pods=2 requests.memory=50Mi configmaps=1 count/deployments.apps=0") // with the overhead of the runtime class

	for _, c := range []struct{ manifest, want string }{
		{bare("big", "requests: {memory: 60Mi}, limits: {memory: 60Mi}"), "exceeded quota: team, requested: requests.memory=60Mi, used: requests.memory=50Mi, limited: requests.memory=100Mi"},
		{bare("huge", "limits: {memory: 1Gi}"), "maximum memory usage per Container is 80Mi, but limit is 1Gi"},
	} {
		r := s.Try(t, c.manifest, s.args([]string{"create", "-f", "-"})...)
		if r.Code == 0 || !strings.Contains(r.Stderr, c.want) {
			t.Errorf("want %q refused: %s", c.want, r.Stderr)
		}
	}
	s.k(t, "scale", "rc/web", "--replicas=4")
	harness.Until(t, patience, "the controller says why it cannot grow", func() error {
		text := s.k(t, "describe", "rc", "web")
		if !strings.Contains(text, "3 current / 4 desired") || !strings.Contains(text, "exceeded quota: team, requested: pods=1, used: pods=3, limited: pods=3") || !strings.Contains(text, "ReplicaFailure") {
			return fmt.Errorf("%s", text)
		}
		return nil
	})
	s.k(t, "scale", "rc/web", "--replicas=1")
	s.used(t, "pods=1 requests.memory=25Mi configmaps=1 count/deployments.apps=0")
	s.described(t)

	// A handler that the node's runtime does not have.
	s.Input(t, strings.Replace(bare("stray", ""), "spec:", "spec:\n  runtimeClassName: e2e-none", 1), s.args([]string{"create", "-f", "-"})...)
	harness.Until(t, patience, "an event about the handler", func() error {
		if text := s.k(t, "describe", "pod", "stray"); !strings.Contains(text, "FailedCreatePodSandBox") || !strings.Contains(text, `"nobody"`) {
			return fmt.Errorf("%s", text)
		}
		return nil
	})
}

// bare is a pod whose container has the given resources.
func bare(name, resources string) string {
	return fmt.Sprintf("apiVersion: v1\nkind: Pod\nmetadata: {name: %s}\nspec:\n  containers:\n  - {name: c, image: 'canopus.local/demo:1', resources: {%s}}\n", name, resources)
}

// used waits until the quota's status says so.
func (s *scenario) used(t *testing.T, want string) {
	t.Helper()
	harness.Until(t, patience, "use of the quota: "+want, func() error {
		q, err := s.Client.CoreV1().ResourceQuotas(s.ns).Get(t.Context(), "team", metav1.GetOptions{})
		if err != nil {
			return err
		}
		for _, pair := range strings.Fields(want) {
			found := false
			for name, value := range q.Status.Used {
				found = found || fmt.Sprintf("%s=%s", name, value.String()) == pair
			}
			if !found {
				return fmt.Errorf("used %v", q.Status.Used)
			}
		}
		return nil
	})
}

// described shows the quota, the limit range and the table as people read them.
func (s *scenario) described(t *testing.T) {
	t.Helper()
	for _, c := range []struct{ args, want string }{
		{"describe quota team", "requests.memory         25Mi  100Mi"},
		{"describe limits sizes", "Container   memory    -    80Mi  20Mi             40Mi"},
		{"get quota", "count/deployments.apps: 0/1, pods: 1/3, requests.memory: 25Mi/100Mi"},
		{"get rc", "web    1         1         1"},
	} {
		got := strings.Join(strings.Fields(s.k(t, strings.Fields(c.args)...)), " ")
		if !strings.Contains(got, strings.Join(strings.Fields(c.want), " ")) {
			t.Errorf("%s: want %q in %q", c.args, c.want, got)
		}
	}
}
