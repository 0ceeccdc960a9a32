package pods

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/utils/ptr"

	"canopus/internal/node/cri"
	"canopus/internal/node/crispec"
	"canopus/internal/node/probe"
)

var epoch = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// world builds facts step by step.
type world struct{ Facts }

func given(policy corev1.RestartPolicy, containers ...string) *world {
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "shop", UID: "u1", Generation: 2},
		Spec:       corev1.PodSpec{RestartPolicy: policy, TerminationGracePeriodSeconds: ptr.To(int64(30))},
	}
	for _, c := range containers {
		kind, name, _ := strings.Cut(c, ":")
		ct := corev1.Container{Name: name, Image: "img"}
		switch kind {
		case "init":
			p.Spec.InitContainers = append(p.Spec.InitContainers, ct)
		case "side":
			ct.RestartPolicy = ptr.To(corev1.ContainerRestartPolicyAlways)
			p.Spec.InitContainers = append(p.Spec.InitContainers, ct)
		default:
			ct.Name = c
			p.Spec.Containers = append(p.Spec.Containers, ct)
		}
	}
	return &world{Facts{
		Pod: p, Runtime: &cri.Pod{UID: types.UID("u1")}, Now: epoch, Volumes: true, Runtimes: "containerd", HostIPs: []string{"10.0.0.1"},
		Verdicts: map[string]probe.Verdicts{}, Hooking: map[string]bool{}, Waits: map[string]Wait{}, Crashes: map[string]Backoff{}, Messages: map[string]string{},
	}}
}

func (w *world) sandbox(ready bool) *world {
	state := runtimeapi.PodSandboxState_SANDBOX_NOTREADY
	if ready {
		state = runtimeapi.PodSandboxState_SANDBOX_READY
	}
	n := len(w.Runtime.Sandboxes)
	s := &runtimeapi.PodSandboxStatus{Id: fmt.Sprintf("s%d", n), State: state, Metadata: &runtimeapi.PodSandboxMetadata{Attempt: uint32(n)},
		Network: &runtimeapi.PodSandboxNetworkStatus{Ip: "10.244.0.7"}}
	w.Runtime.Sandboxes = slices.Insert(w.Runtime.Sandboxes, 0, s)
	return w
}

// has adds a container of the newest sandbox; its ID is name#attempt.
func (w *world) has(name string, attempt int, state runtimeapi.ContainerState, code int32) *world {
	c := &corev1.Container{Name: name, Image: "img"}
	w.Runtime.Containers = slices.Insert(w.Runtime.Containers, 0, &cri.Container{
		SandboxID: w.Runtime.Sandbox().GetId(),
		ContainerStatus: &runtimeapi.ContainerStatus{
			Id: fmt.Sprintf("%s#%d", name, attempt), State: state, ExitCode: code, Metadata: &runtimeapi.ContainerMetadata{Name: name},
			StartedAt: epoch.Add(-time.Minute).UnixNano(), FinishedAt: epoch.Add(-time.Second).UnixNano(),
			Annotations: map[string]string{cri.AnnotationRestartCount: fmt.Sprint(attempt), cri.AnnotationHash: crispec.Hash(c)},
		},
	})
	return w
}

func (w *world) runs(name string, attempt int) *world {
	return w.has(name, attempt, runtimeapi.ContainerState_CONTAINER_RUNNING, 0)
}

func (w *world) ended(name string, attempt int, code int32) *world {
	return w.has(name, attempt, runtimeapi.ContainerState_CONTAINER_EXITED, code)
}

func (w *world) with(f func(*Facts)) *world { f(&w.Facts); return w }

// say renders actions for comparison.
func say(a Actions) string {
	var out []string
	if a.CreateSandbox {
		out = append(out, fmt.Sprintf("sandbox %d", a.Attempt))
	}
	for _, s := range a.Start {
		text := fmt.Sprintf("start %s %d", s.Container.Name, s.Attempt)
		if s.Leftover != "" {
			text += " removing " + s.Leftover
		}
		out = append(out, text)
	}
	slices.SortFunc(a.Kill, func(x, y Kill) int { return strings.Compare(x.ID, y.ID) })
	for _, k := range a.Kill {
		out = append(out, fmt.Sprintf("kill %s within %v", k.ID, k.Deadline.Sub(epoch)))
	}
	if a.TearDown {
		out = append(out, "tear down")
	}
	if !a.Wake.IsZero() {
		out = append(out, fmt.Sprintf("wake in %v", a.Wake.Sub(epoch)))
	}
	return strings.Join(out, ", ")
}

func TestPlan(t *testing.T) {
	t.Parallel()
	const always, onFailure, never = corev1.RestartPolicyAlways, corev1.RestartPolicyOnFailure, corev1.RestartPolicyNever
	created := runtimeapi.ContainerState_CONTAINER_CREATED
	deleting := func(f *Facts) { f.Ending = &Ending{Deadline: epoch.Add(9 * time.Second)} }
	verdict := func(id string, k probe.Kind, v probe.Verdict) func(*Facts) {
		return func(f *Facts) {
			all := f.Verdicts[id]
			all[k] = v
			f.Verdicts[id] = all
		}
	}
	for name, c := range map[string]struct {
		w    *world
		want string
	}{
		"new pod":                        {given(always, "a"), "sandbox 0"},
		"new pod, volumes missing":       {given(always, "a").with(func(f *Facts) { f.Volumes = false }), "sandbox 0"},
		"sandbox failed just now":        {given(always, "a").with(func(f *Facts) { f.Sandbox = Wait{Reason: "x", Until: epoch.Add(time.Second)} }), "wake in 1s"},
		"sandbox ready":                  {given(always, "a", "b").sandbox(true), "start a 0, start b 0"},
		"volumes missing":                {given(always, "a").sandbox(true).with(func(f *Facts) { f.Volumes = false }), ""},
		"all run":                        {given(always, "a", "b").sandbox(true).runs("a", 0).runs("b", 0), ""},
		"one ended":                      {given(always, "a", "b").sandbox(true).runs("a", 0).ended("b", 0, 0), "start b 1"},
		"one ended, on failure, success": {given(onFailure, "a", "b").sandbox(true).runs("a", 0).ended("b", 0, 0), ""},
		"one ended, on failure, failure": {given(onFailure, "a", "b").sandbox(true).runs("a", 0).ended("b", 2, 1), "start b 3"},
		"one ended, never":               {given(never, "a", "b").sandbox(true).runs("a", 0).ended("b", 0, 1), ""},
		"all ended, never":               {given(never, "a", "b").sandbox(true).ended("a", 0, 0).ended("b", 0, 1), "tear down"},
		"crashed again, backs off":       {given(always, "a").sandbox(true).ended("a", 1, 1).with(func(f *Facts) { f.Crashes["a"] = Backoff{Delay: 10 * time.Second} }), "wake in 9s"},
		"back-off over":                  {given(always, "a").sandbox(true).ended("a", 1, 1).with(func(f *Facts) { f.Crashes["a"] = Backoff{Delay: time.Second} }), "start a 2"},
		"waits for image": {given(always, "a").sandbox(true).with(func(f *Facts) {
			f.Waits["a"] = Wait{Reason: "ErrImagePull", Since: epoch, Until: epoch.Add(10 * time.Second)}
		}), "wake in 3s"},
		"waits for image, shown": {given(always, "a").sandbox(true).with(func(f *Facts) {
			f.Waits["a"] = Wait{Reason: "ErrImagePull", Since: epoch.Add(-5 * time.Second), Until: epoch.Add(5 * time.Second)}
		}), "wake in 5s"},
		"other containers do not wait": {given(always, "a", "b").sandbox(true).with(func(f *Facts) { f.Waits["a"] = Wait{Reason: "ErrImagePull", Until: epoch.Add(time.Second)} }), "start b 0, wake in 1s"},
		"created, never started":       {given(always, "a").sandbox(true).has("a", 4, created, 0), "start a 4 removing a#4"},
		"restart count from the API": {given(always, "a").sandbox(true).with(func(f *Facts) {
			f.Pod.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "a", RestartCount: 6, ContainerID: "x"}}
		}), "start a 7"},
		"sandbox died, containers live":      {given(always, "a").sandbox(false).runs("a", 0), "kill a#0 within 30s"},
		"sandbox died, containers ended":     {given(always, "a").sandbox(false).ended("a", 0, 137), "sandbox 1"},
		"sandbox died, never":                {given(never, "a", "b").sandbox(false).ended("a", 0, 137), ""},
		"sandbox new, restart all":           {given(always, "init:i", "a").sandbox(false).ended("i", 0, 0).ended("a", 0, 137).sandbox(true), "start i 1"},
		"sandbox new, on failure keeps done": {given(onFailure, "a", "b").sandbox(false).ended("a", 0, 0).ended("b", 0, 1).sandbox(true), "start b 1"},
		"stray of an old sandbox":            {given(always, "a").sandbox(false).runs("a", 0).sandbox(true), "start a 1, kill a#0 within 30s"},
		"first init":                         {given(always, "init:i", "init:j", "a").sandbox(true), "start i 0"},
		"init runs":                          {given(always, "init:i", "init:j", "a").sandbox(true).runs("i", 0), ""},
		"second init":                        {given(always, "init:i", "init:j", "a").sandbox(true).ended("i", 0, 0), "start j 0"},
		"init fails, retried":                {given(always, "init:i", "a").sandbox(true).ended("i", 0, 1), "start i 1"},
		"init fails, never":                  {given(never, "init:i", "a").sandbox(true).ended("i", 0, 1), "tear down"},
		"inits done":                         {given(always, "init:i", "a").sandbox(true).ended("i", 0, 0), "start a 0"},
		"init forgotten after begin":         {given(always, "init:i", "a").sandbox(true).runs("a", 0), ""},
		"sidecar first":                      {given(always, "side:s", "init:i", "a").sandbox(true), "start s 0"},
		"sidecar runs, init next":            {given(always, "side:s", "init:i", "a").sandbox(true).runs("s", 0), "start i 0"},
		"sidecar has a startup probe":        {given(always, "side:s", "a").with(func(f *Facts) { f.Pod.Spec.InitContainers[0].StartupProbe = &corev1.Probe{} }).sandbox(true).runs("s", 0), ""},
		"sidecar started":                    {given(always, "side:s", "a").with(func(f *Facts) { f.Pod.Spec.InitContainers[0].StartupProbe = &corev1.Probe{} }).sandbox(true).runs("s", 0).with(verdict("s#0", probe.Startup, probe.Success)), "start a 0"},
		"sidecar's hook still runs":          {given(always, "side:s", "a").sandbox(true).runs("s", 0).with(func(f *Facts) { f.Hooking["s#0"] = true }), ""},
		"sidecar restarted while main runs":  {given(never, "side:s", "a").sandbox(true).runs("a", 0).ended("s", 0, 1), "start s 1"},
		"main done, sidecar stopped":         {given(never, "side:s", "a").sandbox(true).runs("s", 0).ended("a", 0, 0), "kill s#0 within 30s"},
		"liveness failed":                    {given(always, "a").sandbox(true).runs("a", 0).with(verdict("a#0", probe.Liveness, probe.Failure)), "kill a#0 within 30s"},
		"liveness failed, its own grace": {given(always, "a").with(func(f *Facts) {
			f.Pod.Spec.Containers[0].LivenessProbe = &corev1.Probe{TerminationGracePeriodSeconds: ptr.To(int64(3))}
		}).sandbox(true).runs("a", 0).with(verdict("a#0", probe.Liveness, probe.Failure)), "kill a#0 within 3s"},
		"startup failed":               {given(always, "a").sandbox(true).runs("a", 0).with(verdict("a#0", probe.Startup, probe.Failure)), "kill a#0 within 30s"},
		"readiness failed":             {given(always, "a").sandbox(true).runs("a", 0).with(verdict("a#0", probe.Readiness, probe.Failure)), ""},
		"image changed":                {given(always, "a").sandbox(true).runs("a", 0).with(func(f *Facts) { f.Pod.Spec.Containers[0].Image = "other" }), "kill a#0 within 30s"},
		"deleted, runs":                {given(always, "a", "b").sandbox(true).runs("a", 0).runs("b", 0).with(deleting), "kill a#0 within 9s, kill b#0 within 9s"},
		"deleted, sidecars last":       {given(always, "side:s", "side:t", "a").sandbox(true).runs("s", 0).runs("t", 0).runs("a", 0).with(deleting), "kill a#0 within 9s"},
		"deleted, sidecars in reverse": {given(always, "side:s", "side:t", "a").sandbox(true).runs("s", 0).runs("t", 0).ended("a", 0, 0).with(deleting), "kill t#0 within 9s"},
		"deleted, last sidecar":        {given(always, "side:s", "side:t", "a").sandbox(true).runs("s", 0).ended("t", 0, 0).ended("a", 0, 0).with(deleting), "kill s#0 within 9s"},
		"deleted, nothing runs":        {given(always, "a").sandbox(true).ended("a", 0, 0).with(deleting), "tear down"},
		"deleted before it began":      {given(always, "a").with(deleting), "tear down"},
		"finished long ago":            {given(always, "a").with(func(f *Facts) { f.Pod.Status.Phase = corev1.PodFailed }), "tear down"},
		"ephemeral": {given(always, "a").sandbox(true).runs("a", 0).with(func(f *Facts) {
			f.Pod.Spec.EphemeralContainers = []corev1.EphemeralContainer{{EphemeralContainerCommon: corev1.EphemeralContainerCommon{Name: "e"}}}
		}), "start e 0"},
		"ephemeral is not restarted": {given(always, "a").sandbox(true).runs("a", 0).ended("e", 0, 1).with(func(f *Facts) {
			f.Pod.Spec.EphemeralContainers = []corev1.EphemeralContainer{{EphemeralContainerCommon: corev1.EphemeralContainerCommon{Name: "e"}}}
		}), ""},
		"container's own policy": {given(never, "a", "b").with(func(f *Facts) {
			f.Pod.Spec.Containers[0].RestartPolicy = ptr.To(corev1.ContainerRestartPolicyOnFailure)
		}).sandbox(true).ended("a", 0, 1).runs("b", 0), "start a 1"},
		"container's rule for its exit code": {given(never, "a", "b").with(func(f *Facts) {
			f.Pod.Spec.Containers[0].RestartPolicyRules = []corev1.ContainerRestartRule{{Action: corev1.ContainerRestartRuleActionRestart,
				ExitCodes: &corev1.ContainerRestartRuleOnExitCodes{Operator: corev1.ContainerRestartRuleOnExitCodesOpIn, Values: []int32{42}}}}
		}).sandbox(true).ended("a", 0, 42).runs("b", 0), "start a 1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			before := c.w.Pod.DeepCopy()
			if got := say(Plan(c.w.Facts)); got != c.want {
				t.Errorf("got  %q\nwant %q", got, c.want)
			}
			if before.String() != c.w.Pod.String() {
				t.Error("the plan changed the pod")
			}
		})
	}
}

func TestBackoff(t *testing.T) {
	t.Parallel()
	var b Backoff
	now := epoch
	for i, want := range []time.Duration{10, 20, 40, 80, 160, 300, 300} {
		if b = b.Next(now); b.Delay != want*time.Second {
			t.Errorf("failure %d: %v", i, b.Delay)
		}
		now = now.Add(b.Delay)
	}
	if b = b.Next(now.Add(11*time.Minute + b.Delay)); b.Delay != 10*time.Second {
		t.Errorf("after a good run: %v", b.Delay)
	}
}

func TestStatus(t *testing.T) {
	t.Parallel()
	const always, never = corev1.RestartPolicyAlways, corev1.RestartPolicyNever
	sum := func(s corev1.PodStatus) string {
		out := []string{string(s.Phase)}
		for _, c := range slices.Concat(s.InitContainerStatuses, s.ContainerStatuses) {
			text := c.Name + "="
			switch {
			case c.State.Running != nil:
				text += "running"
			case c.State.Terminated != nil:
				text += fmt.Sprintf("%s:%d", c.State.Terminated.Reason, c.State.Terminated.ExitCode)
			case c.State.Waiting != nil:
				text += c.State.Waiting.Reason
			}
			if c.Ready {
				text += "+ready"
			}
			if c.LastTerminationState.Terminated != nil {
				text += fmt.Sprintf("(last %d)", c.LastTerminationState.Terminated.ExitCode)
			}
			out = append(out, text)
		}
		for _, c := range s.Conditions {
			if c.Status == corev1.ConditionTrue {
				out = append(out, string(c.Type))
			}
		}
		return strings.Join(out, " ")
	}
	for name, c := range map[string]struct {
		w    *world
		want string
	}{
		"new":       {given(always, "a"), "Pending a=ContainerCreating Initialized PodScheduled"},
		"inits":     {given(always, "init:i", "a").sandbox(true), "Pending i=PodInitializing a=PodInitializing PodReadyToStartContainers PodScheduled"},
		"running":   {given(always, "a").sandbox(true).runs("a", 0), "Running a=running+ready PodReadyToStartContainers Initialized Ready ContainersReady PodScheduled"},
		"init done": {given(always, "init:i", "a").sandbox(true).ended("i", 0, 0).runs("a", 0), "Running i=Completed:0+ready a=running+ready PodReadyToStartContainers Initialized Ready ContainersReady PodScheduled"},
		"unready":   {given(always, "a").with(func(f *Facts) { f.Pod.Spec.Containers[0].ReadinessProbe = &corev1.Probe{} }).sandbox(true).runs("a", 0), "Running a=running PodReadyToStartContainers Initialized PodScheduled"},
		"crash loop": {given(always, "a").sandbox(true).ended("a", 1, 2).with(func(f *Facts) { f.Crashes["a"] = Backoff{Delay: 10 * time.Second} }),
			"Running a=CrashLoopBackOff(last 2) PodReadyToStartContainers Initialized PodScheduled"},
		"about to restart": {given(always, "a").sandbox(true).ended("a", 0, 2), "Running a=Error:2 PodReadyToStartContainers Initialized PodScheduled"},
		"restarted":        {given(always, "a").sandbox(true).ended("a", 0, 2).runs("a", 1), "Running a=running+ready(last 2) PodReadyToStartContainers Initialized Ready ContainersReady PodScheduled"},
		"succeeded":        {given(never, "a").sandbox(true).ended("a", 0, 0), "Succeeded a=Completed:0 PodReadyToStartContainers Initialized PodScheduled"},
		"failed":           {given(never, "a", "b").sandbox(true).ended("a", 0, 0).ended("b", 0, 9), "Failed a=Completed:0 b=Error:9 PodReadyToStartContainers Initialized PodScheduled"},
		"init failed":      {given(never, "init:i", "a").sandbox(true).ended("i", 0, 9), "Failed i=Error:9 a=PodInitializing PodReadyToStartContainers PodScheduled"},
		"image":            {given(always, "a").sandbox(true).with(func(f *Facts) { f.Waits["a"] = Wait{Reason: "ErrImagePull", Since: epoch} }), "Pending a=ErrImagePull PodReadyToStartContainers Initialized PodScheduled"},
		"image, later":     {given(always, "a").sandbox(true).with(func(f *Facts) { f.Waits["a"] = Wait{Reason: "ErrImagePull", Since: epoch.Add(-time.Minute)} }), "Pending a=ImagePullBackOff PodReadyToStartContainers Initialized PodScheduled"},
		"deleted":          {given(always, "a").sandbox(false).ended("a", 0, 0).with(func(f *Facts) { f.Ending = &Ending{} }), "Succeeded a=Completed:0 Initialized PodScheduled"},
		"killed":           {given(always, "a").sandbox(false).ended("a", 0, 137).with(func(f *Facts) { f.Ending = &Ending{} }), "Failed a=Error:137 Initialized PodScheduled"},
		"deadline":         {given(always, "a").sandbox(false).ended("a", 0, 0).with(func(f *Facts) { f.Ending = &Ending{Failed: true, Reason: "DeadlineExceeded"} }), "Failed a=Completed:0 Initialized PodScheduled"},
		"lost by the runtime": {given(always, "a").with(func(f *Facts) {
			f.Ending = &Ending{}
			f.Pod.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "a", ContainerID: "x", State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}}}
		}), "Failed a=ContainerStatusUnknown:137 Initialized PodScheduled"},
		"readiness gate": {given(always, "a").sandbox(true).runs("a", 0).with(func(f *Facts) { f.Pod.Spec.ReadinessGates = []corev1.PodReadinessGate{{ConditionType: "x"}} }),
			"Running a=running+ready PodReadyToStartContainers Initialized ContainersReady PodScheduled"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			first := Status(c.w.Facts)
			if got := sum(first); got != c.want {
				t.Errorf("got  %q\nwant %q", got, c.want)
			}
			// Writing a status and looking again must not lead to another write.
			c.w.Pod.Status = first
			later := c.w.Facts
			later.Now = epoch.Add(time.Second)
			if patch, err := statusPatch(c.w.Pod, Status(later)); err != nil || !strings.HasPrefix(string(patch), `{"metadata":{"uid"`) || strings.Contains(string(patch), "status") {
				t.Errorf("a second write: %s, %v", patch, err)
			}
		})
	}
}
