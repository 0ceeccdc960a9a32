package bootstraptoken

import (
	"maps"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func token(id, signing, expiration string) *corev1.Secret {
	return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "bootstrap-token-" + id}, Data: map[string][]byte{
		"token-id": []byte(id), "token-secret": []byte("0123456789abcdef"), "usage-bootstrap-signing": []byte(signing), "expiration": []byte(expiration),
	}}
}

func TestSigned(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	odd := token("oddity", "true", "")
	odd.Name = "bootstrap-token-other"
	tokens := []*corev1.Secret{
		token("aaaaaa", "true", ""), token("bbbbbb", "true", "2026-01-01T01:00:00Z"), token("cccccc", "", ""),
		token("dddddd", "true", "2025-12-31T00:00:00Z"), token("eeeeee", "true", "soon"), odd,
	}
	before := map[string]string{"kubeconfig": "text", "jws-kubeconfig-ffffff": "stale", "more": "kept"}
	out, err := signed(before, tokens, now)
	if err != nil {
		t.Fatal(err)
	}
	keys := slices.Sorted(maps.Keys(out))
	if want := []string{"jws-kubeconfig-aaaaaa", "jws-kubeconfig-bbbbbb", "kubeconfig", "more"}; !slices.Equal(keys, want) {
		t.Fatalf("got %v, want %v", keys, want)
	}
	if before["jws-kubeconfig-ffffff"] != "stale" {
		t.Error("the cached object was changed")
	}
	// Computed with openssl dgst -hmac.
	const want = "eyJhbGciOiJIUzI1NiIsImtpZCI6ImFhYWFhYSJ9..MYOSriEyuMcDu9omfPa5exHwMw-pML642UO7gLMlLdc"
	if got := out["jws-kubeconfig-aaaaaa"]; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	again, err := signed(out, tokens, now)
	if err != nil || !maps.Equal(again, out) {
		t.Errorf("signing again changes something: %v, %v", again, err)
	}
	if wait := untilNext(tokens, now); wait != time.Hour {
		t.Errorf("looks again after %s", wait)
	}
	if none, err := signed(map[string]string{"jws-kubeconfig-aaaaaa": "x"}, tokens, now); err != nil || len(none) != 0 {
		t.Errorf("nothing to sign: %v, %v", none, err)
	}
}
