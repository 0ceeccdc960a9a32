package atrest

import (
	"bytes"
	"encoding/base64"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"canopus/internal/store"

	"k8s.io/apimachinery/pkg/runtime/schema"
)

func secret(b byte, n int) string {
	return base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{b}, n))
}

// file is a configuration for secrets with the given providers, each "name:key:byte:length", or "identity".
func file(providers ...string) string {
	var b strings.Builder
	b.WriteString("apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n- resources: [secrets]\n  providers:\n")
	for _, p := range providers {
		if p == "identity" {
			b.WriteString("  - identity: {}\n")
			continue
		}
		name, key, _ := strings.Cut(p, ":")
		size := 32
		if name == "aescbc" {
			size = 16
		}
		b.WriteString("  - " + name + ":\n      keys:\n      - name: " + key + "\n        secret: " + secret(key[0], size) + "\n")
	}
	return b.String()
}

func transformer(t testing.TB, providers ...string) store.Transformer {
	t.Helper()
	c, err := Parse([]byte(file(providers...)))
	if err != nil {
		t.Fatal(err)
	}
	return c.Transformer(schema.GroupResource{Resource: "secrets"})
}

const etcdKey = "/registry/secrets/apps/db"

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	for _, p := range []string{"aesgcm:k1", "aescbc:k1", "secretbox:k1"} {
		x := transformer(t, p, "identity")
		for _, plain := range [][]byte{{}, []byte("x"), bytes.Repeat([]byte("k8s\x00"), 4), bytes.Repeat([]byte("y"), 100_000)} {
			sealed, err := x.ToStorage(t.Context(), plain, etcdKey)
			if err != nil {
				t.Fatal(err)
			}
			if want := "k8s:enc:" + strings.Split(p, ":")[0] + ":v1:k1:"; !bytes.HasPrefix(sealed, []byte(want)) {
				t.Errorf("%s: stored as %q", p, sealed[:30])
			}
			if len(plain) > 10 && bytes.Contains(sealed, plain) {
				t.Errorf("%s: stored in plain", p)
			}
			again, err := x.ToStorage(t.Context(), plain, etcdKey)
			if err != nil || bytes.Equal(sealed, again) {
				t.Errorf("%s: the same value is stored the same way twice", p)
			}
			got, stale, err := x.FromStorage(t.Context(), sealed, etcdKey)
			if err != nil || stale || !bytes.Equal(got, plain) {
				t.Errorf("%s: %q comes back as %q, stale %v, %v", p, plain, got, stale, err)
			}
			for i := range sealed {
				if len(sealed) > 200 || p == "aescbc:k1" {
					break // CBC authenticates nothing
				}
				bad := bytes.Clone(sealed)
				bad[i] ^= 1
				if got, _, err := x.FromStorage(t.Context(), bad, etcdKey); err == nil && i >= len("k8s:enc:") {
					t.Errorf("%s: byte %d changed, and %q is returned", p, i, got)
				}
			}
		}
	}
}

func TestGCMIsBoundToItsKey(t *testing.T) {
	t.Parallel()
	x := transformer(t, "aesgcm:k1")
	sealed, err := x.ToStorage(t.Context(), []byte("x"), etcdKey)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := x.FromStorage(t.Context(), sealed, "/registry/secrets/apps/other"); err == nil {
		t.Error("a value that was moved to another key is accepted")
	}
}

func TestRotation(t *testing.T) {
	t.Parallel()
	old, err := transformer(t, "aescbc:old", "identity").ToStorage(t.Context(), []byte("x"), etcdKey)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		providers []string
		stored    []byte
		stale     bool
		fails     string
	}{
		"old key second":         {[]string{"secretbox:new", "aescbc:old"}, old, true, ""},
		"old key first":          {[]string{"aescbc:old", "secretbox:new"}, old, false, ""},
		"old key gone":           {[]string{"secretbox:new", "identity"}, old, false, `"k8s:enc:aescbc:v1:old:"`},
		"plain, identity last":   {[]string{"secretbox:new", "identity"}, []byte("x"), true, ""},
		"plain, identity first":  {[]string{"identity", "secretbox:new"}, []byte("x"), false, ""},
		"plain, no identity":     {[]string{"secretbox:new"}, []byte("x"), false, "no identity provider"},
		"unknown scheme":         {[]string{"secretbox:new", "identity"}, []byte("k8s:enc:rot13:v9:k:x"), false, "rot13"},
		"cut off":                {[]string{"secretbox:new"}, []byte("k8s:enc:secretbox:v1:new:short"), false, "damaged"},
		"nothing but the scheme": {[]string{"secretbox:new", "identity"}, []byte("k8s:enc:"), false, "unknown key"},
	} {
		got, stale, err := transformer(t, c.providers...).FromStorage(t.Context(), c.stored, etcdKey)
		if c.fails != "" {
			if err == nil || !strings.Contains(err.Error(), c.fails) {
				t.Errorf("%s: %q, %v", name, got, err)
			}
			continue
		}
		if err != nil || string(got) != "x" || stale != c.stale {
			t.Errorf("%s: %q, stale %v, %v", name, got, stale, err)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	head := "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\n"
	one := head + "resources:\n- resources: [secrets]\n  providers:\n"
	for name, text := range map[string]string{
		"empty": "", "no resources": head, "other version": strings.Replace(file("identity"), "/v1", "/v2", 1), "other kind": "apiVersion: v1\nkind: Secret\n",
		"unknown field": file("identity") + "extra: 1\n", "no providers": one, "nothing set": one + "  - {}\n",
		"two at once":   one + "  - identity: {}\n    secretbox: {keys: [{name: a, secret: " + secret('a', 32) + "}]}\n",
		"no keys":       one + "  - secretbox: {keys: []}\n",
		"short key":     one + "  - secretbox: {keys: [{name: a, secret: " + secret('a', 16) + "}]}\n",
		"odd AES key":   one + "  - aesgcm: {keys: [{name: a, secret: " + secret('a', 15) + "}]}\n",
		"no base64":     one + "  - aesgcm: {keys: [{name: a, secret: '%'}]}\n",
		"nameless key":  one + "  - aesgcm: {keys: [{name: '', secret: " + secret('a', 16) + "}]}\n",
		"kms":           one + "  - kms: {apiVersion: v2, name: a, endpoint: 'unix:///x'}\n",
		"nothing named": head + "resources:\n- resources: []\n  providers:\n  - identity: {}\n",
	} {
		if _, err := Parse([]byte(text)); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}

func TestMatches(t *testing.T) {
	t.Parallel()
	core, apps := schema.GroupResource{Resource: "secrets"}, schema.GroupResource{Group: "apps", Resource: "deployments"}
	dotted := schema.GroupResource{Group: "example.com", Resource: "pandas"}
	for _, c := range []struct {
		pattern string
		gr      schema.GroupResource
		want    bool
	}{
		{"secrets", core, true}, {"secrets", apps, false}, {"deployments.apps", apps, true}, {"*.", core, true}, {"*.", apps, false},
		{"*.apps", apps, true}, {"*.apps", core, false}, {"*.*", core, true}, {"*.*", dotted, true}, {"pandas.example.com", dotted, true},
	} {
		if matches(c.pattern, c.gr) != c.want {
			t.Errorf("%s and %s", c.pattern, c.gr)
		}
	}
}

func TestOpen(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "encryption.yaml")
	writes := 0
	write := func(path string, data []byte, mode os.FileMode) error {
		writes++
		return os.WriteFile(path, data, mode)
	}
	first, err := Open(path, write)
	if err != nil {
		t.Fatal(err)
	}
	gr := schema.GroupResource{Resource: "secrets"}
	sealed, err := first.Transformer(gr).ToStorage(t.Context(), []byte("x"), etcdKey)
	if err != nil || !bytes.HasPrefix(sealed, []byte("k8s:enc:secretbox:v1:key1:")) {
		t.Fatalf("%q, %v", sealed, err)
	}
	second, err := Open(path, write)
	if err != nil || writes != 1 {
		t.Fatalf("%d writes, %v", writes, err)
	}
	if got, _, err := second.Transformer(gr).FromStorage(t.Context(), sealed, etcdKey); err != nil || string(got) != "x" {
		t.Errorf("%q, %v", got, err)
	}
	if second.Transformer(schema.GroupResource{Resource: "configmaps"}) != nil {
		t.Error("configmaps are encrypted")
	}
	if err := os.WriteFile(path, []byte("apiVersion: apiserver.config.k8s.io/v1\nkind: Encr"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path, write); err == nil || writes != 1 {
		t.Errorf("a damaged file: %v, %d writes", err, writes)
	}
}

func FuzzFromStorage(f *testing.F) {
	x := transformer(f, "secretbox:s", "aesgcm:g", "aescbc:c", "identity")
	for _, s := range []string{"", "plain", "k8s:enc:", "k8s:enc:aescbc:v1:c:", "k8s:enc:aescbc:v1:c:0123456789abcdef0123456789abcdef", "k8s:enc:aesgcm:v1:g:x"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, stored []byte) {
		plain, _, err := x.FromStorage(t.Context(), stored, etcdKey)
		if err == nil && len(plain) > len(stored) {
			t.Errorf("%d bytes come out of %d", len(plain), len(stored))
		}
	})
}

func BenchmarkTransform(b *testing.B) {
	plain := bytes.Repeat([]byte("x"), 1024)
	for _, p := range []string{"secretbox:k", "aesgcm:k", "aescbc:k"} {
		b.Run(p, func(b *testing.B) {
			x := transformer(b, p)
			b.ReportAllocs()
			for b.Loop() {
				sealed, err := x.ToStorage(b.Context(), plain, etcdKey)
				if err == nil {
					_, _, err = x.FromStorage(b.Context(), sealed, etcdKey)
				}
				if err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
