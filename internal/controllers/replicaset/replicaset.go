// Package replicaset keeps the number of pods of every ReplicaSet, or of every ReplicationController, at spec.replicas.
//
// plan.go and rank.go decide, apply.go acts, this file observes; kind.go says in what the two kinds differ. Pods get random names from the server, so what the
// controller itself created and deleted is remembered until the cache shows it (reconcile.Written).
package replicaset

import (
	"context"
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"

	"canopus/internal/controllers/podstate"
	"canopus/internal/controllers/reconcile"
)

const workers = 8

// Controller reconciles the sets of one flavour.
type Controller struct {
	reconcile.Deps
	kind        flavour
	podInformer cache.SharedIndexInformer
	written     *reconcile.Written[*corev1.Pod]
	loop        *reconcile.Loop[types.NamespacedName]
}

// New makes a controller of ReplicaSets that does nothing before Run.
func New(d reconcile.Deps) (*Controller, error) { return newController(d, replicaSets) }

// NewForReplicationControllers makes a controller of ReplicationControllers that does nothing before Run.
func NewForReplicationControllers(d reconcile.Deps) (*Controller, error) {
	return newController(d, replicationControllers)
}

func newController(d reconcile.Deps, kind func(reconcile.Deps) flavour) (*Controller, error) {
	if err := d.Check(); err != nil {
		return nil, err
	}
	c := &Controller{
		Deps: d, kind: kind(d), podInformer: d.Informers.Core().V1().Pods().Informer(), written: reconcile.NewWritten[*corev1.Pod](),
	}
	for _, informer := range []cache.SharedIndexInformer{c.kind.informer, c.podInformer} {
		if err := reconcile.IndexByController(informer); err != nil {
			return nil, err
		}
	}
	var err error
	c.loop, err = reconcile.New(reconcile.Config[types.NamespacedName]{
		Name: c.kind.queue, Workers: workers, Reconcile: c.reconcile, Clock: d.Clock, Log: d.Log, Queues: d.Queues,
		Sources: []reconcile.Source[types.NamespacedName]{
			{Informer: c.kind.informer, Keys: c.setChanged},
			reconcile.On(c.podInformer, c.podChanged),
		},
	})
	return c, err
}

// Run works until ctx ends.
func (c *Controller) Run(ctx context.Context) error { return c.loop.Run(ctx) }

func (c *Controller) setChanged(old, obj any) []types.NamespacedName {
	if rs := c.kind.view(obj); rs != nil {
		return []types.NamespacedName{reconcile.Key(rs)}
	}
	if rs := c.kind.view(old); rs != nil {
		c.written.Forget(rs.UID)
	}
	return nil
}

// podChanged names the sets that controlled or control the pod, or may adopt it.
func (c *Controller) podChanged(old, pod *corev1.Pod) []types.NamespacedName {
	keys := reconcile.Controllers(c.kind.gvk.Kind, old, pod)
	if pod == nil || metav1.GetControllerOfNoCopy(pod) != nil || !podstate.Active(pod) {
		return keys
	}
	sets, err := c.kind.informer.GetIndexer().ByIndex(cache.NamespaceIndex, pod.Namespace)
	if err != nil {
		return keys
	}
	for _, obj := range sets {
		rs := c.kind.view(obj)
		selector, err := metav1.LabelSelectorAsSelector(rs.Spec.Selector)
		if err == nil && !selector.Empty() && selector.Matches(labels.Set(pod.Labels)) {
			keys = append(keys, reconcile.Key(rs))
		}
	}
	return keys
}

func (c *Controller) reconcile(ctx context.Context, key types.NamespacedName) (time.Duration, error) {
	obj, exists, err := c.kind.informer.GetIndexer().GetByKey(key.String())
	if err != nil || !exists {
		return 0, err
	}
	rs := c.kind.view(obj)
	o, err := c.observe(ctx, rs)
	if err != nil {
		return 0, fmt.Errorf("find the pods of %s %s: %w", c.kind.queue, key, err)
	}
	now := c.Clock.Now()
	decided := plan(o, now)
	failed, applyErr := c.apply(ctx, rs, decided)
	if applyErr == nil && (decided.create > 0 || len(decided.remove) > 0) {
		if o.pods, err = c.controlled(rs, o.selector); err != nil {
			return 0, err
		}
	}
	next, after := status(o, failed, now)
	if !c.kind.terminating {
		next.TerminatingReplicas = nil
	}
	if err := c.writeStatus(ctx, rs, next); err != nil {
		return 0, fmt.Errorf("write the status of %s %s: %w", c.kind.queue, key, err)
	}
	if applyErr != nil {
		return after, fmt.Errorf("%s %s: %w", c.kind.queue, key, applyErr)
	}
	if decided.more {
		c.loop.Add(key)
	}
	return after, nil
}

// observe collects the pods of rs, after adopting and releasing what its selector says.
func (c *Controller) observe(ctx context.Context, rs *appsv1.ReplicaSet) (observed, error) {
	selector, err := metav1.LabelSelectorAsSelector(rs.Spec.Selector)
	if err != nil {
		return observed{}, reconcile.Terminal(fmt.Errorf("bad selector: %w", err))
	}
	if err := c.claim(ctx, rs, selector); err != nil {
		return observed{}, err
	}
	pods, err := c.controlled(rs, selector)
	if err != nil {
		return observed{}, err
	}
	o := observed{rs: rs, selector: selector, pods: pods}
	if len(pods) > int(wanted(rs)) {
		o.related, err = c.related(rs)
	}
	return o, err
}

// controlled returns the pods that rs controls and selects, our own writes included.
func (c *Controller) controlled(rs *appsv1.ReplicaSet, selector labels.Selector) ([]*corev1.Pod, error) {
	seen := c.podInformer.GetStore().LastStoreSyncResourceVersion() // before the list: see Written.View
	pods, err := reconcile.Indexed[*corev1.Pod](c.podInformer, reconcile.ByController, string(rs.UID))
	if err != nil {
		return nil, err
	}
	pods = c.written.View(rs.UID, pods, seen)
	return filter(pods, func(p *corev1.Pod) bool { return selector.Matches(labels.Set(p.Labels)) }), nil
}

// related counts by node the active pods of rs and of its siblings, the other ReplicaSets of the same Deployment.
func (c *Controller) related(rs *appsv1.ReplicaSet) (map[string]int, error) {
	family := []*appsv1.ReplicaSet{rs}
	if owner := metav1.GetControllerOfNoCopy(rs); owner != nil {
		siblings, err := c.kind.informer.GetIndexer().ByIndex(reconcile.ByController, string(owner.UID))
		if err != nil {
			return nil, err
		}
		family = family[:0]
		for _, obj := range siblings {
			family = append(family, c.kind.view(obj))
		}
	}
	byNode := map[string]int{}
	for _, member := range family {
		pods, err := reconcile.Indexed[*corev1.Pod](c.podInformer, reconcile.ByController, string(member.UID))
		if err != nil {
			return nil, err
		}
		for _, p := range pods {
			if podstate.Active(p) {
				byNode[p.Spec.NodeName]++
			}
		}
	}
	return byNode, nil
}
