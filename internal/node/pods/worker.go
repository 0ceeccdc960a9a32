package pods

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/resourceversion"

	"canopus/internal/node/cri"
	"canopus/internal/node/objects"
	"canopus/internal/node/probe"
	"canopus/internal/node/volume"
)

const (
	statusDelay = 100 * time.Millisecond // gathers changes that nobody waits for into one write
	retryFirst  = time.Second
	retryMax    = time.Minute
)

// worker runs one pod. Its loop goroutine owns every field below the line; operations that take long run beside it, at
// most one per key, and hand their outcome back as a function that the loop calls.
type worker struct {
	m       *Manager
	uid     types.UID
	bell    <-chan struct{}
	results chan func()
	ended   chan struct{} // closed when nobody reads results any more
	ops     sync.WaitGroup
	shared  atomic.Pointer[corev1.Pod] // pod, for the operations

	// ----
	pod      *corev1.Pod // with the newest status known
	gone     bool        // no longer in the API
	admitted bool        // the node has decided whether it takes the pod
	patched  *corev1.Pod // the API's answer to the last status write
	busy     map[string]context.CancelFunc
	killing  map[string]time.Time // container ID to the deadline given to the runtime
	waits    map[string]Wait
	pulls    map[string]Backoff
	crashes  map[string]Backoff
	hooking  map[string]bool
	messages map[string]string
	sandbox  Wait
	ending   *Ending
	vols     *volume.Set
	volsOK   bool
	stale    bool        // something that the pod refers to changed
	volsPod  *corev1.Pod // what the volumes were made for
	retry    map[string]*retry
	dirty    time.Time // since when the status differs from the API's; zero: it does not
	tornDown bool
	finished bool
}

// retry is the pause after failures of one kind of operation.
type retry struct {
	delay time.Duration
	until time.Time
}

func newWorker(m *Manager, uid types.UID) *worker {
	return &worker{
		m: m, uid: uid, bell: m.cfg.Bells.Listen(uid), results: make(chan func(), 16), ended: make(chan struct{}),
		busy: map[string]context.CancelFunc{}, killing: map[string]time.Time{}, waits: map[string]Wait{},
		pulls: map[string]Backoff{}, crashes: map[string]Backoff{}, hooking: map[string]bool{}, messages: map[string]string{},
		vols: volume.NewSet(m.cfg.Volumes), retry: map[string]*retry{},
	}
}

// run works until the pod is gone for good or ctx ends. Containers keep running in the latter case.
func (w *worker) run(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	defer w.ops.Wait()
	defer close(w.ended)
	defer cancel()
	for ctx.Err() == nil {
		w.drain()
		wake := w.step(ctx)
		if w.finished {
			return
		}
		w.wait(ctx, wake)
	}
}

func (w *worker) drain() {
	for {
		select {
		case fn := <-w.results:
			fn()
		default:
			return
		}
	}
}

func (w *worker) wait(ctx context.Context, wake time.Time) {
	var alarm <-chan time.Time
	if !wake.IsZero() {
		t := w.m.cfg.Clock.NewTimer(max(wake.Sub(w.m.cfg.Clock.Now()), time.Millisecond))
		defer t.Stop()
		alarm = t.C()
	}
	select {
	case <-ctx.Done():
	case <-w.bell:
	case <-alarm:
	case fn := <-w.results:
		fn()
	}
}

// do runs an operation beside the loop unless one with the same key is under way. The function that op returns is called
// by the loop, after op's context has ended: whether it was cancelled before, op has to look itself.
func (w *worker) do(ctx context.Context, key string, op func(ctx context.Context) func()) bool {
	if _, ok := w.busy[key]; ok {
		return false
	}
	ctx, cancel := context.WithCancel(ctx)
	w.busy[key] = cancel
	w.ops.Add(1)
	go func() {
		defer w.ops.Done()
		defer cancel()
		apply := op(ctx)
		w.post(func() {
			delete(w.busy, key)
			if apply != nil {
				apply()
			}
		})
	}()
	return true
}

// post hands a function to the loop; it is lost when the worker has ended, as then nobody needs it.
func (w *worker) post(fn func()) {
	select {
	case w.results <- fn:
	case <-w.ended:
	}
}

// step looks at everything afresh, starts what is needed, and returns when to look again at the latest.
func (w *worker) step(ctx context.Context) time.Time {
	if !w.observe() {
		w.finished = true
		return time.Time{}
	}
	now := w.m.cfg.Clock.Now()
	if !w.admit(ctx) {
		return now.Add(retryFirst)
	}
	w.decideEnding(now)
	f := w.facts(now)
	devices, until := w.m.cfg.Devices.Health(w.pod)
	f.Devices = devices
	w.followProbes(&f)
	a := Plan(f)
	w.act(ctx, &f, &a)
	a.wake(w.deadline())
	a.wake(until)
	a.wake(w.report(ctx, &f))
	if w.ending == nil {
		a.wake(w.vols.Refresh())
	}
	for _, r := range w.retry {
		if now.Before(r.until) {
			a.wake(r.until)
		}
	}
	return a.Wake
}

// observe takes the newest pod. It reports false when there is nothing to work on.
func (w *worker) observe() bool {
	pod, gone := w.m.pod(w.uid)
	if pod == nil {
		return false
	}
	w.gone = gone
	w.stale = w.m.cfg.Marks.take(w.uid) || w.stale
	if w.patched != nil && newer(w.patched, pod) {
		c := *pod
		c.Status, c.ResourceVersion = w.patched.Status, w.patched.ResourceVersion
		pod = &c
	}
	if w.pod == nil || w.pod.Generation != pod.Generation || w.pod.ResourceVersion != pod.ResourceVersion {
		w.m.cfg.Objects.Use(w.uid, objects.Refs(pod))
	}
	if w.pod != nil && w.pod.Generation != pod.Generation {
		for name := range otherImages(w.pod, pod) {
			w.forgive(name)
		}
	}
	w.pod = pod
	w.shared.Store(pod)
	return true
}

func newer(a, b *corev1.Pod) bool {
	c, err := resourceversion.CompareResourceVersion(a.ResourceVersion, b.ResourceVersion)
	return err == nil && c > 0
}

// decideEnding notes why the pod has to end, once, and later only brings the deadline forward.
func (w *worker) decideEnding(now time.Time) {
	if w.gone || w.pod.DeletionTimestamp != nil {
		grace := graceOf(w.pod)
		if w.gone {
			grace = max(grace, time.Second)
		}
		deadline := now.Add(grace)
		if w.ending == nil {
			w.ending = &Ending{Deadline: deadline}
			w.cancel("start")
		} else if deadline.Before(w.ending.Deadline) {
			w.ending.Deadline = deadline
		}
		return
	}
	if w.ending != nil {
		return
	}
	if at := w.deadline(); !at.IsZero() && !now.Before(at) {
		w.end(now, "DeadlineExceeded", "Pod was active on the node longer than the specified deadline")
		w.m.event(w.pod, "", corev1.EventTypeNormal, "DeadlineExceeded", "Pod was active on the node longer than the specified deadline")
	}
}

// end makes the pod fail.
func (w *worker) end(now time.Time, reason, message string) {
	w.ending = &Ending{Reason: reason, Message: message, Failed: true, Deadline: now.Add(graceOf(w.pod))}
	w.cancel("start")
}

// deadline returns when the pod has run as long as it may; zero: never.
func (w *worker) deadline() time.Time {
	s, at := w.pod.Spec.ActiveDeadlineSeconds, w.pod.Status.StartTime
	if s == nil || at == nil || w.ending != nil || terminal(w.pod.Status.Phase) {
		return time.Time{}
	}
	return at.Add(time.Duration(*s) * time.Second)
}

func (w *worker) cancel(key string) {
	if c := w.busy[key]; c != nil {
		c()
	}
}

func (w *worker) facts(now time.Time) Facts {
	rt := w.m.cfg.Cache.Get(w.uid)
	f := Facts{
		Pod: w.pod, Runtime: rt, Now: now, Verdicts: map[string]probe.Verdicts{}, Hooking: w.hooking, Waits: w.waits,
		Crashes: w.crashes, Sandbox: w.sandbox, Ending: w.ending, Volumes: w.volsOK, Messages: w.messages,
		Runtimes: w.m.cfg.RuntimeName, HostIPs: w.m.cfg.HostIPs,
	}
	for _, st := range rt.Containers {
		if st.Running() {
			f.Verdicts[st.GetId()] = w.m.cfg.Probes.Verdicts(st.GetId())
		}
		if _, ok := w.messages[st.GetId()]; !ok && st.Exited() {
			w.messages[st.GetId()] = terminationMessage(w.m.cfg.Volumes.Root, st)
		}
	}
	return f
}

// followProbes keeps probes going for the containers that run, and for no others.
func (w *worker) followProbes(f *Facts) {
	keep := map[string]bool{}
	if f.Ending == nil && f.Runtime.ReadySandbox() != nil {
		ip := w.podIP(f.Runtime)
		for _, c := range allContainers(w.pod) {
			st := f.inSandbox(c.Name)
			if st == nil || !st.Running() || w.hooking[st.GetId()] {
				continue
			}
			keep[st.GetId()] = true
			old := findStatus(w.pod.Status.ContainerStatuses, c.Name)
			same := old != nil && old.ContainerID == w.m.cfg.RuntimeName+"://"+st.GetId()
			w.m.cfg.Probes.Ensure(probe.Subject{
				Pod: w.pod, Began: time.Unix(0, st.GetStartedAt()),
				Target:     probe.Target{Container: c, ContainerID: st.GetId(), PodIP: ip},
				WasReady:   same && old.Ready,
				WasStarted: same && old.Started != nil && *old.Started,
			})
			if same {
				continue
			}
			f.Verdicts[st.GetId()] = w.m.cfg.Probes.Verdicts(st.GetId())
		}
	}
	for _, st := range f.Runtime.Containers {
		if keep[st.GetId()] {
			f.Verdicts[st.GetId()] = w.m.cfg.Probes.Verdicts(st.GetId())
		}
	}
	w.m.cfg.Probes.ForgetOthers(w.uid, keep)
}

// allContainers returns the init containers and the regular ones.
func allContainers(pod *corev1.Pod) []*corev1.Container {
	var out []*corev1.Container
	for i := range pod.Spec.InitContainers {
		out = append(out, &pod.Spec.InitContainers[i])
	}
	for i := range pod.Spec.Containers {
		out = append(out, &pod.Spec.Containers[i])
	}
	return out
}

func (w *worker) podIP(rt *cri.Pod) string {
	if w.pod.Spec.HostNetwork && len(w.m.cfg.HostIPs) > 0 {
		return w.m.cfg.HostIPs[0]
	}
	if ips := rt.IPs(); len(ips) > 0 {
		return ips[0]
	}
	return ""
}

// act starts the operations that the actions ask for.
func (w *worker) act(ctx context.Context, f *Facts, a *Actions) {
	for _, k := range a.Kill {
		w.startKill(ctx, k)
	}
	if w.ending == nil && !f.Completed() {
		w.followVolumes(ctx, f.Now)
	}
	if a.CreateSandbox {
		attempt := a.Attempt
		w.do(ctx, "sandbox", func(ctx context.Context) func() { return w.createSandbox(ctx, attempt) })
	}
	if starts := w.notKilled(a.Start); len(starts) > 0 {
		w.do(ctx, "start", func(ctx context.Context) func() { return w.startAll(ctx, starts) })
	}
	if !a.TearDown {
		return
	}
	switch {
	case !w.tornDown:
		if w.mayTry("teardown", f.Now) && w.idle("sandbox", "start", "volumes") {
			w.do(ctx, "teardown", w.tearDown)
		}
	case w.gone:
		if w.mayTry("remove", f.Now) {
			w.do(ctx, "remove", w.remove)
		}
	}
}

// notKilled drops starts of containers whose previous run is still being stopped.
func (w *worker) notKilled(in []Start) []Start {
	var out []Start
	for _, s := range in {
		if _, ok := w.busy["kill:"+s.Leftover]; !ok {
			out = append(out, s)
		}
	}
	return out
}

func (w *worker) idle(keys ...string) bool {
	for _, k := range keys {
		if _, ok := w.busy[k]; ok {
			return false
		}
	}
	return true
}

// mayTry says whether the pause after earlier failures of key is over.
func (w *worker) mayTry(key string, now time.Time) bool {
	r := w.retry[key]
	return r == nil || !now.Before(r.until)
}

// outcome notes whether an operation failed, so that the next try waits longer each time.
func (w *worker) outcome(key string, err error) {
	if err == nil {
		delete(w.retry, key)
		return
	}
	r := w.retry[key]
	if r == nil {
		r = &retry{}
		w.retry[key] = r
	}
	r.delay = min(max(2*r.delay, retryFirst), retryMax)
	r.until = w.m.cfg.Clock.Now().Add(r.delay)
}

// followVolumes makes the volumes available at first, and brings them up to date after a change of the pod, of what it
// refers to, or of the time.
func (w *worker) followVolumes(ctx context.Context, now time.Time) {
	if at := w.vols.Refresh(); !at.IsZero() && !now.Before(at) {
		w.stale = true
	}
	changed := w.volsPod != nil && (!apiequality.Semantic.DeepEqual(w.volsPod.Annotations, w.pod.Annotations) ||
		!apiequality.Semantic.DeepEqual(w.volsPod.Labels, w.pod.Labels))
	if w.volsOK && !changed && !w.stale {
		return
	}
	if !w.stale && !w.mayTry("volumes", now) {
		return
	}
	if _, ok := w.busy["volumes"]; ok {
		return
	}
	if w.stale {
		w.stale = false
		w.forgetConfigWaits()
	}
	pod := w.pod
	w.volsPod = pod
	w.do(ctx, "volumes", func(ctx context.Context) func() { return w.setUpVolumes(ctx, pod) })
}

// forgetConfigWaits lets containers try again at once that waited for an object that changed now.
func (w *worker) forgetConfigWaits() {
	for name, wait := range w.waits {
		if wait.Reason == reasonConfigError {
			delete(w.waits, name)
		}
	}
}

// current returns the newest pod for operations beside the loop.
func (w *worker) current() *corev1.Pod { return w.shared.Load() }

func (w *worker) String() string {
	return fmt.Sprintf("%s/%s(%s)", w.current().Namespace, w.current().Name, w.uid)
}
