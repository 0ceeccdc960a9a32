// Package authn finds out who sends a request: by client certificate, by bearer token, or, for health and version only,
// as system:anonymous. ServiceAccount tokens themselves are auth/token's.
package authn

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"slices"

	"canopus/internal/auth"

	"k8s.io/utils/clock"
)

// TokenAuthenticator turns a bearer token into a user. It returns nil and no error for tokens that are not of its sort. want are
// audiences to check for, none meaning the API server's own; the second result is which of them the token is good for.
type TokenAuthenticator interface {
	AuthenticateToken(ctx context.Context, token string, want []string) (*auth.User, []string, error)
}

// Config says which credentials are accepted. Clock is required.
type Config struct {
	ClientCAs func() *x509.CertPool // present roots of client certificates; nil: certificates are not looked at
	Tokens    []TokenAuthenticator  // asked in order
	Audiences []string              // the API server's own, for TokenReview answers
	Clock     clock.PassiveClock
}

// Authenticator tries certificate, then token. It is an auth.Authenticator.
type Authenticator struct {
	certificates *certificates
	tokens       []TokenAuthenticator
	audiences    []string
	anonymous    *auth.User
}

// New checks c and makes an Authenticator.
func New(c Config) (*Authenticator, error) {
	if c.Clock == nil {
		return nil, errors.New("authenticator: a clock is required")
	}
	a := &Authenticator{
		tokens: c.Tokens, audiences: c.Audiences,
		anonymous: &auth.User{Name: auth.AnonymousUser, Groups: []string{auth.UnauthenticatedGroup}},
	}
	if c.ClientCAs != nil {
		a.certificates = &certificates{roots: c.ClientCAs, clock: c.Clock}
	}
	return a, nil
}

// Authenticate returns the sender of r, or an error for a 401. It removes the bearer token from r once it has served, so that it
// is never handed on. A request without credentials is anonymous for the paths that AllowsAnonymous names, else refused.
func (a *Authenticator) Authenticate(r *http.Request) (*auth.User, error) {
	var failed error
	if a.certificates != nil && r.TLS != nil && len(r.TLS.PeerCertificates) > 0 {
		u, err := a.certificates.user(r)
		if u != nil {
			return u, nil
		}
		failed = err
	}
	token := bearer(r)
	if token == "" {
		if failed != nil {
			return nil, failed
		}
		if AllowsAnonymous(r.URL.Path) {
			return a.anonymous, nil
		}
		return nil, errors.New("the request carries no credentials: use a client certificate or a bearer token")
	}
	u, _, err := a.AuthenticateToken(r.Context(), token, nil)
	if err == nil && u == nil {
		err = errors.New("invalid bearer token")
	}
	if err != nil {
		return nil, errors.Join(failed, err)
	}
	forget(r)
	return u, nil
}

// AuthenticateToken asks each token authenticator in turn. It returns nil and no error when none knows the token.
func (a *Authenticator) AuthenticateToken(ctx context.Context, token string, want []string) (*auth.User, []string, error) {
	var failed error
	for _, t := range a.tokens {
		u, audiences, err := t.AuthenticateToken(ctx, token, want)
		if u != nil && err == nil {
			return authenticated(u), audiences, nil
		}
		failed = errors.Join(failed, err)
	}
	if failed != nil {
		return nil, nil, fmt.Errorf("invalid bearer token: %w", failed)
	}
	return nil, nil, nil
}

// authenticated returns u as a member of system:authenticated; authenticators that share one user per credential add it themselves.
func authenticated(u *auth.User) *auth.User {
	if u.InGroup(auth.AuthenticatedGroup) || u.Name == auth.AnonymousUser {
		return u
	}
	c := *u
	c.Groups = append(slices.Clip(slices.Clone(u.Groups)), auth.AuthenticatedGroup)
	return &c
}

// AllowsAnonymous says whether a request for path needs no credentials: health and version, nothing else.
func AllowsAnonymous(path string) bool {
	switch path {
	case "/healthz", "/livez", "/readyz", "/version", "/version/":
		return true
	}
	return false
}
