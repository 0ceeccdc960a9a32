// Package nodelifecycle watches over nodes: a kubelet that is silent for too long has its conditions set to Unknown, its
// pods marked not ready, and taints that keep new pods away and, after a while, evict the old ones (package tainteviction).
//
// A sign of life is a renewed Lease in kube-node-lease, or a new heartbeat in the node's status. Nothing polls: each node
// is looked at when it says something, and when its time would be up.
package nodelifecycle

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	coordinationlisters "k8s.io/client-go/listers/coordination/v1"
	"k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"

	"canopus/internal/controllers/podstate"
	"canopus/internal/controllers/reconcile"

	"github.com/prometheus/client_golang/prometheus"
)

const workers = 8

// Config is what the controller works with.
type Config struct {
	reconcile.Deps
	Grace        time.Duration // silence after which a node counts as unreachable
	StartupGrace time.Duration // the same for a node that has never posted its status
}

// Controller reconciles nodes.
type Controller struct {
	Config
	nodes       v1.NodeLister
	leases      coordinationlisters.LeaseLister
	podInformer cache.SharedIndexInformer
	zones       *zones
	census      *census
	evictions   *prometheus.CounterVec // nodes whose pods were told to go
	loop        *reconcile.Loop[string]

	mu    sync.Mutex
	lives map[string]life // by node name
}

// life is the last sign of life of a node, and when it was noticed.
type life struct {
	uid       types.UID
	renewed   time.Time
	heartbeat time.Time
	heard     time.Time
}

// New makes a controller that does nothing before Run.
func New(config Config) (*Controller, error) {
	if err := config.Check(); err != nil {
		return nil, err
	}
	if config.Grace <= 0 || config.StartupGrace <= 0 {
		return nil, fmt.Errorf("grace periods of nodes are %s and %s, want more than 0", config.Grace, config.StartupGrace)
	}
	core := config.Informers.Core().V1()
	leases := config.Informers.Coordination().V1().Leases()
	c := &Controller{
		Config: config, nodes: core.Nodes().Lister(), leases: leases.Lister(), podInformer: core.Pods().Informer(),
		zones: newZones(), census: newCensus(), lives: map[string]life{},
	}
	if err := reconcile.IndexByNode(c.podInformer); err != nil {
		return nil, err
	}
	var err error
	c.evictions, err = reconcile.Show(config.Deps, prometheus.NewCounterVec(prometheus.CounterOpts{Name: "node_collector_evictions_total",
		Help: "Nodes that were given a taint that makes their pods go, by zone."}, []string{"zone"}))
	if err != nil {
		return nil, err
	}
	c.loop, err = reconcile.New(reconcile.Config[string]{
		Name: "node_lifecycle_controller", Workers: workers, Reconcile: c.reconcile, Clock: config.Clock, Log: config.Log, Queues: config.Queues,
		Sources: []reconcile.Source[string]{
			reconcile.On(core.Nodes().Informer(), c.nodeChanged),
			reconcile.On(leases.Informer(), leaseChanged),
		},
		Caches: []cache.SharedIndexInformer{c.podInformer},
	})
	return c, err
}

// Run works until ctx ends.
func (c *Controller) Run(ctx context.Context) error { return c.loop.Run(ctx) }

func leaseChanged(_, lease *coordinationv1.Lease) []string {
	if lease == nil || lease.Namespace != corev1.NamespaceNodeLease {
		return nil
	}
	return []string{lease.Name}
}

// nodeChanged names the node, and those that are down when the pace of their eviction is no longer what it was.
func (c *Controller) nodeChanged(old, node *corev1.Node) []string {
	if node == nil {
		return append(c.census.remove(old.Name), old.Name)
	}
	return append(c.census.set(node), node.Name)
}

func (c *Controller) reconcile(ctx context.Context, name string) (time.Duration, error) {
	node, err := c.nodes.Get(name)
	if apierrors.IsNotFound(err) {
		c.bury(name)
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	now := c.Clock.Now()
	heard, err := c.heard(node, now)
	if err != nil {
		return 0, err
	}
	o := observed{node: node, heard: heard, grace: c.Grace, disrupted: c.census.disrupted()}
	if condition(node, corev1.NodeReady) == nil {
		o.grace = c.StartupGrace
	}
	a := plan(o, now)
	after, err := c.apply(ctx, node, a)
	if err != nil {
		return 0, fmt.Errorf("node %s: %w", name, err)
	}
	if a.after > 0 && (after == 0 || a.after < after) {
		after = a.after
	}
	return after, nil
}

// bury forgets a node that is gone, and tells so.
func (c *Controller) bury(name string) {
	c.mu.Lock()
	last, known := c.lives[name]
	delete(c.lives, name)
	c.mu.Unlock()
	if known {
		c.Events.Eventf(&corev1.ObjectReference{APIVersion: "v1", Kind: "Node", Name: name, UID: last.uid},
			corev1.EventTypeNormal, "RemovingNode", "Node %s event: Removing Node %s from Controller", name, name)
	}
}

// heard notes signs of life and returns when the last one was noticed.
func (c *Controller) heard(node *corev1.Node, now time.Time) (time.Time, error) {
	lease, err := c.leases.Leases(corev1.NamespaceNodeLease).Get(node.Name)
	if err != nil && !apierrors.IsNotFound(err) {
		return time.Time{}, err
	}
	seen := life{uid: node.UID, heard: now}
	if err == nil && lease.Spec.RenewTime != nil {
		seen.renewed = lease.Spec.RenewTime.Time
	}
	if ready := condition(node, corev1.NodeReady); ready != nil {
		seen.heartbeat = ready.LastHeartbeatTime.Time
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	last, known := c.lives[node.Name]
	switch {
	case !known || last.uid != node.UID:
		c.Events.Eventf(node, corev1.EventTypeNormal, "RegisteredNode", "Node %s event: Registered Node %s in Controller", node.Name, node.Name)
	case seen.renewed.After(last.renewed) || seen.heartbeat.After(last.heartbeat):
	default:
		return last.heard, nil
	}
	c.lives[node.Name] = seen
	return now, nil
}

func (c *Controller) apply(ctx context.Context, node *corev1.Node, a actions) (time.Duration, error) {
	evictions := c.evictions.WithLabelValues(zoneLabel(node)) // shown from the first node on, be it 0
	if a.conditions != nil {
		changed := node.DeepCopy()
		changed.Status.Conditions = a.conditions
		updated, err := c.Client.CoreV1().Nodes().UpdateStatus(ctx, changed, metav1.UpdateOptions{})
		if err != nil {
			return 0, fmt.Errorf("mark conditions unknown: %w", err)
		}
		if a.notReady {
			c.Events.Eventf(node, corev1.EventTypeNormal, "NodeNotReady", "Node %s status is now: NodeNotReady", node.Name)
		}
		node = updated
	}
	if readiness(node) != corev1.ConditionTrue {
		if err := c.markPods(ctx, node.Name); err != nil {
			return 0, err
		}
	}
	mayEvict, wait := true, time.Duration(0)
	if a.evict != nil && !has(node.Spec.Taints, *a.evict) {
		mayEvict, wait = c.zones.turn(zoneOf(node), c.census.pace(node.Name), c.Clock.Now())
	}
	taints, changed := merge(node, a, mayEvict, c.Clock.Now())
	if !changed {
		return wait, nil
	}
	// The resourceVersion makes the patch fail rather than undo a taint that somebody sets meanwhile.
	patch, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"resourceVersion": node.ResourceVersion}, "spec": map[string]any{"taints": taints},
	})
	if err != nil {
		return 0, err
	}
	if _, err := c.Client.CoreV1().Nodes().Patch(ctx, node.Name, types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
		return 0, fmt.Errorf("set taints: %w", err)
	}
	if a.evict != nil && mayEvict && !has(node.Spec.Taints, *a.evict) {
		evictions.Inc()
	}
	return wait, nil
}

// markPods takes the pods of a node that is not ready out of their Services.
func (c *Controller) markPods(ctx context.Context, node string) error {
	pods, err := reconcile.Indexed[*corev1.Pod](c.podInformer, reconcile.ByNode, node)
	if err != nil {
		return err
	}
	var ready []*corev1.Pod
	for _, p := range pods {
		if podstate.Ready(p) {
			ready = append(ready, p)
		}
	}
	failed := reconcile.Parallel(ctx, len(ready), func(ctx context.Context, i int) error {
		pod := ready[i].DeepCopy()
		cond := podstate.Condition(pod, corev1.PodReady)
		cond.Status, cond.LastTransitionTime = corev1.ConditionFalse, metav1.NewTime(c.Clock.Now())
		patch, err := json.Marshal(map[string]any{
			"metadata": map[string]any{"uid": pod.UID}, "status": map[string]any{"conditions": []corev1.PodCondition{*cond}},
		})
		if err != nil {
			return err
		}
		_, err = c.Client.CoreV1().Pods(pod.Namespace).Patch(ctx, pod.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status")
		if err != nil && !apierrors.IsNotFound(err) {
			return fmt.Errorf("mark pod %s not ready: %w", reconcile.Key(pod), err)
		}
		c.Events.Event(pod, corev1.EventTypeWarning, "NodeNotReady", "Node is not ready")
		return nil
	})
	if len(failed) > 0 {
		return failed[0]
	}
	return nil
}
