package atrest

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/crypto/nacl/secretbox"
)

// errTampered is deliberately vague: what exactly was wrong would help only an attacker.
var errTampered = errors.New("the stored value is damaged, or was encrypted under another key or for another object")

// gcm is AES in Galois/counter mode: nonce, then ciphertext. The etcd key is authenticated.
type gcm struct{ aead cipher.AEAD }

func newGCM(key []byte) (crypt, error) {
	b, err := newBlock(key)
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCM(b)
	if err != nil {
		return nil, err
	}
	return gcm{aead}, nil
}

func (g gcm) seal(plain, context, prefix []byte) ([]byte, error) {
	out, nonce, err := withNonce(prefix, g.aead.NonceSize(), len(plain)+g.aead.Overhead())
	if err != nil {
		return nil, err
	}
	return g.aead.Seal(out, nonce, plain, context), nil
}

func (g gcm) open(sealed, context []byte) ([]byte, error) {
	n := g.aead.NonceSize()
	if len(sealed) < n {
		return nil, errTampered
	}
	plain, err := g.aead.Open(nil, sealed[:n], sealed[n:], context)
	if err != nil {
		return nil, errTampered
	}
	return plain, nil
}

// box is NaCl's secretbox: nonce, then ciphertext. It authenticates no context.
type box struct{ key [32]byte }

func newBox(key []byte) (crypt, error) {
	if len(key) != 32 {
		return nil, fmt.Errorf("it has %d bytes; secretbox needs 32", len(key))
	}
	return &box{[32]byte(key)}, nil
}

func (b *box) seal(plain, _, prefix []byte) ([]byte, error) {
	out, nonce, err := withNonce(prefix, 24, len(plain)+secretbox.Overhead)
	if err != nil {
		return nil, err
	}
	return secretbox.Seal(out, plain, (*[24]byte)(nonce), &b.key), nil
}

func (b *box) open(sealed, _ []byte) ([]byte, error) {
	if len(sealed) < 24 {
		return nil, errTampered
	}
	plain, ok := secretbox.Open(nil, sealed[24:], (*[24]byte)(sealed), &b.key)
	if !ok {
		return nil, errTampered
	}
	return plain, nil
}

// cbc is AES in cipher block chaining mode with PKCS #7 padding: initialization vector, then ciphertext. It authenticates nothing;
// it is here to read data directories that were written with it.
type cbc struct{ block cipher.Block }

func newCBC(key []byte) (crypt, error) {
	b, err := newBlock(key)
	if err != nil {
		return nil, err
	}
	return cbc{b}, nil
}

func (c cbc) seal(plain, _, prefix []byte) ([]byte, error) {
	pad := aes.BlockSize - len(plain)%aes.BlockSize
	out, iv, err := withNonce(prefix, aes.BlockSize, len(plain)+pad)
	if err != nil {
		return nil, err
	}
	start := len(out)
	out = append(out, plain...)
	for range pad {
		out = append(out, byte(pad))
	}
	cipher.NewCBCEncrypter(c.block, iv).CryptBlocks(out[start:], out[start:])
	return out, nil
}

func (c cbc) open(sealed, _ []byte) ([]byte, error) {
	if len(sealed) < 2*aes.BlockSize || len(sealed)%aes.BlockSize != 0 {
		return nil, errTampered
	}
	plain := slices.Clone(sealed[aes.BlockSize:])
	cipher.NewCBCDecrypter(c.block, sealed[:aes.BlockSize]).CryptBlocks(plain, plain)
	pad := int(plain[len(plain)-1])
	if pad == 0 || pad > aes.BlockSize {
		return nil, errTampered
	}
	for _, b := range plain[len(plain)-pad:] {
		if int(b) != pad {
			return nil, errTampered
		}
	}
	return plain[:len(plain)-pad], nil
}

// withNonce returns prefix and a random nonce with room for more bytes after it, and the nonce.
func withNonce(prefix []byte, size, more int) (out, nonce []byte, err error) {
	out = make([]byte, len(prefix)+size, len(prefix)+size+more)
	copy(out, prefix)
	nonce = out[len(prefix):]
	if _, err := rand.Read(nonce); err != nil {
		return nil, nil, fmt.Errorf("read random bytes: %w", err)
	}
	return out, nonce, nil
}
