package cgroup

import (
	"path"
	"slices"

	corev1 "k8s.io/api/core/v1"
	resourcehelper "k8s.io/component-helpers/resource"
)

// The directories of the classes of service.
const (
	kubepods   = "kubepods"
	burstable  = "burstable"
	bestEffort = "besteffort"
)

// Class returns a pod's quality of service from its status, or computes it from its spec.
func Class(pod *corev1.Pod) corev1.PodQOSClass {
	if pod.Status.QOSClass != "" {
		return pod.Status.QOSClass
	}
	any, guaranteed := false, true
	for _, c := range slices.Concat(pod.Spec.Containers, pod.Spec.InitContainers) {
		for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
			req, lim := c.Resources.Requests[name], c.Resources.Limits[name]
			if !req.IsZero() || !lim.IsZero() {
				any = true
			}
			if lim.IsZero() || (!req.IsZero() && req.Cmp(lim) != 0) {
				guaranteed = false
			}
		}
	}
	switch {
	case !any:
		return corev1.PodQOSBestEffort
	case guaranteed:
		return corev1.PodQOSGuaranteed
	}
	return corev1.PodQOSBurstable
}

// PodPath returns the cgroup of a pod below root.
func PodPath(root string, pod *corev1.Pod) string {
	leaf := "pod" + string(pod.UID)
	switch Class(pod) {
	case corev1.PodQOSGuaranteed:
		return path.Join("/", root, kubepods, leaf)
	case corev1.PodQOSBurstable:
		return path.Join("/", root, kubepods, burstable, leaf)
	}
	return path.Join("/", root, kubepods, bestEffort, leaf)
}

// OOMScoreAdjust returns how readily the kernel should kill the container when memory runs out, given the node's memory.
func OOMScoreAdjust(pod *corev1.Pod, c *corev1.Container, capacity int64) int64 {
	const guaranteedScore, bestEffortScore = -997, 1000
	if pod.Spec.Priority != nil && *pod.Spec.Priority >= 2_000_000_000 {
		return guaranteedScore
	}
	switch Class(pod) {
	case corev1.PodQOSGuaranteed:
		return guaranteedScore
	case corev1.PodQOSBestEffort:
		return bestEffortScore
	}
	if capacity <= 0 {
		return bestEffortScore - 1
	}
	score := 1000 - 1000*c.Resources.Requests.Memory().Value()/capacity
	return min(max(score, 1000+guaranteedScore), bestEffortScore-1)
}

// burstableShares returns the weight of the burstable class: the sum of its pods' requests.
func burstableShares(pods []*corev1.Pod) int64 {
	var milli int64
	for _, p := range pods {
		if Class(p) == corev1.PodQOSBurstable {
			req := resourcehelper.PodRequests(p, resourcehelper.PodResourcesOptions{})
			milli += req.Cpu().MilliValue()
		}
	}
	return Shares(milli)
}

func sortedKeys(m map[string]int64) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}
