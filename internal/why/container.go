package why

import (
	"fmt"
	"slices"
	"strings"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// container explains one container of a pod.
type container struct {
	*Facts
	pod    *corev1.Pod
	spec   *corev1.Container
	status *corev1.ContainerStatus
	word   string // container, sidecar or init container
	init   bool   // it is to end
}

func (c container) finding(link Link, severity Severity, reason string) Finding {
	return Finding{Link: link, Severity: severity, Reason: reason, Object: "pod/" + c.pod.Name, Container: c.spec.Name}
}

func (c container) name() string { return c.word + " " + c.spec.Name }

// explain says what holds the container up; nothing if it does what it is there for.
func (c container) explain() []Finding {
	switch s := c.status; {
	case s.State.Waiting != nil:
		return []Finding{c.waiting(s.State.Waiting)}
	case s.State.Terminated != nil:
		return c.terminated(s.State.Terminated)
	case s.State.Running != nil:
		return c.runs(s.State.Running)
	}
	return nil
}

func (c container) waiting(w *corev1.ContainerStateWaiting) Finding {
	switch w.Reason {
	case "ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "ImageInspectError", "RegistryUnavailable", "SignatureValidationFailed":
		return c.image(w)
	case "CreateContainerConfigError":
		out := c.finding(LinkConfig, Error, w.Reason)
		out.Message = c.name() + " cannot be configured: " + w.Message
		out.Do = missingAdvice(w.Message)
		out.key = "config " + c.spec.Name + w.Message
		return out
	case "CrashLoopBackOff", "", "ContainerCreating", "PodInitializing":
		if t := c.status.LastTerminationState.Terminated; t != nil {
			return c.end(t)
		}
		out := c.finding(LinkStart, Waiting, orElse(w.Reason, "ContainerCreating"))
		out.Message = c.name() + " is being made"
		out.key = "being made"
		return out
	}
	out := c.finding(LinkStart, Error, w.Reason)
	out.Message = c.name() + " cannot be started: " + orElse(w.Message, w.Reason)
	out.Do = "see its command, working directory, user and security context, and what the message says"
	out.key = "start " + c.spec.Name + w.Reason
	return out
}

// image: it could not be had.
func (c container) image(w *corev1.ContainerStateWaiting) Finding {
	out := c.finding(LinkImage, Error, w.Reason)
	out.key = "image " + c.spec.Image
	message := w.Message
	// A back-off tells only that; the pull's own event tells why.
	if e := c.containerEvent(c.pod, c.spec.Name, "Failed", "Failed to pull image"); e != nil && (message == "" || !strings.Contains(message, ":") || w.Reason == "ImagePullBackOff") {
		message = e.Message
	}
	out.Message = fmt.Sprintf("image %s of %s cannot be had: %s", c.spec.Image, c.name(), orElse(core(message), w.Reason))
	lower := strings.ToLower(message)
	switch {
	case w.Reason == "InvalidImageName":
		out.Do = fmt.Sprintf("correct the image's name: %q is none", c.spec.Image)
	case w.Reason == "ErrImageNeverPull":
		out.Do = fmt.Sprintf("load the image on node %s, or set imagePullPolicy: IfNotPresent", c.pod.Spec.NodeName)
	case strings.Contains(lower, "unauthorized"), strings.Contains(lower, "authorization failed"), strings.Contains(lower, "denied"), strings.Contains(lower, "forbidden"):
		out.Do = "correct the image's name, or give the pod imagePullSecrets for its registry"
	case strings.Contains(lower, "no such host"), strings.Contains(lower, "refused"), strings.Contains(lower, "timeout"), strings.Contains(lower, "unreachable"), strings.Contains(lower, "dial tcp"):
		out.Do = fmt.Sprintf("see whether node %s reaches the registry, and whether the image's name is right", c.pod.Spec.NodeName)
	default:
		out.Do = "correct the image's name and tag; the node tries again by itself"
	}
	return out
}

// core leaves of why a pull failed what its frames do not say already: that it failed, and for which image.
func core(message string) string {
	for _, frame := range []string{"Failed to pull image ", "rpc error: code = ", "failed to pull and unpack image ", "failed to resolve reference ", "failed to do request: "} {
		rest, framed := strings.CutPrefix(message, frame)
		switch {
		case !framed:
		case strings.HasPrefix(rest, `"`):
			message = after(rest, `": `)
		case strings.HasSuffix(frame, "= "):
			message = after(rest, " desc = ")
		default:
			message = rest
		}
	}
	return message
}

func (c container) terminated(t *corev1.ContainerStateTerminated) []Finding {
	if t.ExitCode == 0 && (c.init || c.policy() != corev1.RestartPolicyAlways || c.pod.Status.Phase == corev1.PodFailed) {
		return nil
	}
	return []Finding{c.end(t)}
}

// policy is how the container is restarted.
func (c container) policy() corev1.RestartPolicy {
	if c.spec.RestartPolicy != nil {
		return corev1.RestartPolicy(*c.spec.RestartPolicy)
	}
	return orPolicy(c.pod.Spec.RestartPolicy)
}

func orPolicy(p corev1.RestartPolicy) corev1.RestartPolicy {
	if p == "" {
		return corev1.RestartPolicyAlways
	}
	return p
}

func (c container) runs(r *corev1.ContainerStateRunning) []Finding {
	var out []Finding
	if t := c.status.LastTerminationState.Terminated; t != nil && c.status.RestartCount > 0 && c.Now.Sub(t.FinishedAt.Time) < recently {
		end := c.end(t)
		end.Severity = Warning
		end.Message += "; it runs again, for " + c.since(r.StartedAt.Time)
		out = append(out, end)
	}
	switch {
	case c.init:
		f := c.finding(LinkStart, Waiting, "PodInitializing")
		f.Message = fmt.Sprintf("%s runs, for %s; what comes after it waits until it is done", c.name(), c.since(r.StartedAt.Time))
		f.key = "init runs " + c.spec.Name
		c.addLog(&f, false)
		out = append(out, f)
	case c.status.Started != nil && !*c.status.Started && c.spec.StartupProbe != nil:
		out = append(out, c.probe("Startup", c.spec.StartupProbe, r.StartedAt.Time))
	case !c.status.Ready && c.spec.ReadinessProbe != nil:
		out = append(out, c.probe("Readiness", c.spec.ReadinessProbe, r.StartedAt.Time))
	}
	return out
}

// probe explains a probe that has not passed since the container started.
func (c container) probe(kind string, probe *corev1.Probe, started time.Time) Finding {
	out := c.finding(LinkProbe, Waiting, "Unhealthy")
	out.key = kind + " probe " + c.spec.Name
	out.Message = fmt.Sprintf("%s runs, for %s; its %s probe (%s) has not passed yet", c.name(), c.since(started), strings.ToLower(kind), probeText(probe))
	// Times of events are in seconds.
	if e := c.containerEvent(c.pod, c.spec.Name, "Unhealthy", kind+" probe"); e != nil && !eventTime(e).Before(started.Truncate(time.Second)) {
		out.Severity = Error
		out.Message = fmt.Sprintf("%s runs, for %s, but its %s probe (%s) fails: %s", c.name(), c.since(started), strings.ToLower(kind), probeText(probe), strings.TrimSpace(after(e.Message, ":")))
		out.Do = "find out from the log why it does not answer; if the probe asks the wrong thing or too early, correct it"
		c.addLog(&out, false)
	}
	return out
}

// after is what follows the first cut in s, or s.
func after(s, cut string) string {
	if _, rest, ok := strings.Cut(s, cut); ok {
		return rest
	}
	return s
}

// probeText is what a probe asks.
func probeText(p *corev1.Probe) string {
	switch {
	case p.HTTPGet != nil:
		return "GET :" + p.HTTPGet.Port.String() + p.HTTPGet.Path
	case p.TCPSocket != nil:
		return "TCP :" + p.TCPSocket.Port.String()
	case p.GRPC != nil:
		return fmt.Sprintf("gRPC :%d", p.GRPC.Port)
	case p.Exec != nil:
		return strings.Join(p.Exec.Command, " ")
	}
	return "none"
}

// end explains how the container came to its end.
func (c container) end(t *corev1.ContainerStateTerminated) Finding {
	out := c.finding(LinkExit, Error, t.Reason)
	out.key = fmt.Sprintf("exit %s %d", c.spec.Name, t.ExitCode)
	if t.Reason != "StartError" && t.Reason != "ContainerCannotRun" { // it said nothing
		c.addLog(&out, c.status.State.Terminated == nil)
	}
	if m := strings.TrimSpace(t.Message); m != "" && t.Reason != "StartError" {
		out.Details = append(out.Details, "its last message: "+m)
	}
	ran := t.FinishedAt.Sub(t.StartedAt.Time).Round(time.Second)
	switch {
	case t.Reason == "OOMKilled":
		c.outOfMemory(&out)
	case t.Reason == "StartError" || t.Reason == "ContainerCannotRun":
		out.Link = LinkStart
		out.Message = c.name() + " cannot be started: " + strings.TrimSpace(t.Message)
		out.Do = "see its command, working directory, user and security context: the program must be in the image and may be run"
	case c.killedByProbe(&out, t):
	default:
		out.Message = fmt.Sprintf("%s ended with exit code %d%s, %s after its start", c.name(), t.ExitCode, meaning(t.ExitCode), ran)
		out.Do = exitAdvice(t.ExitCode)
	}
	if n := c.status.RestartCount; n > 0 || c.status.State.Waiting != nil {
		out.Message += ", restarted " + times(int(n))
	}
	if w := c.status.State.Waiting; w != nil && w.Reason == "CrashLoopBackOff" && w.Message != "" {
		wait, _, _ := strings.Cut(w.Message, " restarting") // then follow names that are told already
		out.Details = append(out.Details, "CrashLoopBackOff: "+wait)
	}
	if out.Link != LinkStart {
		out.Do += "; its whole log: `" + c.logCommand(out.Previous) + "`"
	}
	return out
}

func times(n int) string {
	switch n {
	case 1:
		return "once"
	case 2:
		return "twice"
	}
	return fmt.Sprintf("%d times", n)
}

func (c container) logCommand(previous bool) string {
	text := c.inNamespace("logs %s -c %s", c.pod.Name, c.spec.Name)
	if previous {
		text += " --previous"
	}
	return text
}

func (c container) outOfMemory(out *Finding) {
	whose := "its"
	limit, limited := c.spec.Resources.Limits[corev1.ResourceMemory]
	if r := c.pod.Spec.Resources; !limited && r != nil {
		limit, limited = r.Limits[corev1.ResourceMemory]
		whose = "the pod's"
	}
	if !limited {
		out.Message = c.name() + " was killed: node " + c.pod.Spec.NodeName + " ran out of memory"
		out.Do = "give it a memory request and limit that it keeps to, or a node with more memory"
		return
	}
	out.Message = fmt.Sprintf("%s was killed: it took more than %s memory limit of %s", c.name(), whose, limit.String())
	out.Do = "raise resources.limits.memory, or find out what takes so much"
}

// killedByProbe tells it when a failing liveness or startup probe is why the container ended.
func (c container) killedByProbe(out *Finding, t *corev1.ContainerStateTerminated) bool {
	for _, kind := range []string{"liveness", "startup"} {
		kill := c.containerEvent(c.pod, c.spec.Name, "Killing", fmt.Sprintf("Container %s failed %s probe", c.spec.Name, kind))
		if kill == nil || eventTime(kill).Before(t.StartedAt.Truncate(time.Second)) {
			continue
		}
		probe, title := c.spec.LivenessProbe, "Liveness probe"
		if kind == "startup" {
			probe, title = c.spec.StartupProbe, "Startup probe"
		}
		out.Link, out.Reason, out.key = LinkProbe, "Unhealthy", kind+" probe "+c.spec.Name
		out.Message = fmt.Sprintf("%s was killed because its %s probe failed", c.name(), kind)
		if probe != nil {
			out.Message = fmt.Sprintf("%s was killed because its %s probe (%s) failed", c.name(), kind, probeText(probe))
		}
		if e := c.containerEvent(c.pod, c.spec.Name, "Unhealthy", title); e != nil {
			out.Message += ": " + strings.TrimSpace(after(e.Message, ":"))
		}
		out.Do = "find out from the log why it did not answer; if the probe asks the wrong thing, too early or too often, correct it"
		return true
	}
	return false
}

// meaning says what an exit code usually stands for.
func meaning(code int32) string {
	switch {
	case code == 126:
		return " (the command cannot be run)"
	case code == 127:
		return " (the command was not found)"
	case code > 128 && code < 160:
		return fmt.Sprintf(" (signal %d, %s)", code-128, syscall.Signal(code-128))
	}
	return ""
}

func exitAdvice(code int32) string {
	switch code {
	case 0:
		return "a program that is done belongs in a Job; this pod's restartPolicy is Always"
	case 126, 127:
		return "correct the command, or take an image that has it"
	case 137:
		return "somebody killed it: see the pod's events, and whether it ends by itself on SIGTERM"
	}
	return "its last lines should say why"
}

// addLog adds the last lines of what the container said, or the one before it.
func (c container) addLog(out *Finding, previous bool) {
	out.Previous = previous
	if lines, ok := c.Logs[LogKey{c.pod.UID, c.spec.Name, previous}]; ok {
		out.Log = lines
	}
}

// logWish is a container whose last words help.
type logWish struct {
	container string
	previous  bool
	symptom   string // the same for containers whose words will be the same
}

// logWishes are the containers of a pod that ended or do not pass their probes.
func logWishes(p *corev1.Pod, now time.Time) []logWish {
	var out []logWish
	for _, s := range slices.Concat(p.Status.InitContainerStatuses, p.Status.ContainerStatuses) {
		wish := func(previous bool, symptom string, args ...any) {
			out = append(out, logWish{s.Name, previous, s.Name + " " + fmt.Sprintf(symptom, args...)})
		}
		last, running := s.LastTerminationState.Terminated, s.State.Running != nil
		switch t := s.State.Terminated; {
		case t != nil && t.ExitCode != 0:
			wish(false, "ended %d", t.ExitCode)
		case last != nil && (s.State.Waiting != nil || running && now.Sub(last.FinishedAt.Time) < recently):
			wish(true, "ended before %d", last.ExitCode)
		}
		if running && !s.Ready {
			wish(false, "is not ready")
		}
	}
	return out
}
