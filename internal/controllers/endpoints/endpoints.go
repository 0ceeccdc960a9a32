// Package endpoints keeps the Endpoints object of every Service that has a selector, for clients that do not read
// EndpointSlices. subsets.go decides, this file observes and writes.
package endpoints

import (
	"context"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/leaderelection/resourcelock"

	"canopus/internal/controllers/backends"
	"canopus/internal/controllers/reconcile"
)

const workers = 5

// Controller reconciles Services.
type Controller struct {
	reconcile.Deps
	services  v1.ServiceLister
	pods      cache.SharedIndexInformer
	endpoints v1.EndpointsLister
	loop      *reconcile.Loop[types.NamespacedName]

	mu       sync.Mutex
	triggers map[types.NamespacedName]backends.Triggers
}

// New makes a controller that does nothing before Run.
func New(d reconcile.Deps) (*Controller, error) {
	if err := d.Check(); err != nil {
		return nil, err
	}
	core := d.Informers.Core().V1()
	c := &Controller{
		Deps: d, services: core.Services().Lister(), pods: core.Pods().Informer(), endpoints: core.Endpoints().Lister(),
		triggers: map[types.NamespacedName]backends.Triggers{},
	}
	if err := backends.Index(c.pods); err != nil {
		return nil, err
	}
	var err error
	c.loop, err = reconcile.New(reconcile.Config[types.NamespacedName]{
		Name: "endpoint", Workers: workers, Reconcile: c.reconcile, Clock: d.Clock, Log: d.Log, Queues: d.Queues,
		Sources: []reconcile.Source[types.NamespacedName]{
			reconcile.Self(core.Services().Informer()),
			reconcile.On(c.pods, func(old, pod *corev1.Pod) []types.NamespacedName {
				return backends.Services(c.services, old, pod)
			}),
			reconcile.On(core.Endpoints().Informer(), endpointsChanged),
		},
	})
	return c, err
}

// Run works until ctx ends.
func (c *Controller) Run(ctx context.Context) error { return c.loop.Run(ctx) }

// endpointsChanged concerns only our own objects: others belong to users, or to Services without a selector.
func endpointsChanged(old, ep *corev1.Endpoints) []types.NamespacedName {
	for _, x := range []*corev1.Endpoints{ep, old} {
		if x != nil && x.Labels[managedByKey] == managedBy {
			return []types.NamespacedName{reconcile.Key(x)}
		}
	}
	return nil
}

func (c *Controller) reconcile(ctx context.Context, key types.NamespacedName) (time.Duration, error) {
	there, err := c.endpoints.Endpoints(key.Namespace).Get(key.Name)
	if apierrors.IsNotFound(err) {
		there = nil
	} else if err != nil {
		return 0, err
	}
	svc, err := c.services.Services(key.Namespace).Get(key.Name)
	if apierrors.IsNotFound(err) {
		c.mu.Lock()
		delete(c.triggers, key)
		c.mu.Unlock()
		return 0, c.remove(ctx, there)
	}
	if err != nil || svc.Spec.Selector == nil || svc.Spec.Type == corev1.ServiceTypeExternalName {
		return 0, err
	}
	pods, err := backends.Selected(c.pods, svc)
	if err != nil {
		return 0, err
	}
	c.mu.Lock()
	trigger := c.triggers[key].Since(svc, pods)
	c.mu.Unlock()
	stamp := ""
	if !trigger.IsZero() {
		stamp = backends.Stamp(trigger)
	}
	if want := wanted(svc, pods, there, stamp); want != nil {
		if err := c.write(ctx, svc, there, want); err != nil {
			return 0, fmt.Errorf("endpoints of service %s: %w", key, err)
		}
	}
	c.mu.Lock()
	c.triggers[key] = c.triggers[key].Noted(svc, pods)
	c.mu.Unlock()
	return 0, nil
}

// remove deletes the Endpoints of a Service that is gone, unless they are an old-style leader election record.
func (c *Controller) remove(ctx context.Context, there *corev1.Endpoints) error {
	if there == nil {
		return nil
	}
	if _, lock := there.Annotations[resourcelock.LeaderElectionRecordAnnotationKey]; lock {
		return nil
	}
	err := c.Client.CoreV1().Endpoints(there.Namespace).Delete(ctx, there.Name, metav1.DeleteOptions{
		Preconditions: metav1.NewUIDPreconditions(string(there.UID)),
	})
	if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
		return fmt.Errorf("delete endpoints of the gone service %s: %w", reconcile.Key(there), err)
	}
	return nil
}

func (c *Controller) write(ctx context.Context, svc *corev1.Service, there, want *corev1.Endpoints) error {
	client := c.Client.CoreV1().Endpoints(want.Namespace)
	verb, err := "create", error(nil)
	if there == nil {
		_, err = client.Create(ctx, want, metav1.CreateOptions{})
	} else {
		verb = "update"
		_, err = client.Update(ctx, want, metav1.UpdateOptions{})
	}
	if err == nil || apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
		return nil
	}
	if !apierrors.IsConflict(err) && !apierrors.IsAlreadyExists(err) {
		reason, text := "FailedToCreateEndpoint", "Failed to create endpoint for service %v: %v"
		if there != nil {
			reason, text = "FailedToUpdateEndpoint", "Failed to update endpoint %v: %v"
		}
		c.Events.Eventf(want, corev1.EventTypeWarning, reason, text, reconcile.Key(svc), err)
	}
	return fmt.Errorf("%s: %w", verb, err)
}
