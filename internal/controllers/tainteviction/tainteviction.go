// Package tainteviction deletes pods from nodes with NoExecute taints, at once or when the time has passed that their
// tolerations grant.
package tainteviction

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
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
}

// New makes a controller that does nothing before Run.
func New(d reconcile.Deps) (*Controller, error) {
	if err := d.Check(); err != nil {
		return nil, err
	}
	core := d.Informers.Core().V1()
	c := &Controller{Deps: d, pods: core.Pods().Lister(), nodes: core.Nodes().Lister(), podInformer: core.Pods().Informer()}
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

// podChanged cares for a pod that came to a tainted node, or whose tolerations changed there.
func (c *Controller) podChanged(old, pod *corev1.Pod) []types.NamespacedName {
	if pod == nil || pod.Spec.NodeName == "" {
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

func (c *Controller) nodeChanged(old, node *corev1.Node) []types.NamespacedName {
	if node == nil || len(evicting(node)) == 0 || old != nil && equality.Semantic.DeepEqual(evicting(old), evicting(node)) {
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

// due says whether the tolerations leave a pod no place under these taints, and when: a zero time means at once.
// Of several tolerations of one taint the most generous counts.
func due(taints []corev1.Taint, tolerations []corev1.Toleration, now time.Time) (at time.Time, evict bool) {
	for _, taint := range taints {
		tolerated, forever := false, false
		var longest int64
		for _, t := range tolerations {
			if !tolerates(t, taint) {
				continue
			}
			tolerated = true
			if t.TolerationSeconds == nil {
				forever = true
				break
			}
			longest = max(longest, *t.TolerationSeconds)
		}
		switch {
		case !tolerated:
			return time.Time{}, true
		case forever:
			continue
		}
		since := now
		if taint.TimeAdded != nil {
			since = taint.TimeAdded.Time
		}
		end := since.Add(time.Duration(longest) * time.Second)
		if !evict || end.Before(at) {
			at, evict = end, true
		}
	}
	return at, evict
}

func tolerates(t corev1.Toleration, taint corev1.Taint) bool {
	if t.Effect != "" && t.Effect != taint.Effect || t.Key != "" && t.Key != taint.Key {
		return false
	}
	return t.Operator == corev1.TolerationOpExists || t.Key != "" && t.Value == taint.Value
}

func (c *Controller) reconcile(ctx context.Context, key types.NamespacedName) (time.Duration, error) {
	pod, err := c.pods.Pods(key.Namespace).Get(key.Name)
	if apierrors.IsNotFound(err) || err == nil && pod.DeletionTimestamp != nil {
		return 0, nil
	}
	if err != nil {
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
	at, evict := due(evicting(node), pod.Spec.Tolerations, now)
	if !evict {
		return 0, nil
	}
	if wait := at.Sub(now); wait > 0 {
		return wait, nil
	}
	if err := c.evict(ctx, pod, now); err != nil {
		return 0, fmt.Errorf("evict pod %s from tainted node %s: %w", key, node.Name, err)
	}
	return 0, nil
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
