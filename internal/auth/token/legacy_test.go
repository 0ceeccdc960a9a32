package token

import (
	"context"
	"crypto/ecdsa"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4/jwt"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	clocktesting "k8s.io/utils/clock/testing"
)

// vault is a clientset that knows one Secret, as a cache that is never behind.
type vault struct {
	kubernetes.Interface
	typedcorev1.CoreV1Interface
	typedcorev1.SecretInterface
	secret  *corev1.Secret
	patches []string
}

func (v *vault) CoreV1() typedcorev1.CoreV1Interface        { return v }
func (v *vault) Secrets(string) typedcorev1.SecretInterface { return v }
func (v *vault) Get(context.Context, string, metav1.GetOptions) (*corev1.Secret, error) {
	return v.secret, nil
}
func (v *vault) Patch(_ context.Context, _ string, _ types.PatchType, data []byte, _ metav1.PatchOptions, _ ...string) (*corev1.Secret, error) {
	v.patches = append(v.patches, string(data))
	return v.secret, nil
}

func TestTokensOfSecrets(t *testing.T) {
	t.Parallel()
	key := testKey(t)
	for name, c := range map[string]struct {
		secret func(*corev1.Secret)
		world  func(*world)
		key    *ecdsa.PrivateKey // what checks; nil: what signed
		token  func(string) string
		want   string // why refused; "" if it passes
	}{
		"good":             {},
		"deleted":          {secret: func(s *corev1.Secret) { s.DeletionTimestamp = &metav1.Time{Time: time.Unix(1, 0)} }, want: "its secret is deleted"},
		"another inside":   {secret: func(s *corev1.Secret) { s.Data["token"] = []byte("x") }, want: "holds another one"},
		"another type":     {secret: func(s *corev1.Secret) { s.Type = "Opaque" }, want: "holds another one"},
		"retired":          {secret: func(s *corev1.Secret) { s.Labels = map[string]string{InvalidSinceLabel: "2026-01-01"} }, want: "since 2026-01-01"},
		"account is gone":  {world: func(w *world) { w.remove("sa/default") }, want: `service account "default" is gone`},
		"account is other": {world: func(w *world) { w.set("sa/default", func(m *metav1.ObjectMeta) { m.UID = "sa-2" }) }, want: "is another one now"},
		"another cluster":  {key: testKey(t), want: "not signed by a key of this cluster"},
		"tampered":         {token: func(s string) string { return s[:len(s)-4] + "AAAA" }, want: "not signed by a key of this cluster"},
	} {
		signing, err := NewKeys(key)
		if err != nil {
			t.Fatal(err)
		}
		text, err := signing.IssueLegacy(account(), "s")
		if err != nil {
			t.Fatal(err)
		}
		v, w := &vault{secret: &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "s"}, Type: corev1.SecretTypeServiceAccountToken, Data: map[string][]byte{"token": []byte(text)}}}, newWorld()
		if c.secret != nil {
			c.secret(v.secret)
		}
		if c.world != nil {
			c.world(w)
		}
		checking := signing
		if c.key != nil {
			if checking, err = NewKeys(c.key); err != nil {
				t.Fatal(err)
			}
		}
		if c.token != nil {
			text = c.token(text)
		}
		l, err := NewLegacy(LegacyConfig{Keys: checking, Client: v, Objects: w, Audiences: []string{"api"}, Clock: clocktesting.NewFakePassiveClock(time.Unix(1_800_000_000, 0)), Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		u, audiences, err := l.AuthenticateToken(t.Context(), text, nil)
		switch {
		case c.want != "":
			if u != nil || err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s: %+v, %v, want %q", name, u, err, c.want)
			}
		case err != nil || u.Name != "system:serviceaccount:apps:default" || u.UID != "sa-1" || audiences[0] != "api":
			t.Errorf("%s: %+v %v, %v", name, u, audiences, err)
		case len(v.patches) != 1 || !strings.Contains(v.patches[0], `"kubernetes.io/legacy-token-last-used":"2027-01-15"`):
			t.Errorf("%s: the use is noted as %v", name, v.patches)
		}
	}
}

// TestClaimsOfSecrets: a token of the cluster's own key, but not as this package makes them.
func TestClaimsOfSecrets(t *testing.T) {
	t.Parallel()
	keys, err := NewKeys(testKey(t))
	if err != nil {
		t.Fatal(err)
	}
	good := legacyClaims{Issuer: LegacyIssuer, Namespace: "apps", Secret: "s", Account: "default", AccountUID: "sa-1", Subject: "system:serviceaccount:apps:default"}
	for name, change := range map[string]func(*legacyClaims){
		"no secret":       func(c *legacyClaims) { c.Secret = "" },
		"no UID":          func(c *legacyClaims) { c.AccountUID = "" },
		"another subject": func(c *legacyClaims) { c.Subject = "system:serviceaccount:kube-system:admin" },
		"an end":          func(c *legacyClaims) { c.Expiry = jwt.NewNumericDate(time.Unix(1, 0)) },
	} {
		c := good
		change(&c)
		text, err := jwt.Signed(keys.signer).Claims(c).Serialize()
		if err != nil {
			t.Fatal(err)
		}
		if got, err := keys.readLegacy(text); err == nil {
			t.Errorf("%s: passes as %+v", name, got)
		}
	}
}
