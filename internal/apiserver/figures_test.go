package apiserver_test

import (
	"strings"
	"testing"

	"canopus/internal/apiserver/apitest"
)

// TestFigures reads /metrics after a look at the server's health, and after somebody asked for a kind that is deprecated.
func TestFigures(t *testing.T) {
	t.Parallel()
	s := apitest.Start(t)
	for _, path := range []string{"/livez", "/readyz/etcd", "/api/v1/endpoints"} {
		if resp, text := send(t, s, "GET", path, "", ""); resp.StatusCode != 200 {
			t.Fatalf("%s: %d %s", path, resp.StatusCode, text)
		}
	}
	_, text := send(t, s, "GET", "/metrics", "", "")
	for _, want := range []string{
		`kubernetes_healthcheck{name="ping",type="livez"} 1`,
		`kubernetes_healthchecks_total{name="etcd",status="success",type="readyz"} `,
		`apiserver_requested_deprecated_apis{group="",removed_release="",resource="endpoints",subresource="",version="v1"} 1`,
		`apiserver_storage_objects{resource="endpoints"} 0`,
		`apiserver_storage_objects{resource="deployments.apps"} 0`,
	} {
		if !strings.Contains(text, "\n"+want) {
			t.Errorf("no %s in\n%s", want, text)
		}
	}
}
