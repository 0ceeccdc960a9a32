// Package daemonset runs one pod of every DaemonSet on each node that suits it.
//
// plan.go decides which nodes need a pod and which pods must go, pod.go makes pods, this file observes and acts. Pods go
// through the scheduler, each pinned to its node by affinity.
package daemonset

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	appslisters "k8s.io/client-go/listers/apps/v1"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"

	"canopus/internal/controllers/podclaim"
	"canopus/internal/controllers/podstate"
	"canopus/internal/controllers/reconcile"
	"canopus/internal/controllers/revision"
)

const (
	kind    = "DaemonSet"
	workers = 4
)

// Controller reconciles DaemonSets.
type Controller struct {
	reconcile.Deps
	sets      appslisters.DaemonSetLister
	nodes     corelisters.NodeLister
	pods      cache.SharedIndexInformer
	revisions cache.SharedIndexInformer
	claimer   *podclaim.Claimer
	written   *reconcile.Written[*corev1.Pod]
	loop      *reconcile.Loop[types.NamespacedName]
}

// New makes a controller that does nothing before Run.
func New(d reconcile.Deps) (*Controller, error) {
	if err := d.Check(); err != nil {
		return nil, err
	}
	sets, nodes := d.Informers.Apps().V1().DaemonSets(), d.Informers.Core().V1().Nodes()
	c := &Controller{
		Deps: d, sets: sets.Lister(), nodes: nodes.Lister(), pods: d.Informers.Core().V1().Pods().Informer(),
		revisions: d.Informers.Apps().V1().ControllerRevisions().Informer(), written: reconcile.NewWritten[*corev1.Pod](),
	}
	c.claimer = &podclaim.Claimer{
		Client: d.Client, Pods: c.pods, GVK: appsv1.SchemeGroupVersion.WithKind(kind),
		Fresh: func(ctx context.Context, owner metav1.Object) (metav1.Object, error) {
			return d.Client.AppsV1().DaemonSets(owner.GetNamespace()).Get(ctx, owner.GetName(), metav1.GetOptions{})
		},
	}
	for _, informer := range []cache.SharedIndexInformer{c.pods, c.revisions} {
		if err := reconcile.IndexByController(informer); err != nil {
			return nil, err
		}
	}
	var err error
	c.loop, err = reconcile.New(reconcile.Config[types.NamespacedName]{
		Name: "daemonset", Workers: workers, Reconcile: c.reconcile, Clock: d.Clock, Log: d.Log, Queues: d.Queues,
		Sources: []reconcile.Source[types.NamespacedName]{
			reconcile.On(sets.Informer(), c.setChanged),
			reconcile.On(c.pods, c.podChanged),
			reconcile.On(nodes.Informer(), c.nodeChanged),
			reconcile.On(c.revisions, revisionChanged),
		},
	})
	return c, err
}

// Run works until ctx ends.
func (c *Controller) Run(ctx context.Context) error { return c.loop.Run(ctx) }

func (c *Controller) setChanged(old, ds *appsv1.DaemonSet) []types.NamespacedName {
	if ds == nil {
		c.written.Forget(old.UID)
		return nil
	}
	return []types.NamespacedName{reconcile.Key(ds)}
}

func revisionChanged(old, r *appsv1.ControllerRevision) []types.NamespacedName {
	return reconcile.Controllers(kind, old, r)
}

// nodeChanged names every set if what decides about daemons has changed.
func (c *Controller) nodeChanged(old, node *corev1.Node) []types.NamespacedName {
	if old != nil && node != nil && maps.Equal(old.Labels, node.Labels) && equality.Semantic.DeepEqual(old.Spec.Taints, node.Spec.Taints) {
		return nil
	}
	return c.matching(metav1.NamespaceAll, func(*appsv1.DaemonSet) bool { return true })
}

func (c *Controller) matching(namespace string, want func(*appsv1.DaemonSet) bool) []types.NamespacedName {
	sets, err := c.sets.DaemonSets(namespace).List(labels.Everything())
	if err != nil {
		return nil
	}
	var keys []types.NamespacedName
	for _, ds := range sets {
		if want(ds) {
			keys = append(keys, reconcile.Key(ds))
		}
	}
	return keys
}

// podChanged names the sets that controlled or control the pod, or may adopt it.
func (c *Controller) podChanged(old, pod *corev1.Pod) []types.NamespacedName {
	keys := reconcile.Controllers(kind, old, pod)
	if pod == nil || metav1.GetControllerOfNoCopy(pod) != nil || !podstate.Active(pod) {
		return keys
	}
	return append(keys, c.matching(pod.Namespace, func(ds *appsv1.DaemonSet) bool {
		selector, err := metav1.LabelSelectorAsSelector(ds.Spec.Selector)
		return err == nil && !selector.Empty() && selector.Matches(labels.Set(pod.Labels))
	})...)
}

func (c *Controller) reconcile(ctx context.Context, key types.NamespacedName) (time.Duration, error) {
	ds, err := c.sets.DaemonSets(key.Namespace).Get(key.Name)
	if apierrors.IsNotFound(err) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	current, history, err := c.currentRevision(ctx, ds)
	if err != nil {
		return 0, fmt.Errorf("daemonset %s: %w", key, err)
	}
	o, err := c.observe(ctx, ds, revision.Hash(current))
	if err != nil {
		return 0, fmt.Errorf("find the pods of daemonset %s: %w", key, err)
	}
	decided := plan(o, c.Clock.Now())
	applyErr := c.apply(ctx, ds, o.hash, decided)
	if err := c.writeStatus(ctx, ds, decided.status); err != nil {
		return 0, fmt.Errorf("write the status of daemonset %s: %w", key, err)
	}
	if applyErr != nil {
		return decided.after, fmt.Errorf("daemonset %s: %w", key, applyErr)
	}
	return decided.after, c.forgetOld(ctx, ds, o, history)
}

// currentRevision makes sure that the present template is the newest revision.
func (c *Controller) currentRevision(ctx context.Context, ds *appsv1.DaemonSet) (*appsv1.ControllerRevision, []*appsv1.ControllerRevision, error) {
	history, err := reconcile.Indexed[*appsv1.ControllerRevision](c.revisions, reconcile.ByController, string(ds.UID))
	if err != nil {
		return nil, nil, err
	}
	owner := revision.Owner{
		Object: ds, GVK: appsv1.SchemeGroupVersion.WithKind(kind), Template: &ds.Spec.Template, Collisions: ds.Status.CollisionCount,
	}
	current, err := revision.Pick(owner, history)
	if err != nil {
		return nil, nil, err
	}
	for _, r := range history {
		if r == current || ds.DeletionTimestamp != nil {
			return current, history, nil
		}
	}
	written, err := revision.Write(ctx, c.Client, current)
	var collision revision.ErrCollision
	if errors.As(err, &collision) {
		next := *ds.Status.DeepCopy()
		count := int32(1)
		if next.CollisionCount != nil {
			count = *next.CollisionCount + 1
		}
		next.CollisionCount = &count
		return nil, nil, errors.Join(err, c.writeStatus(ctx, ds, next))
	}
	return written, history, err
}

func (c *Controller) observe(ctx context.Context, ds *appsv1.DaemonSet, hash string) (observed, error) {
	selector, err := metav1.LabelSelectorAsSelector(ds.Spec.Selector)
	if err != nil {
		return observed{}, reconcile.Terminal(fmt.Errorf("bad selector: %w", err))
	}
	adopted, err := c.claimer.Claim(ctx, ds, selector)
	if err != nil {
		return observed{}, err
	}
	for _, p := range adopted {
		c.written.Created(ds.UID, p)
	}
	seen := c.pods.GetStore().LastStoreSyncResourceVersion() // before the list: see Written.View
	pods, err := reconcile.Indexed[*corev1.Pod](c.pods, reconcile.ByController, string(ds.UID))
	if err != nil {
		return observed{}, err
	}
	nodes, err := c.nodes.List(labels.Everything())
	taken := reconcile.Taken(c.written, ds.UID, reconcile.Sight{Pods: pods, Seen: seen, At: c.Clock.Now()})
	return observed{ds: ds, hash: hash, pods: taken, nodes: nodes}, err
}

func (c *Controller) apply(ctx context.Context, ds *appsv1.DaemonSet, hash string, a actions) error {
	for _, e := range a.events {
		c.Events.Event(ds, e.kind, e.reason, e.message)
	}
	failed := reconcile.Parallel(ctx, len(a.remove), func(ctx context.Context, i int) error { return c.remove(ctx, ds, a.remove[i]) })
	if len(failed) > 0 {
		return failed[0]
	}
	var mu sync.Mutex
	next := 0
	_, err := reconcile.SlowStart(ctx, len(a.create), func(ctx context.Context) error {
		mu.Lock()
		node := a.create[next]
		next++
		mu.Unlock()
		return c.create(ctx, ds, hash, node)
	})
	return err
}

func (c *Controller) create(ctx context.Context, ds *appsv1.DaemonSet, hash, node string) error {
	pod, err := c.Client.CoreV1().Pods(ds.Namespace).Create(ctx, newPod(ds, hash, node), metav1.CreateOptions{})
	if err != nil {
		if reconcile.Terminating(err) {
			return err
		}
		c.Events.Eventf(ds, corev1.EventTypeWarning, "FailedCreate", "Error creating: %v", err)
		return fmt.Errorf("create pod for node %s: %w", node, err)
	}
	c.written.Created(ds.UID, pod)
	c.Events.Eventf(ds, corev1.EventTypeNormal, "SuccessfulCreate", "Created pod: %v", pod.Name)
	return nil
}

func (c *Controller) remove(ctx context.Context, ds *appsv1.DaemonSet, p *corev1.Pod) error {
	err := c.Client.CoreV1().Pods(p.Namespace).Delete(ctx, p.Name, metav1.DeleteOptions{
		Preconditions: metav1.NewUIDPreconditions(string(p.UID)),
	})
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil
	}
	if err != nil {
		c.Events.Eventf(ds, corev1.EventTypeWarning, "FailedDelete", "Error deleting: %v", err)
		return fmt.Errorf("delete pod %s: %w", p.Name, err)
	}
	c.written.Deleted(ds.UID, p.UID)
	c.Events.Eventf(ds, corev1.EventTypeNormal, "SuccessfulDelete", "Deleted pod: %v", p.Name)
	return nil
}

func (c *Controller) writeStatus(ctx context.Context, ds *appsv1.DaemonSet, next appsv1.DaemonSetStatus) error {
	if equality.Semantic.DeepEqual(ds.Status, next) {
		return nil
	}
	changed := ds.DeepCopy()
	changed.Status = next
	_, err := c.Client.AppsV1().DaemonSets(ds.Namespace).UpdateStatus(ctx, changed, metav1.UpdateOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

// forgetOld deletes revisions beyond the set's history limit.
func (c *Controller) forgetOld(ctx context.Context, ds *appsv1.DaemonSet, o observed, history []*appsv1.ControllerRevision) error {
	if ds.Spec.RevisionHistoryLimit == nil || ds.DeletionTimestamp != nil {
		return nil
	}
	live := map[string]bool{o.hash: true}
	for _, p := range o.pods {
		live[p.Labels[appsv1.ControllerRevisionHashLabelKey]] = true
	}
	for _, r := range revision.Stale(history, live, int(*ds.Spec.RevisionHistoryLimit)) {
		err := c.Client.AppsV1().ControllerRevisions(r.Namespace).Delete(ctx, r.Name, metav1.DeleteOptions{Preconditions: metav1.NewUIDPreconditions(string(r.UID))})
		if err != nil && !apierrors.IsNotFound(err) {
			return fmt.Errorf("delete old controllerrevision %s: %w", r.Name, err)
		}
	}
	return nil
}
