package pods

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"canopus/internal/node/cgroup"
)

// Status returns what the API should say about the pod. Conditions and fields that others own stay as they are.
func Status(f Facts) corev1.PodStatus {
	out := *f.Pod.Status.DeepCopy()
	s := stater{Facts: &f, old: &f.Pod.Status}
	out.InitContainerStatuses = s.initStatuses()
	out.ContainerStatuses = s.statuses(f.Pod.Spec.Containers, f.Pod.Status.ContainerStatuses)
	out.EphemeralContainerStatuses = s.ephemeralStatuses()
	out.Phase = s.phase(&out)
	out.Reason, out.Message = "", ""
	if f.Ending != nil && f.Ending.Failed {
		out.Reason, out.Message = f.Ending.Reason, f.Ending.Message
	} else if terminal(f.Pod.Status.Phase) {
		out.Reason, out.Message = f.Pod.Status.Reason, f.Pod.Status.Message
	}
	if out.QOSClass == "" {
		out.QOSClass = cgroup.Class(f.Pod)
	}
	if out.StartTime == nil {
		t := stamp(f.Now)
		out.StartTime = &t
	}
	out.ObservedGeneration = f.Pod.Generation
	s.addresses(&out)
	s.conditions(&out)
	return out
}

type stater struct {
	*Facts
	old *corev1.PodStatus
}

func terminal(p corev1.PodPhase) bool { return p == corev1.PodSucceeded || p == corev1.PodFailed }

// stamp returns a time in the precision that the API stores.
func stamp(t time.Time) metav1.Time { return metav1.NewTime(t.Truncate(time.Second)) }

func unixStamp(nanos int64) metav1.Time {
	if nanos == 0 {
		return metav1.Time{}
	}
	return stamp(time.Unix(0, nanos))
}

// addresses keeps the last addresses of a pod whose sandbox is gone.
func (s *stater) addresses(out *corev1.PodStatus) {
	if len(s.HostIPs) > 0 {
		out.HostIP, out.HostIPs = s.HostIPs[0], nil
		for _, ip := range s.HostIPs {
			out.HostIPs = append(out.HostIPs, corev1.HostIP{IP: ip})
		}
	}
	ips := s.Runtime.IPs()
	if s.Pod.Spec.HostNetwork && s.Runtime.ReadySandbox() != nil {
		ips = s.HostIPs
	}
	if len(ips) == 0 {
		return
	}
	out.PodIP, out.PodIPs = ips[0], nil
	for _, ip := range ips {
		out.PodIPs = append(out.PodIPs, corev1.PodIP{IP: ip})
	}
}

// phase sums the containers up. A terminal phase is final.
func (s *stater) phase(out *corev1.PodStatus) corev1.PodPhase {
	if terminal(s.old.Phase) {
		return s.old.Phase
	}
	over := s.Ending != nil && len(s.Runtime.Live()) == 0
	if over && s.Ending.Failed {
		return corev1.PodFailed
	}
	p := s.runningPhase(out)
	if !over || terminal(p) {
		return p
	}
	// The pod is being deleted and nothing of it runs any more.
	for _, c := range out.ContainerStatuses {
		if c.State.Terminated == nil || c.State.Terminated.ExitCode != 0 {
			return corev1.PodFailed
		}
	}
	return corev1.PodSucceeded
}

func (s *stater) runningPhase(out *corev1.PodStatus) corev1.PodPhase {
	if !s.begun() {
		if s.initFailed(out) {
			return corev1.PodFailed
		}
		if !initialized(s.Pod, out) {
			return corev1.PodPending
		}
	}
	var waiting, running, stopped, succeeded, again int
	for i := range out.ContainerStatuses {
		c := &out.ContainerStatuses[i]
		switch {
		case c.State.Running != nil:
			running++
		case c.State.Terminated != nil:
			stopped++
			if c.State.Terminated.ExitCode == 0 {
				succeeded++
			}
			if restarts(s.Pod, &s.Pod.Spec.Containers[i], c.State.Terminated.ExitCode) {
				again++
			}
		case c.LastTerminationState.Terminated != nil:
			stopped++
			again++
		default:
			waiting++
		}
	}
	switch {
	case waiting > 0:
		return corev1.PodPending
	case running > 0 || again > 0:
		return corev1.PodRunning
	case stopped > 0 && stopped == succeeded:
		return corev1.PodSucceeded
	case stopped > 0:
		return corev1.PodFailed
	}
	return corev1.PodPending
}

// initFailed says whether an init container failed for good.
func (s *stater) initFailed(out *corev1.PodStatus) bool {
	for i := range out.InitContainerStatuses {
		t := out.InitContainerStatuses[i].State.Terminated
		if t != nil && t.ExitCode != 0 && !restarts(s.Pod, &s.Pod.Spec.InitContainers[i], t.ExitCode) {
			return true
		}
	}
	return false
}
