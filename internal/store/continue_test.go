package store

import (
	"errors"
	"testing"
)

func TestTokenRoundTrip(t *testing.T) {
	t.Parallel()
	// Upstream's form, so that a client may keep a token across a change of server.
	const upstream = "eyJ2IjoibWV0YS5rOHMuaW8vdjEiLCJydiI6NDIsInN0YXJ0IjoiYS94XHUwMDAwIn0"
	if got := encodeToken(42, "a/x\x00"); got != upstream {
		t.Errorf("got %s", got)
	}
	got, err := decodeToken(upstream)
	if err != nil || got != (token{tokenVersion, 42, "a/x\x00"}) {
		t.Errorf("got %+v, %v", got, err)
	}
}

func FuzzDecodeToken(f *testing.F) {
	f.Add(encodeToken(1, "a"))
	f.Add(encodeToken(-1, "ns/name\x00"))
	f.Add("bm8")
	f.Fuzz(func(t *testing.T, s string) {
		got, err := decodeToken(s)
		var invalid *InvalidContinue
		if err != nil {
			if !errors.As(err, &invalid) {
				t.Errorf("untyped error %v", err)
			}
			return
		}
		if again, err := decodeToken(encodeToken(got.Revision, got.Start)); err != nil || again != got {
			t.Errorf("%+v became %+v, %v", got, again, err)
		}
	})
}
