package pods

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"canopus/internal/node/crispec"
)

// initialized says whether the statuses show that every init container has done its part.
func initialized(pod *corev1.Pod, st *corev1.PodStatus) bool {
	return len(notInitialized(pod, st)) == 0
}

func notInitialized(pod *corev1.Pod, st *corev1.PodStatus) []string {
	var out []string
	for i := range pod.Spec.InitContainers {
		c := &pod.Spec.InitContainers[i]
		s := findStatus(st.InitContainerStatuses, c.Name)
		switch {
		case s == nil:
			out = append(out, c.Name)
		case crispec.Restartable(c):
			if s.Started == nil || !*s.Started {
				out = append(out, c.Name)
			}
		case s.State.Terminated == nil || s.State.Terminated.ExitCode != 0:
			out = append(out, c.Name)
		}
	}
	return out
}

func findStatus(list []corev1.ContainerStatus, name string) *corev1.ContainerStatus {
	for i := range list {
		if list[i].Name == name {
			return &list[i]
		}
	}
	return nil
}

// conditions sets the conditions that the node owns.
func (s *stater) conditions(out *corev1.PodStatus) {
	sandbox := corev1.PodCondition{Type: corev1.PodReadyToStartContainers, Status: corev1.ConditionFalse}
	if s.Runtime.ReadySandbox() != nil {
		sandbox.Status = corev1.ConditionTrue
	}
	containers := s.containersReady(out)
	s.set(out, sandbox)
	s.set(out, s.initializedCondition(out))
	s.set(out, s.ready(out, containers))
	s.set(out, containers)
	if findCondition(out.Conditions, corev1.PodScheduled) == nil {
		s.set(out, corev1.PodCondition{Type: corev1.PodScheduled, Status: corev1.ConditionTrue})
	}
}

func (s *stater) initializedCondition(out *corev1.PodStatus) corev1.PodCondition {
	c := corev1.PodCondition{Type: corev1.PodInitialized, Status: corev1.ConditionTrue}
	missing := notInitialized(s.Pod, out)
	switch {
	case out.Phase == corev1.PodSucceeded:
		if len(s.Pod.Spec.InitContainers) > 0 || len(s.Pod.Spec.Containers) > 0 {
			c.Reason = "PodCompleted"
		}
	case len(missing) > 0 && !s.begun():
		c.Status, c.Reason = corev1.ConditionFalse, "ContainersNotInitialized"
		c.Message = fmt.Sprintf("containers with incomplete status: %s", list(missing))
	}
	return c
}

func (s *stater) containersReady(out *corev1.PodStatus) corev1.PodCondition {
	c := corev1.PodCondition{Type: corev1.ContainersReady, Status: corev1.ConditionFalse}
	switch out.Phase {
	case corev1.PodSucceeded:
		c.Reason = "PodCompleted"
		return c
	case corev1.PodFailed:
		c.Reason = "PodFailed"
		return c
	}
	var unready []string
	for i := range s.Pod.Spec.InitContainers {
		if st := &out.InitContainerStatuses[i]; crispec.Restartable(&s.Pod.Spec.InitContainers[i]) && !st.Ready {
			unready = append(unready, st.Name)
		}
	}
	for i := range out.ContainerStatuses {
		if !out.ContainerStatuses[i].Ready {
			unready = append(unready, out.ContainerStatuses[i].Name)
		}
	}
	if len(unready) > 0 {
		c.Reason = "ContainersNotReady"
		c.Message = fmt.Sprintf("containers with unready status: %s", list(unready))
		return c
	}
	c.Status = corev1.ConditionTrue
	return c
}

func (s *stater) ready(out *corev1.PodStatus, containers corev1.PodCondition) corev1.PodCondition {
	c := containers
	c.Type = corev1.PodReady
	if c.Status != corev1.ConditionTrue {
		return c
	}
	var missing []string
	for _, g := range s.Pod.Spec.ReadinessGates {
		have := findCondition(out.Conditions, g.ConditionType)
		switch {
		case have == nil:
			missing = append(missing, fmt.Sprintf("corresponding condition of pod readiness gate %q does not exist.", g.ConditionType))
		case have.Status != corev1.ConditionTrue:
			missing = append(missing, fmt.Sprintf("the status of pod readiness gate %q is not \"True\", but %v", g.ConditionType, have.Status))
		}
	}
	if len(missing) > 0 {
		c.Status, c.Reason, c.Message = corev1.ConditionFalse, "ReadinessGatesNotReady", strings.Join(missing, ", ")
	}
	return c
}

// set replaces a condition, keeping its transition time while its status stays.
func (s *stater) set(out *corev1.PodStatus, c corev1.PodCondition) {
	c.ObservedGeneration = s.Pod.Generation
	c.LastTransitionTime = stamp(s.Now)
	if have := findCondition(out.Conditions, c.Type); have != nil {
		if have.Status == c.Status {
			c.LastTransitionTime = have.LastTransitionTime
		}
		*have = c
		return
	}
	out.Conditions = append(out.Conditions, c)
}

func findCondition(in []corev1.PodCondition, t corev1.PodConditionType) *corev1.PodCondition {
	for i := range in {
		if in[i].Type == t {
			return &in[i]
		}
	}
	return nil
}

func list(names []string) string { return "[" + strings.Join(names, " ") + "]" }
