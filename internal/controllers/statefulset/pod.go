package statefulset

import (
	"maps"
	"strconv"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// newPod is template as the set's pod with b's ordinal.
func newPod(set *appsv1.StatefulSet, template *corev1.PodTemplateSpec, b birth) *corev1.Pod {
	t := template.DeepCopy()
	index := strconv.Itoa(b.ordinal)
	name := set.Name + "-" + index
	labels := maps.Clone(t.Labels)
	if labels == nil {
		labels = map[string]string{}
	}
	maps.Copy(labels, identity(name, index))
	labels[appsv1.ControllerRevisionHashLabelKey] = b.revision
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: set.Namespace, Name: name, Labels: labels, Annotations: t.Annotations, Finalizers: t.Finalizers,
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(set, gvk())},
		},
		Spec: t.Spec,
	}
	useClaims(set, &pod.Spec, b.ordinal)
	pod.Spec.Hostname, pod.Spec.Subdomain = name, set.Spec.ServiceName
	return pod
}

// identity is the labels by which Services and people choose one pod of a set.
func identity(name, index string) map[string]string {
	return map[string]string{appsv1.StatefulSetPodNameLabel: name, appsv1.PodIndexLabel: index}
}
