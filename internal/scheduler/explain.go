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

// explainAttempts is how often a status is written that others write to, too.
const explainAttempts = 3

// explain writes why a pod has no node: as an event, and to its status when that says something new. Meanwhile the pod may have got
// a node: then nothing of this is true any more, so that a status is written only as it was read.
func (s *Scheduler) explain(ctx context.Context, v refusalNote) {
	s.recorderOf(v.pod).Eventf(v.pod, nil, corev1.EventTypeWarning, "FailedScheduling", "Scheduling", "%s", v.message)
	pods := s.Client.CoreV1().Pods(v.pod.Namespace)
	current, err := s.Informers.Core().V1().Pods().Lister().Pods(v.pod.Namespace).Get(v.pod.Name)
	for range explainAttempts {
		if err != nil || current.UID != v.pod.UID || current.Spec.NodeName != "" {
			break // gone, or not to be explained any more
		}
		patch := statusPatch(current, v, metav1.NewTime(s.Clock.Now()))
		if patch == nil {
			return
		}
		if _, err = pods.Patch(ctx, current.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status"); !apierrors.IsConflict(err) {
			break
		}
		current, err = pods.Get(ctx, v.pod.Name, metav1.GetOptions{})
	}
	if err != nil && !apierrors.IsNotFound(err) && ctx.Err() == nil {
		s.Log.Warn("writing why a pod is not scheduled failed; its event has the reason", "pod", v.pod.Namespace+"/"+v.pod.Name, "error", err)
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
	return encodePatch(map[string]any{"uid": pod.UID, "resourceVersion": pod.ResourceVersion}, status)
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
	return encodePatch(map[string]any{"uid": pod.UID}, status)
}

func encodePatch(metadata, status map[string]any) []byte {
	// A JSON object of strings, times and one number: it cannot fail to encode.
	patch, _ := json.Marshal(map[string]any{"metadata": metadata, "status": status})
	return patch
}
