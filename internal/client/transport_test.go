package client

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"canopus/internal/auth"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

func through(h http.HandlerFunc) *http.Client {
	return &http.Client{Transport: &transport{handler: h, user: &auth.User{Name: "me", Groups: []string{"g"}}}}
}

func do(t *testing.T, c *http.Client, ctx context.Context, body string) (*http.Response, error) {
	t.Helper()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://canopus.local/a?b=c", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	return c.Do(r)
}

func TestRequestReachesTheHandler(t *testing.T) {
	t.Parallel()
	c := through(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		w.Header().Set("X-Seen", auth.UserFrom(r.Context()).Name)
		w.WriteHeader(http.StatusCreated)
		w.Header().Set("X-Late", "not sent")
		fmt.Fprintf(w, "%s %s %s", r.Method, r.RequestURI, body)
	})
	resp, err := do(t, c, t.Context(), "hello")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || string(body) != "POST /a?b=c hello" || resp.StatusCode != http.StatusCreated || resp.Status != "201 Created" {
		t.Errorf("got %s %q, %v", resp.Status, body, err)
	}
	if resp.Header.Get("X-Seen") != "me" || resp.Header.Get("X-Late") != "" {
		t.Errorf("headers %v", resp.Header)
	}
}

// A request that names another user in its headers or context is still the access's own.
func TestIdentityIsTheTransports(t *testing.T) {
	t.Parallel()
	c := through(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, auth.UserFrom(r.Context()).Name) })
	resp, err := do(t, c, auth.WithUser(t.Context(), &auth.User{Name: "admin"}), "")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, _ := io.ReadAll(resp.Body); string(body) != "me" {
		t.Errorf("seen as %s", body)
	}
}

func TestStreamAndCancel(t *testing.T) {
	t.Parallel()
	ended := make(chan struct{})
	step := make(chan struct{})
	c := through(func(w http.ResponseWriter, r *http.Request) {
		defer close(ended)
		for {
			select {
			case <-step:
				fmt.Fprint(w, "x")
				w.(http.Flusher).Flush()
			case <-r.Context().Done():
				return
			}
		}
	})
	go func() { step <- struct{}{} }()
	resp, err := do(t, c, t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 1)
	for i := range 3 { // each byte is read while the handler still runs
		if _, err := io.ReadFull(resp.Body, buf); err != nil || buf[0] != 'x' {
			t.Fatalf("read %d: %q, %v", i, buf, err)
		}
		if i < 2 {
			step <- struct{}{}
		}
	}
	resp.Body.Close()
	waitFor(t, ended, "closing the body ends the handler")
}

// The end of the request's context ends a read that waits, and the handler.
func TestContextEndsStream(t *testing.T) {
	t.Parallel()
	ended := make(chan struct{})
	c := through(func(w http.ResponseWriter, r *http.Request) {
		defer close(ended)
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	})
	ctx, cancel := context.WithCancel(t.Context())
	resp, err := do(t, c, ctx, "")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	cancel()
	if _, err := io.ReadAll(resp.Body); !errors.Is(err, context.Canceled) {
		t.Errorf("read gives %v", err)
	}
	waitFor(t, ended, "the handler ends")
}

// A slow reader holds a streaming handler up rather than filling memory, and a handler that ends is read to its end.
func TestBackPressure(t *testing.T) {
	t.Parallel()
	const total = 4 << 20
	c := through(func(w http.ResponseWriter, _ *http.Request) {
		w.(http.Flusher).Flush()
		chunk := make([]byte, 32<<10)
		for range total / len(chunk) {
			if _, err := w.Write(chunk); err != nil {
				t.Error(err)
			}
		}
	})
	resp, err := do(t, c, t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if n, err := io.Copy(io.Discard, resp.Body); n != total || err != nil {
		t.Errorf("read %d, %v", n, err)
	}
}

// A panic in a handler is that request's failure.
func TestPanic(t *testing.T) {
	t.Parallel()
	for name, flush := range map[string]bool{"before the answer": false, "within the stream": true} {
		c := through(func(w http.ResponseWriter, _ *http.Request) {
			if flush {
				fmt.Fprint(w, "half")
				w.(http.Flusher).Flush()
			}
			panic("a bug")
		})
		resp, err := do(t, c, t.Context(), "")
		if err == nil {
			_, err = io.ReadAll(resp.Body)
			resp.Body.Close()
		}
		if err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// client-go's own watch works over the transport.
func TestClientsetWatch(t *testing.T) {
	t.Parallel()
	send := make(chan *corev1.Pod)
	handler := func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.(http.Flusher).Flush()
		for {
			select {
			case <-r.Context().Done():
				return
			case p := <-send:
				p.APIVersion, p.Kind = "v1", "Pod"
				raw, err := json.Marshal(p)
				if err != nil {
					t.Error(err)
				}
				fmt.Fprintf(w, `{"type":"ADDED","object":%s}`+"\n", raw)
				w.(http.Flusher).Flush()
			}
		}
	}
	config := &rest.Config{Host: "http://canopus.local", Transport: through(handler).Transport}
	tune(config, "test")
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	w, err := client.CoreV1().Pods("default").Watch(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	for i := range 3 {
		send <- pod(fmt.Sprint("p", i), "")
		if e := <-w.ResultChan(); e.Type != watch.Added || e.Object.(*corev1.Pod).Name != fmt.Sprint("p", i) {
			t.Fatalf("got %v", e)
		}
	}
}

func TestKubeconfig(t *testing.T) {
	t.Parallel()
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer secret" || r.UserAgent() != "kube-scheduler" {
			t.Errorf("headers %v", r.Header)
		}
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, `{"gitVersion":"v1.37.0+canopus.1"}`)
	}))
	defer server.Close()
	config := clientcmdapi.NewConfig()
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	config.Clusters["c"] = &clientcmdapi.Cluster{Server: server.URL, CertificateAuthorityData: ca}
	config.AuthInfos["u"] = &clientcmdapi.AuthInfo{Token: "secret"}
	config.Contexts["x"] = &clientcmdapi.Context{Cluster: "c", AuthInfo: "u"}
	config.CurrentContext = "x"
	path := filepath.Join(t.TempDir(), "kubeconfig")
	if err := clientcmd.WriteToFile(*config, path); err != nil {
		t.Fatal(err)
	}
	access, err := FromKubeconfig(path, "kube-scheduler")
	if err != nil {
		t.Fatal(err)
	}
	if v, err := access.Client.Discovery().ServerVersion(); err != nil || v.GitVersion != "v1.37.0+canopus.1" {
		t.Errorf("got %v, %v", v, err)
	}
	if _, err := FromKubeconfig(filepath.Join(t.TempDir(), "none"), "x"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing file: %v", err)
	}
}

func waitFor(t *testing.T, c <-chan struct{}, what string) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(20 * time.Second):
		t.Fatalf("never: %s", what)
	}
}
