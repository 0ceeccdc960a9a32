package scheduler

import (
	"context"
	"encoding/json"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// refusalNote is what is told about a pod that has no node yet.
type refusalNote struct {
	pod       *corev1.Pod
	reason    string // of the condition
	message   string
	nominated string // node reserved for it, if any
}

// explain writes why a pod has no node: as an event, and to its status when that says something new.
func (s *Scheduler) explain(ctx context.Context, v refusalNote) {
	s.recorderOf(v.pod).Eventf(v.pod, nil, corev1.EventTypeWarning, "FailedScheduling", "Scheduling", "%s", v.message)
	current, err := s.Informers.Core().V1().Pods().Lister().Pods(v.pod.Namespace).Get(v.pod.Name)
	if err != nil || current.UID != v.pod.UID {
		return // gone
	}
	s.patchStatus(ctx, current, statusPatch(current, v, metav1.NewTime(s.Clock.Now())))
}

// patchStatus writes a status patch, if there is one. That it failed is logged: what it says is for people.
func (s *Scheduler) patchStatus(ctx context.Context, pod *corev1.Pod, patch []byte) {
	if patch == nil {
		return
	}
	_, err := s.Client.CoreV1().Pods(pod.Namespace).Patch(ctx, pod.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status")
	if err != nil && !apierrors.IsNotFound(err) && ctx.Err() == nil {
		s.Log.Warn("writing why a pod is not scheduled failed; its event has the reason", "pod", pod.Namespace+"/"+pod.Name, "error", err)
	}
}

// statusPatch returns the patch that makes v pod's PodScheduled condition and nomination, or nil when its status says so already.
func statusPatch(pod *corev1.Pod, v refusalNote, now metav1.Time) []byte {
	condition, said := withTransition(pod, corev1.PodCondition{
		Type:               corev1.PodScheduled,
		Status:             corev1.ConditionFalse,
		ObservedGeneration: pod.Generation,
		LastTransitionTime: now,
		Reason:             v.reason,
		Message:            v.message,
	})
	if said && pod.Status.NominatedNodeName == v.nominated {
		return nil
	}
	status := map[string]any{"conditions": []corev1.PodCondition{condition}}
	if v.nominated != pod.Status.NominatedNodeName {
		status["nominatedNodeName"] = v.nominated
	}
	return podPatch(pod, status)
}

// withTransition keeps the transition time of a condition that pod has already with the same status, and tells whether the
// condition says nothing new.
func withTransition(pod *corev1.Pod, c corev1.PodCondition) (condition corev1.PodCondition, said bool) {
	for i := range pod.Status.Conditions {
		was := &pod.Status.Conditions[i]
		if was.Type == c.Type && was.Status == c.Status {
			c.LastTransitionTime = was.LastTransitionTime
			return c, was.Reason == c.Reason && was.Message == c.Message && was.ObservedGeneration == c.ObservedGeneration
		}
	}
	return c, false
}

func podPatch(pod *corev1.Pod, status map[string]any) []byte {
	// A JSON object of strings, times and one number: it cannot fail to encode.
	patch, _ := json.Marshal(map[string]any{"metadata": map[string]any{"uid": pod.UID}, "status": status})
	return patch
}
