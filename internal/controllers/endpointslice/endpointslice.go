// Package endpointslice keeps the EndpointSlices of every Service that has a selector.
//
// desired.go computes the endpoints, zones.go their hints by zone, package slicepack packs them into slices, this file observes
// and writes.
// Slices have random names, so what was created or deleted is remembered until the cache shows it.
package endpointslice

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"

	"canopus/internal/controllers/backends"
	"canopus/internal/controllers/reconcile"
	"canopus/internal/controllers/slicepack"
)

const (
	workers = 5
	byOwner = "canopus/service-slices"
)

// Controller reconciles Services.
type Controller struct {
	reconcile.Deps
	services      v1.ServiceLister
	nodes         v1.NodeLister
	podInformer   cache.SharedIndexInformer
	sliceInformer cache.SharedIndexInformer
	written       *reconcile.Written[*discoveryv1.EndpointSlice]
	figures       *figures
	loop          *reconcile.Loop[types.NamespacedName]

	mu       sync.Mutex
	triggers map[types.NamespacedName]backends.Triggers
	told     map[types.NamespacedName]map[discoveryv1.AddressType]string // why there are no hints by zone, as last told; "" when there are
	shares   *shares                                                     // nil when nodes have changed since they were counted
}

// New makes a controller that does nothing before Run.
func New(d reconcile.Deps) (*Controller, error) {
	if err := d.Check(); err != nil {
		return nil, err
	}
	core := d.Informers.Core().V1()
	c := &Controller{
		Deps: d, services: core.Services().Lister(), nodes: core.Nodes().Lister(),
		podInformer: core.Pods().Informer(), sliceInformer: d.Informers.Discovery().V1().EndpointSlices().Informer(),
		written:  reconcile.NewWritten[*discoveryv1.EndpointSlice](),
		triggers: map[types.NamespacedName]backends.Triggers{}, told: map[types.NamespacedName]map[discoveryv1.AddressType]string{},
	}
	if err := reconcile.Index(c.sliceInformer, byOwner, sliceService); err != nil {
		return nil, err
	}
	if err := reconcile.IndexByNode(c.podInformer); err != nil {
		return nil, err
	}
	if err := backends.Index(c.podInformer); err != nil {
		return nil, err
	}
	var err error
	if c.figures, err = reconcile.Show(d, newFigures()); err != nil {
		return nil, err
	}
	c.loop, err = reconcile.New(reconcile.Config[types.NamespacedName]{
		Name: "endpoint_slice", Workers: workers, Reconcile: c.reconcile, Clock: d.Clock, Log: d.Log, Queues: d.Queues,
		Sources: []reconcile.Source[types.NamespacedName]{
			reconcile.Self(core.Services().Informer()),
			reconcile.On(c.podInformer, func(old, pod *corev1.Pod) []types.NamespacedName {
				return backends.Services(c.services, old, pod)
			}),
			reconcile.On(core.Nodes().Informer(), c.nodeChanged),
			reconcile.On(c.sliceInformer, sliceChanged),
		},
	})
	return c, err
}

// Run works until ctx ends.
func (c *Controller) Run(ctx context.Context) error {
	defer c.figures.rest()
	return c.loop.Run(ctx)
}

// sliceService indexes the slices that this controller manages by their Service.
func sliceService(obj any) ([]string, error) {
	s, ok := obj.(*discoveryv1.EndpointSlice)
	if !ok || s.Labels[discoveryv1.LabelManagedBy] != managedBy || s.Labels[discoveryv1.LabelServiceName] == "" {
		return nil, nil
	}
	return []string{s.Namespace + "/" + s.Labels[discoveryv1.LabelServiceName]}, nil
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

// nodeChanged wakes the Services with pods on a node that appeared or changed its zone, and those whose hints depend on it.
func (c *Controller) nodeChanged(old, node *corev1.Node) []types.NamespacedName {
	var keys []types.NamespacedName
	if weight(old) != weight(node) {
		c.mu.Lock()
		c.shares = nil
		keys = slices.Collect(maps.Keys(c.told))
		c.mu.Unlock()
	}
	if node == nil || old != nil && old.Labels[corev1.LabelTopologyZone] == node.Labels[corev1.LabelTopologyZone] {
		return keys
	}
	pods, err := reconcile.Indexed[*corev1.Pod](c.podInformer, reconcile.ByNode, node.Name)
	if err != nil {
		return keys
	}
	for _, p := range pods {
		keys = append(keys, backends.Services(c.services, nil, p)...)
	}
	return keys
}

func (c *Controller) reconcile(ctx context.Context, key types.NamespacedName) (time.Duration, error) {
	svc, err := c.services.Services(key.Namespace).Get(key.Name)
	if apierrors.IsNotFound(err) {
		c.mu.Lock()
		delete(c.triggers, key)
		c.mu.Unlock() // the garbage collector removes the slices
		c.tell(key, nil, nil)
		c.figures.gone(key)
		return 0, nil
	}
	if err != nil || svc.DeletionTimestamp != nil || svc.Spec.Selector == nil && svc.Spec.Type != corev1.ServiceTypeExternalName {
		return 0, err
	}
	pods, err := backends.Selected(c.podInformer, svc)
	if err != nil {
		return 0, err
	}
	nodes, err := c.nodesOf(pods)
	if err != nil {
		return 0, err
	}
	seen := c.sliceInformer.GetStore().LastStoreSyncResourceVersion() // before the list: see Written.View
	existing, err := reconcile.Indexed[*discoveryv1.EndpointSlice](c.sliceInformer, byOwner, key.String())
	if err != nil {
		return 0, err
	}
	existing = c.written.View(svc.UID, existing, seen)
	groups, _ := desired(svc, pods, nodes) // a missing node wakes us when it appears
	if err := c.hint(key, svc, groups); err != nil {
		return 0, err
	}
	c.mu.Lock()
	trigger := c.triggers[key].Since(svc, pods)
	c.mu.Unlock()
	aim := target(svc)
	planned := slicepack.Plan(aim, existing, groups)
	if err := c.apply(ctx, svc, planned, trigger); err != nil {
		return 0, fmt.Errorf("endpointslices of service %s: %w", key, err)
	}
	c.figures.synced(key, shareOf(svc, len(existing), groups, aim.Keep, planned), planned)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.triggers[key] = c.triggers[key].Noted(svc, pods)
	return 0, nil
}

// hint gives endpoints hints by zone if svc asks for them, and tells when that begins or ends to be possible.
func (c *Controller) hint(key types.NamespacedName, svc *corev1.Service, groups []slicepack.Group) error {
	if !wantsZones(svc) {
		c.tell(key, svc, nil)
		return nil
	}
	c.mu.Lock()
	if c.shares == nil {
		nodes, err := c.nodes.List(labels.Everything())
		if err != nil {
			c.mu.Unlock()
			return err
		}
		s := sharesOf(nodes)
		c.shares = &s
	}
	by := *c.shares
	c.mu.Unlock()
	c.tell(key, svc, spread(groups, by))
	return nil
}

// tell writes an event for each family whose hints by zone came, went, or are missing for another reason than was told.
func (c *Controller) tell(key types.NamespacedName, svc *corev1.Service, now map[discoveryv1.AddressType]string) {
	c.mu.Lock()
	was := c.told[key]
	if now == nil {
		delete(c.told, key)
	} else {
		c.told[key] = now
	}
	c.mu.Unlock()
	if svc == nil {
		return
	}
	for family, why := range now {
		if before, told := was[family]; told && before == why {
			continue
		}
		if why == "" {
			c.Events.Eventf(svc, corev1.EventTypeNormal, enabledReason, "%s, addressType: %s", enabledText, family)
		} else {
			c.Events.Eventf(svc, corev1.EventTypeWarning, disabledReason, "%s, addressType: %s", why, family)
		}
	}
	for family, why := range was {
		if _, still := now[family]; !still && why == "" {
			c.Events.Eventf(svc, corev1.EventTypeWarning, disabledReason, "%s, addressType: %s", whyNotWanted, family)
		}
	}
}

func (c *Controller) nodesOf(pods []*corev1.Pod) (map[string]*corev1.Node, error) {
	out := map[string]*corev1.Node{}
	for _, p := range pods {
		if _, known := out[p.Spec.NodeName]; known || p.Spec.NodeName == "" {
			continue
		}
		node, err := c.nodes.Get(p.Spec.NodeName)
		if apierrors.IsNotFound(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		out[p.Spec.NodeName] = node
	}
	return out, nil
}

func (c *Controller) apply(ctx context.Context, svc *corev1.Service, a slicepack.Actions, trigger time.Time) error {
	client := c.Client.DiscoveryV1().EndpointSlices(svc.Namespace)
	for _, s := range a.Create {
		stamp(s, trigger)
		created, err := client.Create(ctx, s, metav1.CreateOptions{})
		if apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
			return nil
		}
		if err != nil {
			return c.failed(svc, "create", err)
		}
		c.written.Created(svc.UID, created)
	}
	for _, s := range a.Update {
		stamp(s, trigger)
		if _, err := client.Update(ctx, s, metav1.UpdateOptions{}); err != nil {
			return c.failed(svc, "update", err)
		}
	}
	for _, s := range a.Remove {
		err := client.Delete(ctx, s.Name, metav1.DeleteOptions{Preconditions: metav1.NewUIDPreconditions(string(s.UID))})
		if err != nil && !apierrors.IsNotFound(err) {
			return c.failed(svc, "delete", err)
		}
		c.written.Deleted(svc.UID, s.UID)
	}
	return nil
}

func (c *Controller) failed(svc *corev1.Service, verb string, err error) error {
	if !apierrors.IsConflict(err) {
		c.Events.Eventf(svc, corev1.EventTypeWarning, "FailedToUpdateEndpointSlices",
			"Error updating Endpoint Slices for Service %s/%s: %v", svc.Namespace, svc.Name, err)
	}
	return fmt.Errorf("%s: %w", verb, err)
}

// stamp notes which change a write carries, or that it carries none of the pods' or the Service's own.
func stamp(s *discoveryv1.EndpointSlice, trigger time.Time) {
	out := make(map[string]string, len(s.Annotations)+1)
	maps.Copy(out, s.Annotations)
	delete(out, corev1.EndpointsLastChangeTriggerTime)
	if !trigger.IsZero() {
		out[corev1.EndpointsLastChangeTriggerTime] = backends.Stamp(trigger)
	}
	s.Annotations = out
}
