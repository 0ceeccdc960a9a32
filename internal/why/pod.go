package why

import (
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	slowSetUp  = 2 * time.Minute  // from here on, making a pod's containers is called slow
	lateLeave  = 30 * time.Second // how much longer than its grace a pod may take to go
	recently   = 10 * time.Minute // a restart this long ago still is news
	slowToLook = 30 * time.Second // by when a scheduler or controller should have looked
)

// explainPod follows the chain of one pod to the first link that holds it up. Nothing is found when it does what it is there for.
func (f *Facts) explainPod(p *corev1.Pod) []Finding {
	if p.DeletionTimestamp == nil && p.Status.Phase == corev1.PodSucceeded {
		return nil
	}
	for _, link := range []func(*corev1.Pod) []Finding{f.leaving, f.ended, f.placed, f.onNode, f.settingUp, f.initializing, f.running, f.gates} {
		if found := link(p); len(found) > 0 {
			return found
		}
	}
	return nil
}

func (f *Facts) about(p *corev1.Pod, link Link, severity Severity) Finding {
	return Finding{Link: link, Severity: severity, Object: "pod/" + p.Name}
}

func podCondition(p *corev1.Pod, kind corev1.PodConditionType) *corev1.PodCondition {
	for i := range p.Status.Conditions {
		if p.Status.Conditions[i].Type == kind {
			return &p.Status.Conditions[i]
		}
	}
	return nil
}

func podReady(p *corev1.Pod) bool {
	c := podCondition(p, corev1.PodReady)
	return c != nil && c.Status == corev1.ConditionTrue
}

// leaving: it was deleted.
func (f *Facts) leaving(p *corev1.Pod) []Finding {
	if p.DeletionTimestamp == nil {
		return nil
	}
	out := f.about(p, LinkDeletion, Waiting)
	out.Reason, out.key = "Terminating", "terminating"
	out.Message = "it was deleted and is on its way out"
	if d := podCondition(p, corev1.DisruptionTarget); d != nil && d.Status == corev1.ConditionTrue {
		out.Details = append(out.Details, d.Reason+": "+d.Message)
	}
	// The deletion timestamp is when its grace is over.
	late := f.Now.Sub(p.DeletionTimestamp.Time)
	if late < lateLeave {
		return []Finding{out}
	}
	out.Severity = Error
	out.Message = fmt.Sprintf("it was deleted, its grace was over %s ago, and it is still there", f.since(p.DeletionTimestamp.Time))
	if len(p.Finalizers) > 0 {
		out.Reason, out.key = "Finalizers", "finalizers "+strings.Join(p.Finalizers, " ")
		out.Message += ": finalizers hold it: " + strings.Join(p.Finalizers, ", ")
		out.Do = "find out why the owner of the finalizer does not remove it; `" + f.inNamespace("get pod %s -o jsonpath='{.metadata.finalizers}'", p.Name) + "` shows them"
		return []Finding{out}
	}
	if bad := f.onNode(p); len(bad) > 0 {
		return append(bad, out)
	}
	out.Do = "look for the pod in the log of node " + p.Spec.NodeName + "'s agent: a mount or process may hold it"
	return []Finding{out}
}

// ended: it failed, for good.
func (f *Facts) ended(p *corev1.Pod) []Finding {
	if p.Status.Phase != corev1.PodFailed {
		return nil
	}
	if p.Status.Reason == "" {
		if found := f.running(p); len(found) > 0 {
			return found
		}
	}
	out := f.about(p, LinkNode, Error)
	out.Reason, out.Message = orElse(p.Status.Reason, "Failed"), orElse(p.Status.Message, "it failed and says no more")
	switch out.Reason {
	case "Evicted", "Preempted", "Terminated", "Shutdown", "NodeShutdown":
		out.Do = "nothing, if a controller made it anew; else make it again with requests that say what it needs"
	case "DeadlineExceeded":
		out.Do = "raise activeDeadlineSeconds, or find out what takes so long"
	default:
		out.Do = "mend what the message says, then delete the pod: it does not start again"
	}
	return []Finding{out}
}

// onNode: the node is gone or does not answer.
func (f *Facts) onNode(p *corev1.Pod) []Finding {
	if p.Spec.NodeName == "" {
		return nil
	}
	node, looked := f.Nodes[p.Spec.NodeName]
	if !looked {
		return nil
	}
	out := f.about(p, LinkNode, Error)
	out.key = "node " + p.Spec.NodeName
	if node == nil {
		out.Reason, out.Message = "NodeGone", fmt.Sprintf("its node %s does not exist any more", p.Spec.NodeName)
		out.Do = "nothing, if a controller owns it: the garbage collector of pods removes it; else `" + f.inNamespace("delete pod %s --force", p.Name) + "`"
		return []Finding{out}
	}
	if ready := nodeCondition(node, corev1.NodeReady); ready != nil && ready.Status == corev1.ConditionTrue {
		return nil
	}
	out.Reason, out.Message = "NodeNotReady", fmt.Sprintf("its node %s is not ready", node.Name)
	for _, n := range f.explainNode(node) {
		out.Details = append(out.Details, n.Message)
	}
	out.Do = "`canopus why node/" + node.Name + "`"
	return []Finding{out}
}

// untouched says whether no container of a pod was tried yet: it waits for volumes, sandbox or images.
func untouched(p *corev1.Pod) bool {
	for _, s := range slices.Concat(p.Status.InitContainerStatuses, p.Status.ContainerStatuses) {
		w := s.State.Waiting
		if w == nil || s.LastTerminationState.Terminated != nil || w.Reason != "" && w.Reason != "ContainerCreating" && w.Reason != "PodInitializing" {
			return false
		}
	}
	return true
}

// settingUp: volumes, then sandbox, then images of a pod none of whose containers ran.
func (f *Facts) settingUp(p *corev1.Pod) []Finding {
	if !untouched(p) {
		return nil
	}
	if found := append(f.claimsOf(p), f.devicesOf(p)...); len(found) > 0 {
		return found
	}
	if e := f.lastEvent(p.UID, "FailedMount", "FailedAttachVolume", "FailedMapVolume", "FailedPrepareDynamicResources", "FailedCreatePodSandBox", "NetworkNotReady", "Pulling"); e != nil && e.Type == corev1.EventTypeWarning {
		return []Finding{f.setUpFailed(p, e)}
	}
	began := p.CreationTimestamp.Time
	if c := podCondition(p, corev1.PodScheduled); c != nil {
		began = c.LastTransitionTime.Time
	}
	out := f.about(p, LinkSandbox, Waiting)
	out.Reason = "ContainerCreating"
	out.Message = fmt.Sprintf("node %s makes its volumes, network and containers", p.Spec.NodeName)
	out.key = "creating"
	if e := f.lastEvent(p.UID, "Pulling"); e != nil {
		out.Link, out.Message = LinkImage, "node "+p.Spec.NodeName+": "+e.Message
	}
	out.Message += ", for " + f.since(began)
	if f.Now.Sub(began) > slowSetUp {
		out.Severity = Warning
		out.Do = fmt.Sprintf("see whether node %s is busy: `canopus why node/%s`, and the log of its agent", p.Spec.NodeName, p.Spec.NodeName)
	}
	return []Finding{out}
}

// setUpFailed explains what the node could not make for a pod.
func (f *Facts) setUpFailed(p *corev1.Pod, e *corev1.Event) Finding {
	out := f.about(p, LinkVolume, Error)
	out.Reason, out.Message = e.Reason, e.Message
	out.key = "set-up " + e.Reason + strings.NewReplacer(p.Name, "", string(p.UID), "").Replace(e.Message)
	switch e.Reason {
	case "FailedCreatePodSandBox", "NetworkNotReady":
		out.Link = LinkSandbox
		out.Do = "see the runtime class and the network of node " + p.Spec.NodeName + ": `canopus status` on it, and the log of its agent"
		if strings.Contains(e.Message, "RuntimeHandler") || strings.Contains(e.Message, "no runtime for") {
			out.Do = "node " + p.Spec.NodeName + "'s runtime has no handler of that name: correct runtimeClassName or the RuntimeClass"
		}
		return out
	case "FailedPrepareDynamicResources":
		out.Link = LinkDevice
		out.Do = "see whether the driver of its resource claims runs on node " + p.Spec.NodeName + ", and what its log says; the node tries again by itself"
		return out
	case "FailedAttachVolume":
		out.Do = "see what holds the volume: a pod on another node that still uses it, or the driver's controller"
		return out
	}
	out.Do = missingAdvice(e.Message)
	return out
}

// missingAdvice says what to do about a ConfigMap or Secret that a message says is not there, or lacks a key.
func missingAdvice(message string) string {
	if kind, name := missing(message); kind != "" {
		return fmt.Sprintf("make %s %s, or take it out of the pod; the node tries again by itself", kind, name)
	}
	if words := strings.Fields(after(message, "couldn't find key ")); len(words) >= 4 && words[1] == "in" && (words[2] == "ConfigMap" || words[2] == "Secret") {
		return fmt.Sprintf("put the key %s into %s %s, or correct the key in the pod; the node tries again by itself", words[0], words[2], after(words[3], "/"))
	}
	return "mend what the message says; the node tries again by itself"
}

// missing reads from a message which ConfigMap or Secret there is not.
func missing(message string) (kind, name string) {
	for _, word := range []string{"configmap", "secret"} {
		for _, open := range []string{word + ` "`, word + ` \"`} {
			_, rest, ok := strings.Cut(strings.ToLower(message), open)
			if !ok {
				continue
			}
			name, after, ok := strings.Cut(rest, `"`)
			if ok && strings.HasPrefix(strings.TrimLeft(after, " "), "not found") {
				return map[string]string{"configmap": "ConfigMap", "secret": "Secret"}[word], strings.Trim(name, `\`)
			}
		}
	}
	return "", ""
}

// initializing: the init containers run one after the other; the first that is not done holds up the rest.
func (f *Facts) initializing(p *corev1.Pod) []Finding {
	for i := range p.Spec.InitContainers {
		c := &p.Spec.InitContainers[i]
		s := statusOf(p.Status.InitContainerStatuses, c.Name)
		if s == nil {
			return nil
		}
		run := container{Facts: f, pod: p, spec: c, status: s, word: "init container", init: true}
		if c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			run.word, run.init = "sidecar", false
			if deref(s.Started, false) {
				continue
			}
		} else if t := s.State.Terminated; t != nil && t.ExitCode == 0 {
			continue
		}
		return run.explain()
	}
	return nil
}

// running: the containers themselves, sidecars included.
func (f *Facts) running(p *corev1.Pod) []Finding {
	var out []Finding
	for i := range p.Spec.InitContainers {
		c := &p.Spec.InitContainers[i]
		s := statusOf(p.Status.InitContainerStatuses, c.Name)
		if s == nil {
			continue
		}
		if sidecar := c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways; sidecar || p.Status.Phase == corev1.PodFailed {
			out = append(out, container{Facts: f, pod: p, spec: c, status: s, word: map[bool]string{true: "sidecar", false: "init container"}[sidecar], init: !sidecar}.explain()...)
		}
	}
	for i := range p.Spec.Containers {
		if s := statusOf(p.Status.ContainerStatuses, p.Spec.Containers[i].Name); s != nil {
			out = append(out, container{Facts: f, pod: p, spec: &p.Spec.Containers[i], status: s, word: "container"}.explain()...)
		}
	}
	slices.SortStableFunc(out, func(a, b Finding) int { return a.Severity.rank() - b.Severity.rank() })
	return append(f.illDevices(p), out...)
}

func statusOf(statuses []corev1.ContainerStatus, name string) *corev1.ContainerStatus {
	for i := range statuses {
		if statuses[i].Name == name {
			return &statuses[i]
		}
	}
	return nil
}

// gates: all containers are ready, and somebody else is not content.
func (f *Facts) gates(p *corev1.Pod) []Finding {
	if podReady(p) {
		return nil
	}
	var missing []string
	for _, g := range p.Spec.ReadinessGates {
		if c := podCondition(p, g.ConditionType); c == nil || c.Status != corev1.ConditionTrue {
			missing = append(missing, string(g.ConditionType))
		}
	}
	out := f.about(p, LinkProbe, Waiting)
	if len(missing) == 0 {
		out.Reason, out.Message, out.key = "NotReady", "its containers are well and it is not Ready yet", "not ready"
		return []Finding{out}
	}
	out.Severity, out.Reason = Error, "ReadinessGatesNotReady"
	out.Message = "its containers are ready, but its readiness gates are not True: " + strings.Join(missing, ", ")
	out.Do = "see to the program that sets these conditions on the pod"
	return []Finding{out}
}

// podSummary is the state of a pod in a line.
func (f *Facts) podSummary(p *corev1.Pod) string {
	ready, restarts := 0, int32(0)
	for _, s := range p.Status.ContainerStatuses {
		if s.Ready {
			ready++
		}
		restarts += s.RestartCount
	}
	switch {
	case p.Status.Phase == corev1.PodSucceeded:
		return "it is done: all containers ended with exit code 0"
	case p.Spec.NodeName == "":
		return "Pending without a node, for " + f.since(p.CreationTimestamp.Time)
	}
	text := fmt.Sprintf("%s on node %s, %d of %d containers ready, %s, for %s",
		p.Status.Phase, p.Spec.NodeName, ready, len(p.Spec.Containers), plural(int(restarts), "restart"), f.since(startOf(p).Time))
	return text
}

func startOf(p *corev1.Pod) metav1.Time {
	if p.Status.StartTime != nil {
		return *p.Status.StartTime
	}
	return p.CreationTimestamp
}

func orElse(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}
