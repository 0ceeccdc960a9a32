// Package endpointslicemirroring copies Endpoints that users wrote for Services without a selector into EndpointSlices,
// which is what proxies and DNS read. desired.go decides, package slicepack packs, this file observes and writes.
package endpointslicemirroring

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"

	"canopus/internal/controllers/reconcile"
	"canopus/internal/controllers/slicepack"
)

const (
	workers     = 5
	byEndpoints = "canopus/mirrored-slices"
)

// Controller reconciles Endpoints.
type Controller struct {
	reconcile.Deps
	endpoints     v1.EndpointsLister
	services      v1.ServiceLister
	sliceInformer cache.SharedIndexInformer
	written       *reconcile.Written[*discoveryv1.EndpointSlice]
	loop          *reconcile.Loop[types.NamespacedName]
}

// New makes a controller that does nothing before Run.
func New(d reconcile.Deps) (*Controller, error) {
	if err := d.Check(); err != nil {
		return nil, err
	}
	core := d.Informers.Core().V1()
	c := &Controller{
		Deps: d, endpoints: core.Endpoints().Lister(), services: core.Services().Lister(),
		sliceInformer: d.Informers.Discovery().V1().EndpointSlices().Informer(),
		written:       reconcile.NewWritten[*discoveryv1.EndpointSlice](),
	}
	if err := reconcile.Index(c.sliceInformer, byEndpoints, sliceEndpoints); err != nil {
		return nil, err
	}
	var err error
	c.loop, err = reconcile.New(reconcile.Config[types.NamespacedName]{
		Name: "endpoint_slice_mirroring", Workers: workers, Reconcile: c.reconcile, Clock: d.Clock, Log: d.Log, Queues: d.Queues,
		Sources: []reconcile.Source[types.NamespacedName]{
			reconcile.On(core.Endpoints().Informer(), endpointsChanged),
			reconcile.On(core.Services().Informer(), serviceChanged),
			reconcile.On(c.sliceInformer, sliceChanged),
		},
	})
	return c, err
}

// Run works until ctx ends.
func (c *Controller) Run(ctx context.Context) error { return c.loop.Run(ctx) }

func sliceEndpoints(obj any) ([]string, error) {
	s, ok := obj.(*discoveryv1.EndpointSlice)
	if !ok || s.Labels[discoveryv1.LabelManagedBy] != managedBy {
		return nil, nil
	}
	return []string{s.Namespace + "/" + s.Labels[discoveryv1.LabelServiceName]}, nil
}

// endpointsChanged leaves out what the endpoints controller writes for Services with a selector: nearly all of them.
func endpointsChanged(old, ep *corev1.Endpoints) []types.NamespacedName {
	for _, x := range []*corev1.Endpoints{ep, old} {
		if x != nil && x.Labels[managedByKey] == "" {
			return []types.NamespacedName{reconcile.Key(x)}
		}
	}
	return nil
}

// serviceChanged concerns Services that have no selector, or had none.
func serviceChanged(old, svc *corev1.Service) []types.NamespacedName {
	for _, x := range []*corev1.Service{svc, old} {
		if x != nil && x.Spec.Selector == nil {
			return []types.NamespacedName{reconcile.Key(x)}
		}
	}
	return nil
}

func sliceChanged(old, s *discoveryv1.EndpointSlice) []types.NamespacedName {
	var keys []types.NamespacedName
	for _, x := range []*discoveryv1.EndpointSlice{old, s} {
		if x != nil && x.Labels[discoveryv1.LabelManagedBy] == managedBy {
			keys = append(keys, types.NamespacedName{Namespace: x.Namespace, Name: x.Labels[discoveryv1.LabelServiceName]})
		}
	}
	return keys
}

func (c *Controller) reconcile(ctx context.Context, key types.NamespacedName) (time.Duration, error) {
	ep, err := c.endpoints.Endpoints(key.Namespace).Get(key.Name)
	if apierrors.IsNotFound(err) {
		return 0, nil // the garbage collector removes the slices
	}
	if err != nil {
		return 0, err
	}
	svc, err := c.services.Services(key.Namespace).Get(key.Name)
	if apierrors.IsNotFound(err) {
		svc = nil
	} else if err != nil {
		return 0, err
	}
	seen := c.sliceInformer.GetStore().LastStoreSyncResourceVersion() // before the list: see Written.View
	existing, err := reconcile.Indexed[*discoveryv1.EndpointSlice](c.sliceInformer, byEndpoints, key.String())
	if err != nil {
		return 0, err
	}
	existing = c.written.View(ep.UID, existing, seen)
	var groups []slicepack.Group
	if mirrored(ep, svc) {
		var skipped int
		if groups, skipped = desired(ep); skipped > 0 {
			c.Events.Eventf(ep, corev1.EventTypeWarning, "TooManyAddressesToMirror",
				"A max of %d addresses can be mirrored to EndpointSlices per Endpoints subset. %d addresses were skipped", mostPerSubset, skipped)
		}
	}
	if err := c.apply(ctx, ep, slicepack.Plan(target(ep), existing, groups)); err != nil {
		if !apierrors.IsConflict(err) {
			c.Events.Eventf(ep, corev1.EventTypeWarning, "FailedToUpdateEndpointSlices", "Error updating Endpoint Slices for Endpoints %s: %v", key, err)
		}
		return 0, fmt.Errorf("mirror endpoints %s: %w", key, err)
	}
	return 0, nil
}

func (c *Controller) apply(ctx context.Context, ep *corev1.Endpoints, a slicepack.Actions) error {
	client := c.Client.DiscoveryV1().EndpointSlices(ep.Namespace)
	for _, s := range a.Create {
		created, err := client.Create(ctx, s, metav1.CreateOptions{})
		if apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("create: %w", err)
		}
		c.written.Created(ep.UID, created)
	}
	for _, s := range a.Update {
		if _, err := client.Update(ctx, s, metav1.UpdateOptions{}); err != nil {
			return fmt.Errorf("update: %w", err)
		}
	}
	for _, s := range a.Remove {
		err := client.Delete(ctx, s.Name, metav1.DeleteOptions{Preconditions: metav1.NewUIDPreconditions(string(s.UID))})
		if err != nil && !apierrors.IsNotFound(err) {
			return fmt.Errorf("delete: %w", err)
		}
		c.written.Deleted(ep.UID, s.UID)
	}
	return nil
}
