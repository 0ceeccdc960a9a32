// Package apitest runs a real API server inside a test: embedded etcd, store, TLS listener on loopback. Clients are made
// for any user by name; who may do what is decided by the options.
package apitest

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"canopus/internal/apiserver"
	"canopus/internal/auth"
	"canopus/internal/kinds/builtin"
	"canopus/internal/store"
	"canopus/internal/store/etcdtest"

	clientv3 "go.etcd.io/etcd/client/v3"
	"k8s.io/apimachinery/pkg/version"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"
)

// Server is a running API server.
type Server struct {
	API    *apiserver.Server
	Store  *store.Store
	Etcd   *clientv3.Client
	Admin  *rest.Config // of a member of system:masters
	Client *kubernetes.Clientset
	tokens *tokens
	config rest.Config
}

// Start runs a server until the test ends, with all built-in kinds unless an option says otherwise. Everybody with a token
// is who the token says; only system:masters may do anything.
func Start(t testing.TB, options ...func(*apiserver.Config)) *Server {
	t.Helper()
	log := slog.New(slog.NewTextHandler(testWriter(t), &slog.HandlerOptions{Level: slog.LevelWarn}))
	etcd := etcdtest.Start(t)
	st, err := store.New(store.Config{Etcd: etcd, Log: log, Clock: clock.RealClock{}})
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	cert, ca := certificate(t)
	s := &Server{Store: st, Etcd: etcd, tokens: &tokens{users: map[string]*auth.User{}}}
	c := apiserver.Config{
		Kinds: builtin.Set(), Store: st, Listener: listener,
		TLS:           &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12},
		Authenticator: s.tokens, Authorizer: auth.Union{auth.Masters{}},
		Version: version.Info{Major: "1", Minor: "37", GitVersion: "v1.37.2+canopus.test"},
		Clock:   clock.RealClock{}, Log: log,
	}
	for _, o := range options {
		o(&c)
	}
	if s.API, err = apiserver.New(c); err != nil {
		t.Fatal(err)
	}
	s.run(t)
	s.config = rest.Config{Host: "https://" + listener.Addr().String(), TLSClientConfig: rest.TLSClientConfig{CAData: ca}, QPS: -1}
	s.Admin = s.As(&auth.User{Name: "admin", Groups: []string{auth.MastersGroup, auth.AuthenticatedGroup}})
	if s.Client, err = kubernetes.NewForConfig(s.Admin); err != nil {
		t.Fatal(err)
	}
	return s
}

// run starts store and server, waits until they are ready, and ends them with the test.
func (s *Server) run(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	failed := make(chan error, 2)
	for _, run := range []func(context.Context) error{s.Store.Run, s.API.Run} {
		wg.Go(func() {
			if err := run(ctx); err != nil && !errors.Is(err, context.Canceled) {
				failed <- err
			}
		})
	}
	t.Cleanup(func() {
		cancel()
		wg.Wait()
		select {
		case err := <-failed:
			t.Errorf("the server ended: %v", err)
		default:
		}
	})
	select {
	case <-s.API.Ready():
	case err := <-failed:
		t.Fatal(err)
	case <-time.After(time.Minute):
		t.Fatal("the server is not ready after a minute")
	}
}

// As returns the client configuration of any user.
func (s *Server) As(u *auth.User) *rest.Config {
	c := rest.CopyConfig(&s.config)
	c.BearerToken = s.tokens.issue(u)
	return c
}

// Anonymous returns the client configuration of nobody.
func (s *Server) Anonymous() *rest.Config { return rest.CopyConfig(&s.config) }

// tokens is an authenticator that knows users by random tokens.
type tokens struct {
	mu    sync.Mutex
	users map[string]*auth.User
}

func (k *tokens) issue(u *auth.User) string {
	var b [16]byte
	_, _ = rand.Read(b[:])
	token := hex.EncodeToString(b[:])
	k.mu.Lock()
	defer k.mu.Unlock()
	k.users[token] = u
	return token
}

// Authenticate implements auth.Authenticator.
func (k *tokens) Authenticate(r *http.Request) (*auth.User, error) {
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok {
		return nil, nil
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if u := k.users[token]; u != nil {
		return u, nil
	}
	return nil, errors.New("unknown token")
}

// certificate makes a certificate for loopback that is its own root.
func certificate(t testing.TB) (tls.Certificate, []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "apitest"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"localhost"},
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key},
		pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// testWriter shows the server's log with the test's, as long as the test runs.
func testWriter(t testing.TB) io.Writer { return &writer{t: t} }

type writer struct{ t testing.TB }

// Write implements io.Writer.
func (w *writer) Write(b []byte) (int, error) {
	if w.t.Context().Err() == nil {
		w.t.Log(strings.TrimSpace(string(b)))
	}
	return len(b), nil
}
