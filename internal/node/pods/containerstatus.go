package pods

import (
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"canopus/internal/node/cri"
	"canopus/internal/node/crispec"
	"canopus/internal/node/images"
	"canopus/internal/node/probe"
)

// showError is how long a failed pull shows its error before it shows that it backs off.
const showError = 3 * time.Second

const (
	reasonCreating     = "ContainerCreating"
	reasonInitializing = "PodInitializing"
	reasonCrashLoop    = "CrashLoopBackOff"
	reasonUnknown      = "ContainerStatusUnknown"
	exitUnknown        = 137
)

func (s *stater) initStatuses() []corev1.ContainerStatus {
	out := s.statuses(s.Pod.Spec.InitContainers, s.old.InitContainerStatuses)
	for i := range out {
		if crispec.Restartable(&s.Pod.Spec.InitContainers[i]) {
			continue
		}
		t := out[i].State.Terminated
		out[i].Ready = t != nil && t.ExitCode == 0
	}
	return out
}

func (s *stater) ephemeralStatuses() []corev1.ContainerStatus {
	cs := make([]corev1.Container, len(s.Pod.Spec.EphemeralContainers))
	for i := range s.Pod.Spec.EphemeralContainers {
		cs[i] = corev1.Container(s.Pod.Spec.EphemeralContainers[i].EphemeralContainerCommon)
	}
	out := s.statuses(cs, s.old.EphemeralContainerStatuses)
	for i := range out {
		out[i].Ready, out[i].Started = false, nil
	}
	return out
}

func (s *stater) statuses(cs []corev1.Container, old []corev1.ContainerStatus) []corev1.ContainerStatus {
	var out []corev1.ContainerStatus
	for i := range cs {
		out = append(out, s.container(&cs[i], findStatus(old, cs[i].Name)))
	}
	return out
}

// container returns the status of one container. old is what the API has, nil for nothing.
func (s *stater) container(c *corev1.Container, old *corev1.ContainerStatus) corev1.ContainerStatus {
	cur := s.Runtime.Newest(c.Name)
	no := false
	out := corev1.ContainerStatus{Name: c.Name, Image: c.Image, Started: &no}
	switch {
	case cur != nil:
		s.fromRuntime(&out, c, cur, old)
	case old != nil:
		s.fromHistory(&out, old)
	default:
		out.State.Waiting = s.defaultWaiting()
	}
	s.waiting(&out, c, cur)
	out.AllocatedResourcesStatus = s.devices(c.Name, old)
	return out
}

// devices is how the devices of a container are. When nothing new is known the last word stands, as it does once the pod has ended.
func (s *stater) devices(name string, old *corev1.ContainerStatus) []corev1.ResourceStatus {
	var before []corev1.ResourceStatus
	if old != nil {
		before = old.DeepCopy().AllocatedResourcesStatus
	}
	now := s.Devices[name]
	if len(now) == 0 || terminal(s.old.Phase) {
		return before
	}
	out := make([]corev1.ResourceStatus, len(now))
	for i := range now {
		out[i] = *now[i].DeepCopy()
		for k := range out[i].Resources {
			if r := &out[i].Resources[k]; r.Health == "" {
				*r = lastHealth(before, out[i].Name, r.ResourceID)
			}
		}
	}
	return out
}

// lastHealth is what a status says of a device.
func lastHealth(in []corev1.ResourceStatus, name corev1.ResourceName, id corev1.ResourceID) corev1.ResourceHealth {
	for i := range in {
		for _, r := range in[i].Resources {
			if in[i].Name == name && r.ResourceID == id && r.Health != "" {
				return r
			}
		}
	}
	return corev1.ResourceHealth{ResourceID: id, Health: corev1.ResourceHealthStatusUnknown}
}

// fromRuntime fills in what the runtime knows.
func (s *stater) fromRuntime(out *corev1.ContainerStatus, c *corev1.Container, cur *cri.Container, old *corev1.ContainerStatus) {
	out.RestartCount = int32(cur.Attempt())
	out.ContainerID = s.Runtimes + "://" + cur.GetId()
	out.ImageID = cur.GetImageRef()
	if img := cur.GetImage().GetImage(); img != "" && !strings.HasPrefix(img, "sha256:") {
		out.Image = img
	}
	out.VolumeMounts = mountStatuses(c)
	if u := cur.GetUser().GetLinux(); u != nil {
		out.User = &corev1.ContainerUser{Linux: &corev1.LinuxContainerUser{UID: u.GetUid(), GID: u.GetGid(), SupplementalGroups: u.GetSupplementalGroups()}}
	}
	switch {
	case cur.Running():
		out.State.Running = &corev1.ContainerStateRunning{StartedAt: unixStamp(cur.GetStartedAt())}
		started := s.started(c, cur)
		out.Started = &started
		out.Ready = started && s.readyBy(c, cur)
		out.Resources = c.Resources.DeepCopy()
		out.AllocatedResources = c.Resources.Requests.DeepCopy()
	case cur.Exited():
		out.State.Terminated = s.terminated(cur)
	default:
		out.State.Waiting = s.defaultWaiting()
	}
	out.LastTerminationState = s.lastState(c.Name, out, old)
}

// lastState is the end before the current run: from the runtime, or what the API remembers of it.
func (s *stater) lastState(name string, out, old *corev1.ContainerStatus) corev1.ContainerState {
	if prev := s.Runtime.Previous(name); prev != nil && prev.Exited() {
		return corev1.ContainerState{Terminated: s.terminated(prev)}
	}
	switch {
	case old == nil:
	case old.ContainerID == out.ContainerID:
		return old.LastTerminationState
	case old.State.Terminated != nil:
		return old.State
	default:
		return old.LastTerminationState
	}
	return corev1.ContainerState{}
}

// fromHistory is used when the runtime has nothing of a container that the API knows of.
func (s *stater) fromHistory(out *corev1.ContainerStatus, old *corev1.ContainerStatus) {
	out.RestartCount, out.LastTerminationState = old.RestartCount, old.LastTerminationState
	over := s.Ending != nil || terminal(s.old.Phase)
	switch {
	case old.State.Terminated != nil && over:
		*out = *old.DeepCopy()
	case old.State.Terminated != nil:
		out.LastTerminationState = old.State
		out.State.Waiting = &corev1.ContainerStateWaiting{Reason: reasonCreating}
		out.ContainerID, out.ImageID = old.ContainerID, old.ImageID
	case old.State.Running != nil:
		lost := &corev1.ContainerStateTerminated{
			Reason: reasonUnknown, ExitCode: exitUnknown, ContainerID: old.ContainerID,
			Message: "The container could not be located when the pod was terminated",
		}
		out.ContainerID, out.ImageID = old.ContainerID, old.ImageID
		if over {
			out.State.Terminated = lost
			return
		}
		lost.Message = "The container could not be located when the pod was deleted.  The container used to be Running"
		out.LastTerminationState.Terminated = lost
		out.State.Waiting = &corev1.ContainerStateWaiting{Reason: reasonCreating}
	default:
		out.State.Waiting = &corev1.ContainerStateWaiting{Reason: reasonCreating}
		if s.initializing() {
			out.State.Waiting.Reason = reasonInitializing
		}
	}
}

// waiting replaces the state by why the container does not run, if that is known.
func (s *stater) waiting(out *corev1.ContainerStatus, c *corev1.Container, cur *cri.Container) {
	if s.Ending != nil || s.Completed() || cur != nil && cur.Running() {
		return
	}
	var w *corev1.ContainerStateWaiting
	if wait := s.Waits[c.Name]; wait.Reason != "" {
		w = &corev1.ContainerStateWaiting{Reason: wait.Reason, Message: wait.Message}
		if wait.Reason == images.ReasonErrImagePull && s.Now.Sub(wait.Since) >= showError {
			w.Reason = images.ReasonImagePullBackOff
			w.Message = fmt.Sprintf("Back-off pulling image %q: %s: %s", c.Image, wait.Reason, wait.Message)
		}
	} else if cur != nil && cur.Exited() && s.Now.Before(s.crashUntil(c.Name, cur)) && s.restarted(c, cur) {
		w = &corev1.ContainerStateWaiting{Reason: reasonCrashLoop, Message: crashMessage(s.Pod, c.Name, s.Crashes[c.Name].Delay)}
	}
	if w == nil {
		return
	}
	if out.State.Terminated != nil {
		out.LastTerminationState = corev1.ContainerState{Terminated: out.State.Terminated}
	}
	out.State = corev1.ContainerState{Waiting: w}
}

// restarted says whether an ended container will run again.
func (s *stater) restarted(c *corev1.Container, cur *cri.Container) bool {
	for i := range s.Pod.Spec.InitContainers {
		if s.Pod.Spec.InitContainers[i].Name == c.Name && !crispec.Restartable(c) {
			return cur.GetExitCode() != 0 && restarts(s.Pod, c, cur.GetExitCode())
		}
	}
	for i := range s.Pod.Spec.EphemeralContainers {
		if s.Pod.Spec.EphemeralContainers[i].Name == c.Name {
			return false
		}
	}
	return restarts(s.Pod, c, cur.GetExitCode())
}

func crashMessage(pod *corev1.Pod, name string, delay time.Duration) string {
	return fmt.Sprintf("back-off %v restarting failed container=%s pod=%s_%s(%s)", delay, name, pod.Name, pod.Namespace, pod.UID)
}

func (s *stater) initializing() bool {
	return len(s.Pod.Spec.InitContainers) > 0 && !s.begun()
}

func (s *stater) defaultWaiting() *corev1.ContainerStateWaiting {
	if s.initializing() {
		return &corev1.ContainerStateWaiting{Reason: reasonInitializing}
	}
	return &corev1.ContainerStateWaiting{Reason: reasonCreating}
}

func (s *stater) readyBy(c *corev1.Container, cur *cri.Container) bool {
	return c.ReadinessProbe == nil || s.Verdicts[cur.GetId()][probe.Readiness] == probe.Success
}

func (s *stater) terminated(st *cri.Container) *corev1.ContainerStateTerminated {
	reason := st.GetReason()
	if reason == "" {
		reason = "Completed"
		if st.GetExitCode() != 0 {
			reason = "Error"
		}
	}
	msg := st.GetMessage()
	if m := s.Messages[st.GetId()]; m != "" {
		msg = m
	}
	return &corev1.ContainerStateTerminated{
		ExitCode: st.GetExitCode(), Reason: reason, Message: msg,
		StartedAt: unixStamp(st.GetStartedAt()), FinishedAt: unixStamp(st.GetFinishedAt()),
		ContainerID: s.Runtimes + "://" + st.GetId(),
	}
}

func mountStatuses(c *corev1.Container) []corev1.VolumeMountStatus {
	var out []corev1.VolumeMountStatus
	for _, m := range c.VolumeMounts {
		st := corev1.VolumeMountStatus{Name: m.Name, MountPath: m.MountPath, ReadOnly: m.ReadOnly}
		if m.ReadOnly {
			mode := corev1.RecursiveReadOnlyDisabled
			if r := m.RecursiveReadOnly; r != nil && *r == corev1.RecursiveReadOnlyEnabled {
				mode = corev1.RecursiveReadOnlyEnabled
			}
			st.RecursiveReadOnly = &mode
		}
		out = append(out, st)
	}
	return out
}
