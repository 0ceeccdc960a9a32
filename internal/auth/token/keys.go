package token

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"

	"github.com/go-jose/go-jose/v4"
)

// Keys are the key that signs new tokens and all public keys whose tokens are accepted. Immutable.
type Keys struct {
	signer     jose.Signer
	public     map[string]jose.JSONWebKey // by key ID
	order      []string                   // key IDs, the signing key first
	algorithms []jose.SignatureAlgorithm
}

// NewKeys makes Keys of a signing key (RSA or ECDSA) and further public keys, for instance those of before a rotation.
func NewKeys(signing crypto.Signer, more ...crypto.PublicKey) (*Keys, error) {
	if signing == nil {
		return nil, errors.New("service account keys: a signing key is required")
	}
	k := &Keys{public: map[string]jose.JSONWebKey{}}
	for _, pub := range append([]crypto.PublicKey{signing.Public()}, more...) {
		if err := k.trust(pub); err != nil {
			return nil, err
		}
	}
	first := k.public[k.order[0]]
	key := jose.SigningKey{
		Algorithm: jose.SignatureAlgorithm(first.Algorithm),
		Key:       jose.JSONWebKey{Key: signing, KeyID: first.KeyID, Algorithm: first.Algorithm, Use: "sig"},
	}
	signer, err := jose.NewSigner(key, nil)
	if err != nil {
		return nil, fmt.Errorf("service account signing key: %w", err)
	}
	k.signer = signer
	return k, nil
}

func (k *Keys) trust(pub crypto.PublicKey) error {
	alg, err := algorithm(pub)
	if err != nil {
		return err
	}
	id, err := keyID(pub)
	if err != nil {
		return err
	}
	if _, known := k.public[id]; known {
		return nil
	}
	k.public[id] = jose.JSONWebKey{Key: pub, KeyID: id, Algorithm: string(alg), Use: "sig"}
	k.order = append(k.order, id)
	k.algorithms = append(k.algorithms, alg)
	return nil
}

// keyID is upstream's: the URL-safe base64 of the SHA-256 of the key in PKIX form.
func keyID(pub crypto.PublicKey) (string, error) {
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return "", fmt.Errorf("encode service account public key: %w", err)
	}
	sum := sha256.Sum256(der)
	return base64.RawURLEncoding.EncodeToString(sum[:]), nil
}

func algorithm(pub crypto.PublicKey) (jose.SignatureAlgorithm, error) {
	switch p := pub.(type) {
	case *rsa.PublicKey:
		return jose.RS256, nil
	case *ecdsa.PublicKey:
		switch p.Curve {
		case elliptic.P256():
			return jose.ES256, nil
		case elliptic.P384():
			return jose.ES384, nil
		case elliptic.P521():
			return jose.ES512, nil
		}
		return "", fmt.Errorf("service account key: curve %s is not supported, use P-256, P-384 or P-521", p.Curve.Params().Name)
	}
	return "", fmt.Errorf("service account key of type %T is not supported, use RSA or ECDSA", pub)
}
