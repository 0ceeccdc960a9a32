package node_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"canopus/internal/auth"

	"github.com/prometheus/client_golang/prometheus"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/client-go/transport/spdy"
	"k8s.io/client-go/util/exec"
	statsapi "k8s.io/kubelet/pkg/apis/stats/v1alpha1"
)

// serving makes a certificate for loopback, and its PEM for clients.
func serving(t *testing.T) (*tls.Config, []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "node"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}},
		pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// TestServer reaches into pods through the agent's server with the clients that kubectl uses.
func TestServer(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	conf, ca := serving(t)
	r.config.NoServer, r.config.TLS, r.config.Address = false, conf, "127.0.0.1:10250" // a network namespace of this test program
	r.config.Figures = []prometheus.Collector{prometheus.NewGauge(prometheus.GaugeOpts{Name: "made_for_the_test"})}
	r.run(t)
	web := shellPod("web", `echo one; sleep 0.2; echo two >&2; sleep 0.2; echo three; mkdir /tmp/www; echo page > /tmp/www/index.html
httpd -p 8080 -h /tmp/www 2>&1 & `+forever)
	web.Spec.Containers[0].Ports = []corev1.ContainerPort{{Name: "http", ContainerPort: 8080}}
	web.Spec.Containers[0].ReadinessProbe = &corev1.Probe{PeriodSeconds: 1, ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/index.html", Port: intstr.FromString("http")}}}
	web.Spec.Containers[0].LivenessProbe = &corev1.Probe{PeriodSeconds: 1, InitialDelaySeconds: 2, ProbeHandler: corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Port: intstr.FromInt32(8080)}}}
	r.create(t, web)
	r.until(t, "web", "ready", ready)
	base := &rest.Config{Host: "https://127.0.0.1:10250", TLSClientConfig: rest.TLSClientConfig{CAData: ca}}
	admin, nobody := rest.CopyConfig(base), rest.CopyConfig(base)
	admin.BearerToken, nobody.BearerToken = "token-of-admin", "token-of-nobody"
	r.tokens.users.Store(admin.BearerToken, authenticationv1.UserInfo{Username: "admin", Groups: []string{auth.MastersGroup}})
	r.tokens.users.Store(nobody.BearerToken, authenticationv1.UserInfo{Username: "nobody", Groups: []string{auth.AuthenticatedGroup}})

	t.Run("refuses", func(t *testing.T) {
		for _, c := range []struct {
			who  *rest.Config
			want int
		}{{base, http.StatusUnauthorized}, {nobody, http.StatusForbidden}, {admin, http.StatusOK}} {
			if code, body := get(t, c.who, "/pods"); code != c.want {
				t.Errorf("%d %s, want %d", code, body, c.want)
			}
		}
	})
	t.Run("logs", func(t *testing.T) {
		for query, want := range map[string]string{"": "one\ntwo\nthree\n", "?tailLines=1": "three\n", "?limitBytes=3": "one", "?stream=Stderr": "two\n"} {
			if code, body := get(t, admin, "/containerLogs/default/web/main"+query); code != http.StatusOK || body != want {
				t.Errorf("%s: %d %q, want %q", query, code, body, want)
			}
		}
		if code, _ := get(t, admin, "/containerLogs/default/web/absent"); code != http.StatusBadRequest {
			t.Errorf("absent container: %d", code)
		}
		if code, _ := get(t, admin, "/containerLogs/default/web/main?tailLines=x"); code != http.StatusUnprocessableEntity {
			t.Errorf("bad option: %d", code)
		}
	})
	t.Run("exec", func(t *testing.T) { testExec(t, admin) })
	t.Run("port-forward", func(t *testing.T) { testPortForward(t, admin) })
	t.Run("statistics", func(t *testing.T) {
		testSummary(t, admin)
		if code, body := get(t, admin, "/metrics/resource"); code != http.StatusOK ||
			!strings.Contains(body, `container_memory_working_set_bytes{container="main",namespace="default",pod="web"}`) ||
			!strings.Contains(body, "\nresource_scrape_error 0\n") || !strings.Contains(body, "\nnode_cpu_usage_seconds_total ") {
			t.Errorf("%d %s", code, body)
		}
		if code, body := get(t, admin, "/metrics"); code != http.StatusOK ||
			!strings.Contains(body, `prober_probe_total{container="main",namespace="default",pod="web",pod_uid="`) ||
			!strings.Contains(body, `probe_type="Readiness",result="successful"} `) || !strings.Contains(body, "\nmade_for_the_test 0\n") {
			t.Errorf("%d %s", code, body)
		}
	})
}

// testSummary checks that what monitoring reads is there and not nothing.
func testSummary(t *testing.T, admin *rest.Config) {
	code, body := get(t, admin, "/stats/summary")
	var sum statsapi.Summary
	if err := json.Unmarshal([]byte(body), &sum); code != http.StatusOK || err != nil {
		t.Fatalf("%d %v %s", code, err, body)
	}
	n := sum.Node
	if *n.CPU.UsageCoreNanoSeconds == 0 || *n.Memory.WorkingSetBytes == 0 || *n.Fs.CapacityBytes <= *n.Fs.AvailableBytes || *n.Rlimit.NumOfRunningProcesses == 0 || n.Runtime.ImageFs == nil {
		t.Errorf("node: %s", body)
	}
	for _, p := range sum.Pods {
		if p.PodRef.Name != "web" {
			continue
		}
		if c := p.Containers[0]; c.Name != "main" || c.CPU.UsageCoreNanoSeconds == nil || *c.Memory.WorkingSetBytes == 0 || c.Rootfs == nil {
			t.Errorf("container: %s", body)
		}
		if p.Network == nil || p.Network.Name != "eth0" || p.ProcessStats == nil {
			t.Errorf("pod: %s", body)
		}
		return
	}
	t.Errorf("no pod web in %s", body)
}

func get(t *testing.T, c *rest.Config, path string) (int, string) {
	t.Helper()
	rt, err := rest.TransportFor(c)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := (&http.Client{Transport: rt}).Get(c.Host + path)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

func testExec(t *testing.T, c *rest.Config) {
	query := url.Values{"command": {"/bin/sh", "-c", "cat; echo err >&2; exit 5"}, "input": {"1"}, "output": {"1"}, "error": {"1"}}
	u, err := url.Parse(c.Host + "/exec/default/web/main?" + query.Encode())
	if err != nil {
		t.Fatal(err)
	}
	executors := map[string]func() (remotecommand.Executor, error){
		"websocket v5": func() (remotecommand.Executor, error) {
			return remotecommand.NewWebSocketExecutor(c, http.MethodGet, u.String())
		},
		"websocket v4": func() (remotecommand.Executor, error) {
			return remotecommand.NewWebSocketExecutorForProtocols(c, http.MethodGet, u.String(), "v4.channel.k8s.io")
		},
		"spdy": func() (remotecommand.Executor, error) { return remotecommand.NewSPDYExecutor(c, http.MethodPost, u) },
	}
	for name, executor := range executors {
		t.Run(name, func(t *testing.T) {
			e, err := executor()
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			var out, errs bytes.Buffer
			big := strings.Repeat("0123456789", 20_000)
			opts := remotecommand.StreamOptions{Stdin: strings.NewReader(big), Stdout: &out, Stderr: &errs}
			if name == "websocket v4" {
				opts.Stdin = nil // v4 cannot close stdin, so cat would never end
				e, err = remotecommand.NewWebSocketExecutorForProtocols(c, http.MethodGet,
					c.Host+"/exec/default/web/main?command=/bin/sh&command=-c&command="+url.QueryEscape("echo err >&2; exit 5")+"&output=1&error=1", "v4.channel.k8s.io")
				if err != nil {
					t.Fatal(err)
				}
				big = ""
			}
			err = e.StreamWithContext(ctx, opts)
			var code exec.CodeExitError
			if !errors.As(err, &code) || code.Code != 5 || out.String() != big || errs.String() != "err\n" {
				t.Errorf("error %v, %d bytes of output, stderr %q", err, out.Len(), errs.String())
			}
		})
	}
}

func testPortForward(t *testing.T, c *rest.Config) {
	u, err := url.Parse(c.Host + "/portForward/default/web")
	if err != nil {
		t.Fatal(err)
	}
	tr, up, err := spdy.RoundTripperFor(c)
	if err != nil {
		t.Fatal(err)
	}
	tunnel, err := portforward.NewSPDYOverWebsocketDialer(u, c)
	if err != nil {
		t.Fatal(err)
	}
	plain := spdy.NewDialer(up, &http.Client{Transport: tr}, http.MethodPost, u)
	for name, forward := range map[string]func(stop, ready chan struct{}) (*portforward.PortForwarder, error){
		"websocket": func(stop, ready chan struct{}) (*portforward.PortForwarder, error) {
			return portforward.New(tunnel, []string{"0:8080"}, stop, ready, io.Discard, io.Discard)
		},
		"spdy": func(stop, ready chan struct{}) (*portforward.PortForwarder, error) {
			return portforward.New(plain, []string{"0:8080"}, stop, ready, io.Discard, io.Discard)
		},
	} {
		t.Run(name, func(t *testing.T) {
			stop, up := make(chan struct{}), make(chan struct{})
			f, err := forward(stop, up)
			if err != nil {
				t.Fatal(err)
			}
			done := make(chan error, 1)
			go func() { done <- f.ForwardPorts() }()
			select {
			case <-up:
			case err := <-done:
				t.Fatal(err)
			}
			ports, err := f.GetPorts()
			if err != nil {
				t.Fatal(err)
			}
			for range 3 {
				resp, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/index.html", ports[0].Local))
				if err != nil {
					t.Fatal(err)
				}
				b, err := io.ReadAll(resp.Body)
				_ = resp.Body.Close()
				if err != nil || string(b) != "page\n" {
					t.Errorf("%q, %v", b, err)
				}
			}
			close(stop)
			<-done
		})
	}
}
