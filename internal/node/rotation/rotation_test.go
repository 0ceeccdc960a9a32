package rotation

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"log/slog"
	"math/big"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/record"
	"k8s.io/utils/clock"

	"canopus/internal/apiserver/apitest"
	"canopus/internal/auth"
	"canopus/internal/controllers/certificates"
	"canopus/internal/controllers/reconcile"
)

// authority signs in the tests.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{key: newKey(t)}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "kubernetes"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(1000 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, a.key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return a
}

// issue makes a pair for name that is valid for life, counted from an hour ago.
func (a *authority) issue(t *testing.T, name string, life time.Duration) (certPEM, keyPEM []byte) {
	t.Helper()
	k := newKey(t)
	from := time.Now().Add(-time.Hour)
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, NotBefore: from, NotAfter: from.Add(life)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, a.cert, k.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalECPrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: raw})
}

func read(t *testing.T, file string) *x509.Certificate {
	t.Helper()
	cert, _, err := readPair(file)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func TestAdopt(t *testing.T) {
	t.Parallel()
	a, other := newAuthority(t), newAuthority(t)
	file := filepath.Join(t.TempDir(), "pair.pem")
	adopt := func(a *authority, name string, life time.Duration) *x509.Certificate {
		t.Helper()
		certPEM, keyPEM := a.issue(t, name, life)
		if err := Adopt(file, certPEM, keyPEM); err != nil {
			t.Fatal(err)
		}
		return read(t, file)
	}
	first := adopt(a, "system:node:n1", 10*time.Hour)
	if info, err := os.Stat(file); err != nil || info.Mode() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if got := adopt(a, "system:node:n1", 5*time.Hour); !bytes.Equal(got.Raw, first.Raw) {
		t.Error("what was copied here long ago replaces its renewal")
	}
	if got := adopt(a, "system:node:n1", 20*time.Hour); bytes.Equal(got.Raw, first.Raw) {
		t.Error("newer credentials are not taken")
	}
	if got := adopt(a, "system:node:n2", 5*time.Hour); got.Subject.CommonName != "system:node:n2" {
		t.Error("credentials of another node are not taken")
	}
	if got := adopt(other, "system:node:n2", 2*time.Hour); got.CheckSignatureFrom(other.cert) != nil {
		t.Error("credentials of another cluster are not taken")
	}
	if err := os.WriteFile(file, []byte("broken"), 0o600); err != nil {
		t.Fatal(err)
	}
	adopt(a, "system:node:n1", time.Hour)
	certPEM, _ := a.issue(t, "system:node:n1", time.Hour)
	_, keyPEM := a.issue(t, "system:node:n1", time.Hour)
	if err := Adopt(file, certPEM, keyPEM); err == nil {
		t.Error("a certificate with another's key is taken")
	}
}

// rig is an API server with the controllers that approve and sign, and a node that is registered.
func rig(t *testing.T) (node *kubernetes.Clientset, a *authority) {
	t.Helper()
	server := apitest.Start(t)
	a = newAuthority(t)
	deps := reconcile.Deps{
		Client: server.Client, Informers: informers.NewSharedInformerFactory(server.Client, 0), Events: &record.FakeRecorder{},
		Clock: clock.RealClock{}, Log: slog.New(slog.DiscardHandler),
	}
	signer, err := certificates.NewSigner(deps, &certificates.Authority{Certificate: a.cert, Key: a.key, Life: 24 * time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	approver, err := certificates.NewApprover(deps)
	if err != nil {
		t.Fatal(err)
	}
	run(t, func(ctx context.Context) error {
		deps.Informers.StartWithContext(ctx)
		<-ctx.Done()
		deps.Informers.Shutdown()
		return nil
	})
	run(t, signer.Run)
	run(t, approver.Run)
	n, err := server.Client.CoreV1().Nodes().Create(t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	n.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "192.0.2.7"}}
	if _, err = server.Client.CoreV1().Nodes().UpdateStatus(t.Context(), n, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	// In system:masters, since only these may do anything here: who may renew is the approver's and RBAC's to test.
	node, err = kubernetes.NewForConfig(server.As(&auth.User{Name: "system:node:n1", Groups: []string{auth.NodesGroup, auth.MastersGroup}}))
	if err != nil {
		t.Fatal(err)
	}
	return node, a
}

func run(t *testing.T, f func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := f(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() { cancel(); wg.Wait() })
}

func TestRotation(t *testing.T) {
	t.Parallel()
	node, a := rig(t)
	dir := t.TempDir()
	due, dueKey := a.issue(t, "system:node:n1", 70*time.Minute) // an hour old: past two thirds of its life
	if err := Adopt(ClientFile(dir), due, dueKey); err != nil {
		t.Fatal(err)
	}
	young, youngKey := a.issue(t, "system:node:n1", 100*time.Hour)
	if err := Adopt(ServingFile(dir), young, youngKey); err != nil {
		t.Fatal(err)
	}
	before, kept := read(t, ClientFile(dir)), read(t, ServingFile(dir))
	start := func() {
		t.Helper()
		r, err := New(Config{Client: node, Node: "n1", Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.7")}, Dir: dir, Clock: clock.RealClock{}, Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		run(t, r.Run)
	}
	start()
	cert := changed(t, ClientFile(dir), before)
	if err := cert.CheckSignatureFrom(a.cert); err != nil || cert.Subject.CommonName != "system:node:n1" || time.Until(cert.NotAfter) < 23*time.Hour {
		t.Errorf("%v, %+v", err, cert)
	}
	if got := read(t, ServingFile(dir)); !bytes.Equal(got.Raw, kept.Raw) {
		t.Error("a serving certificate that is not due was renewed")
	}
	if err := os.Remove(ServingFile(dir)); err != nil {
		t.Fatal(err)
	}
	start() // finds no serving certificate
	cert = changed(t, ServingFile(dir), kept)
	if len(cert.DNSNames) != 1 || cert.DNSNames[0] != "n1" || len(cert.IPAddresses) != 1 || cert.IPAddresses[0].String() != "192.0.2.7" {
		t.Errorf("for %v, %v", cert.DNSNames, cert.IPAddresses)
	}
	if pair, err := Serving(ServingFile(dir))(nil); err != nil || !bytes.Equal(pair.Certificate[0], cert.Raw) {
		t.Errorf("the listener presents another: %v", err)
	}
	if info, err := os.Stat(ServingFile(dir)); err != nil || info.Mode() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}

// changed waits until file holds another certificate.
func changed(t *testing.T, file string, before *x509.Certificate) *x509.Certificate {
	t.Helper()
	var cert *x509.Certificate
	err := wait.PollUntilContextTimeout(t.Context(), 10*time.Millisecond, time.Minute, true, func(context.Context) (bool, error) {
		var err error
		cert, _, err = readPair(file)
		return err == nil && !bytes.Equal(cert.Raw, before.Raw), nil
	})
	if err != nil {
		t.Fatalf("%s was not renewed: %v", filepath.Base(file), err)
	}
	return cert
}
