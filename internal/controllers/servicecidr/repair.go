package servicecidr

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	corelisters "k8s.io/client-go/listers/core/v1"
	networkinglisters "k8s.io/client-go/listers/networking/v1"

	"canopus/internal/controllers/reconcile"
)

// Repair keeps Services and the records of their addresses at one. The API server writes both in one transaction; what somebody
// deletes or writes by hand is put right here.
type Repair struct {
	reconcile.Deps
	services  corelisters.ServiceLister
	addresses networkinglisters.IPAddressLister
	ranges    networkinglisters.ServiceCIDRLister
	loop      *reconcile.Loop[types.NamespacedName]
}

// NewRepair makes a controller that does nothing before Run.
func NewRepair(d reconcile.Deps) (*Repair, error) {
	if err := d.Check(); err != nil {
		return nil, err
	}
	services, net := d.Informers.Core().V1().Services(), d.Informers.Networking().V1()
	c := &Repair{Deps: d, services: services.Lister(), addresses: net.IPAddresses().Lister(), ranges: net.ServiceCIDRs().Lister()}
	var err error
	c.loop, err = reconcile.New(reconcile.Config[types.NamespacedName]{
		Name: "ipaddresses", Workers: 1, Reconcile: c.reconcile, Clock: d.Clock, Log: d.Log, Queues: d.Queues,
		Sources: []reconcile.Source[types.NamespacedName]{
			reconcile.On(services.Informer(), serviceChanged), reconcile.On(net.IPAddresses().Informer(), addressConcerns),
			reconcile.On(net.ServiceCIDRs().Informer(), func(_, _ *networkingv1.ServiceCIDR) []types.NamespacedName { return nil }),
		},
	})
	return c, err
}

// Run works until ctx ends.
func (c *Repair) Run(ctx context.Context) error { return c.loop.Run(ctx) }

// serviceChanged concerns the Service, and the addresses that it had and has not.
func serviceChanged(old, svc *corev1.Service) []types.NamespacedName {
	var keys []types.NamespacedName
	if svc != nil {
		keys = append(keys, reconcile.Key(svc))
	}
	if old != nil {
		for _, ip := range old.Spec.ClusterIPs {
			if ip != corev1.ClusterIPNone {
				keys = append(keys, types.NamespacedName{Name: recordOf(ip)})
			}
		}
	}
	return keys
}

// addressConcerns names the address, which has no namespace, and the Service that it refers to.
func addressConcerns(old, a *networkingv1.IPAddress) []types.NamespacedName {
	var keys []types.NamespacedName
	for _, side := range []*networkingv1.IPAddress{a, old} {
		if side == nil {
			continue
		}
		if ref := side.Spec.ParentRef; ref != nil && ref.Namespace != "" {
			keys = append(keys, types.NamespacedName{Namespace: ref.Namespace, Name: ref.Name})
		}
	}
	if a != nil {
		keys = append(keys, types.NamespacedName{Name: a.Name})
	}
	return keys
}

func (c *Repair) reconcile(ctx context.Context, key types.NamespacedName) (time.Duration, error) {
	if key.Namespace == "" {
		return c.address(ctx, key.Name)
	}
	return 0, c.service(ctx, key)
}

// service mends the addresses of a Service. The two caches show a transaction at different moments, so what they make look broken
// is looked at again at the server.
func (c *Repair) service(ctx context.Context, key types.NamespacedName) error {
	svc, err := c.services.Services(key.Namespace).Get(key.Name)
	if apierrors.IsNotFound(err) || err == nil && svc.DeletionTimestamp != nil {
		return nil
	}
	if err != nil {
		return err
	}
	cached, err := c.world()
	if err != nil || len(planService(svc, cached)) == 0 {
		return err
	}
	svc, err = c.Client.CoreV1().Services(key.Namespace).Get(ctx, key.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) || err == nil && svc.DeletionTimestamp != nil {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read service %s: %w", key, err)
	}
	live, failed := c.live(ctx, cached)
	plan := planService(svc, live)
	if *failed != nil {
		return *failed
	}
	var errs []error
	for _, m := range plan {
		c.record(svc, m.event)
		errs = append(errs, c.apply(ctx, m))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("repair the addresses of service %s: %w", key, err)
	}
	return nil
}

// world is what the caches show.
func (c *Repair) world() (world, error) {
	all, err := c.ranges.List(labels.Everything())
	if err != nil {
		return world{}, err
	}
	w := world{
		address: func(name string) *networkingv1.IPAddress {
			a, err := c.addresses.Get(name)
			if err != nil { // a lister over a cache only misses
				return nil
			}
			return a
		},
		service: func(namespace, name string) *corev1.Service {
			s, err := c.services.Services(namespace).Get(name)
			if err != nil {
				return nil
			}
			return s
		},
	}
	for _, r := range all {
		w.ranges = append(w.ranges, prefixes(r)...)
	}
	return w, nil
}

// live is w with what the server says, and where to look for the first failure to ask it.
func (c *Repair) live(ctx context.Context, w world) (world, *error) {
	var failed error
	note := func(err error) {
		if err != nil && !apierrors.IsNotFound(err) && failed == nil {
			failed = err
		}
	}
	w.address = func(name string) *networkingv1.IPAddress {
		a, err := c.Client.NetworkingV1().IPAddresses().Get(ctx, name, metav1.GetOptions{})
		if note(err); err != nil {
			return nil
		}
		return a
	}
	w.service = func(namespace, name string) *corev1.Service {
		s, err := c.Client.CoreV1().Services(namespace).Get(ctx, name, metav1.GetOptions{})
		if note(err); err != nil {
			return nil
		}
		return s
	}
	return w, &failed
}

func (c *Repair) apply(ctx context.Context, m mend) error {
	if m.write == nil {
		return nil
	}
	api := c.Client.NetworkingV1().IPAddresses()
	if m.update {
		_, err := api.Update(ctx, m.write, metav1.UpdateOptions{})
		return err
	}
	if m.remove {
		if err := api.Delete(ctx, m.write.Name, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
			return err
		}
	}
	_, err := api.Create(ctx, m.write, metav1.CreateOptions{})
	return err
}

// address removes a record that no Service stands behind.
func (c *Repair) address(ctx context.Context, name string) (time.Duration, error) {
	a, err := c.addresses.Get(name)
	if apierrors.IsNotFound(err) || err == nil && a.DeletionTimestamp != nil {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	cached, err := c.world()
	if err != nil {
		return 0, err
	}
	if remove, _, wait := planAddress(a, parentOf(a, cached), c.Clock.Now()); !remove {
		return wait, nil
	}
	if a, err = c.Client.NetworkingV1().IPAddresses().Get(ctx, name, metav1.GetOptions{}); apierrors.IsNotFound(err) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read address %s: %w", name, err)
	}
	live, failed := c.live(ctx, cached)
	svc := parentOf(a, live)
	if *failed != nil {
		return 0, fmt.Errorf("read the service of address %s: %w", name, *failed)
	}
	remove, why, wait := planAddress(a, svc, c.Clock.Now())
	if !remove {
		return wait, nil
	}
	c.record(a, why)
	err = c.Client.NetworkingV1().IPAddresses().Delete(ctx, name, metav1.DeleteOptions{
		Preconditions: &metav1.Preconditions{UID: &a.UID, ResourceVersion: &a.ResourceVersion},
	})
	if err != nil && !apierrors.IsNotFound(err) {
		return 0, fmt.Errorf("remove address %s: %w", name, err)
	}
	return 0, nil
}

func parentOf(a *networkingv1.IPAddress, w world) *corev1.Service {
	if ref := a.Spec.ParentRef; ref != nil && ref.Namespace != "" && ref.Name != "" {
		return w.service(ref.Namespace, ref.Name)
	}
	return nil
}

func (c *Repair) record(about runtime.Object, e event) {
	if e.reason != "" {
		c.Events.Event(about, corev1.EventTypeWarning, e.reason, e.message)
	}
}
