// Package resourcequota counts what is used of every ResourceQuota. Admission charges what is written, in the same transaction; this
// controller counts from scratch when a quota is new or changes, when objects release what they used, and every few minutes.
//
// This file decides when to count, count.go counts, kinds.go watches the kinds whose number is limited.
package resourcequota

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/metadata"

	"canopus/internal/controllers/reconcile"
	"canopus/internal/quota"
)

const (
	workers = 5
	// period is after how long a quota is counted again though nothing is known to have changed.
	period = 5 * time.Minute
	// settle is after how long a quota whose limits are new is counted once more: writes that were under way before anybody knew of
	// them were not charged.
	settle = 2 * time.Second
	// pause is the least time between two counts: a thousand deletions at once are counted a few times.
	pause = 300 * time.Millisecond
)

// Config says what a Controller works with. All fields are required.
type Config struct {
	reconcile.Deps
	Metadata metadata.Interface // counts and watches kinds by name
}

// Controller writes the status of ResourceQuotas.
type Controller struct {
	Config
	quotas corelisters.ResourceQuotaLister
	kinds  *kinds
	loop   *reconcile.Loop[types.NamespacedName]

	mu      sync.Mutex
	counted map[types.NamespacedName]time.Time // when each quota was counted last
}

// New makes a controller that does nothing before Run.
func New(cfg Config) (*Controller, error) {
	if err := cfg.Check(); err != nil {
		return nil, err
	}
	if cfg.Metadata == nil {
		return nil, errors.New("the resource quota controller needs a metadata client")
	}
	core := cfg.Informers.Core().V1()
	c := &Controller{Config: cfg, quotas: core.ResourceQuotas().Lister(), counted: map[types.NamespacedName]time.Time{}}
	c.kinds = newKinds(c)
	var err error
	c.loop, err = reconcile.New(reconcile.Config[types.NamespacedName]{
		Name: "resource_quota_controller_resource_changes", Workers: workers, Reconcile: c.reconcile, Clock: cfg.Clock, Log: cfg.Log, Queues: cfg.Queues,
		Sources: []reconcile.Source[types.NamespacedName]{
			reconcile.On(core.ResourceQuotas().Informer(), c.quotaChanged),
			on[*corev1.Pod](c, schema.GroupResource{Resource: "pods"}, core.Pods().Informer()),
			on[*corev1.Service](c, schema.GroupResource{Resource: "services"}, core.Services().Informer()),
			on[*corev1.PersistentVolumeClaim](c, schema.GroupResource{Resource: "persistentvolumeclaims"}, core.PersistentVolumeClaims().Informer()),
			on[*resourcev1.ResourceClaim](c, quota.DeviceClaims(), cfg.Informers.Resource().V1().ResourceClaims().Informer()),
		},
	})
	return c, err
}

// Run works until ctx ends.
func (c *Controller) Run(ctx context.Context) error {
	var kinds sync.WaitGroup
	kinds.Go(func() { c.kinds.follow(ctx) })
	defer kinds.Wait()
	return c.loop.Run(ctx)
}

// quotaChanged: charges change the status all the time, which is no reason to count.
func (c *Controller) quotaChanged(old, q *corev1.ResourceQuota) []types.NamespacedName {
	switch {
	case q == nil:
		c.mu.Lock()
		delete(c.counted, reconcile.Key(old))
		c.mu.Unlock()
		c.kinds.look()
		return nil
	case old != nil && equality.Semantic.DeepEqual(old.Spec, q.Spec):
		return nil
	}
	c.kinds.look()
	return []types.NamespacedName{reconcile.Key(q)}
}

// released names the quotas of a namespace that limit a kind, an object of which uses less than before.
func (c *Controller) released(gr schema.GroupResource, namespace string) []types.NamespacedName {
	quotas, err := c.quotas.ResourceQuotas(namespace).List(labels.Everything())
	if err != nil {
		return nil
	}
	var keys []types.NamespacedName
	for _, q := range quotas {
		if len(quota.Names(gr, q.Spec.Hard)) > 0 {
			keys = append(keys, reconcile.Key(q))
		}
	}
	return keys
}

func (c *Controller) reconcile(ctx context.Context, key types.NamespacedName) (time.Duration, error) {
	q, err := c.quotas.ResourceQuotas(key.Namespace).Get(key.Name)
	if apierrors.IsNotFound(err) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	known := quota.Equal(q.Spec.Hard, q.Status.Hard)
	if wait := c.tooSoon(key); known && wait > 0 {
		return wait, nil
	}
	// q was read before anything is counted. Who creates an object meanwhile changes q in the same transaction, so that what is
	// counted here is written only if nothing was created since.
	used, err := c.count(ctx, q)
	if err != nil {
		return 0, fmt.Errorf("count the use of quota %s: %w", key, err)
	}
	if !known || !quota.Equal(used, q.Status.Used) {
		next := q.DeepCopy()
		next.Status = corev1.ResourceQuotaStatus{Hard: q.Spec.Hard.DeepCopy(), Used: used}
		_, err := c.Client.CoreV1().ResourceQuotas(q.Namespace).UpdateStatus(ctx, next, metav1.UpdateOptions{})
		if apierrors.IsNotFound(err) {
			return 0, nil
		}
		if err != nil {
			return 0, fmt.Errorf("write the status of quota %s: %w", key, err)
		}
	}
	c.mu.Lock()
	c.counted[key] = c.Clock.Now()
	c.mu.Unlock()
	if !known {
		return settle, nil
	}
	return period, nil
}

// tooSoon is how long to wait before the quota is counted again.
func (c *Controller) tooSoon(key types.NamespacedName) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	last, ok := c.counted[key]
	if !ok {
		return 0
	}
	return pause - c.Clock.Since(last)
}
