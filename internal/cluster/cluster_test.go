package cluster

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/utils/clock"
	clocktesting "k8s.io/utils/clock/testing"
)

func testConfig(t testing.TB, clk clock.Clock) Config {
	t.Helper()
	dir := t.TempDir()
	return Config{
		Layout: Layout{Data: filepath.Join(dir, "data"), Config: filepath.Join(dir, "etc")},
		Node:   "n1", Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.10")}, Names: []string{"api.example.com"},
		ServiceIP: netip.MustParseAddr("10.96.0.1"), Domain: "cluster.local", Server: "https://127.0.0.1:6443",
		Clock: clk, Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
	}
}

func open(t testing.TB, c Config) *Cluster {
	t.Helper()
	cl, err := Open(c)
	if err != nil {
		t.Fatal(err)
	}
	return cl
}

// files reads everything below dir.
func files(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		raw, err := os.ReadFile(path)
		all[path] = string(raw)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestCertificates(t *testing.T) {
	t.Parallel()
	c := testConfig(t, clock.RealClock{})
	cl := open(t, c)
	for name, w := range map[string]struct {
		subject string
		usage   x509.ExtKeyUsage
	}{
		servingName:      {"CN=kube-apiserver", x509.ExtKeyUsageServerAuth},
		kubeletClient:    {"CN=kube-apiserver-kubelet-client,O=system:masters", x509.ExtKeyUsageClientAuth},
		adminName:        {"CN=kubernetes-admin,O=system:masters", x509.ExtKeyUsageClientAuth},
		schedulerName:    {"CN=system:kube-scheduler", x509.ExtKeyUsageClientAuth},
		controllersName:  {"CN=system:kube-controller-manager", x509.ExtKeyUsageClientAuth},
		nodeName:         {"CN=system:node:n1,O=system:nodes", x509.ExtKeyUsageClientAuth},
		nodeServingName:  {"CN=system:node:n1,O=system:nodes", x509.ExtKeyUsageServerAuth},
		frontProxyClient: {"CN=front-proxy-client", x509.ExtKeyUsageClientAuth},
	} {
		p, err := load(c.Layout, name)
		if err != nil || p == nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		roots := cl.Roots()
		if name == frontProxyClient {
			roots = x509.NewCertPool()
			roots.AppendCertsFromPEM(cl.FrontProxyCA())
		}
		if _, err := p.cert.Verify(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{w.usage}}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if got := p.cert.Subject.String(); got != w.subject {
			t.Errorf("%s is of %s", name, got)
		}
		if info, err := os.Stat(c.Layout.Key(name)); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("key of %s: mode %v, %v", name, info.Mode(), err)
		}
	}
	serving := cl.present(servingName).Leaf
	for _, host := range []string{"localhost", "127.0.0.1", "::1", "n1", "192.0.2.10", "kubernetes", "kubernetes.default", "kubernetes.default.svc",
		"kubernetes.default.svc.cluster.local", "10.96.0.1", "api.example.com"} {
		if err := serving.VerifyHostname(host); err != nil {
			t.Error(err)
		}
	}
}

func TestSecondStartChangesNothing(t *testing.T) {
	t.Parallel()
	c := testConfig(t, clock.RealClock{})
	open(t, c)
	before := files(t, filepath.Dir(c.Layout.Data))
	open(t, c)
	after := files(t, filepath.Dir(c.Layout.Data))
	if len(before) != len(after) {
		t.Errorf("%d files before, %d after", len(before), len(after))
	}
	for path, content := range after {
		if before[path] != content {
			t.Errorf("%s has changed", path)
		}
	}
	// A further address needs another serving certificate, and nothing else.
	c.Addresses = append(c.Addresses, netip.MustParseAddr("192.0.2.11"))
	open(t, c)
	for path, content := range files(t, filepath.Dir(c.Layout.Data)) {
		name := filepath.Base(path)
		served := strings.HasPrefix(name, servingName+".") || strings.HasPrefix(name, nodeServingName+".") && filepath.Dir(path) == c.Layout.PKI()
		if (after[path] != content) != served {
			t.Errorf("%s changed: %v", name, !served)
		}
	}
}

func TestRefusesWhatItCannotReplace(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		path   func(Layout) string
		text   string
		expect string
	}{
		"broken authority":        {func(l Layout) string { return l.Certificate(caName) }, "x", "restore both files"},
		"broken authority key":    {func(l Layout) string { return l.Key(caName) }, "x", "restore both files"},
		"broken account key":      {func(l Layout) string { return l.ServiceAccountKey() }, "x", "restore it from a backup"},
		"newer format":            {func(l Layout) string { return l.Format() }, "canopus-data 2\n", "run the newer release again"},
		"strange format":          {func(l Layout) string { return l.Format() }, "PG_VERSION 15\n", "check that"},
		"broken kubeconfig":       {Layout.AdminKubeconfig, "a: [", "move it away"},
		"cut-off kubeconfig":      {Layout.AdminKubeconfig, "", "move it away"},
		"kubeconfig of tomorrow":  {Layout.AdminKubeconfig, "apiVersion: v2\nkind: Config\n", "version v1"},
		"something else entirely": {Layout.AdminKubeconfig, "apiVersion: v1\nkind: Pod\n", "move it away"},
	} {
		config := testConfig(t, clock.RealClock{})
		open(t, config)
		path := c.path(config.Layout)
		if err := os.WriteFile(path, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(config); err == nil || !strings.Contains(err.Error(), c.expect) {
			t.Errorf("%s: %v", name, err)
		}
		if raw, err := os.ReadFile(path); err != nil || string(raw) != c.text {
			t.Errorf("%s: the file was touched", name)
		}
	}
}

func TestBrokenLeafIsMadeAnew(t *testing.T) {
	t.Parallel()
	c := testConfig(t, clock.RealClock{})
	open(t, c)
	if err := os.WriteFile(c.Layout.Certificate(servingName), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	open(t, c)
	if p, err := load(c.Layout, servingName); err != nil || p == nil {
		t.Errorf("%v", err)
	}
}

func TestKubeconfigs(t *testing.T) {
	t.Parallel()
	c := testConfig(t, clock.RealClock{})
	open(t, c)
	admin := c.Layout.AdminKubeconfig()
	if info, err := os.Stat(admin); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	// What the administrator adds stays.
	config, err := clientcmd.LoadFromFile(admin)
	if err != nil {
		t.Fatal(err)
	}
	config.Contexts["canopus"].Namespace = "apps"
	config.Contexts["mine"] = config.Contexts["canopus"].DeepCopy()
	config.CurrentContext = "mine"
	if err := clientcmd.WriteToFile(*config, admin); err != nil {
		t.Fatal(err)
	}
	c.Server = "https://192.0.2.10:6443"
	open(t, c)
	if config, err = clientcmd.LoadFromFile(admin); err != nil {
		t.Fatal(err)
	}
	if config.CurrentContext != "mine" || config.Contexts["canopus"].Namespace != "apps" || config.Clusters["canopus"].Server != c.Server {
		t.Errorf("got %+v", config)
	}
	for component, user := range map[string]string{"scheduler": "system:kube-scheduler", "controller-manager": "system:kube-controller-manager", "kubelet": "system:node:n1"} {
		rest, err := clientcmd.BuildConfigFromFlags("", c.Layout.Kubeconfig(component))
		if err != nil {
			t.Fatal(err)
		}
		pair, err := tls.LoadX509KeyPair(rest.CertFile, rest.KeyFile)
		if err != nil {
			t.Fatal(err)
		}
		if pair.Leaf.Subject.CommonName != user {
			t.Errorf("%s is %s", component, pair.Leaf.Subject.CommonName)
		}
	}
}

// TestHotRenewal lets a year pass: what was issued first expires, and new connections are served and made with what came after.
func TestHotRenewal(t *testing.T) {
	t.Parallel()
	start := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	clk := clocktesting.NewFakeClock(start)
	c := testConfig(t, clk)
	cl := open(t, c)
	first := cl.present(servingName)
	admin := files(t, c.Layout.Config)[c.Layout.AdminKubeconfig()]
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- cl.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	waitFor(t, "renewal", func() bool {
		if clk.HasWaiters() {
			clk.Step(12 * time.Hour)
		}
		return !bytes.Equal(cl.present(servingName).Certificate[0], first.Certificate[0])
	})
	at, due := clk.Now(), renewAt(first.Leaf)
	if at.Before(due) || at.After(due.Add(24*time.Hour)) {
		t.Errorf("renewed at %v, due at %v", at, due)
	}
	if at.After(first.Leaf.NotAfter) {
		t.Error("renewed after it had expired")
	}
	if p, err := load(c.Layout, servingName); err != nil || !bytes.Equal(p.cert.Raw, cl.present(servingName).Certificate[0]) {
		t.Errorf("the file is not the one that is served: %v", err)
	}
	waitFor(t, "a new admin kubeconfig", func() bool { return files(t, c.Layout.Config)[c.Layout.AdminKubeconfig()] != admin })
	handshake(t, cl, clk)
}

func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick, deadline := time.NewTicker(5*time.Millisecond), time.After(20*time.Second)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("no %s", what)
		}
	}
}

// handshake makes a connection with the configurations of both sides.
func handshake(t *testing.T, cl *Cluster, clk clock.PassiveClock) {
	t.Helper()
	a, b := net.Pipe()
	server, client := cl.ServerTLS(), cl.AdminTLS()
	client.ServerName, client.Time = "kubernetes.default.svc", clk.Now
	s, c := tls.Server(a, server), tls.Client(b, client)
	failed := make(chan error, 1)
	go func() { failed <- s.HandshakeContext(t.Context()) }()
	if err := c.HandshakeContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-failed; err != nil {
		t.Fatal(err)
	}
	peers := s.ConnectionState().PeerCertificates
	if len(peers) != 1 || peers[0].Subject.CommonName != "kubernetes-admin" || clk.Now().After(peers[0].NotAfter) {
		t.Errorf("the server sees %v", peers)
	}
}

func TestIssueNode(t *testing.T) {
	t.Parallel()
	cl := open(t, testConfig(t, clock.RealClock{}))
	f, err := cl.IssueNode(filepath.Join(t.TempDir(), "n2"), Node{Name: "n2", Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.20")}, Server: "https://192.0.2.10:6443"})
	if err != nil {
		t.Fatal(err)
	}
	serving, err := tls.LoadX509KeyPair(f.ServingCertificate, f.ServingKey)
	if err != nil {
		t.Fatal(err)
	}
	if err := serving.Leaf.VerifyHostname("192.0.2.20"); err != nil {
		t.Error(err)
	}
	rest, err := clientcmd.BuildConfigFromFlags("", f.Kubeconfig)
	if err != nil || rest.Host != "https://192.0.2.10:6443" || !bytes.Equal(rest.CAData, cl.CA()) {
		t.Errorf("%+v, %v", rest, err)
	}
	if _, err := cl.IssueNode(t.TempDir(), Node{Server: "x"}); err == nil {
		t.Error("a node without a name gets credentials")
	}
}

func TestWriteFileLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "a", "b")
	for _, text := range []string{"one", "two", "two"} {
		if err := WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := files(t, filepath.Dir(path)); len(got) != 1 || got[path] != text {
			t.Errorf("got %v", got)
		}
	}
}

func BenchmarkFirstStart(b *testing.B) {
	for b.Loop() {
		b.StopTimer()
		c := testConfig(b, clock.RealClock{})
		b.StartTimer()
		open(b, c)
	}
}
