package delegate

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"
)

func TestPaths(t *testing.T) {
	t.Parallel()
	q := Paths(httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics?x=y", http.NoBody))
	if len(q.Accesses) != 1 || q.Accesses[0].Resource != nil || q.Accesses[0].Path.Path != "/metrics" || q.Accesses[0].Path.Verb != "get" {
		t.Errorf("a scrape needs %+v", q)
	}
}

// TestClosed is about callers that are nobody and an API server that does not answer: the gate stays shut.
func TestClosed(t *testing.T) {
	t.Parallel()
	client, err := kubernetes.NewForConfig(&rest.Config{Host: "https://127.0.0.1:1"})
	if err != nil {
		t.Fatal(err)
	}
	g, err := New(Config{Client: client, Question: Paths, Clock: clock.RealClock{}})
	if err != nil {
		t.Fatal(err)
	}
	h := g.Wrap(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("let in") }))
	for _, header := range []string{"", "Basic eDp5", "Bearer ", "Bearer abc"} {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", http.NoBody)
		r.Header.Set("Authorization", header)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != http.StatusUnauthorized {
			t.Errorf("%q: status %d, want 401", header, w.Code)
		}
	}
	if _, err := New(Config{Client: client, Clock: clock.RealClock{}}); err == nil {
		t.Error("a gate without a question")
	}
}
