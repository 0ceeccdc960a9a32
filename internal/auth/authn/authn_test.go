package authn

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"errors"
	"math/big"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"time"

	"canopus/internal/auth"

	authenticationv1 "k8s.io/api/authentication/v1"
	clocktesting "k8s.io/utils/clock/testing"
)

const staticFile = `# tokens of the tests
secret-a,alice,1,"dev,ops"
secret-b,bob,2
`

func static(t testing.TB) *Static {
	t.Helper()
	s, err := ReadStatic(strings.NewReader(staticFile))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

type ca struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func (c *ca) pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(c.cert)
	return p
}

// sign makes a certificate; a nil parent makes an authority.
func sign(t testing.TB, parent *ca, tmpl *x509.Certificate) *ca {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl.SerialNumber = big.NewInt(1)
	by := &ca{tmpl, key}
	if parent != nil {
		by = parent
	} else {
		tmpl.IsCA, tmpl.BasicConstraintsValid, tmpl.KeyUsage = true, true, x509.KeyUsageCertSign
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, by.cert, &key.PublicKey, by.key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &ca{cert, key}
}

func client(name string, from time.Time, orgs ...string) *x509.Certificate {
	return &x509.Certificate{
		Subject: pkix.Name{CommonName: name, Organization: orgs}, NotBefore: from, NotAfter: from.Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
}

func request(path string, header ...string) *http.Request {
	r := httptest.NewRequest(http.MethodGet, path, nil)
	for i := 0; i < len(header); i += 2 {
		r.Header.Add(header[i], header[i+1])
	}
	return r
}

func TestAuthenticate(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_800_000_000, 0)
	root := sign(t, nil, &x509.Certificate{Subject: pkix.Name{CommonName: "ca"}, NotBefore: now, NotAfter: now.Add(24 * time.Hour)})
	stranger := sign(t, nil, &x509.Certificate{Subject: pkix.Name{CommonName: "ca"}, NotBefore: now, NotAfter: now.Add(24 * time.Hour)})
	server := client("carol", now)
	server.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	a, err := New(Config{ClientCAs: root.pool, Tokens: []TokenAuthenticator{static(t)}, Clock: clocktesting.NewFakePassiveClock(now.Add(time.Minute))})
	if err != nil {
		t.Fatal(err)
	}
	socket := "base64url.bearer.authorization.k8s.io." + base64.RawURLEncoding.EncodeToString([]byte("secret-a"))
	for name, c := range map[string]struct {
		r      *http.Request
		cert   *ca
		user   string
		groups string
	}{
		"certificate":              {r: request("/api"), cert: sign(t, root, client("carol", now, "dev", "ops")), user: "carol", groups: "dev ops system:authenticated"},
		"certificate and token":    {r: request("/api", "Authorization", "Bearer secret-a"), cert: sign(t, root, client("carol", now)), user: "carol", groups: "system:authenticated"},
		"stranger's certificate":   {r: request("/api"), cert: sign(t, stranger, client("carol", now))},
		"stranger, but with token": {r: request("/api", "Authorization", "Bearer secret-a"), cert: sign(t, stranger, client("carol", now)), user: "alice", groups: "dev ops system:authenticated"},
		"expired certificate":      {r: request("/api"), cert: sign(t, root, client("carol", now.Add(-2*time.Hour)))},
		"certificate of tomorrow":  {r: request("/api"), cert: sign(t, root, client("carol", now.Add(24*time.Hour)))},
		"server certificate":       {r: request("/api"), cert: sign(t, root, server)},
		"certificate of nobody":    {r: request("/healthz"), cert: sign(t, root, client("", now)), user: "system:anonymous", groups: "system:unauthenticated"},
		"token":                    {r: request("/api", "Authorization", "bearer  secret-b"), user: "bob", groups: "system:authenticated"},
		"WebSocket token":          {r: request("/api", "Upgrade", "websocket", "Sec-WebSocket-Protocol", "v5.channel.k8s.io, "+socket), user: "alice", groups: "dev ops system:authenticated"},
		"WebSocket token, no sock": {r: request("/api", "Sec-WebSocket-Protocol", socket)},
		"wrong token":              {r: request("/api", "Authorization", "Bearer nope")},
		"wrong token for health":   {r: request("/healthz", "Authorization", "Bearer nope")},
		"basic":                    {r: request("/api", "Authorization", "Basic YTpi")},
		"nothing":                  {r: request("/api")},
		"nothing for health":       {r: request("/livez"), user: "system:anonymous", groups: "system:unauthenticated"},
		"nothing for version":      {r: request("/version"), user: "system:anonymous", groups: "system:unauthenticated"},
		"nothing for metrics":      {r: request("/metrics")},
		"nothing below health":     {r: request("/healthz/etcd")},
	} {
		if c.cert != nil {
			c.r.TLS = &tls.ConnectionState{PeerCertificates: []*x509.Certificate{c.cert.cert}}
		}
		u, err := a.Authenticate(c.r)
		if c.user == "" {
			if err == nil {
				t.Errorf("%s: passes as %v", name, u)
			}
			continue
		}
		if err != nil || u.Name != c.user || strings.Join(u.Groups, " ") != c.groups {
			t.Errorf("%s: got %+v, %v", name, u, err)
		}
		if h := c.r.Header.Get("Authorization"); h != "" && c.cert == nil {
			t.Errorf("%s: the token stays in the request: %s", name, h)
		}
		if h := c.r.Header.Get("Sec-WebSocket-Protocol"); strings.Contains(h, "bearer") {
			t.Errorf("%s: the token stays in the request: %s", name, h)
		}
	}
}

func TestCertificateVerifiedOncePerConnection(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_800_000_000, 0)
	root := sign(t, nil, &x509.Certificate{Subject: pkix.Name{CommonName: "ca"}, NotBefore: now, NotAfter: now.Add(24 * time.Hour)})
	clk, asked := clocktesting.NewFakePassiveClock(now.Add(time.Minute)), 0
	a, err := New(Config{Clock: clk, ClientCAs: func() *x509.CertPool { asked++; return root.pool() }})
	if err != nil {
		t.Fatal(err)
	}
	leaf := sign(t, root, client("carol", now))
	ctx := ConnContext(t.Context(), nil)
	ask := func() (*auth.User, error) {
		r := request("/api").WithContext(ctx)
		r.TLS = &tls.ConnectionState{PeerCertificates: []*x509.Certificate{leaf.cert}}
		return a.Authenticate(r)
	}
	first, err := ask()
	if err != nil {
		t.Fatal(err)
	}
	for range 10 {
		if again, err := ask(); err != nil || again != first {
			t.Fatalf("another user value %v, %v", again, err)
		}
	}
	if asked != 1 {
		t.Errorf("the certificate was verified %d times", asked)
	}
	clk.SetTime(now.Add(2 * time.Hour))
	if _, err := ask(); err == nil {
		t.Error("an expired certificate passes on an old connection")
	}
}

func TestReadStaticRefuses(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"only-token", "t,u", ",u,1", "t,,1", "t,u,1\nt,v,2", `t,"u,1`} {
		if _, err := ReadStatic(strings.NewReader(text)); err == nil {
			t.Errorf("%q is accepted", text)
		}
	}
}

func TestReview(t *testing.T) {
	t.Parallel()
	a, err := New(Config{Tokens: []TokenAuthenticator{static(t), broken{}}, Audiences: []string{"api"}, Clock: clocktesting.NewFakePassiveClock(time.Unix(0, 0))})
	if err != nil {
		t.Fatal(err)
	}
	review := func(token string, audiences ...string) authenticationv1.TokenReviewStatus {
		t.Helper()
		out, err := a.Review(t.Context(), &authenticationv1.TokenReview{Spec: authenticationv1.TokenReviewSpec{Token: token, Audiences: audiences}})
		if err != nil {
			t.Fatal(err)
		}
		return out.Status
	}
	good := review("secret-a")
	if !good.Authenticated || good.User.Username != "alice" || !reflect.DeepEqual(good.Audiences, []string{"api"}) {
		t.Errorf("got %+v", good)
	}
	if bad := review("broken"); bad.Authenticated || !strings.Contains(bad.Error, "it is broken") {
		t.Errorf("got %+v", bad)
	}
	if unknown := review("unknown"); unknown.Authenticated || unknown.Error != "" {
		t.Errorf("got %+v", unknown)
	}
	if _, err := a.Review(t.Context(), &authenticationv1.TokenReview{}); err == nil {
		t.Error("an empty token is accepted")
	}
}

// broken knows one token, and that it is bad.
type broken struct{}

func (broken) AuthenticateToken(_ context.Context, token string, _ []string) (*auth.User, []string, error) {
	if token == "broken" {
		return nil, nil, errors.New("it is broken")
	}
	return nil, nil, nil
}

func FuzzBearer(f *testing.F) {
	f.Add("Bearer x", "websocket", "base64url.bearer.authorization.k8s.io.eA, v4")
	f.Add("", "websocket", "base64url.bearer.authorization.k8s.io.")
	f.Add("bearer", "", ",,")
	f.Fuzz(func(t *testing.T, authorization, upgrade, protocol string) {
		r := &http.Request{Header: http.Header{"Authorization": {authorization}, "Upgrade": {upgrade}, protocolHeader: {protocol}}}
		if bearer(r) == "" {
			return
		}
		forget(r)
		if again := bearer(r); again != "" {
			t.Errorf("token %q is found again after it was removed", again)
		}
	})
}

func BenchmarkAuthenticateCertificate(b *testing.B) {
	now := time.Unix(1_800_000_000, 0)
	root := sign(b, nil, &x509.Certificate{Subject: pkix.Name{CommonName: "ca"}, NotBefore: now, NotAfter: now.Add(24 * time.Hour)})
	a, err := New(Config{Clock: clocktesting.NewFakePassiveClock(now.Add(time.Minute)), ClientCAs: root.pool})
	if err != nil {
		b.Fatal(err)
	}
	r := request("/api").WithContext(ConnContext(b.Context(), nil))
	r.TLS = &tls.ConnectionState{PeerCertificates: []*x509.Certificate{sign(b, root, client("carol", now)).cert}}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := a.Authenticate(r); err != nil {
			b.Fatal(err)
		}
	}
}
