package rotation

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// readPair reads the certificate and the key in one file.
func readPair(file string) (*x509.Certificate, *tls.Certificate, error) {
	raw, err := os.ReadFile(file)
	if err != nil {
		return nil, nil, err
	}
	return parsePair(file, raw, raw)
}

func parsePair(what string, certPEM, keyPEM []byte) (*x509.Certificate, *tls.Certificate, error) {
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", what, err)
	}
	leaf, err := x509.ParseCertificate(pair.Certificate[0])
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", what, err)
	}
	pair.Leaf = leaf
	return leaf, &pair, nil
}

// Adopt puts an issued pair into file unless a later one of the same name is there: credentials that were copied to this machine
// count until they have been renewed once, and again when an administrator copies new ones.
func Adopt(file string, certPEM, keyPEM []byte) error {
	issued, _, err := parsePair("the credentials that were issued", certPEM, keyPEM)
	if err != nil {
		return err
	}
	if have, _, err := readPair(file); err == nil && supersedes(have, issued) {
		return nil
	}
	return writePair(file, certPEM, keyPEM)
}

// supersedes says whether have is a renewal of issued, by the same authority.
func supersedes(have, issued *x509.Certificate) bool {
	return have.Subject.CommonName == issued.Subject.CommonName && bytes.Equal(have.RawIssuer, issued.RawIssuer) &&
		bytes.Equal(have.AuthorityKeyId, issued.AuthorityKeyId) && !have.NotAfter.Before(issued.NotAfter)
}

// Serving returns what a TLS listener asks for its certificate: the pair in file as it is at that moment.
func Serving(file string) func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	return func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		_, pair, err := readPair(file)
		return pair, err
	}
}

// writePair replaces file as a whole.
func writePair(file string, certPEM, keyPEM []byte) error {
	dir := filepath.Dir(file)
	f, err := os.CreateTemp(dir, "."+filepath.Base(file)+"-*") // mode 0600
	if err != nil {
		return fmt.Errorf("write %s: %w", file, err)
	}
	defer func() { _ = os.Remove(f.Name()) }() // gone already when all went well
	_, err1 := f.Write(bytes.TrimRight(certPEM, "\n"))
	_, err2 := f.Write(append([]byte("\n"), keyPEM...))
	if err := errors.Join(err1, err2, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", file, err)
	}
	if err := os.Rename(f.Name(), file); err != nil {
		return fmt.Errorf("write %s: %w", file, err)
	}
	return nil
}
