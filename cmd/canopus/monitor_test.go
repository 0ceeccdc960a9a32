package main

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"

	"canopus/internal/apiserver/apitest"
	"canopus/internal/client"

	"k8s.io/client-go/informers"
)

// TestMonitor asks a part's own server as nobody: it tells of its health and of nothing else.
func TestMonitor(t *testing.T) {
	t.Parallel()
	s := apitest.Start(t)
	access, err := client.FromConfig(s.Admin, "test")
	if err != nil {
		t.Fatal(err)
	}
	m := newMonitor("127.0.0.1", 0, slog.New(slog.DiscardHandler))
	demands := &demandPage{}
	m.pages["/metrics/resources"] = demands
	h, err := m.handler(access)
	if err != nil {
		t.Fatal(err)
	}
	ask := func(h http.Handler, path, token string) int {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, http.NoBody)
		r.Header.Set("Authorization", "Bearer "+token)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w.Code
	}
	for _, token := range []string{"", "made-up"} {
		for path, want := range map[string]int{
			"/healthz": http.StatusOK, "/livez": http.StatusOK, "/readyz": http.StatusOK,
			"/metrics": http.StatusUnauthorized, "/metrics/resources": http.StatusUnauthorized, "/nothing": http.StatusUnauthorized,
		} {
			if code := ask(h, path, token); code != want {
				t.Errorf("%s with token %q: %d, want %d", path, token, code, want)
			}
		}
	}
	if code := ask(demands, "/", ""); code != http.StatusOK {
		t.Errorf("pods before there is a scheduler: %d", code)
	}
	demands.see(informers.NewSharedInformerFactory(access.Client, 0))
	if code := ask(demands, "/", ""); code != http.StatusOK {
		t.Errorf("no pods: %d", code)
	}
}
