// Package pods runs the pods that are bound to the node. Plan decides what a pod needs next and Status what to tell the
// API, both pure functions of Facts; a worker per pod gathers the facts, carries out the actions and writes the status;
// Manager gives every pod a worker, and every leftover of the runtime one that removes it.
//
// Reading order: facts.go, plan.go, end.go, status.go, worker.go, ops.go, manager.go.
package pods

import (
	"time"

	corev1 "k8s.io/api/core/v1"

	"canopus/internal/node/cri"
	"canopus/internal/node/crispec"
	"canopus/internal/node/probe"
)

// Facts is everything that decisions about a pod rest on.
type Facts struct {
	Pod      *corev1.Pod
	Runtime  *cri.Pod
	Now      time.Time
	Verdicts map[string]probe.Verdicts // by container ID
	Hooking  map[string]bool           // container IDs whose postStart hook has not ended
	Waits    map[string]Wait           // by container name: why its last start did not succeed
	Crashes  map[string]Backoff        // by container name
	Sandbox  Wait                      // why the last sandbox could not be made
	Ending   *Ending                   // nil while the pod shall run
	Volumes  bool                      // all volumes are available
	Messages map[string]string         // termination messages by container ID
	// Devices is how the devices are that containers claimed, by container name; one without health was not heard of yet.
	Devices map[string][]corev1.ResourceStatus

	Runtimes string // the runtime's name, the scheme of container IDs
	HostIPs  []string
}

// Wait is why something is not there yet and when it is tried again.
type Wait struct {
	Reason, Message string
	Since, Until    time.Time
}

// active says whether the next try has to wait.
func (w Wait) active(now time.Time) bool { return w.Reason != "" && now.Before(w.Until) }

// Ending is why a pod must end before its containers have.
type Ending struct {
	Reason, Message string // of the pod's status; empty when the pod is being deleted
	Failed          bool   // the phase is Failed whatever the containers return
	Deadline        time.Time
}

// Backoff is the delay between restarts of a container that keeps ending.
type Backoff struct {
	Delay time.Duration
	Last  time.Time // when Delay was last changed
}

// The delays of restarts and of image pulls: from the first to the longest, forgotten after a good run.
const (
	backoffFirst = 10 * time.Second
	backoffMax   = 5 * time.Minute
	backoffReset = 10 * time.Minute
)

// Next returns the delay to apply after one more failure at now.
func (b Backoff) Next(now time.Time) Backoff {
	if b.Delay == 0 || now.Sub(b.Last) > b.Delay+backoffReset {
		return Backoff{backoffFirst, now}
	}
	return Backoff{min(2*b.Delay, backoffMax), now}
}

// Actions is what a pod needs now. Actions that are already under way are planned again; the worker knows them.
type Actions struct {
	CreateSandbox bool
	Attempt       int // of the sandbox
	Start         []Start
	Kill          []Kill
	TearDown      bool      // nothing runs any more and nothing will
	Wake          time.Time // look again then at the latest; zero: only after a change
}

// Start is a container to start.
type Start struct {
	Container *corev1.Container
	Attempt   int
	Leftover  string // ID of a container that was created and never started, to be removed first
	Target    string // ID of the container whose processes an ephemeral container sees
	Again     bool   // the container ran before: its back-off grows
}

// Kill is a container to stop.
type Kill struct {
	ID, Name string
	Message  string // of the event
	Deadline time.Time
}

func (a *Actions) wake(t time.Time) {
	if !t.IsZero() && (a.Wake.IsZero() || t.Before(a.Wake)) {
		a.Wake = t
	}
}

// graceOf returns how long the pod's containers may take to end.
func graceOf(pod *corev1.Pod) time.Duration {
	switch {
	case pod.DeletionGracePeriodSeconds != nil:
		return time.Duration(*pod.DeletionGracePeriodSeconds) * time.Second
	case pod.Spec.TerminationGracePeriodSeconds != nil:
		return time.Duration(*pod.Spec.TerminationGracePeriodSeconds) * time.Second
	}
	return 30 * time.Second
}

// restarts says whether a container that ended with code is started again.
func restarts(pod *corev1.Pod, c *corev1.Container, code int32) bool {
	if c.RestartPolicy != nil || len(c.RestartPolicyRules) > 0 {
		return restartsByContainer(pod, c, code)
	}
	switch pod.Spec.RestartPolicy {
	case corev1.RestartPolicyNever:
		return false
	case corev1.RestartPolicyOnFailure:
		return code != 0
	}
	return true
}

func restartsByContainer(pod *corev1.Pod, c *corev1.Container, code int32) bool {
	for _, r := range c.RestartPolicyRules {
		if r.ExitCodes == nil || r.Action != corev1.ContainerRestartRuleActionRestart {
			continue
		}
		in := false
		for _, v := range r.ExitCodes.Values {
			in = in || v == code
		}
		if in == (r.ExitCodes.Operator == corev1.ContainerRestartRuleOnExitCodesOpIn) {
			return true
		}
	}
	if c.RestartPolicy == nil {
		return restarts(pod, &corev1.Container{}, code)
	}
	switch *c.RestartPolicy {
	case corev1.ContainerRestartPolicyNever:
		return false
	case corev1.ContainerRestartPolicyOnFailure:
		return code != 0
	}
	return true
}

// started says whether a running container has passed its startup probe and its postStart hook.
func (f *Facts) started(c *corev1.Container, st *cri.Container) bool {
	if st == nil || !st.Running() || f.Hooking[st.GetId()] {
		return false
	}
	return c.StartupProbe == nil || f.Verdicts[st.GetId()][probe.Startup] == probe.Success
}

// inSandbox returns the newest container called name if it lives in the current sandbox.
func (f *Facts) inSandbox(name string) *cri.Container {
	st := f.Runtime.Newest(name)
	if st == nil || st.SandboxID != f.Runtime.Sandbox().GetId() {
		return nil
	}
	return st
}

// begun says whether a regular container was started in the current sandbox: initialization is over.
func (f *Facts) begun() bool {
	for i := range f.Pod.Spec.Containers {
		if f.inSandbox(f.Pod.Spec.Containers[i].Name) != nil {
			return true
		}
	}
	return false
}

// Completed says whether the pod has run to its end: nothing of it is running or will be started again.
func (f *Facts) Completed() bool {
	if p := f.Pod.Status.Phase; p == corev1.PodSucceeded || p == corev1.PodFailed {
		return true
	}
	for i := range f.Pod.Spec.InitContainers {
		c := &f.Pod.Spec.InitContainers[i]
		if crispec.Restartable(c) || f.begun() {
			continue
		}
		if st := f.inSandbox(c.Name); st != nil && st.Exited() && st.GetExitCode() != 0 && !restarts(f.Pod, c, st.GetExitCode()) {
			return true
		}
	}
	for i := range f.Pod.Spec.Containers {
		c := &f.Pod.Spec.Containers[i]
		st := f.Runtime.Newest(c.Name)
		if st == nil || !st.Exited() || restarts(f.Pod, c, st.GetExitCode()) {
			return false
		}
	}
	return len(f.Pod.Spec.Containers) > 0
}
