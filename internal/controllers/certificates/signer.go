package certificates

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	listers "k8s.io/client-go/listers/certificates/v1"

	"canopus/internal/controllers/reconcile"
)

const (
	backdate   = 5 * time.Minute // for clocks that are a little behind
	shortLived = 8 * time.Hour   // such certificates get all the time they asked for
)

// Authority is what certificates are issued with.
type Authority struct {
	Certificate *x509.Certificate
	Key         crypto.Signer
	Life        time.Duration // of certificates whose requests do not ask for less
}

// issue makes the certificate that r asks for.
func (a *Authority) issue(r *csr, req *x509.CertificateRequest, now time.Time) ([]byte, error) {
	usage, extended, err := x509Usages(r.Spec.Usages)
	if err != nil {
		return nil, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, fmt.Errorf("make a serial number: %w", err)
	}
	t := &x509.Certificate{
		SerialNumber: serial, Subject: req.Subject, DNSNames: req.DNSNames, IPAddresses: req.IPAddresses,
		EmailAddresses: req.EmailAddresses, URIs: req.URIs, KeyUsage: usage, ExtKeyUsage: extended, BasicConstraintsValid: true,
	}
	t.NotBefore, t.NotAfter = a.validity(r.Spec.ExpirationSeconds, now)
	der, err := x509.CreateCertificate(rand.Reader, t, a.Certificate, req.PublicKey, a.Key)
	if err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), nil
}

// validity never exceeds what was asked, what the authority grants, and the authority's own.
func (a *Authority) validity(seconds *int32, now time.Time) (from, until time.Time) {
	life := a.Life
	if seconds != nil {
		life = min(life, max(time.Duration(*seconds)*time.Second, 10*time.Minute))
	}
	from, until = now.Add(-backdate), now.Add(life)
	if life >= shortLived {
		until = until.Add(-backdate)
	}
	if until.After(a.Certificate.NotAfter) {
		until = a.Certificate.NotAfter
	}
	return from, until
}

// sign returns r with a certificate, or with the reason why it gets none; nil when there is nothing to do.
func (a *Authority) sign(r *csr, now time.Time) (*csr, error) {
	if !ours(r.Spec.SignerName) || len(r.Status.Certificate) > 0 || has(r, certificatesv1.CertificateFailed) ||
		has(r, certificatesv1.CertificateDenied) || !has(r, certificatesv1.CertificateApproved) {
		return nil, nil
	}
	out := r.DeepCopy()
	req, err := parse(r)
	if err == nil {
		err = checkRules(r.Spec.SignerName, req, r.Spec.Usages)
	}
	if err != nil {
		mark(out, certificatesv1.CertificateSigningRequestCondition{
			Type: certificatesv1.CertificateFailed, Reason: "SignerValidationFailed", Message: err.Error(),
		}, now)
		return out, nil
	}
	out.Status.Certificate, err = a.issue(r, req, now)
	return out, err
}

// Signer is the controller that issues what was approved.
type Signer struct {
	reconcile.Deps
	authority *Authority
	requests  listers.CertificateSigningRequestLister
	loop      *reconcile.Loop[string]
}

// NewSigner makes a controller that does nothing before Run.
func NewSigner(d reconcile.Deps, a *Authority) (*Signer, error) {
	if err := d.Check(); err != nil {
		return nil, err
	}
	if a == nil || a.Certificate == nil || a.Key == nil || a.Life < 10*time.Minute {
		return nil, errors.New("the certificate signer needs an authority's certificate and key, and a life of at least 10 minutes for what it issues")
	}
	s := &Signer{Deps: d, authority: a, requests: d.Informers.Certificates().V1().CertificateSigningRequests().Lister()}
	var err error
	s.loop, err = loop("certificate", d, s.reconcile)
	return s, err
}

// Run works until ctx ends.
func (s *Signer) Run(ctx context.Context) error { return s.loop.Run(ctx) }

func (s *Signer) reconcile(ctx context.Context, name string) (time.Duration, error) {
	r, err := s.requests.Get(name)
	if apierrors.IsNotFound(err) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	next, err := s.authority.sign(r, s.Clock.Now())
	if err != nil {
		return 0, fmt.Errorf("issue the certificate that %s asks for: %w", name, err)
	}
	if next == nil {
		return 0, nil
	}
	_, err = s.Client.CertificatesV1().CertificateSigningRequests().UpdateStatus(ctx, next, metav1.UpdateOptions{})
	if err == nil || apierrors.IsNotFound(err) {
		return 0, nil
	}
	return 0, fmt.Errorf("write the certificate that %s asks for: %w", name, err)
}
