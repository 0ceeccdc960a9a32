// Package deployment rolls Deployments out through ReplicaSets.
//
// plan.go decides one step at a time (bounds.go: how many pods a step may touch; set.go: ReplicaSets and their revision
// annotations; hash.go: their names; status.go: conditions and the progress deadline), apply.go takes the step, this file
// observes.
package deployment

import (
	"context"
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	appslisters "k8s.io/client-go/listers/apps/v1"
	"k8s.io/client-go/tools/cache"

	"canopus/internal/controllers/podstate"
	"canopus/internal/controllers/reconcile"
)

const (
	kind    = "Deployment"
	workers = 8
)

// Controller reconciles Deployments.
type Controller struct {
	reconcile.Deps
	deployments appslisters.DeploymentLister
	sets        appslisters.ReplicaSetLister
	setInformer cache.SharedIndexInformer
	podInformer cache.SharedIndexInformer
	loop        *reconcile.Loop[types.NamespacedName]
}

// New makes a controller that does nothing before Run.
func New(d reconcile.Deps) (*Controller, error) {
	if err := d.Check(); err != nil {
		return nil, err
	}
	apps := d.Informers.Apps().V1()
	c := &Controller{
		Deps: d, deployments: apps.Deployments().Lister(), sets: apps.ReplicaSets().Lister(),
		setInformer: apps.ReplicaSets().Informer(), podInformer: d.Informers.Core().V1().Pods().Informer(),
	}
	for _, informer := range []cache.SharedIndexInformer{c.setInformer, c.podInformer} {
		if err := reconcile.IndexByController(informer); err != nil {
			return nil, err
		}
	}
	var err error
	c.loop, err = reconcile.New(reconcile.Config[types.NamespacedName]{
		Name: "deployment", Workers: workers, Reconcile: c.reconcile, Clock: d.Clock, Log: d.Log, Queues: d.Queues,
		Sources: []reconcile.Source[types.NamespacedName]{
			reconcile.Self(apps.Deployments().Informer()),
			reconcile.On(c.setInformer, c.setChanged),
			reconcile.On(c.podInformer, c.podChanged),
		},
	})
	return c, err
}

// Run works until ctx ends.
func (c *Controller) Run(ctx context.Context) error { return c.loop.Run(ctx) }

// setChanged names the Deployments that controlled or control the ReplicaSet, or may adopt it.
func (c *Controller) setChanged(old, rs *appsv1.ReplicaSet) []types.NamespacedName {
	keys := reconcile.Controllers(kind, old, rs)
	if rs == nil || metav1.GetControllerOfNoCopy(rs) != nil {
		return keys
	}
	all, err := c.deployments.Deployments(rs.Namespace).List(labels.Everything())
	if err != nil {
		return keys
	}
	for _, d := range all {
		selector, err := metav1.LabelSelectorAsSelector(d.Spec.Selector)
		if err == nil && !selector.Empty() && selector.Matches(labels.Set(rs.Labels)) {
			keys = append(keys, reconcile.Key(d))
		}
	}
	return keys
}

// podChanged wakes a Recreate Deployment that waits for its old pods to be gone. All else it learns from ReplicaSets.
func (c *Controller) podChanged(old, pod *corev1.Pod) []types.NamespacedName {
	if old == nil || (pod != nil && !podstate.Finished(pod)) {
		return nil
	}
	setKey, ok := reconcile.ControlledBy(old, "ReplicaSet")
	if !ok {
		return nil
	}
	rs, err := c.sets.ReplicaSets(setKey.Namespace).Get(setKey.Name)
	if err != nil {
		return nil
	}
	key, ok := reconcile.ControlledBy(rs, kind)
	if !ok {
		return nil
	}
	d, err := c.deployments.Deployments(key.Namespace).Get(key.Name)
	if err != nil || d.Spec.Strategy.Type != appsv1.RecreateDeploymentStrategyType {
		return nil
	}
	return []types.NamespacedName{key}
}

func (c *Controller) reconcile(ctx context.Context, key types.NamespacedName) (time.Duration, error) {
	d, err := c.deployments.Deployments(key.Namespace).Get(key.Name)
	if apierrors.IsNotFound(err) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	selector, err := metav1.LabelSelectorAsSelector(d.Spec.Selector)
	if err != nil {
		return 0, reconcile.Terminal(fmt.Errorf("deployment %s has a bad selector: %w", key, err))
	}
	if selector.Empty() {
		c.Events.Eventf(d, corev1.EventTypeWarning, "SelectingAll",
			"This deployment is selecting all pods. A non-empty selector is required.")
		return 0, c.writeStatus(ctx, d, observedOnly(d))
	}
	o, err := c.observe(ctx, d, selector)
	if err != nil {
		return 0, fmt.Errorf("find the replicasets of deployment %s: %w", key, err)
	}
	decided := plan(o, c.Clock.Now())
	if err := c.apply(ctx, d, decided); err != nil {
		return 0, fmt.Errorf("deployment %s: %w", key, err)
	}
	return decided.after, nil
}

func observedOnly(d *appsv1.Deployment) appsv1.DeploymentStatus {
	s := *d.Status.DeepCopy()
	s.ObservedGeneration = d.Generation
	return s
}

// observe collects the ReplicaSets of d, after adopting and releasing what its selector says.
func (c *Controller) observe(ctx context.Context, d *appsv1.Deployment, selector labels.Selector) (observed, error) {
	o := observed{d: d}
	candidates, err := reconcile.Indexed[*appsv1.ReplicaSet](c.setInformer, reconcile.ByController, reconcile.OrphansIn(d.Namespace))
	if err != nil {
		return o, err
	}
	owned, err := reconcile.Indexed[*appsv1.ReplicaSet](c.setInformer, reconcile.ByController, string(d.UID))
	if err != nil {
		return o, err
	}
	for _, rs := range append(candidates, owned...) {
		switch reconcile.ClaimOf(d, selector, rs) {
		case reconcile.Owned:
			o.sets = append(o.sets, rs)
		case reconcile.Adopt:
			adopted, err := c.adopt(ctx, d, rs)
			if err != nil {
				return o, fmt.Errorf("adopt replicaset %s: %w", rs.Name, err)
			}
			if adopted != nil {
				o.sets = append(o.sets, adopted)
			}
		case reconcile.Release:
			if err := c.release(ctx, d, rs); err != nil {
				return o, fmt.Errorf("release replicaset %s: %w", rs.Name, err)
			}
		case reconcile.Foreign:
		}
	}
	if d.Spec.Strategy.Type == appsv1.RecreateDeploymentStrategyType {
		o.oldPods, err = c.oldPods(o)
	}
	return o, err
}

// oldPods reports whether any pod of another template than d's present one has not ended yet.
func (c *Controller) oldPods(o observed) (bool, error) {
	for _, rs := range o.sets {
		if sameTemplate(&rs.Spec.Template, &o.d.Spec.Template) {
			continue
		}
		pods, err := reconcile.Indexed[*corev1.Pod](c.podInformer, reconcile.ByController, string(rs.UID))
		if err != nil {
			return false, err
		}
		for _, p := range pods {
			if !podstate.Finished(p) {
				return true, nil
			}
		}
	}
	return false, nil
}
