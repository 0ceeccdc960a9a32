package podspec

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// QOS returns the quality of service class that a pod's requests and limits amount to.
func QOS(pod *corev1.Pod) corev1.PodQOSClass {
	if own := pod.Spec.Resources; own != nil && (len(own.Requests) > 0 || len(own.Limits) > 0) {
		return classOf([]corev1.ResourceRequirements{*own})
	}
	all := make([]corev1.ResourceRequirements, 0, len(pod.Spec.InitContainers)+len(pod.Spec.Containers))
	for i := range pod.Spec.InitContainers {
		all = append(all, pod.Spec.InitContainers[i].Resources)
	}
	for i := range pod.Spec.Containers {
		all = append(all, pod.Spec.Containers[i].Resources)
	}
	return classOf(all)
}

// classOf: guaranteed when every part limits both cpu and memory and all requests sum up to the limits; best effort when
// nothing asks for either; burstable otherwise.
func classOf(parts []corev1.ResourceRequirements) corev1.PodQOSClass {
	requests, limits := corev1.ResourceList{}, corev1.ResourceList{}
	guaranteed := true
	for _, part := range parts {
		addQOS(requests, part.Requests)
		if addQOS(limits, part.Limits) != 2 {
			guaranteed = false
		}
	}
	if len(requests) == 0 && len(limits) == 0 {
		return corev1.PodQOSBestEffort
	}
	if guaranteed && len(requests) == len(limits) {
		for name, request := range requests {
			if limit, ok := limits[name]; !ok || limit.Cmp(request) != 0 {
				return corev1.PodQOSBurstable
			}
		}
		return corev1.PodQOSGuaranteed
	}
	return corev1.PodQOSBurstable
}

// addQOS adds the positive cpu and memory of more to sum and says how many of the two there were.
func addQOS(sum, more corev1.ResourceList) int {
	found := 0
	for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
		quantity, ok := more[name]
		if !ok || quantity.Cmp(resource.Quantity{}) <= 0 {
			continue
		}
		found++
		total := sum[name]
		total.Add(quantity)
		sum[name] = total
	}
	return found
}
