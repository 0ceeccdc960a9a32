package pods

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"canopus/internal/node/cri"
	"canopus/internal/node/crispec"
	"canopus/internal/node/probe"
)

// Plan returns what the pod needs now. It reads and changes nothing outside its arguments.
func Plan(f Facts) Actions {
	if f.Ending != nil || f.Completed() {
		return planEnd(f)
	}
	p := planner{Facts: f}
	if f.Runtime.ReadySandbox() == nil {
		p.sandbox()
		return p.out
	}
	p.strays()
	if p.initContainers() {
		p.containers()
	}
	p.ephemeral()
	if !f.Volumes {
		p.out.Start = nil
	}
	return p.out
}

type planner struct {
	Facts
	out Actions
}

// sandbox makes a new sandbox after everything of the old one has ended.
func (p *planner) sandbox() {
	old := p.Runtime.Sandbox()
	if live := p.Runtime.Live(); len(live) > 0 {
		for _, st := range live {
			p.kill(st, "Pod sandbox changed, it will be killed and re-created.", graceOf(p.Pod))
		}
		return
	}
	if old != nil && p.Pod.Spec.RestartPolicy == corev1.RestartPolicyNever && len(p.Runtime.Containers) > 0 {
		// What ran must not run twice: the containers' ends decide about the pod.
		return
	}
	if p.Sandbox.active(p.Now) {
		p.out.wake(p.Sandbox.Until)
		return
	}
	p.out.CreateSandbox = true
	if old != nil {
		p.out.Attempt = int(old.GetMetadata().GetAttempt()) + 1
	}
}

// strays stops containers of earlier sandboxes.
func (p *planner) strays() {
	for _, st := range p.Runtime.Live() {
		if st.SandboxID != p.Runtime.Sandbox().GetId() {
			p.kill(st, fmt.Sprintf("Stopping container %s of an earlier sandbox", st.Name()), graceOf(p.Pod))
		}
	}
}

// initContainers plans the init containers in order and says whether the regular ones may start.
func (p *planner) initContainers() bool {
	begun := p.begun()
	for i := range p.Pod.Spec.InitContainers {
		c := &p.Pod.Spec.InitContainers[i]
		st := p.inSandbox(c.Name)
		switch {
		case crispec.Restartable(c):
			p.keep(c, st)
			if !begun && !p.started(c, st) {
				return false
			}
		case begun:
		case st != nil && st.Exited() && st.GetExitCode() == 0:
		case st != nil && st.Running():
			p.checkHealth(c, st)
			return false
		default:
			p.start(c, st)
			return false
		}
	}
	return true
}

// containers plans the regular containers.
func (p *planner) containers() {
	for i := range p.Pod.Spec.Containers {
		c := &p.Pod.Spec.Containers[i]
		st := p.inSandbox(c.Name)
		if last := p.Runtime.Newest(c.Name); st == nil && last != nil && last.Exited() && !restarts(p.Pod, c, last.GetExitCode()) {
			continue // it ended for good in an earlier sandbox
		}
		if st != nil && st.Exited() && !restarts(p.Pod, c, st.GetExitCode()) {
			continue
		}
		p.keep(c, st)
	}
}

// keep makes sure that a container that shall run does.
func (p *planner) keep(c *corev1.Container, st *cri.Container) {
	if st != nil && st.Running() {
		p.checkHealth(c, st)
		return
	}
	p.start(c, st)
}

// checkHealth stops a container whose probes failed for good or whose definition changed.
func (p *planner) checkHealth(c *corev1.Container, st *cri.Container) {
	v := p.Verdicts[st.GetId()]
	grace := graceOf(p.Pod)
	switch {
	case st.GetAnnotations()[cri.AnnotationHash] != crispec.Hash(c):
		p.kill(st, fmt.Sprintf("Container %s definition changed, will be restarted", c.Name), grace)
	case v[probe.Startup] == probe.Failure:
		p.kill(st, fmt.Sprintf("Container %s failed startup probe, will be restarted", c.Name), probeGrace(c.StartupProbe, grace))
	case v[probe.Liveness] == probe.Failure:
		p.kill(st, fmt.Sprintf("Container %s failed liveness probe, will be restarted", c.Name), probeGrace(c.LivenessProbe, grace))
	}
}

func probeGrace(p *corev1.Probe, grace time.Duration) time.Duration {
	if p != nil && p.TerminationGracePeriodSeconds != nil {
		return time.Duration(*p.TerminationGracePeriodSeconds) * time.Second
	}
	return grace
}

// start starts a container unless it has to wait. st is its latest run in this sandbox, nil before the first.
func (p *planner) start(c *corev1.Container, st *cri.Container) {
	if w := p.Waits[c.Name]; w.active(p.Now) {
		p.out.wake(w.Until)
		if flip := w.Since.Add(showError); flip.After(p.Now) {
			p.out.wake(flip)
		}
		return
	}
	s := Start{Container: c}
	last := p.Runtime.Newest(c.Name)
	switch {
	case st != nil && st.GetState() == runtimeapi.ContainerState_CONTAINER_CREATED:
		s.Leftover, s.Attempt = st.GetId(), st.Attempt()
	case last != nil:
		if until := p.crashUntil(c.Name, last); p.Now.Before(until) {
			p.out.wake(until)
			return
		}
		s.Attempt, s.Again = last.Attempt()+1, true
	default:
		s.Attempt = attemptFromStatus(p.Pod, c.Name)
	}
	p.out.Start = append(p.out.Start, s)
}

// crashUntil returns when a container that ended may start again.
func (f *Facts) crashUntil(name string, last *cri.Container) time.Time {
	b := f.Crashes[name]
	if b.Delay == 0 || !last.Exited() {
		return time.Time{}
	}
	return time.Unix(0, last.GetFinishedAt()).Add(b.Delay)
}

// attemptFromStatus continues the restart count of a container that the runtime no longer knows.
func attemptFromStatus(pod *corev1.Pod, name string) int {
	for _, list := range [][]corev1.ContainerStatus{pod.Status.ContainerStatuses, pod.Status.InitContainerStatuses} {
		for _, s := range list {
			if s.Name == name && s.ContainerID != "" {
				return int(s.RestartCount) + 1
			}
		}
	}
	return 0
}

// ephemeral starts the ephemeral containers that were added and never ran; they are not restarted.
func (p *planner) ephemeral() {
	for i := range p.Pod.Spec.EphemeralContainers {
		e := &p.Pod.Spec.EphemeralContainers[i]
		if p.Runtime.Newest(e.Name) != nil {
			continue
		}
		if w := p.Waits[e.Name]; w.active(p.Now) {
			p.out.wake(w.Until)
			continue
		}
		c := corev1.Container(e.EphemeralContainerCommon)
		s := Start{Container: &c}
		if e.TargetContainerName != "" {
			target := p.inSandbox(e.TargetContainerName)
			if target == nil || !target.Running() {
				continue
			}
			s.Target = target.GetId()
		}
		p.out.Start = append(p.out.Start, s)
	}
}

func (p *planner) kill(st *cri.Container, message string, grace time.Duration) {
	p.out.Kill = append(p.out.Kill, Kill{ID: st.GetId(), Name: st.Name(), Message: message, Deadline: p.Now.Add(grace)})
}
