package bootstraptoken

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	clocktesting "k8s.io/utils/clock/testing"
)

const id, secret = "abcdef", "0123456789abcdef"

func authenticator(t *testing.T) *Authenticator {
	t.Helper()
	client, err := kubernetes.NewForConfig(&rest.Config{Host: "https://127.0.0.1:1"})
	if err != nil {
		t.Fatal(err)
	}
	a, err := New(client, clocktesting.NewFakePassiveClock(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)))
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestCheck(t *testing.T) {
	t.Parallel()
	a := authenticator(t)
	for name, c := range map[string]struct {
		change func(*corev1.Secret)
		secret string
		groups string // "" if refused
		want   string
	}{
		"good":             {nil, secret, "system:bootstrappers", ""},
		"with groups":      {set("auth-extra-groups", "system:bootstrappers:a,system:bootstrappers:b-c:d"), secret, "system:bootstrappers system:bootstrappers:a system:bootstrappers:b-c:d", ""},
		"wrong secret":     {nil, "0123456789abcdeg", "", "wrong bootstrap token"},
		"no secret":        {set("token-secret", ""), secret, "", "wrong bootstrap token"},
		"other type":       {func(s *corev1.Secret) { s.Type = "Opaque" }, secret, "", "is not bootstrap token"},
		"other id":         {set("token-id", "abcdeg"), secret, "", "is not bootstrap token"},
		"for signing only": {set("usage-bootstrap-authentication", ""), secret, "", "is not for authentication"},
		"deleted":          {func(s *corev1.Secret) { s.DeletionTimestamp = &metav1.Time{Time: time.Unix(1, 0)} }, secret, "", "is deleted"},
		"not yet expired":  {set("expiration", "2026-01-01T00:00:01Z"), secret, "system:bootstrappers", ""},
		"just expired":     {set("expiration", "2026-01-01T00:00:00Z"), secret, "", "has expired"},
		"expires sometime": {set("expiration", "soon"), secret, "", "expiration: "},
		"posing as master": {set("auth-extra-groups", "system:masters"), secret, "", "does not match"},
		"half a group":     {set("auth-extra-groups", "system:bootstrappers:a,"), secret, "", "does not match"},
		"group at its end": {set("auth-extra-groups", "system:bootstrappers:a-"), secret, "", "does not match"},
	} {
		s := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "bootstrap-token-" + id}, Type: corev1.SecretTypeBootstrapToken, Data: map[string][]byte{
			"token-id": []byte(id), "token-secret": []byte(secret), "usage-bootstrap-authentication": []byte("true"),
		}}
		if c.change != nil {
			c.change(s)
		}
		u, err := a.check(s, id, c.secret)
		switch {
		case c.want != "":
			if u != nil || err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s: %+v, %v, want %q", name, u, err, c.want)
			}
		case err != nil || u.Name != "system:bootstrap:abcdef" || strings.Join(u.Groups, " ") != c.groups:
			t.Errorf("%s: %+v, %v", name, u, err)
		}
	}
}

func set(key, value string) func(*corev1.Secret) {
	return func(s *corev1.Secret) { s.Data[key] = []byte(value) }
}

// TestOthersTokensAreLeftAlone: what does not look like a bootstrap token is looked up nowhere (nobody listens there).
func TestOthersTokensAreLeftAlone(t *testing.T) {
	t.Parallel()
	a := authenticator(t)
	for _, token := range []string{"", "abcdef", "abcdef.", "ABCDEF.0123456789abcdef", "abcdef.0123456789abcdef0", "abcdef.0123456789abcdef\n", "a.b.c"} {
		if u, _, err := a.AuthenticateToken(t.Context(), token, nil); u != nil || err != nil {
			t.Errorf("%q: %v, %v", token, u, err)
		}
	}
}
