// Package volumeexpand sees claims that ask for more than their volumes have, and says who is to make the volumes grow: a
// program beside the volume's driver, which watches claims itself. It makes nothing grow.
package volumeexpand

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	corelisters "k8s.io/client-go/listers/core/v1"

	"canopus/internal/controllers/reconcile"
)

const (
	workers = 2
	reason  = "ExternalExpanding"
	text    = "waiting for an external controller to expand this PVC"
)

// Controller tells of claims that wait for their volumes to grow.
type Controller struct {
	reconcile.Deps
	claims  corelisters.PersistentVolumeClaimLister
	volumes corelisters.PersistentVolumeLister
	loop    *reconcile.Loop[types.NamespacedName]
}

// New makes a controller that does nothing before Run.
func New(d reconcile.Deps) (*Controller, error) {
	if err := d.Check(); err != nil {
		return nil, err
	}
	core := d.Informers.Core().V1()
	c := &Controller{Deps: d, claims: core.PersistentVolumeClaims().Lister(), volumes: core.PersistentVolumes().Lister()}
	var err error
	c.loop, err = reconcile.New(reconcile.Config[types.NamespacedName]{
		Name: "volume_expand", Workers: workers, Reconcile: c.reconcile, Clock: d.Clock, Log: d.Log, Queues: d.Queues,
		Sources: []reconcile.Source[types.NamespacedName]{reconcile.On(core.PersistentVolumeClaims().Informer(), changed)},
	})
	return c, err
}

// Run works until ctx ends.
func (c *Controller) Run(ctx context.Context) error { return c.loop.Run(ctx) }

// changed: a claim concerns us once per size that it asks for.
func changed(old, claim *corev1.PersistentVolumeClaim) []types.NamespacedName {
	if claim == nil || !wantsMore(claim) {
		return nil
	}
	if old != nil && wantsMore(old) && old.Spec.Resources.Requests.Storage().Cmp(*claim.Spec.Resources.Requests.Storage()) == 0 {
		return nil
	}
	return []types.NamespacedName{reconcile.Key(claim)}
}

// wantsMore says whether claim has a volume and asks for more than it has got.
func wantsMore(claim *corev1.PersistentVolumeClaim) bool {
	return claim.Status.Phase == corev1.ClaimBound && claim.DeletionTimestamp == nil &&
		claim.Spec.Resources.Requests.Storage().Cmp(*claim.Status.Capacity.Storage()) > 0
}

func (c *Controller) reconcile(_ context.Context, key types.NamespacedName) (time.Duration, error) {
	claim, err := c.claims.PersistentVolumeClaims(key.Namespace).Get(key.Name)
	if apierrors.IsNotFound(err) {
		return 0, nil
	}
	if err != nil || !wantsMore(claim) {
		return 0, err
	}
	pv, err := c.volumes.Get(claim.Spec.VolumeName)
	if err != nil {
		return 0, fmt.Errorf("volume of claim %s, which is to grow: %w", key, err)
	}
	if ref := pv.Spec.ClaimRef; ref == nil || ref.UID != claim.UID {
		return 0, fmt.Errorf("claim %s is to grow, but volume %s is not bound to it", key, pv.Name)
	}
	c.Events.Event(claim, corev1.EventTypeNormal, reason, text)
	return 0, nil
}
