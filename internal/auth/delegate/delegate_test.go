package delegate

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

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

// TestGroups is about requests that come on one connection at a time: they share its certificate, and none may write to it.
func TestGroups(t *testing.T) {
	t.Parallel()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		Subject: pkix.Name{CommonName: "eve", Organization: []string{"a", "b", "c"}},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	g := &Gate{cfg: Config{ClientCA: pool, Clock: clock.RealClock{}}}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			u, err := g.byCertificate([]*x509.Certificate{cert})
			if want := []string{"a", "b", "c", "system:authenticated"}; err != nil || !slices.Equal(u.groups, want) {
				t.Errorf("groups %v, want %v (%v)", u.groups, want, err)
			}
		})
	}
	wg.Wait()
	if list := cert.Subject.Organization; slices.Contains(list[:cap(list)], "system:authenticated") {
		t.Error("the certificate of the connection was written to")
	}
}
