package authn

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"canopus/internal/auth"
	"canopus/internal/auth/token"

	"k8s.io/utils/clock"
)

// certificates authenticates by client certificate: common name is the user, organizations are the groups.
type certificates struct {
	roots func() *x509.CertPool
	clock clock.PassiveClock
}

type connectionKey struct{}

// connection holds the verdict on one connection's client certificate: it cannot change while the connection lasts, and
// verifying costs more than most requests.
type connection struct {
	once    sync.Once
	verdict certificateVerdict // written by once
}

type certificateVerdict struct {
	user  *auth.User
	err   error
	until time.Time // the first of the chain to expire
}

// ConnContext makes room in ctx for what is found out about a connection. Set it as http.Server.ConnContext; without it
// every request's certificate is verified anew.
func ConnContext(ctx context.Context, _ net.Conn) context.Context {
	return context.WithValue(ctx, connectionKey{}, &connection{})
}

// user returns the sender by r's client certificate; nil and no error when the certificate names nobody.
func (c *certificates) user(r *http.Request) (*auth.User, error) {
	conn, _ := r.Context().Value(connectionKey{}).(*connection)
	if conn == nil {
		v := c.verify(r.TLS.PeerCertificates)
		return v.user, v.err
	}
	conn.once.Do(func() { conn.verdict = c.verify(r.TLS.PeerCertificates) })
	v := &conn.verdict
	if v.user != nil && c.clock.Now().After(v.until) {
		return nil, errors.New("the client certificate has expired during this connection: connect again with a new one")
	}
	return v.user, v.err
}

func (c *certificates) verify(chain []*x509.Certificate) certificateVerdict {
	between := x509.NewCertPool()
	for _, cert := range chain[1:] {
		between.AddCert(cert)
	}
	leaf := chain[0]
	good, err := leaf.Verify(x509.VerifyOptions{
		Roots: c.roots(), Intermediates: between, CurrentTime: c.clock.Now(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	if err != nil {
		return certificateVerdict{err: fmt.Errorf("verify client certificate %q, serial %s: %w", leaf.Subject.CommonName, leaf.SerialNumber, err)}
	}
	if leaf.Subject.CommonName == "" {
		return certificateVerdict{}
	}
	until := leaf.NotAfter
	for _, cert := range good[0] {
		if cert.NotAfter.Before(until) {
			until = cert.NotAfter
		}
	}
	sum := sha256.Sum256(leaf.Raw)
	return certificateVerdict{until: until, user: &auth.User{
		Name:   leaf.Subject.CommonName,
		Groups: append(slices.Clip(slices.Clone(leaf.Subject.Organization)), auth.AuthenticatedGroup),
		Extra:  map[string][]string{token.CredentialIDKey: {"X509SHA256=" + hex.EncodeToString(sum[:])}},
	}}
}
