package server

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
)

func TestQuestion(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		method, path, verb string
		subresources       []string
	}{
		{"GET", "/metrics/resource", "get", []string{"metrics"}},
		{"HEAD", "/metrics", "get", []string{"metrics"}},
		{"GET", "/metricsandmore", "get", []string{"proxy"}},
		{"GET", "/stats/summary", "get", []string{"stats"}},
		{"GET", "/healthz", "get", []string{"healthz", "proxy"}},
		{"GET", "/pods", "get", []string{"pods", "proxy"}},
		{"POST", "/exec/ns/p/c", "create", []string{"proxy"}},
		{"DELETE", "/", "delete", []string{"proxy"}},
	} {
		q := question("n")(httptest.NewRequestWithContext(t.Context(), tt.method, tt.path, http.NoBody))
		var got []string
		for _, a := range q.Accesses {
			if a.Path != nil || a.Resource.Verb != tt.verb || a.Resource.Resource != "nodes" || a.Resource.Name != "n" {
				t.Errorf("%s %s asks for %v", tt.method, tt.path, a)
			}
			got = append(got, a.Resource.Subresource)
		}
		if !slices.Equal(got, tt.subresources) {
			t.Errorf("%s %s needs one of %v, want %v", tt.method, tt.path, got, tt.subresources)
		}
	}
}
