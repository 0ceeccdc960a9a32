package atrest

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"encoding/base64"
	"errors"
	"fmt"

	apiserverv1 "k8s.io/apiserver/pkg/apis/apiserver/v1"
)

// scheme starts every encrypted value, whatever its provider.
const scheme = "k8s:enc:"

// crypt encrypts under one key. context is authenticated where the algorithm can.
type crypt interface {
	seal(plain, context, prefix []byte) ([]byte, error) // returns prefix and ciphertext
	open(sealed, context []byte) ([]byte, error)
}

// link is one key of one provider; crypt is nil for identity.
type link struct {
	prefix []byte // "k8s:enc:secretbox:v1:key1:"
	crypt  crypt
}

// chain writes with its first link and reads with whichever fits. It is a store.Transformer.
type chain struct{ links []link }

func newChain(providers []apiserverv1.ProviderConfiguration) (*chain, error) {
	c := &chain{}
	for i, p := range providers {
		links, err := provider(p)
		if err != nil {
			return nil, fmt.Errorf("providers[%d]: %w", i, err)
		}
		c.links = append(c.links, links...)
	}
	if len(c.links) == 0 {
		return nil, errors.New("no providers")
	}
	return c, nil
}

func provider(p apiserverv1.ProviderConfiguration) ([]link, error) {
	var links []link
	var count int
	add := func(name string, keys []apiserverv1.Key, make func([]byte) (crypt, error)) error {
		count++
		if len(keys) == 0 {
			return fmt.Errorf("%s has no keys", name)
		}
		for _, k := range keys {
			raw, err := base64.StdEncoding.DecodeString(k.Secret)
			if err != nil || k.Name == "" {
				return fmt.Errorf("%s key %q needs a name and a secret in base64", name, k.Name)
			}
			made, err := make(raw)
			if err != nil {
				return fmt.Errorf("%s key %q: %w", name, k.Name, err)
			}
			links = append(links, link{[]byte(scheme + name + ":v1:" + k.Name + ":"), made})
		}
		return nil
	}
	var err error
	if p.AESGCM != nil {
		err = errors.Join(err, add("aesgcm", p.AESGCM.Keys, newGCM))
	}
	if p.AESCBC != nil {
		err = errors.Join(err, add("aescbc", p.AESCBC.Keys, newCBC))
	}
	if p.Secretbox != nil {
		err = errors.Join(err, add("secretbox", p.Secretbox.Keys, newBox))
	}
	if p.Identity != nil {
		count++
		links = append(links, link{})
	}
	if p.KMS != nil {
		return nil, errors.New("KMS providers are not supported yet: use secretbox")
	}
	if err == nil && count != 1 {
		err = errors.New("exactly one of aesgcm, aescbc, secretbox and identity must be set")
	}
	return links, err
}

// ToStorage implements store.Transformer.
func (c *chain) ToStorage(_ context.Context, plain []byte, key string) ([]byte, error) {
	l := &c.links[0]
	if l.crypt == nil {
		return plain, nil
	}
	out, err := l.crypt.seal(plain, []byte(key), l.prefix)
	if err != nil {
		return nil, fmt.Errorf("encrypt %s: %w", key, err)
	}
	return out, nil
}

// FromStorage implements store.Transformer.
func (c *chain) FromStorage(_ context.Context, stored []byte, key string) ([]byte, bool, error) {
	encrypted := bytes.HasPrefix(stored, []byte(scheme))
	var failed error
	for i := range c.links {
		l := &c.links[i]
		if l.crypt == nil {
			if !encrypted {
				return stored, i > 0, nil
			}
			continue
		}
		sealed, ok := bytes.CutPrefix(stored, l.prefix)
		if !ok {
			continue
		}
		plain, err := l.crypt.open(sealed, []byte(key))
		if err == nil {
			return plain, i > 0, nil
		}
		failed = errors.Join(failed, err)
	}
	switch {
	case failed != nil:
		return nil, false, fmt.Errorf("decrypt %s: %w", key, failed)
	case encrypted:
		return nil, false, fmt.Errorf("decrypt %s: it is stored under %s, which the encryption configuration lacks: add that key again", key, name(stored))
	}
	return nil, false, fmt.Errorf("%s is stored in plain, but the encryption configuration has no identity provider: add one at the end", key)
}

// name returns the visible part of an encrypted value: provider and key name.
func name(stored []byte) string {
	end := 0
	for range 5 {
		i := bytes.IndexByte(stored[end:], ':')
		if i < 0 {
			return "an unknown key"
		}
		end += i + 1
	}
	return fmt.Sprintf("%q", stored[:end])
}

func newBlock(key []byte) (cipher.Block, error) {
	switch len(key) {
	case 16, 24, 32:
		return aes.NewCipher(key)
	}
	return nil, fmt.Errorf("it has %d bytes; 16, 24 and 32 are possible", len(key))
}
