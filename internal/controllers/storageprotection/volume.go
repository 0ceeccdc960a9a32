package storageprotection

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	corelisters "k8s.io/client-go/listers/core/v1"

	"canopus/internal/controllers/reconcile"
)

// Volumes protects volumes that are bound.
type Volumes struct {
	reconcile.Deps
	volumes corelisters.PersistentVolumeLister
	loop    *reconcile.Loop[string]
}

// NewVolumes makes a controller that does nothing before Run.
func NewVolumes(d reconcile.Deps) (*Volumes, error) {
	if err := d.Check(); err != nil {
		return nil, err
	}
	volumes := d.Informers.Core().V1().PersistentVolumes()
	c := &Volumes{Deps: d, volumes: volumes.Lister()}
	var err error
	c.loop, err = reconcile.New(reconcile.Config[string]{
		Name: "pvprotection", Workers: workers, Reconcile: c.reconcile, Clock: d.Clock, Log: d.Log, Queues: d.Queues,
		Sources: []reconcile.Source[string]{reconcile.On(volumes.Informer(), func(_, pv *corev1.PersistentVolume) []string {
			if pv == nil || decide(pv, volumeFinalizer, volumeUsed(pv)) == nothing {
				return nil
			}
			return []string{pv.Name}
		})},
	})
	return c, err
}

// Run works until ctx ends.
func (c *Volumes) Run(ctx context.Context) error { return c.loop.Run(ctx) }

func volumeUsed(pv *corev1.PersistentVolume) bool { return pv.Status.Phase == corev1.VolumeBound }

func (c *Volumes) reconcile(ctx context.Context, name string) (time.Duration, error) {
	pv, err := c.volumes.Get(name)
	if apierrors.IsNotFound(err) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	next, ok := applied(pv.DeepCopy(), volumeFinalizer, decide(pv, volumeFinalizer, volumeUsed(pv)))
	if !ok {
		return 0, nil
	}
	_, err = c.Client.CoreV1().PersistentVolumes().Update(ctx, next, metav1.UpdateOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return 0, fmt.Errorf("protect volume %s: %w", name, err)
	}
	return 0, nil
}
