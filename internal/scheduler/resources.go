package scheduler

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/component-helpers/resource"
)

// What a container that asks for nothing counts for when nodes are compared (never when they are filtered).
const (
	defaultMilliCPU = 100
	defaultMemory   = 200 << 20
)

// resources is a ResourceList in plain numbers: CPU in millicores, the rest in units (bytes for memory and storage).
type resources struct {
	cpu, memory, storage, pods int64
	other                      map[corev1.ResourceName]int64 // extended resources, huge pages; nil when there are none
}

func toResources(l corev1.ResourceList) resources {
	var r resources
	for name, q := range l {
		switch name {
		case corev1.ResourceCPU:
			r.cpu = q.MilliValue()
		case corev1.ResourceMemory:
			r.memory = q.Value()
		case corev1.ResourceEphemeralStorage:
			r.storage = q.Value()
		case corev1.ResourcePods:
			r.pods = q.Value()
		default:
			if r.other == nil {
				r.other = map[corev1.ResourceName]int64{}
			}
			r.other[name] = q.Value()
		}
	}
	return r
}

// add changes r by sign times d.
func (r *resources) add(d resources, sign int64) {
	r.cpu += sign * d.cpu
	r.memory += sign * d.memory
	r.storage += sign * d.storage
	r.pods += sign * d.pods
	for name, v := range d.other {
		if r.other == nil {
			r.other = map[corev1.ResourceName]int64{}
		}
		r.other[name] += sign * v
	}
}

// exceeds reports whether r is more of anything than o.
func (r *resources) exceeds(o *resources) bool {
	for name, v := range r.other {
		if v > o.other[name] {
			return true
		}
	}
	return r.cpu > o.cpu || r.memory > o.memory || r.storage > o.storage
}

// podRequests returns what pod asks of its node, and the same with defaults for containers that ask for no CPU or memory.
func podRequests(pod *corev1.Pod) (asked, compared resources) {
	asked = toResources(resource.PodRequests(pod, resource.PodResourcesOptions{UseStatusResources: true}))
	compared, asked.pods = asked, 1
	reported := len(pod.Status.ContainerStatuses) + len(pod.Status.InitContainerStatuses) // which may say something else
	if reported == 0 && !resource.IsPodResizeInfeasible(pod) && allAsk(pod.Spec.InitContainers) && allAsk(pod.Spec.Containers) {
		return asked, compared
	}
	compared = toResources(resource.PodRequests(pod, resource.PodResourcesOptions{
		UseStatusResources: true,
		NonMissingContainerRequests: corev1.ResourceList{
			corev1.ResourceCPU:    *quantityMilli(defaultMilliCPU),
			corev1.ResourceMemory: *quantity(defaultMemory),
		},
	}))
	return asked, compared
}

// allAsk says whether each container asks for CPU and memory itself.
func allAsk(containers []corev1.Container) bool {
	for i := range containers {
		requests := containers[i].Resources.Requests
		if _, ok := requests[corev1.ResourceCPU]; !ok {
			return false
		}
		if _, ok := requests[corev1.ResourceMemory]; !ok {
			return false
		}
	}
	return true
}
