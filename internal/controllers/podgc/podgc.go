// Package podgc deletes pods that nobody else will: those of nodes that are gone, those being deleted that never got a
// node or whose node is declared out of service, and the oldest finished ones beyond a threshold.
package podgc

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"

	"canopus/internal/controllers/podstate"
	"canopus/internal/controllers/reconcile"
)

// quarantine is how long a node must be missing before its pods count as orphaned: it may only be late in the cache.
const quarantine = 40 * time.Second

const byFinished = "canopus/finished"

// Config is what the controller works with.
type Config struct {
	reconcile.Deps
	Threshold int // finished pods kept; 0: all
}

// Controller reconciles pods.
type Controller struct {
	Config
	pods        v1.PodLister
	nodes       v1.NodeLister
	podInformer cache.SharedIndexInformer
	loop        *reconcile.Loop[types.NamespacedName]
	// missing notes since when a pod's node was not there. Owned by the one worker.
	missing map[types.UID]time.Time
}

// New makes a controller that does nothing before Run.
func New(config Config) (*Controller, error) {
	if err := config.Check(); err != nil {
		return nil, err
	}
	if config.Threshold < 0 {
		return nil, fmt.Errorf("threshold of finished pods is %d, want 0 (keep all) or more", config.Threshold)
	}
	pods, nodes := config.Informers.Core().V1().Pods(), config.Informers.Core().V1().Nodes()
	c := &Controller{
		Config: config, pods: pods.Lister(), nodes: nodes.Lister(), podInformer: pods.Informer(),
		missing: map[types.UID]time.Time{},
	}
	if err := reconcile.IndexByNode(c.podInformer); err != nil {
		return nil, err
	}
	if err := reconcile.Index(c.podInformer, byFinished, finishedIndex); err != nil {
		return nil, err
	}
	var err error
	c.loop, err = reconcile.New(reconcile.Config[types.NamespacedName]{
		Name: "pod_garbage_collector", Workers: 1, Reconcile: c.reconcile, Clock: config.Clock, Log: config.Log, Queues: config.Queues,
		Sources: []reconcile.Source[types.NamespacedName]{
			reconcile.On(c.podInformer, c.podChanged),
			reconcile.On(nodes.Informer(), c.nodeChanged),
		},
	})
	return c, err
}

// Run works until ctx ends.
func (c *Controller) Run(ctx context.Context) error { return c.loop.Run(ctx) }

func finishedIndex(obj any) ([]string, error) {
	if pod, ok := obj.(*corev1.Pod); ok && podstate.Finished(pod) {
		return []string{"true"}, nil
	}
	return nil, nil
}

func (c *Controller) podChanged(old, pod *corev1.Pod) []types.NamespacedName {
	if pod == nil {
		return nil
	}
	var keys []types.NamespacedName
	if podstate.Finished(pod) && (old == nil || !podstate.Finished(old)) {
		keys = append(keys, types.NamespacedName{})
	}
	if pod.Spec.NodeName == "" {
		if pod.DeletionTimestamp != nil {
			keys = append(keys, reconcile.Key(pod))
		}
		return keys
	}
	node, err := c.nodes.Get(pod.Spec.NodeName)
	if err != nil || (pod.DeletionTimestamp != nil && outOfService(node)) {
		keys = append(keys, reconcile.Key(pod))
	}
	return keys
}

func (c *Controller) nodeChanged(old, node *corev1.Node) []types.NamespacedName {
	name := ""
	switch {
	case node == nil:
		name = old.Name
	case outOfService(node):
		name = node.Name
	default:
		return nil
	}
	pods, err := reconcile.Indexed[*corev1.Pod](c.podInformer, reconcile.ByNode, name)
	if err != nil {
		return nil
	}
	keys := make([]types.NamespacedName, 0, len(pods))
	for _, p := range pods {
		keys = append(keys, reconcile.Key(p))
	}
	return keys
}

func outOfService(node *corev1.Node) bool {
	tainted := slices.ContainsFunc(node.Spec.Taints, func(t corev1.Taint) bool { return t.Key == corev1.TaintNodeOutOfService })
	if !tainted {
		return false
	}
	for _, c := range node.Status.Conditions {
		if c.Type == corev1.NodeReady {
			return c.Status != corev1.ConditionTrue
		}
	}
	return true
}

func (c *Controller) reconcile(ctx context.Context, key types.NamespacedName) (time.Duration, error) {
	if key.Name == "" { // no pod's: stands for all finished ones together
		return 0, c.trim(ctx)
	}
	pod, err := c.pods.Pods(key.Namespace).Get(key.Name)
	if apierrors.IsNotFound(err) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	if pod.Spec.NodeName == "" {
		if pod.DeletionTimestamp == nil {
			return 0, nil
		}
		return 0, c.end(ctx, pod, nil)
	}
	node, err := c.nodes.Get(pod.Spec.NodeName)
	if err == nil {
		delete(c.missing, pod.UID)
		if pod.DeletionTimestamp != nil && outOfService(node) {
			return 0, c.end(ctx, pod, nil)
		}
		return 0, nil
	}
	if !apierrors.IsNotFound(err) {
		return 0, err
	}
	return c.orphan(ctx, pod)
}

// orphan ends a pod whose node has been missing for the whole quarantine, in the cache and at the server.
func (c *Controller) orphan(ctx context.Context, pod *corev1.Pod) (time.Duration, error) {
	now := c.Clock.Now()
	since, known := c.missing[pod.UID]
	if !known {
		c.missing[pod.UID] = now
		return quarantine, nil
	}
	if left := quarantine - now.Sub(since); left > 0 {
		return left, nil
	}
	_, err := c.Client.CoreV1().Nodes().Get(ctx, pod.Spec.NodeName, metav1.GetOptions{})
	if !apierrors.IsNotFound(err) {
		return quarantine, err
	}
	err = c.end(ctx, pod, &corev1.PodCondition{
		Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: "DeletionByPodGC",
		Message: "PodGC: node no longer exists", LastTransitionTime: metav1.NewTime(now), ObservedGeneration: pod.Generation,
	})
	if err == nil {
		delete(c.missing, pod.UID)
	}
	return 0, err
}

// end marks the pod failed, so that a Job counts it, and deletes it at once.
func (c *Controller) end(ctx context.Context, pod *corev1.Pod, why *corev1.PodCondition) error {
	if !podstate.Finished(pod) {
		status := map[string]any{"phase": corev1.PodFailed}
		if why != nil {
			status["conditions"] = []corev1.PodCondition{*why}
		}
		patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"uid": pod.UID}, "status": status})
		if err != nil {
			return err
		}
		_, err = c.Client.CoreV1().Pods(pod.Namespace).Patch(ctx, pod.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status")
		if err != nil && !apierrors.IsNotFound(err) {
			return fmt.Errorf("mark pod %s failed: %w", reconcile.Key(pod), err)
		}
	}
	return c.delete(ctx, pod)
}

func (c *Controller) delete(ctx context.Context, pod *corev1.Pod) error {
	options := metav1.NewDeleteOptions(0)
	options.Preconditions = metav1.NewUIDPreconditions(string(pod.UID))
	err := c.Client.CoreV1().Pods(pod.Namespace).Delete(ctx, pod.Name, *options)
	if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
		return fmt.Errorf("delete pod %s: %w", reconcile.Key(pod), err)
	}
	c.Log.Debug("deleted a pod that nobody else would", "pod", reconcile.Key(pod))
	return nil
}

func (c *Controller) trim(ctx context.Context) error {
	if c.Threshold == 0 {
		return nil
	}
	pods, err := reconcile.Indexed[*corev1.Pod](c.podInformer, byFinished, "true")
	if err != nil {
		return err
	}
	victims := oldest(pods, len(pods)-c.Threshold)
	failed := reconcile.Parallel(ctx, len(victims), func(ctx context.Context, i int) error { return c.delete(ctx, victims[i]) })
	if len(failed) > 0 {
		return failed[0]
	}
	return nil
}

// oldest returns the n pods that ended their lives first: evicted ones before all others, then by creation.
func oldest(pods []*corev1.Pod, n int) []*corev1.Pod {
	if n <= 0 {
		return nil
	}
	evicted := func(p *corev1.Pod) int {
		if p.Status.Phase == corev1.PodFailed && p.Status.Reason == "Evicted" {
			return 0
		}
		return 1
	}
	sorted := slices.SortedStableFunc(slices.Values(pods), func(a, b *corev1.Pod) int {
		return cmp.Or(
			cmp.Compare(evicted(a), evicted(b)),
			a.CreationTimestamp.Compare(b.CreationTimestamp.Time),
			cmp.Compare(a.Name, b.Name),
		)
	})
	return sorted[:min(n, len(sorted))]
}
