// Package tainteviction deletes pods from nodes with NoExecute taints, at once or when the time has passed that their
// tolerations grant.
package tainteviction

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"

	"canopus/internal/controllers/podstate"
	"canopus/internal/controllers/reconcile"
)

const workers = 8

// Controller reconciles pods that have a node.
type Controller struct {
	reconcile.Deps
	pods        v1.PodLister
	nodes       v1.NodeLister
	podInformer cache.SharedIndexInformer
	loop        *reconcile.Loop[types.NamespacedName]

	mu      sync.Mutex
	noticed map[types.NamespacedName]notice // guarded by mu: the pods that are to be evicted, now or later
}

// notice is since when a pod is known to be under taints that evict it.
type notice struct {
	uid types.UID
	at  time.Time
}

// New makes a controller that does nothing before Run.
func New(d reconcile.Deps) (*Controller, error) {
	if err := d.Check(); err != nil {
		return nil, err
	}
	core := d.Informers.Core().V1()
	c := &Controller{Deps: d, pods: core.Pods().Lister(), nodes: core.Nodes().Lister(), podInformer: core.Pods().Informer(),
		noticed: map[types.NamespacedName]notice{}}
	if err := reconcile.IndexByNode(c.podInformer); err != nil {
		return nil, err
	}
	var err error
	c.loop, err = reconcile.New(reconcile.Config[types.NamespacedName]{
		Name: "noexec_taint_pod", Workers: workers, Reconcile: c.reconcile, Clock: d.Clock, Log: d.Log, Queues: d.Queues,
		Sources: []reconcile.Source[types.NamespacedName]{
			reconcile.On(c.podInformer, c.podChanged),
			reconcile.On(core.Nodes().Informer(), c.nodeChanged),
		},
	})
	return c, err
}

// Run works until ctx ends.
func (c *Controller) Run(ctx context.Context) error { return c.loop.Run(ctx) }

// podChanged cares for a pod that came to a tainted node, or whose tolerations changed there, and forgets one that is gone.
func (c *Controller) podChanged(old, pod *corev1.Pod) []types.NamespacedName {
	if pod == nil {
		if c.known(reconcile.Key(old)) {
			return []types.NamespacedName{reconcile.Key(old)}
		}
		return nil
	}
	if pod.Spec.NodeName == "" {
		return nil
	}
	if old != nil && old.Spec.NodeName == pod.Spec.NodeName && equality.Semantic.DeepEqual(old.Spec.Tolerations, pod.Spec.Tolerations) {
		return nil
	}
	node, err := c.nodes.Get(pod.Spec.NodeName)
	if err != nil || len(evicting(node)) == 0 {
		return nil // if the node is not in the cache yet, it will wake us
	}
	return []types.NamespacedName{reconcile.Key(pod)}
}

// nodeChanged cares for the pods of a node that was tainted, or is no longer.
func (c *Controller) nodeChanged(old, node *corev1.Node) []types.NamespacedName {
	if node == nil {
		return nil
	}
	var before []corev1.Taint
	if old != nil {
		before = evicting(old)
	}
	if equality.Semantic.DeepEqual(before, evicting(node)) {
		return nil
	}
	pods, err := reconcile.Indexed[*corev1.Pod](c.podInformer, reconcile.ByNode, node.Name)
	if err != nil {
		return nil
	}
	keys := make([]types.NamespacedName, 0, len(pods))
	for _, p := range pods {
		keys = append(keys, reconcile.Key(p))
	}
	return keys
}

func evicting(node *corev1.Node) []corev1.Taint {
	return slices.DeleteFunc(slices.Clone(node.Spec.Taints), func(t corev1.Taint) bool { return t.Effect != corev1.TaintEffectNoExecute })
}

// span is from when on a pod can have been under a taint.
type span struct {
	arrived time.Time // the pod, on its node
	noticed time.Time // by us, that the pod is under taints: what counts for a taint that does not say when it came
}

// due says whether the tolerations leave a pod no place under these taints, and when: a zero time means at once.
// Of several tolerations of one taint the first counts.
func due(taints []corev1.Taint, tolerations []corev1.Toleration, s span) (at time.Time, evict bool) {
	for _, taint := range taints {
		i := slices.IndexFunc(tolerations, func(t corev1.Toleration) bool { return tolerates(t, taint) })
		if i < 0 {
			return time.Time{}, true
		}
		seconds := tolerations[i].TolerationSeconds
		if seconds == nil {
			continue
		}
		since := s.noticed
		if taint.TimeAdded != nil {
			since = taint.TimeAdded.Time
			if since.Before(s.arrived) {
				since = s.arrived
			}
		}
		end := since.Add(time.Duration(max(*seconds, 0)) * time.Second)
		if !evict || end.Before(at) {
			at, evict = end, true
		}
	}
	return at, evict
}

// arrived is when pod came to its node.
func arrived(pod *corev1.Pod) time.Time {
	if c := podstate.Condition(pod, corev1.PodScheduled); c != nil && c.Status == corev1.ConditionTrue && !c.LastTransitionTime.IsZero() {
		return c.LastTransitionTime.Time
	}
	return pod.CreationTimestamp.Time
}

func tolerates(t corev1.Toleration, taint corev1.Taint) bool {
	if t.Effect != "" && t.Effect != taint.Effect || t.Key != "" && t.Key != taint.Key {
		return false
	}
	return t.Operator == corev1.TolerationOpExists || t.Key != "" && t.Value == taint.Value
}

func (c *Controller) reconcile(ctx context.Context, key types.NamespacedName) (time.Duration, error) {
	pod, err := c.pods.Pods(key.Namespace).Get(key.Name)
	if apierrors.IsNotFound(err) {
		c.forget(key)
		return 0, nil
	}
	if err != nil || pod.DeletionTimestamp != nil {
		return 0, err
	}
	node, err := c.nodes.Get(pod.Spec.NodeName)
	if apierrors.IsNotFound(err) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	now := c.Clock.Now()
	at, evict := due(evicting(node), pod.Spec.Tolerations, span{arrived: arrived(pod), noticed: c.notice(pod, now)})
	if !evict {
		if c.spare(pod) {
			c.Events.Eventf(pod, corev1.EventTypeNormal, "TaintManagerEviction", "Cancelling deletion of Pod %s", key)
		}
		return 0, nil
	}
	c.remember(pod, now)
	if wait := at.Sub(now); wait > 0 {
		return wait, nil
	}
	if err := c.evict(ctx, pod, now); err != nil {
		return 0, fmt.Errorf("evict pod %s from tainted node %s: %w", key, node.Name, err)
	}
	return 0, nil
}

func (c *Controller) known(key types.NamespacedName) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, known := c.noticed[key]
	return known
}

// notice is since when pod is known to be under taints that evict it: now, if that is news.
func (c *Controller) notice(pod *corev1.Pod, now time.Time) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n, known := c.noticed[reconcile.Key(pod)]; known && n.uid == pod.UID {
		return n.at
	}
	return now
}

func (c *Controller) remember(pod *corev1.Pod, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n, known := c.noticed[reconcile.Key(pod)]; !known || n.uid != pod.UID {
		c.noticed[reconcile.Key(pod)] = notice{pod.UID, now}
	}
}

func (c *Controller) forget(key types.NamespacedName) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.noticed, key)
}

// spare forgets a pod that may stay, and says whether it, and not an earlier one of its name, was to be evicted.
func (c *Controller) spare(pod *corev1.Pod) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	n, known := c.noticed[reconcile.Key(pod)]
	delete(c.noticed, reconcile.Key(pod))
	return known && n.uid == pod.UID
}

// evict says in the pod's conditions why it goes, then deletes it.
func (c *Controller) evict(ctx context.Context, pod *corev1.Pod, now time.Time) error {
	c.Events.Eventf(pod, corev1.EventTypeNormal, "TaintManagerEviction", "Marking for deletion Pod %s", reconcile.Key(pod))
	if !podstate.Finished(pod) {
		patch, err := json.Marshal(map[string]any{
			"metadata": map[string]any{"uid": pod.UID},
			"status": map[string]any{"conditions": []corev1.PodCondition{{
				Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: "DeletionByTaintManager",
				Message: "Taint manager: deleting due to NoExecute taint", LastTransitionTime: metav1.NewTime(now),
				ObservedGeneration: pod.Generation,
			}}},
		})
		if err != nil {
			return err
		}
		_, err = c.Client.CoreV1().Pods(pod.Namespace).Patch(ctx, pod.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status")
		if err != nil && !apierrors.IsNotFound(err) {
			return err
		}
	}
	err := c.Client.CoreV1().Pods(pod.Namespace).Delete(ctx, pod.Name, metav1.DeleteOptions{
		Preconditions: metav1.NewUIDPreconditions(string(pod.UID)),
	})
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil
	}
	return err
}
