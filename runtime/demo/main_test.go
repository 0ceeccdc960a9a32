package main

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestDemo(t *testing.T) {
	t.Parallel()
	env := map[string]string{"POD_NAME": "web-<1>", "MESSAGE": "Ahoy"}
	h, err := newHandler(func(k string) string { return env[k] }, func() (string, error) { return "host-1", nil })
	if err != nil {
		t.Fatal(err)
	}
	get := func(path, accept string) (int, string) {
		r := httptest.NewRequest(http.MethodGet, path, nil)
		r.Header.Set("Accept", accept)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w.Code, w.Body.String()
	}
	if code, body := get("/", "*/*"); code != http.StatusOK || !strings.Contains(body, "Ahoy: pod web-<1> answered") {
		t.Errorf("plain: %d %q", code, body)
	}
	if code, body := get("/", "text/html"); code != http.StatusOK || !strings.Contains(body, "web-&lt;1&gt;") {
		t.Errorf("page: %d %q", code, body)
	}
	if _, body := get("/hostname", ""); body != "host-1\n" {
		t.Errorf("hostname: %q", body)
	}
	if code, _ := get("/healthz", ""); code != http.StatusOK {
		t.Errorf("healthz: %d", code)
	}
	h.leaving.Store(true)
	if code, _ := get("/healthz", ""); code != http.StatusServiceUnavailable {
		t.Errorf("healthz while leaving: %d", code)
	}
	if code, _ := get("/nothing", ""); code != http.StatusNotFound {
		t.Errorf("unknown path: %d", code)
	}
}
