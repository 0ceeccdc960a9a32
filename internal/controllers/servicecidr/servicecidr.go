// Package servicecidr makes ServiceCIDRs usable, keeps those that are deleted until no Service has an address of theirs, and
// repairs the records of Services' addresses.
//
// plan.go and repair_plan.go decide, servicecidr.go and repair.go observe and write.
package servicecidr

import (
	"context"
	"fmt"
	"time"

	networkingv1 "k8s.io/api/networking/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	networkinglisters "k8s.io/client-go/listers/networking/v1"

	"canopus/internal/controllers/reconcile"
)

// Controller reconciles ServiceCIDRs.
type Controller struct {
	reconcile.Deps
	ranges    networkinglisters.ServiceCIDRLister
	addresses networkinglisters.IPAddressLister
	loop      *reconcile.Loop[string]
}

// New makes a controller that does nothing before Run.
func New(d reconcile.Deps) (*Controller, error) {
	if err := d.Check(); err != nil {
		return nil, err
	}
	ranges, addresses := d.Informers.Networking().V1().ServiceCIDRs(), d.Informers.Networking().V1().IPAddresses()
	c := &Controller{Deps: d, ranges: ranges.Lister(), addresses: addresses.Lister()}
	var err error
	c.loop, err = reconcile.New(reconcile.Config[string]{
		Name: "servicecidrs", Workers: 1, Reconcile: c.reconcile, Clock: d.Clock, Log: d.Log, Queues: d.Queues,
		Sources: []reconcile.Source[string]{
			reconcile.On(ranges.Informer(), c.rangeChanged),
			reconcile.On(addresses.Informer(), c.addressChanged),
		},
	})
	return c, err
}

// Run works until ctx ends.
func (c *Controller) Run(ctx context.Context) error { return c.loop.Run(ctx) }

// rangeChanged concerns the range itself, and those that wait for another to take over their addresses.
func (c *Controller) rangeChanged(_, r *networkingv1.ServiceCIDR) []string {
	keys := c.ending()
	if r != nil {
		keys = append(keys, r.Name)
	}
	return keys
}

func (c *Controller) addressChanged(old, a *networkingv1.IPAddress) []string {
	if old == nil || a != nil {
		return nil // only an address that goes can end a wait
	}
	return c.ending()
}

// ending are the names of the ranges that are being deleted.
func (c *Controller) ending() []string {
	all, err := c.ranges.List(labels.Everything())
	if err != nil {
		return nil
	}
	var names []string
	for _, r := range all {
		if r.DeletionTimestamp != nil {
			names = append(names, r.Name)
		}
	}
	return names
}

func (c *Controller) reconcile(ctx context.Context, name string) (time.Duration, error) {
	r, err := c.ranges.Get(name)
	if apierrors.IsNotFound(err) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	all, err := c.ranges.List(labels.Everything())
	if err != nil {
		return 0, err
	}
	var addresses []*networkingv1.IPAddress
	if r.DeletionTimestamp != nil {
		if addresses, err = c.addresses.List(labels.Everything()); err != nil {
			return 0, err
		}
	}
	next, wait := plan(r, all, addresses, c.Clock.Now())
	if err := c.apply(ctx, r, next); err != nil && !apierrors.IsNotFound(err) {
		return 0, fmt.Errorf("write service CIDR %s: %w", name, err)
	}
	return wait, nil
}

// apply writes what differs. The finalizer comes first: a range that is ready is protected.
func (c *Controller) apply(ctx context.Context, have, want *networkingv1.ServiceCIDR) error {
	api := c.Client.NetworkingV1().ServiceCIDRs()
	if !apiequality.Semantic.DeepEqual(have.Finalizers, want.Finalizers) {
		written, err := api.Update(ctx, want, metav1.UpdateOptions{})
		if err != nil {
			return err
		}
		want.ResourceVersion = written.ResourceVersion
	}
	if apiequality.Semantic.DeepEqual(have.Status, want.Status) {
		return nil
	}
	_, err := api.UpdateStatus(ctx, want, metav1.UpdateOptions{})
	return err
}
