package cluster

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"os"
	"slices"
	"time"
)

const (
	authorityLife = 10 * 365 * 24 * time.Hour
	leafLife      = 365 * 24 * time.Hour
	// backdate lets machines whose clocks are a little behind accept a fresh certificate.
	backdate = 5 * time.Minute
)

// pair is a certificate with its key, as PEM and parsed.
type pair struct {
	certPEM, keyPEM []byte
	cert            *x509.Certificate
	key             crypto.Signer
}

func (p *pair) tls() *tls.Certificate {
	return &tls.Certificate{Certificate: [][]byte{p.cert.Raw}, PrivateKey: p.key, Leaf: p.cert}
}

// request says what a leaf certificate is for.
type request struct {
	name          string
	organizations []string
	server        bool // for serving, else for clients
	names         []string
	addresses     []netip.Addr
}

// newAuthority makes a certificate authority.
func newAuthority(name string, now time.Time) (*pair, error) {
	t := &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: now.Add(-backdate), NotAfter: now.Add(authorityLife), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment,
	}
	return sign(t, nil)
}

// issue makes a leaf certificate. It does not outlive its authority.
func (p *pair) issue(r request, now time.Time) (*pair, error) {
	t := &x509.Certificate{
		Subject:   pkix.Name{CommonName: r.name, Organization: r.organizations},
		NotBefore: now.Add(-backdate), NotAfter: now.Add(leafLife), BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	if r.server {
		t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
		t.DNSNames = r.names
		for _, a := range r.addresses {
			t.IPAddresses = append(t.IPAddresses, net.IP(a.Unmap().AsSlice()))
		}
	}
	if t.NotAfter.After(p.cert.NotAfter) {
		t.NotAfter = p.cert.NotAfter
	}
	return sign(t, p)
}

// sign makes a key and a certificate for it, signed by the authority, or by itself if that is nil.
func sign(t *x509.Certificate, by *pair) (*pair, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make a key for %s: %w", t.Subject.CommonName, err)
	}
	// 127 random bits: unique without a record of what was issued.
	if t.SerialNumber, err = rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127)); err != nil {
		return nil, fmt.Errorf("make a serial number: %w", err)
	}
	parent, signer := t, crypto.Signer(key)
	if by != nil {
		parent, signer = by.cert, by.key
	}
	der, err := x509.CreateCertificate(rand.Reader, t, parent, key.Public(), signer)
	if err != nil {
		return nil, fmt.Errorf("sign the certificate of %s: %w", t.Subject.CommonName, err)
	}
	keyPEM, err := encodeKey(key)
	if err != nil {
		return nil, err
	}
	return parsePair(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), keyPEM)
}

func encodeKey(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode a private key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}), nil
}

func parsePair(certPEM, keyPEM []byte) (*pair, error) {
	b, _ := pem.Decode(certPEM)
	if b == nil || b.Type != "CERTIFICATE" {
		return nil, errors.New("no PEM certificate")
	}
	cert, err := x509.ParseCertificate(b.Bytes)
	if err != nil {
		return nil, err
	}
	key, err := parseKey(keyPEM)
	if err != nil {
		return nil, err
	}
	same, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool })
	if !ok || !same.Equal(cert.PublicKey) {
		return nil, errors.New("certificate and key do not belong together")
	}
	return &pair{certPEM: certPEM, keyPEM: keyPEM, cert: cert, key: key}, nil
}

// parseKey reads an RSA or ECDSA key in any of the three common forms.
func parseKey(keyPEM []byte) (crypto.Signer, error) {
	for rest := keyPEM; ; {
		var b *pem.Block
		if b, rest = pem.Decode(rest); b == nil {
			return nil, errors.New("no PEM private key")
		}
		switch b.Type {
		case "EC PRIVATE KEY":
			return x509.ParseECPrivateKey(b.Bytes)
		case "RSA PRIVATE KEY":
			return x509.ParsePKCS1PrivateKey(b.Bytes)
		case "PRIVATE KEY":
			k, err := x509.ParsePKCS8PrivateKey(b.Bytes)
			if err != nil {
				return nil, err
			}
			if s, ok := k.(crypto.Signer); ok {
				return s, nil
			}
			return nil, fmt.Errorf("a key of type %T cannot sign", k)
		}
	}
}

// LoadPair reads a certificate and its key from two PEM files.
func LoadPair(certFile, keyFile string) (*x509.Certificate, crypto.Signer, error) {
	cert, err1 := os.ReadFile(certFile)
	key, err2 := os.ReadFile(keyFile)
	if err := errors.Join(err1, err2); err != nil {
		return nil, nil, err
	}
	p, err := parsePair(cert, key)
	if err != nil {
		return nil, nil, fmt.Errorf("certificate %s with key %s: %w", certFile, keyFile, err)
	}
	return p.cert, p.key, nil
}

// LoadKey reads a private key from a PEM file.
func LoadKey(file string) (crypto.Signer, error) {
	raw, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	key, err := parseKey(raw)
	if err != nil {
		return nil, fmt.Errorf("key %s: %w", file, err)
	}
	return key, nil
}

// load reads a pair; nil and no error when neither file is there.
func load(l Layout, name string) (*pair, error) {
	cert, err1 := os.ReadFile(l.Certificate(name))
	key, err2 := os.ReadFile(l.Key(name))
	if errors.Is(err1, os.ErrNotExist) && errors.Is(err2, os.ErrNotExist) {
		return nil, nil
	}
	if err := errors.Join(err1, err2); err != nil {
		return nil, fmt.Errorf("read certificate %s: %w", name, err)
	}
	p, err := parsePair(cert, key)
	if err != nil {
		return nil, fmt.Errorf("certificate %s with key %s: %w", l.Certificate(name), l.Key(name), err)
	}
	return p, nil
}

// save writes the key first: a certificate without its key would be refused at the next start.
func (p *pair) save(l Layout, name string) error {
	if err := WriteFile(l.Key(name), p.keyPEM, 0o600); err != nil {
		return err
	}
	return WriteFile(l.Certificate(name), p.certPEM, 0o644)
}

// renewAt is when a certificate should be replaced: after two thirds of its life.
func renewAt(c *x509.Certificate) time.Time {
	return c.NotBefore.Add(c.NotAfter.Sub(c.NotBefore) * 2 / 3)
}

// fits says whether the leaf p still does what r asks for: signed by ca, right names, not due for renewal.
func fits(p, ca *pair, r request, now time.Time) bool {
	c := p.cert
	if !now.Before(renewAt(c)) || now.Before(c.NotBefore) || c.CheckSignatureFrom(ca.cert) != nil {
		return false
	}
	if c.Subject.CommonName != r.name || !slices.Equal(c.Subject.Organization, r.organizations) {
		return false
	}
	for _, n := range r.names {
		if !slices.Contains(c.DNSNames, n) {
			return false
		}
	}
	for _, a := range r.addresses {
		if !slices.ContainsFunc(c.IPAddresses, net.IP(a.Unmap().AsSlice()).Equal) {
			return false
		}
	}
	return true
}
