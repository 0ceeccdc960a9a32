package certificates

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	listers "k8s.io/client-go/listers/certificates/v1"

	"canopus/internal/controllers/reconcile"
)

// How long requests are kept: a while after their end, and for a day while nobody decides.
const (
	decidedLife = time.Hour
	pendingLife = 24 * time.Hour
)

// expires is when r is to be removed.
func expires(r *csr) time.Time {
	at := r.CreationTimestamp.Add(pendingLife)
	decided := false
	for _, t := range []certificatesv1.RequestConditionType{certificatesv1.CertificateApproved, certificatesv1.CertificateDenied, certificatesv1.CertificateFailed} {
		c := condition(r, t)
		if c == nil || t == certificatesv1.CertificateApproved && len(r.Status.Certificate) == 0 {
			continue
		}
		if end := c.LastUpdateTime.Add(decidedLife); !decided || end.Before(at) {
			at, decided = end, true
		}
	}
	if !decided && has(r, certificatesv1.CertificateApproved) {
		// Approved, and nobody signs: the day counts from the approval.
		at = condition(r, certificatesv1.CertificateApproved).LastUpdateTime.Add(pendingLife)
	}
	if end := certificateEnd(r.Status.Certificate); !end.IsZero() && end.Before(at) {
		at = end
	}
	return at
}

// certificateEnd is when the first certificate ends; zero when there is none.
func certificateEnd(chain []byte) time.Time {
	b, _ := pem.Decode(chain)
	if b == nil {
		return time.Time{}
	}
	c, err := x509.ParseCertificate(b.Bytes)
	if err != nil {
		return time.Time{}
	}
	return c.NotAfter
}

// Cleaner is the controller that removes requests when they are of no more use.
type Cleaner struct {
	reconcile.Deps
	requests listers.CertificateSigningRequestLister
	loop     *reconcile.Loop[string]
}

// NewCleaner makes a controller that does nothing before Run.
func NewCleaner(d reconcile.Deps) (*Cleaner, error) {
	if err := d.Check(); err != nil {
		return nil, err
	}
	c := &Cleaner{Deps: d, requests: d.Informers.Certificates().V1().CertificateSigningRequests().Lister()}
	var err error
	c.loop, err = loop("csrcleaner", d, c.reconcile)
	return c, err
}

// Run works until ctx ends.
func (c *Cleaner) Run(ctx context.Context) error { return c.loop.Run(ctx) }

func (c *Cleaner) reconcile(ctx context.Context, name string) (time.Duration, error) {
	r, err := c.requests.Get(name)
	if apierrors.IsNotFound(err) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	if wait := expires(r).Sub(c.Clock.Now()); wait > 0 {
		return wait, nil
	}
	err = c.Client.CertificatesV1().CertificateSigningRequests().Delete(ctx, name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &r.UID}})
	if err == nil || apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return 0, nil
	}
	return 0, fmt.Errorf("remove certificate request %s: %w", name, err)
}
