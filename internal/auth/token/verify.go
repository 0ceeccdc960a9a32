package token

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"canopus/internal/auth"

	"github.com/go-jose/go-jose/v4/jwt"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
)

const (
	maxToken = 64 << 10 // longer bearer tokens are not ours
	// deletionGrace is how long a token outlives its object's deletion timestamp, so that a pod can finish its work.
	deletionGrace = 60 * time.Second
	// young tokens may be bound to objects that the cache does not show yet; for others a miss is final.
	young = time.Minute
)

// Username is the user name of a service account.
func Username(namespace, name string) string {
	return "system:serviceaccount:" + namespace + ":" + name
}

// SplitUsername is the inverse of Username.
func SplitUsername(user string) (namespace, name string, ok bool) {
	rest, ok := strings.CutPrefix(user, "system:serviceaccount:")
	if !ok {
		return "", "", false
	}
	namespace, name, ok = strings.Cut(rest, ":")
	return namespace, name, ok && namespace != "" && name != "" && !strings.Contains(name, ":")
}

// verified is a token whose signature and shape were found good. The user is built once and shared.
type verified struct {
	user      *auth.User
	audiences []string
	issuedAt  time.Time
	notBefore time.Time
	expires   time.Time
	body      private
}

// AuthenticateToken returns the user that token stands for and those of the wanted audiences (none: the API server's own) that
// it is meant for. A token that is not one of ours gives nil and no error.
func (a *Authority) AuthenticateToken(ctx context.Context, token string, want []string) (*auth.User, []string, error) {
	if len(token) > maxToken {
		return nil, nil, nil
	}
	now, key := a.clock.Now(), hash(token)
	v := a.verdicts.get(key, now)
	if v == nil {
		if !a.ours(token) {
			return nil, nil, nil
		}
		var err error
		if v, err = a.check(token); err != nil {
			return nil, nil, err
		}
		a.verdicts.put(key, v, now)
	}
	if now.After(v.expires) {
		return nil, nil, errors.New("service account token has expired")
	}
	if now.Before(v.notBefore.Add(-time.Minute)) {
		return nil, nil, errors.New("service account token is not valid yet")
	}
	match := a.audiences
	if len(want) > 0 {
		match = want
	}
	got := intersect(match, v.audiences)
	if len(got) == 0 {
		return nil, nil, fmt.Errorf("token audiences %q is invalid for the target audiences %q", v.audiences, match)
	}
	if err := a.alive(ctx, v, now); err != nil {
		return nil, nil, err
	}
	return v.user, got, nil
}

// ours says, before any cryptography, whether token is a JWT with our issuer.
func (a *Authority) ours(token string) bool { return issuerOf(token) == a.issuer }

// issuerOf reads the issuer that a JWT claims, without believing it; "" if token is no JWT.
func issuerOf(token string) string {
	_, rest, ok := strings.Cut(token, ".")
	if !ok {
		return ""
	}
	payload, sig, ok := strings.Cut(rest, ".")
	if !ok || strings.Contains(sig, ".") {
		return ""
	}
	raw, err := base64.RawURLEncoding.DecodeString(payload)
	if err != nil {
		return ""
	}
	var c struct {
		Issuer string `json:"iss"`
	}
	if json.Unmarshal(raw, &c) != nil {
		return ""
	}
	return c.Issuer
}

// check verifies the signature and reads the claims: what stays true as long as the keys do.
func (a *Authority) check(token string) (*verified, error) {
	parsed, err := jwt.ParseSigned(token, a.keys.algorithms)
	if err != nil {
		return nil, fmt.Errorf("service account token: %w", err)
	}
	var c claims
	if err := a.keys.verify(parsed, &c); err != nil {
		return nil, err
	}
	p := c.Kubernetes
	if p == nil || c.Expiry == nil || p.ServiceAccount.Name == "" || p.ServiceAccount.UID == "" || p.Namespace == "" {
		return nil, errors.New("service account token lacks its expiry or its kubernetes.io claim")
	}
	if c.Subject != Username(p.Namespace, p.ServiceAccount.Name) {
		return nil, errors.New("subject and account of the service account token differ")
	}
	v := &verified{audiences: c.Audience, expires: c.Expiry.Time(), body: *p, user: user(c.ID, p)}
	if c.IssuedAt != nil {
		v.issuedAt = c.IssuedAt.Time()
	}
	if c.NotBefore != nil {
		v.notBefore = c.NotBefore.Time()
	}
	return v, nil
}

func (k *Keys) verify(t *jwt.JSONWebToken, into any) error {
	try := k.order
	if id := t.Headers[0].KeyID; id != "" {
		try = []string{id}
	}
	for _, id := range try {
		key, ok := k.public[id]
		if !ok || key.Algorithm != t.Headers[0].Algorithm {
			continue
		}
		if t.Claims(key.Key, into) == nil {
			return nil
		}
	}
	return errors.New("service account token is not signed by a key of this cluster")
}

func user(id string, p *private) *auth.User {
	u := &auth.User{
		Name: Username(p.Namespace, p.ServiceAccount.Name), UID: p.ServiceAccount.UID,
		Groups: []string{"system:serviceaccounts", "system:serviceaccounts:" + p.Namespace, auth.AuthenticatedGroup},
		Extra:  map[string][]string{},
	}
	if id != "" {
		u.Extra[CredentialIDKey] = []string{"JTI=" + id}
	}
	if p.Pod != nil {
		u.Extra[PodNameKey], u.Extra[PodUIDKey] = []string{p.Pod.Name}, []string{p.Pod.UID}
	}
	if p.Node != nil {
		u.Extra[NodeNameKey] = []string{p.Node.Name}
		if p.Node.UID != "" {
			u.Extra[NodeUIDKey] = []string{p.Node.UID}
		}
	}
	return u
}

// alive checks that what the token is bound to still exists. It asks on every request, so that a deletion ends the token
// as soon as it is seen.
func (a *Authority) alive(ctx context.Context, v *verified, now time.Time) error {
	p, retry := &v.body, now.Sub(v.issuedAt) < young
	err := exists("service account", p.ServiceAccount, now, retry, func(fresh bool) (Object, error) {
		return a.objects.ServiceAccount(ctx, p.Namespace, p.ServiceAccount.Name, fresh)
	})
	if err == nil && p.Pod != nil {
		err = exists("pod", *p.Pod, now, retry, func(fresh bool) (Object, error) {
			pod, err := a.objects.Pod(ctx, p.Namespace, p.Pod.Name, fresh)
			return pod.Object, err
		})
	}
	if err == nil && p.Secret != nil {
		err = exists("secret", *p.Secret, now, retry, func(fresh bool) (Object, error) {
			return a.objects.Secret(ctx, p.Namespace, p.Secret.Name, fresh)
		})
	}
	if err == nil && p.Node != nil && p.Pod == nil {
		err = exists("node", *p.Node, now, retry, func(fresh bool) (Object, error) { return a.objects.Node(ctx, p.Node.Name, fresh) })
	}
	return err
}

func exists(what string, r ref, now time.Time, retry bool, get func(fresh bool) (Object, error)) error {
	o, err := get(false)
	if retry && (apierrors.IsNotFound(err) || err == nil && o.GetUID() != types.UID(r.UID)) {
		o, err = get(true)
	}
	switch {
	case apierrors.IsNotFound(err):
		return fmt.Errorf("service account token has been invalidated: %s %q is gone", what, r.Name)
	case err != nil:
		return fmt.Errorf("check the service account token's %s: %w", what, err)
	case o.GetUID() != types.UID(r.UID):
		return fmt.Errorf("service account token has been invalidated: %s %q is another one now (UID %s, not %s)", what, r.Name, o.GetUID(), r.UID)
	case o.GetDeletionTimestamp() != nil && o.GetDeletionTimestamp().Time.Before(now.Add(-deletionGrace)):
		return fmt.Errorf("service account token has been invalidated: %s %q is deleted", what, r.Name)
	}
	return nil
}

// intersect returns the elements of a that b has. It copies only when it must drop some.
func intersect(a, b []string) []string {
	all := true
	for _, s := range a {
		all = all && contains(b, s)
	}
	if all {
		return a
	}
	var out []string
	for _, s := range a {
		if contains(b, s) {
			out = append(out, s)
		}
	}
	return out
}
