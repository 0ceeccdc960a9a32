package certificates

import (
	"context"
	"fmt"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	listers "k8s.io/client-go/listers/certificates/v1"

	"canopus/internal/controllers/reconcile"
)

// podRequestLife is how long a request for a pod's certificate is kept, whatever became of it: its node reads the answer at once.
const podRequestLife = 15 * time.Minute

// PodCleaner is the controller that removes requests for the certificates of pods.
type PodCleaner struct {
	reconcile.Deps
	requests listers.PodCertificateRequestLister
	loop     *reconcile.Loop[types.NamespacedName]
}

// NewPodCleaner makes a controller that does nothing before Run.
func NewPodCleaner(d reconcile.Deps) (*PodCleaner, error) {
	if err := d.Check(); err != nil {
		return nil, err
	}
	requests := d.Informers.Certificates().V1().PodCertificateRequests()
	c := &PodCleaner{Deps: d, requests: requests.Lister()}
	var err error
	c.loop, err = reconcile.New(reconcile.Config[types.NamespacedName]{
		Name: "podcertificaterequestcleaner", Workers: 1, Reconcile: c.reconcile, Clock: d.Clock, Log: d.Log, Queues: d.Queues,
		Sources: []reconcile.Source[types.NamespacedName]{
			reconcile.On(requests.Informer(), func(old, r *certificatesv1.PodCertificateRequest) []types.NamespacedName {
				if r == nil || old != nil && old.UID == r.UID {
					return nil // only its age counts
				}
				return []types.NamespacedName{reconcile.Key(r)}
			}),
		},
	})
	return c, err
}

// Run works until ctx ends.
func (c *PodCleaner) Run(ctx context.Context) error { return c.loop.Run(ctx) }

func (c *PodCleaner) reconcile(ctx context.Context, key types.NamespacedName) (time.Duration, error) {
	r, err := c.requests.PodCertificateRequests(key.Namespace).Get(key.Name)
	if apierrors.IsNotFound(err) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	if wait := podRequestLife - c.Clock.Since(r.CreationTimestamp.Time); wait > 0 {
		return wait, nil
	}
	err = c.Client.CertificatesV1().PodCertificateRequests(key.Namespace).Delete(ctx, key.Name, metav1.DeleteOptions{Preconditions: metav1.NewUIDPreconditions(string(r.UID))})
	if err == nil || apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return 0, nil
	}
	return 0, fmt.Errorf("remove pod certificate request %s: %w", key, err)
}
