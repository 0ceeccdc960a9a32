package token

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	clocktesting "k8s.io/utils/clock/testing"
)

// world is a set of objects; hidden ones show in fresh reads only, as in a cache that lags.
type world struct {
	mu     sync.Mutex
	things map[string]metav1.ObjectMeta
	hidden map[string]bool
}

func newWorld() *world {
	return &world{things: map[string]metav1.ObjectMeta{
		"sa/default": {Name: "default", UID: "sa-1"}, "pod/web": {Name: "web", UID: "pod-1"},
		"secret/s": {Name: "s", UID: "secret-1"}, "node/n1": {Name: "n1", UID: "node-1"},
	}, hidden: map[string]bool{}}
}

func (w *world) get(kind, name string, fresh bool) (Object, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	m, ok := w.things[kind+"/"+name]
	if !ok || !fresh && w.hidden[kind+"/"+name] {
		return nil, apierrors.NewNotFound(corev1.Resource(kind), name)
	}
	return &m, nil
}

func (w *world) set(key string, change func(*metav1.ObjectMeta)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	m := w.things[key]
	change(&m)
	w.things[key] = m
}

func (w *world) remove(key string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.things, key)
}

func (w *world) ServiceAccount(_ context.Context, _, name string, fresh bool) (Object, error) {
	return w.get("sa", name, fresh)
}

func (w *world) Pod(_ context.Context, _, name string, fresh bool) (PodObject, error) {
	o, err := w.get("pod", name, fresh)
	return PodObject{Object: o, ServiceAccount: "default", Node: "n1"}, err
}

func (w *world) Secret(_ context.Context, _, name string, fresh bool) (Object, error) {
	return w.get("secret", name, fresh)
}

func (w *world) Node(_ context.Context, name string, fresh bool) (Object, error) {
	return w.get("node", name, fresh)
}

func testKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func testAuthority(t testing.TB) (*Authority, *world, *clocktesting.FakePassiveClock) {
	t.Helper()
	keys, err := NewKeys(testKey(t))
	if err != nil {
		t.Fatal(err)
	}
	w, clk := newWorld(), clocktesting.NewFakePassiveClock(time.Unix(1_800_000_000, 0))
	a, err := New(Config{Keys: keys, Objects: w, Clock: clk})
	if err != nil {
		t.Fatal(err)
	}
	return a, w, clk
}

func account() *corev1.ServiceAccount {
	return &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "apps", Name: "default", UID: "sa-1"}}
}

func ask(seconds int64, kind, name string, uid types.UID, audiences ...string) *authenticationv1.TokenRequest {
	r := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: &seconds, Audiences: audiences}}
	if kind != "" {
		r.Spec.BoundObjectRef = &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: kind, Name: name, UID: uid}
	}
	return r
}

func issue(t testing.TB, a *Authority, r *authenticationv1.TokenRequest) string {
	t.Helper()
	out, err := a.Issue(t.Context(), account(), r)
	if err != nil {
		t.Fatal(err)
	}
	return out.Status.Token
}

func body(t *testing.T, token string) map[string]any {
	t.Helper()
	parsed, err := jwt.ParseSigned(token, []jose.SignatureAlgorithm{jose.ES256, jose.RS256})
	if err != nil {
		t.Fatal(err)
	}
	var m map[string]any
	if err := parsed.UnsafeClaimsWithoutVerification(&m); err != nil {
		t.Fatal(err)
	}
	return m
}

func TestIssueRefuses(t *testing.T) {
	t.Parallel()
	a, _, _ := testAuthority(t)
	for name, c := range map[string]struct {
		req  *authenticationv1.TokenRequest
		code int32
		text string
	}{
		"too short":     {ask(599, "", "", ""), 422, "may not specify a duration less than 10 minutes"},
		"too long":      {ask(1<<32+1, "", "", ""), 422, "may not specify a duration larger than 2^32 seconds"},
		"other kind":    {ask(600, "ConfigMap", "c", ""), 400, "cannot bind token to object of type v1/ConfigMap"},
		"no such pod":   {ask(600, "Pod", "gone", ""), 404, "not found"},
		"another pod":   {ask(600, "Pod", "web", "pod-0"), 409, "the UID in the bound object reference (pod-0) does not match the UID in record"},
		"other secret":  {ask(600, "Secret", "s", "secret-0"), 409, "does not match"},
		"no such node":  {ask(600, "Node", "n9", ""), 404, "not found"},
		"another node":  {ask(600, "Node", "n1", "node-0"), 409, "does not match"},
		"group of kind": {&authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{BoundObjectRef: &authenticationv1.BoundObjectReference{APIVersion: "apps/v1", Kind: "Pod"}}}, 400, "apps/v1/Pod"},
	} {
		_, err := a.Issue(t.Context(), account(), c.req)
		status, ok := err.(apierrors.APIStatus)
		if !ok || status.Status().Code != c.code || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: got %v, want %d with %q", name, err, c.code, c.text)
		}
	}
}

func TestTokenOfAnotherAccountsPod(t *testing.T) {
	t.Parallel()
	a, w, _ := testAuthority(t)
	w.set("sa/other", func(m *metav1.ObjectMeta) { m.Name, m.UID = "other", "sa-2" })
	sa := account()
	sa.Name, sa.UID = "other", "sa-2"
	_, err := a.Issue(t.Context(), sa, ask(600, "Pod", "web", "pod-1"))
	if !apierrors.IsBadRequest(err) || !strings.Contains(err.Error(), `cannot bind token for serviceaccount "other" to pod running with different serviceaccount name.`) {
		t.Errorf("got %v", err)
	}
}

func TestClaims(t *testing.T) {
	t.Parallel()
	a, _, clk := testAuthority(t)
	now := clk.Now().Unix()
	claim := func(m map[string]any, path ...string) any {
		var v any = m
		for _, p := range path {
			v, _ = v.(map[string]any)[p]
		}
		return v
	}
	m := body(t, issue(t, a, ask(3607, "Pod", "web", "pod-1")))
	for _, c := range []struct {
		path []string
		want any
	}{
		{[]string{"iss"}, DefaultIssuer},
		{[]string{"sub"}, "system:serviceaccount:apps:default"},
		{[]string{"aud"}, []any{DefaultIssuer}},
		{[]string{"iat"}, float64(now)},
		{[]string{"nbf"}, float64(now)},
		{[]string{"exp"}, float64(now + 365*24*3600)},
		{[]string{"kubernetes.io", "warnafter"}, float64(now + 3607)},
		{[]string{"kubernetes.io", "namespace"}, "apps"},
		{[]string{"kubernetes.io", "serviceaccount"}, map[string]any{"name": "default", "uid": "sa-1"}},
		{[]string{"kubernetes.io", "pod"}, map[string]any{"name": "web", "uid": "pod-1"}},
		{[]string{"kubernetes.io", "node"}, map[string]any{"name": "n1", "uid": "node-1"}},
	} {
		got, _ := json.Marshal(claim(m, c.path...))
		want, _ := json.Marshal(c.want)
		if string(got) != string(want) {
			t.Errorf("claim %v is %s, want %s", c.path, got, want)
		}
	}
	if id, _ := m["jti"].(string); len(id) != 36 {
		t.Errorf("jti is %q", id)
	}
	// Only the automatic volume's tokens for the API server live longer than asked.
	for name, req := range map[string]*authenticationv1.TokenRequest{
		"other seconds": ask(3600, "Pod", "web", "pod-1"), "unbound": ask(3607, "", "", ""), "other audience": ask(3607, "Pod", "web", "pod-1", "vault"),
	} {
		m := body(t, issue(t, a, req))
		if exp := m["exp"].(float64); exp != float64(now+*req.Spec.ExpirationSeconds) || claim(m, "kubernetes.io", "warnafter") != nil {
			t.Errorf("%s: exp is %v, warnafter %v", name, exp, claim(m, "kubernetes.io", "warnafter"))
		}
	}
}

func TestRequestedExpiryIsReported(t *testing.T) {
	t.Parallel()
	a, _, clk := testAuthority(t)
	out, err := a.Issue(t.Context(), account(), ask(3607, "Pod", "web", "pod-1"))
	if err != nil {
		t.Fatal(err)
	}
	if want := clk.Now().Add(3607 * time.Second); !out.Status.ExpirationTimestamp.Time.Equal(want) {
		t.Errorf("expirationTimestamp is %v, want %v", out.Status.ExpirationTimestamp, want)
	}
	if out.Name != "default" || out.Namespace != "apps" || len(out.Spec.Audiences) != 1 {
		t.Errorf("got %+v", out)
	}
}

func TestAuthenticate(t *testing.T) {
	t.Parallel()
	a, _, _ := testAuthority(t)
	u, audiences, err := a.AuthenticateToken(t.Context(), issue(t, a, ask(600, "Pod", "web", "pod-1")), nil)
	if err != nil {
		t.Fatal(err)
	}
	if u.Name != "system:serviceaccount:apps:default" || u.UID != "sa-1" || len(audiences) != 1 || audiences[0] != DefaultIssuer {
		t.Errorf("user %+v, audiences %v", u, audiences)
	}
	if got := strings.Join(u.Groups, " "); got != "system:serviceaccounts system:serviceaccounts:apps system:authenticated" {
		t.Errorf("groups %s", got)
	}
	for k, want := range map[string]string{PodNameKey: "web", PodUIDKey: "pod-1", NodeNameKey: "n1", NodeUIDKey: "node-1"} {
		if got := u.Extra[k]; len(got) != 1 || got[0] != want {
			t.Errorf("extra %s is %v", k, got)
		}
	}
	if id := u.Extra[CredentialIDKey]; len(id) != 1 || !strings.HasPrefix(id[0], "JTI=") {
		t.Errorf("credential id %v", id)
	}
}

func TestAudiences(t *testing.T) {
	t.Parallel()
	a, _, _ := testAuthority(t)
	token := issue(t, a, ask(600, "", "", "", "vault", "other"))
	if _, _, err := a.AuthenticateToken(t.Context(), token, nil); err == nil {
		t.Error("a token for others passes at the API server")
	}
	_, got, err := a.AuthenticateToken(t.Context(), token, []string{"x", "vault"})
	if err != nil || len(got) != 1 || got[0] != "vault" {
		t.Errorf("audiences %v, %v", got, err)
	}
}

func TestExpiry(t *testing.T) {
	t.Parallel()
	a, _, clk := testAuthority(t)
	token := issue(t, a, ask(600, "", "", ""))
	for _, c := range []struct {
		after time.Duration
		good  bool
	}{{0, true}, {599 * time.Second, true}, {601 * time.Second, false}, {-2 * time.Minute, false}} {
		clk.SetTime(time.Unix(1_800_000_000, 0).Add(c.after))
		if _, _, err := a.AuthenticateToken(t.Context(), token, nil); (err == nil) != c.good {
			t.Errorf("after %v: %v", c.after, err)
		}
	}
}

func TestDeletionEndsTokens(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		req  *authenticationv1.TokenRequest
		what string
	}{
		"account": {ask(600, "", "", ""), "sa/default"},
		"pod":     {ask(600, "Pod", "web", "pod-1"), "pod/web"},
		"secret":  {ask(600, "Secret", "s", "secret-1"), "secret/s"},
		"node":    {ask(600, "Node", "n1", "node-1"), "node/n1"},
	} {
		a, w, clk := testAuthority(t)
		token := issue(t, a, c.req)
		check := func(step string, good bool) {
			if _, _, err := a.AuthenticateToken(t.Context(), token, nil); (err == nil) != good {
				t.Errorf("%s, %s: %v", name, step, err)
			}
		}
		check("fresh", true)
		deleted := metav1.NewTime(clk.Now())
		w.set(c.what, func(m *metav1.ObjectMeta) { m.DeletionTimestamp = &deleted })
		check("just marked", true)
		clk.SetTime(clk.Now().Add(61 * time.Second))
		check("marked a minute ago", false)
		w.set(c.what, func(m *metav1.ObjectMeta) { m.DeletionTimestamp = nil })
		check("unmarked", true)
		w.set(c.what, func(m *metav1.ObjectMeta) { m.UID = "again" })
		check("made again under the same name", false)
		w.remove(c.what)
		check("gone", false)
	}
}

func TestYoungTokenLooksPastTheCache(t *testing.T) {
	t.Parallel()
	a, w, clk := testAuthority(t)
	token := issue(t, a, ask(600, "Pod", "web", "pod-1"))
	w.hidden["pod/web"] = true
	if _, _, err := a.AuthenticateToken(t.Context(), token, nil); err != nil {
		t.Errorf("young: %v", err)
	}
	clk.SetTime(clk.Now().Add(2 * time.Minute))
	if _, _, err := a.AuthenticateToken(t.Context(), token, nil); err == nil {
		t.Error("an old token asks past the cache")
	}
}

func TestForgeries(t *testing.T) {
	t.Parallel()
	a, _, clk := testAuthority(t)
	good := issue(t, a, ask(600, "", "", ""))
	parts := strings.Split(good, ".")
	foreign, _, _ := testAuthority(t)
	none := "eyJhbGciOiJub25lIn0." + parts[1] + "."
	for name, c := range map[string]struct {
		token string
		ours  bool
	}{
		"other key":         {issue(t, foreign, ask(600, "", "", "")), true},
		"no algorithm":      {none, true},
		"changed signature": {parts[0] + "." + parts[1] + "." + flip(parts[2]), true},
		"no JWT":            {"abcdef", false},
		"two parts":         {parts[0] + "." + parts[1], false},
		"four parts":        {good + ".x", false},
		"empty":             {"", false},
		"huge":              {strings.Repeat("a", 1<<20), false},
	} {
		u, _, err := a.AuthenticateToken(t.Context(), c.token, nil)
		if u != nil || (err != nil) != c.ours {
			t.Errorf("%s: user %v, error %v", name, u, err)
		}
	}
	other, err := New(Config{Issuer: "https://elsewhere", Keys: a.keys, Objects: newWorld(), Clock: clk})
	if err != nil {
		t.Fatal(err)
	}
	if u, _, err := a.AuthenticateToken(t.Context(), issue(t, other, ask(600, "", "", "")), nil); u != nil || err != nil {
		t.Errorf("another issuer: %v, %v", u, err)
	}
}

// flip changes the first character of a base64 string, which carries no padding bits.
func flip(s string) string {
	c := "A"
	if s[0] == 'A' {
		c = "B"
	}
	return c + s[1:]
}

func TestRotation(t *testing.T) {
	t.Parallel()
	a, w, clk := testAuthority(t)
	old := a.keys.public[a.keys.order[0]].Key
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	token := issue(t, a, ask(600, "", "", ""))
	for name, c := range map[string]struct {
		more []crypto.PublicKey
		good bool
	}{"old key trusted": {[]crypto.PublicKey{old}, true}, "old key dropped": {nil, false}} {
		keys, err := NewKeys(rsaKey, c.more...)
		if err != nil {
			t.Fatal(err)
		}
		next, err := New(Config{Keys: keys, Objects: w, Clock: clk})
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := next.AuthenticateToken(t.Context(), token, nil); (err == nil) != c.good {
			t.Errorf("%s: %v", name, err)
		}
		if _, _, err := next.AuthenticateToken(t.Context(), issue(t, next, ask(600, "", "", "")), nil); err != nil {
			t.Errorf("%s, new token: %v", name, err)
		}
	}
}

func TestVerdictsExpireAndStayBounded(t *testing.T) {
	t.Parallel()
	v := verdicts{ttl: 10 * time.Second, limit: 4}
	now := time.Unix(1000, 0)
	good := &verified{}
	v.put(hash("a"), good, now)
	if v.get(hash("a"), now.Add(9*time.Second)) != good || v.get(hash("a"), now.Add(10*time.Second)) != nil || v.get(hash("a"), now.Add(-time.Second)) != nil {
		t.Error("a verdict counts from when it was made for ttl")
	}
	for i := range 100 {
		v.put(hash(string(rune('b'+i))), good, now)
	}
	if n := len(v.young) + len(v.old); n > 8 {
		t.Errorf("%d verdicts are kept, limit is 4 per generation", n)
	}
}

func TestDiscovery(t *testing.T) {
	t.Parallel()
	a, _, _ := testAuthority(t)
	raw, err := a.Configuration("https://10.96.0.1")
	if err != nil {
		t.Fatal(err)
	}
	want := `{"issuer":"https://kubernetes.default.svc.cluster.local","jwks_uri":"https://10.96.0.1/openid/v1/jwks","response_types_supported":["id_token"],"subject_types_supported":["public"],"id_token_signing_alg_values_supported":["ES256"]}`
	if string(raw) != want {
		t.Errorf("got %s", raw)
	}
	raw, err = a.KeySet()
	if err != nil {
		t.Fatal(err)
	}
	var set jose.JSONWebKeySet
	if err := json.Unmarshal(raw, &set); err != nil {
		t.Fatal(err)
	}
	parsed, err := jwt.ParseSigned(issue(t, a, ask(600, "", "", "")), []jose.SignatureAlgorithm{jose.ES256})
	if err != nil {
		t.Fatal(err)
	}
	keys := set.Key(parsed.Headers[0].KeyID)
	if len(keys) != 1 || !keys[0].IsPublic() || parsed.Claims(keys[0], &map[string]any{}) != nil {
		t.Errorf("the published key does not verify a token: %s", raw)
	}
}

func FuzzAuthenticateToken(f *testing.F) {
	a, _, _ := testAuthority(f)
	good := issue(f, a, ask(600, "Pod", "web", "pod-1"))
	parts := strings.Split(good, ".")
	for _, s := range []string{good, "", "a.b.c", "..", parts[0] + ".e30.", parts[0] + "." + parts[1] + ".AAAA", "eyJhbGciOiJub25lIn0." + parts[1] + "."} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, token string) {
		u, _, err := a.AuthenticateToken(t.Context(), token, nil)
		if u != nil && (err != nil || !strings.HasPrefix(token, parts[0]+"."+parts[1]+".")) {
			t.Errorf("%q is taken for %s", token, u.Name)
		}
	})
}

func BenchmarkAuthenticateKnownToken(b *testing.B) {
	a, _, _ := testAuthority(b)
	token := issue(b, a, ask(600, "Pod", "web", "pod-1"))
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := a.AuthenticateToken(b.Context(), token, nil); err != nil {
			b.Fatal(err)
		}
	}
}
