package server

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
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

// user is who sent a request.
type user struct {
	name, uid string
	groups    []string
	extra     map[string]authenticationv1.ExtraValue
}

// gate lets requests through that the API server approves.
type gate struct {
	client   kubernetes.Interface
	node     string
	clientCA *x509.CertPool
	clock    clock.Clock

	mu       sync.Mutex
	tokens   map[[32]byte]verdict[user]
	accesses map[[32]byte]verdict[bool]
}

type verdict[T any] struct {
	value T
	until time.Time
}

func newGate(client kubernetes.Interface, node string, ca *x509.CertPool, clk clock.Clock) *gate {
	return &gate{client: client, node: node, clientCA: ca, clock: clk,
		tokens: map[[32]byte]verdict[user]{}, accesses: map[[32]byte]verdict[bool]{}}
}

var errUnauthenticated = errors.New("Unauthorized")

// wrap authenticates and authorizes every request before next sees it.
func (g *gate) wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		u, err := g.authenticate(r)
		if err != nil {
			http.Error(w, "Unauthorized", http.StatusUnauthorized)
			return
		}
		verb, subresources := attributes(r)
		for _, sub := range subresources {
			ok, err := g.allowed(r.Context(), u, verb, sub)
			if err != nil {
				http.Error(w, fmt.Sprintf("Authorization error (user=%s, verb=%s, resource=nodes, subresource=%s): %v", u.name, verb, sub, err),
					http.StatusInternalServerError)
				return
			}
			if ok {
				next.ServeHTTP(w, r)
				return
			}
		}
		http.Error(w, fmt.Sprintf("Forbidden (user=%s, verb=%s, resource=nodes, subresource(s)=[%s])", u.name, verb, strings.Join(subresources, " ")),
			http.StatusForbidden)
	})
}

func (g *gate) authenticate(r *http.Request) (user, error) {
	if r.TLS != nil && len(r.TLS.PeerCertificates) > 0 && g.clientCA != nil {
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

func (g *gate) byCertificate(chain []*x509.Certificate) (user, error) {
	opts := x509.VerifyOptions{
		Roots: g.clientCA, Intermediates: x509.NewCertPool(), CurrentTime: g.clock.Now(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	for _, c := range chain[1:] {
		opts.Intermediates.AddCert(c)
	}
	if _, err := chain[0].Verify(opts); err != nil {
		return user{}, fmt.Errorf("client certificate: %w", err)
	}
	return user{name: chain[0].Subject.CommonName, groups: append(chain[0].Subject.Organization, "system:authenticated")}, nil
}

func (g *gate) byToken(ctx context.Context, token string) (user, error) {
	key := sha256.Sum256([]byte(token))
	if u, ok := lookup(g, g.tokens, key); ok {
		return u, nil
	}
	got, err := g.client.AuthenticationV1().TokenReviews().Create(ctx,
		&authenticationv1.TokenReview{Spec: authenticationv1.TokenReviewSpec{Token: token}}, metav1.CreateOptions{})
	if err != nil {
		return user{}, fmt.Errorf("token review: %w", err)
	}
	if !got.Status.Authenticated {
		return user{}, errUnauthenticated
	}
	u := user{name: got.Status.User.Username, uid: got.Status.User.UID, groups: got.Status.User.Groups, extra: got.Status.User.Extra}
	remember(g, g.tokens, key, verdict[user]{u, g.clock.Now().Add(tokenTTL)})
	return u, nil
}

// allowed asks the API server whether u may do verb with the node's subresource.
func (g *gate) allowed(ctx context.Context, u user, verb, subresource string) (bool, error) {
	key := sha256.Sum256(fmt.Appendf(nil, "%q %q %q %q %q %q", u.name, u.uid, u.groups, u.extra, verb, subresource))
	if ok, known := lookup(g, g.accesses, key); known {
		return ok, nil
	}
	review := &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{
		User: u.name, UID: u.uid, Groups: u.groups, Extra: map[string]authorizationv1.ExtraValue{},
		ResourceAttributes: &authorizationv1.ResourceAttributes{Verb: verb, Version: "v1", Resource: "nodes", Subresource: subresource, Name: g.node},
	}}
	for k, v := range u.extra {
		review.Spec.Extra[k] = authorizationv1.ExtraValue(v)
	}
	got, err := g.client.AuthorizationV1().SubjectAccessReviews().Create(ctx, review, metav1.CreateOptions{})
	if err != nil {
		return false, fmt.Errorf("subject access review: %w", err)
	}
	ttl := allowTTL
	if !got.Status.Allowed {
		ttl = denyTTL
	}
	remember(g, g.accesses, key, verdict[bool]{got.Status.Allowed, g.clock.Now().Add(ttl)})
	return got.Status.Allowed, nil
}

func lookup[T any](g *gate, m map[[32]byte]verdict[T], key [32]byte) (T, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	v, ok := m[key]
	if !ok || g.clock.Now().After(v.until) {
		var zero T
		return zero, false
	}
	return v.value, true
}

// remember keeps a verdict; a full cache is emptied, which is cheaper than it is rare.
func remember[T any](g *gate, m map[[32]byte]verdict[T], key [32]byte, v verdict[T]) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(m) >= maxCached {
		clear(m)
	}
	m[key] = v
}

// attributes returns what a request is about: one of the subresources has to be allowed.
func attributes(r *http.Request) (verb string, subresources []string) {
	verb = map[string]string{http.MethodGet: "get", http.MethodHead: "get", http.MethodPost: "create", http.MethodPut: "update",
		http.MethodPatch: "patch", http.MethodDelete: "delete"}[r.Method]
	under := func(prefix string) bool { return r.URL.Path == prefix || strings.HasPrefix(r.URL.Path, prefix+"/") }
	switch {
	case under("/stats"):
		return verb, []string{"stats"}
	case under("/metrics"):
		return verb, []string{"metrics"}
	case under("/logs"):
		return verb, []string{"log"}
	case under("/healthz"):
		return verb, []string{"healthz", "proxy"}
	case under("/configz"):
		return verb, []string{"configz", "proxy"}
	case under("/pods"), under("/runningpods"):
		return verb, []string{"pods", "proxy"}
	}
	return verb, []string{"proxy"}
}
