package serviceaccounttoken

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"canopus/internal/auth/token"
)

func account() *corev1.ServiceAccount {
	return &corev1.ServiceAccount{
		ObjectMeta: metav1.ObjectMeta{Namespace: "apps", Name: "web", UID: "u1"}, Secrets: []corev1.ObjectReference{{Name: "web-token"}},
	}
}

func secret(born time.Time, labels map[string]string) *corev1.Secret {
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "apps", Name: "web-token", Labels: labels, CreationTimestamp: metav1.NewTime(born),
			Annotations: map[string]string{corev1.ServiceAccountNameKey: "web"},
		},
		Type: corev1.SecretTypeServiceAccountToken,
	}
}

func TestFilled(t *testing.T) {
	t.Parallel()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := token.NewKeys(key)
	if err != nil {
		t.Fatal(err)
	}
	s := secret(time.Unix(0, 0), nil)
	out, err := filled(s, account(), []byte("ca"), keys)
	if err != nil || out == nil || s.Data != nil {
		t.Fatal(out, err, s.Data)
	}
	if out.Annotations[corev1.ServiceAccountUIDKey] != "u1" || string(out.Data["namespace"]) != "apps" || string(out.Data["ca.crt"]) != "ca" || len(out.Data["token"]) == 0 {
		t.Errorf("got %+v", out)
	}
	if again, err := filled(out, account(), []byte("ca"), keys); again != nil || err != nil {
		t.Errorf("filled again: %+v, %v", again, err)
	}
	renewed, err := filled(out, account(), []byte("new ca"), keys)
	if err != nil || string(renewed.Data["ca.crt"]) != "new ca" || string(renewed.Data["token"]) != string(out.Data["token"]) {
		t.Errorf("a new authority: %+v, %v", renewed, err)
	}
	other := account()
	other.UID = "u2"
	if belongs(out, other) || !belongs(out, account()) || !belongs(s, other) {
		t.Error("a secret belongs to the account whose UID it carries, or to any of the name if it carries none")
	}
}

func TestJudge(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	day := func(n int) string { return now.AddDate(0, 0, -n).Format(token.Day) }
	old := now.AddDate(0, 0, -100)
	make := func(change func(*usage), labels map[string]string) usage {
		u := usage{secret: secret(old, labels), account: account(), since: now.AddDate(0, 0, -99)}
		if change != nil {
			change(&u)
		}
		return u
	}
	used := func(n int) map[string]string { return map[string]string{token.LastUsedLabel: day(n)} }
	marked := func(n int) map[string]string { return map[string]string{token.InvalidSinceLabel: day(n)} }
	for name, c := range map[string]struct {
		u    usage
		want verdict
	}{
		"never used":         {make(nil, nil), invalidate},
		"used long ago":      {make(nil, used(31)), invalidate},
		"used lately":        {make(nil, used(29)), keep},
		"used sometime":      {make(nil, map[string]string{token.LastUsedLabel: "once"}), keep},
		"marked lately":      {make(nil, marked(29)), keep},
		"marked long ago":    {make(nil, marked(31)), discard},
		"marked, then used":  {make(nil, map[string]string{token.InvalidSinceLabel: day(31), token.LastUsedLabel: day(1)}), keep},
		"new":                {make(func(u *usage) { u.secret.CreationTimestamp = metav1.NewTime(now.AddDate(0, 0, -29)) }, nil), keep},
		"not noted for long": {make(func(u *usage) { u.since = now.AddDate(0, 0, -29) }, nil), keep},
		"mounted":            {make(func(u *usage) { u.mounted = true }, nil), keep},
		"made by hand":       {make(func(u *usage) { u.account.Secrets = nil }, nil), keep},
		"of no account":      {make(func(u *usage) { u.account = nil }, nil), keep},
		"deleted":            {make(func(u *usage) { u.secret.DeletionTimestamp = &metav1.Time{Time: now} }, nil), keep},
	} {
		if got := judge(c.u, 30*24*time.Hour, now); got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
	}
}
