// Package delegate guards the HTTPS server of a part that is not the API server: callers show a client certificate of the
// cluster, or a token that the API server reviews, and the API server is asked whether they may.
package delegate

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/utils/clock"
)

// How long verdicts of the API server are believed.
const (
	tokenTTL  = 10 * time.Second
	allowTTL  = 10 * time.Second
	denyTTL   = 5 * time.Second
	maxCached = 1000
)

// Question is what a caller wants: one of the Accesses is enough. What calls it for the caller that is refused.
type Question struct {
	What     string
	Accesses []Access
}

// Access is what is asked about: one of the two.
type Access struct {
	Resource *authorizationv1.ResourceAttributes
	Path     *authorizationv1.NonResourceAttributes
}

// Config is what a Gate needs. All of it is required but ClientCA.
type Config struct {
	Client   kubernetes.Interface
	ClientCA *x509.CertPool // nil: only tokens are accepted
	Question func(*http.Request) Question
	Clock    clock.PassiveClock
}

// Gate lets requests through that the API server approves.
type Gate struct {
	cfg Config

	mu       sync.Mutex
	tokens   map[[32]byte]verdict[user]
	accesses map[[32]byte]verdict[bool]
}

// user is who sent a request.
type user struct {
	name, uid string
	groups    []string
	extra     map[string]authenticationv1.ExtraValue
}

type verdict[T any] struct {
	value T
	until time.Time
}

// New checks the configuration.
func New(c Config) (*Gate, error) {
	if c.Client == nil || c.Question == nil || c.Clock == nil {
		return nil, errors.New("delegate: Client, Question and Clock are required")
	}
	return &Gate{cfg: c, tokens: map[[32]byte]verdict[user]{}, accesses: map[[32]byte]verdict[bool]{}}, nil
}

var errUnauthenticated = errors.New("Unauthorized")

// Wrap authenticates and authorizes every request before next sees it.
func (g *Gate) Wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		u, err := g.authenticate(r)
		if err != nil {
			http.Error(w, "Unauthorized", http.StatusUnauthorized)
			return
		}
		q := g.cfg.Question(r)
		for _, access := range q.Accesses {
			ok, err := g.allowed(r.Context(), u, access)
			if err != nil {
				http.Error(w, fmt.Sprintf("Authorization error (user=%s, %s): %v", u.name, q.What, err), http.StatusInternalServerError)
				return
			}
			if ok {
				next.ServeHTTP(w, r)
				return
			}
		}
		http.Error(w, fmt.Sprintf("Forbidden (user=%s, %s)", u.name, q.What), http.StatusForbidden)
	})
}

func (g *Gate) authenticate(r *http.Request) (user, error) {
	if r.TLS != nil && len(r.TLS.PeerCertificates) > 0 && g.cfg.ClientCA != nil {
		if u, err := g.byCertificate(r.TLS.PeerCertificates); err == nil {
			return u, nil
		}
	}
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok || token == "" {
		return user{}, errUnauthenticated
	}
	return g.byToken(r.Context(), token)
}

func (g *Gate) byCertificate(chain []*x509.Certificate) (user, error) {
	opts := x509.VerifyOptions{
		Roots: g.cfg.ClientCA, Intermediates: x509.NewCertPool(), CurrentTime: g.cfg.Clock.Now(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	for _, c := range chain[1:] {
		opts.Intermediates.AddCert(c)
	}
	if _, err := chain[0].Verify(opts); err != nil {
		return user{}, fmt.Errorf("client certificate: %w", err)
	}
	return user{name: chain[0].Subject.CommonName, groups: append(slices.Clip(chain[0].Subject.Organization), "system:authenticated")}, nil
}

func (g *Gate) byToken(ctx context.Context, token string) (user, error) {
	key := sha256.Sum256([]byte(token))
	if u, ok := lookup(g, g.tokens, key); ok {
		return u, nil
	}
	got, err := g.cfg.Client.AuthenticationV1().TokenReviews().Create(ctx,
		&authenticationv1.TokenReview{Spec: authenticationv1.TokenReviewSpec{Token: token}}, metav1.CreateOptions{})
	if err != nil {
		return user{}, fmt.Errorf("token review: %w", err)
	}
	if !got.Status.Authenticated {
		return user{}, errUnauthenticated
	}
	u := user{name: got.Status.User.Username, uid: got.Status.User.UID, groups: got.Status.User.Groups, extra: got.Status.User.Extra}
	remember(g, g.tokens, key, verdict[user]{u, g.cfg.Clock.Now().Add(tokenTTL)})
	return u, nil
}

// allowed asks the API server whether u has access.
func (g *Gate) allowed(ctx context.Context, u user, access Access) (bool, error) {
	key := sha256.Sum256(fmt.Appendf(nil, "%q %q %q %q %q %q", u.name, u.uid, u.groups, u.extra, access.Resource.String(), access.Path.String()))
	if ok, known := lookup(g, g.accesses, key); known {
		return ok, nil
	}
	review := &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{
		User: u.name, UID: u.uid, Groups: u.groups, Extra: map[string]authorizationv1.ExtraValue{},
		ResourceAttributes: access.Resource, NonResourceAttributes: access.Path,
	}}
	for k, v := range u.extra {
		review.Spec.Extra[k] = authorizationv1.ExtraValue(v)
	}
	got, err := g.cfg.Client.AuthorizationV1().SubjectAccessReviews().Create(ctx, review, metav1.CreateOptions{})
	if err != nil {
		return false, fmt.Errorf("subject access review: %w", err)
	}
	ttl := allowTTL
	if !got.Status.Allowed {
		ttl = denyTTL
	}
	remember(g, g.accesses, key, verdict[bool]{got.Status.Allowed, g.cfg.Clock.Now().Add(ttl)})
	return got.Status.Allowed, nil
}

func lookup[T any](g *Gate, m map[[32]byte]verdict[T], key [32]byte) (T, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	v, ok := m[key]
	if !ok || g.cfg.Clock.Now().After(v.until) {
		var zero T
		return zero, false
	}
	return v.value, true
}

// remember keeps a verdict; a full cache is emptied, which is cheaper than it is rare.
func remember[T any](g *Gate, m map[[32]byte]verdict[T], key [32]byte, v verdict[T]) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(m) >= maxCached {
		clear(m)
	}
	m[key] = v
}

// Verb is the verb of authorization that a method stands for.
func Verb(method string) string {
	switch method {
	case http.MethodGet, http.MethodHead:
		return "get"
	case http.MethodPost:
		return "create"
	case http.MethodPut:
		return "update"
	case http.MethodPatch:
		return "patch"
	case http.MethodDelete:
		return "delete"
	}
	return strings.ToLower(method)
}

// Paths asks about a request as about any page that is no resource.
func Paths(r *http.Request) Question {
	verb := strings.ToLower(r.Method)
	return Question{
		What:     fmt.Sprintf("verb=%s, path=%s", verb, r.URL.Path),
		Accesses: []Access{{Path: &authorizationv1.NonResourceAttributes{Verb: verb, Path: r.URL.Path}}},
	}
}
