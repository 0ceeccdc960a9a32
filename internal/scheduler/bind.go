package scheduler

import (
	"context"
	"encoding/json"
	"sync"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// outbox holds requests until a binder has time; it never blocks the scheduling goroutine.
type outbox struct {
	mu    sync.Mutex
	items []func(context.Context)
	more  chan struct{} // one token while items wait
}

func newOutbox() *outbox { return &outbox{more: make(chan struct{}, 1)} }

func (o *outbox) send(item func(context.Context)) {
	o.mu.Lock()
	o.items = append(o.items, item)
	o.mu.Unlock()
	o.token()
}

func (o *outbox) token() {
	select {
	case o.more <- struct{}{}:
	default:
	}
}

// run sends requests until ctx ends.
func (o *outbox) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-o.more:
		}
		for item := o.take(); item != nil; item = o.take() {
			item(ctx)
		}
	}
}

// take returns the oldest item, and wakes another binder when there are more.
func (o *outbox) take() func(context.Context) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.items) == 0 {
		return nil
	}
	item := o.items[0]
	o.items[0] = nil
	o.items = o.items[1:]
	if len(o.items) > 0 {
		o.token()
	}
	return item
}

// bind writes the decision. A pod that could not be bound is uncounted and tried again, unless it is gone or bound by another.
func (s *Scheduler) bind(ctx context.Context, w *queued, node string) {
	pod := w.info.pod
	err := s.Client.CoreV1().Pods(pod.Namespace).Bind(ctx, &corev1.Binding{
		ObjectMeta: metav1.ObjectMeta{Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID},
		Target:     corev1.ObjectReference{Kind: "Node", Name: node},
	}, metav1.CreateOptions{})
	if err == nil {
		s.figures.scheduled.Add(1)
		s.recorder.Eventf(pod, nil, corev1.EventTypeNormal, "Scheduled", "Binding", "Successfully assigned %s/%s to %s", pod.Namespace, pod.Name, node)
		return
	}
	if ctx.Err() != nil {
		return
	}
	s.figures.failed.Add(1)
	lost := apierrors.IsNotFound(err) || apierrors.IsConflict(err)
	s.inbox.send(func(s *Scheduler) { s.unassume(w, lost) })
	if lost {
		s.Log.Debug("pod is no longer ours to bind", "pod", w.info.key, "node", node, "error", err)
		return
	}
	s.Log.Warn("binding failed, will try again", "pod", w.info.key, "node", node, "error", err)
	s.explain(ctx, pod, "binding to node "+node+" failed: "+err.Error())
}

// unassume takes back a decision whose binding failed. What informers said meanwhile wins.
func (s *Scheduler) unassume(w *queued, lost bool) {
	uid := w.info.pod.UID
	if at := s.cluster.placed[uid]; at == nil || !at.assumed {
		return // deleted, or bound after all
	}
	s.cluster.remove(uid)
	now := s.Clock.Now()
	s.queue.happened(podGone, now)
	if !lost {
		s.queue.retry(w, now)
		return
	}
	// The informer may have spoken while the pod was assumed, and was not listened to; take its word now.
	if current, err := s.Informers.Core().V1().Pods().Lister().Pods(w.info.key.Namespace).Get(w.info.key.Name); err == nil && current.UID == uid {
		s.observePod(current)
	}
}

// explain writes why pod has no node: as an event, and as its PodScheduled condition when that says something new.
func (s *Scheduler) explain(ctx context.Context, pod *corev1.Pod, message string) {
	s.recorder.Eventf(pod, nil, corev1.EventTypeWarning, "FailedScheduling", "Scheduling", "%s", message)
	current, err := s.Informers.Core().V1().Pods().Lister().Pods(pod.Namespace).Get(pod.Name)
	if err != nil || current.UID != pod.UID {
		return // gone
	}
	patch := conditionPatch(current, message, metav1.NewTime(s.Clock.Now()))
	if patch == nil {
		return
	}
	_, err = s.Client.CoreV1().Pods(pod.Namespace).Patch(ctx, pod.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status")
	if err != nil && !apierrors.IsNotFound(err) && ctx.Err() == nil {
		s.Log.Warn("writing why a pod is not scheduled failed; its event has the reason", "pod", pod.Namespace+"/"+pod.Name, "error", err)
	}
}

// conditionPatch returns the status patch that makes message pod's PodScheduled condition, or nil when it says so already.
func conditionPatch(pod *corev1.Pod, message string, now metav1.Time) []byte {
	condition := corev1.PodCondition{
		Type:               corev1.PodScheduled,
		Status:             corev1.ConditionFalse,
		ObservedGeneration: pod.Generation,
		LastTransitionTime: now,
		Reason:             corev1.PodReasonUnschedulable,
		Message:            message,
	}
	for i := range pod.Status.Conditions {
		was := &pod.Status.Conditions[i]
		if was.Type != corev1.PodScheduled {
			continue
		}
		if was.Status == condition.Status {
			condition.LastTransitionTime = was.LastTransitionTime
			if was.Reason == condition.Reason && was.Message == condition.Message && was.ObservedGeneration == condition.ObservedGeneration {
				return nil
			}
		}
	}
	// A JSON object of strings, times and one number: it cannot fail to encode.
	patch, _ := json.Marshal(map[string]any{
		"metadata": map[string]any{"uid": pod.UID},
		"status":   map[string]any{"conditions": []corev1.PodCondition{condition}},
	})
	return patch
}
