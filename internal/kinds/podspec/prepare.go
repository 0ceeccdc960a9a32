package podspec

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// PrepareCreate gives a new pod its first status and resolves what the spec derives from the pod's own labels.
func PrepareCreate(pod *corev1.Pod) {
	DropGated(&pod.Spec, nil)
	pod.Status = corev1.PodStatus{Phase: corev1.PodPending, QOSClass: QOS(pod)}
	if len(pod.Spec.SchedulingGates) > 0 {
		pod.Status.Conditions = []corev1.PodCondition{{
			Type:    corev1.PodScheduled,
			Status:  corev1.ConditionFalse,
			Reason:  corev1.PodReasonSchedulingGated,
			Message: "Scheduling is blocked due to non-empty scheduling gates",
		}}
	}
	resolveLabelKeys(pod)
	takeAppArmor(pod)
}

// resolveLabelKeys turns matchLabelKeys and mismatchLabelKeys into requirements on the values that this pod has.
func resolveLabelKeys(pod *corev1.Pod) {
	for i := range pod.Spec.TopologySpreadConstraints {
		c := &pod.Spec.TopologySpreadConstraints[i]
		require(c.LabelSelector, metav1.LabelSelectorOpIn, c.MatchLabelKeys, pod.Labels)
	}
	if pod.Spec.Affinity == nil {
		return
	}
	resolve := func(required []corev1.PodAffinityTerm, preferred []corev1.WeightedPodAffinityTerm) {
		for i := range required {
			resolveTerm(&required[i], pod.Labels)
		}
		for i := range preferred {
			resolveTerm(&preferred[i].PodAffinityTerm, pod.Labels)
		}
	}
	if a := pod.Spec.Affinity.PodAffinity; a != nil {
		resolve(a.RequiredDuringSchedulingIgnoredDuringExecution, a.PreferredDuringSchedulingIgnoredDuringExecution)
	}
	if a := pod.Spec.Affinity.PodAntiAffinity; a != nil {
		resolve(a.RequiredDuringSchedulingIgnoredDuringExecution, a.PreferredDuringSchedulingIgnoredDuringExecution)
	}
}

func resolveTerm(t *corev1.PodAffinityTerm, labels map[string]string) {
	require(t.LabelSelector, metav1.LabelSelectorOpIn, t.MatchLabelKeys, labels)
	require(t.LabelSelector, metav1.LabelSelectorOpNotIn, t.MismatchLabelKeys, labels)
}

func require(s *metav1.LabelSelector, op metav1.LabelSelectorOperator, keys []string, labels map[string]string) {
	if s == nil {
		return
	}
	for _, key := range keys {
		if value, ok := labels[key]; ok {
			s.MatchExpressions = append(s.MatchExpressions, metav1.LabelSelectorRequirement{Key: key, Operator: op, Values: []string{value}})
		}
	}
}

// Grace returns how many seconds a pod gets to end: what was asked, or what its spec says. A pod that runs nowhere or has
// ended gets none; a negative wish means one second.
func Grace(pod *corev1.Pod, asked *int64) int64 {
	var seconds int64
	switch {
	case asked != nil:
		seconds = *asked
	case pod.Spec.TerminationGracePeriodSeconds != nil:
		seconds = *pod.Spec.TerminationGracePeriodSeconds
	}
	ended := pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
	if pod.Spec.NodeName == "" || ended {
		return 0
	}
	if seconds < 0 {
		return 1
	}
	return seconds
}
