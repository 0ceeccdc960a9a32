package probe

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"

	"canopus/internal/node/cri"

	"github.com/prometheus/client_golang/prometheus"
)

// Verdict is the outcome of a probe over its thresholds.
type Verdict int

// The verdicts. Unknown is before the first.
const (
	Unknown Verdict = iota
	Success
	Failure
)

// Kind is which of a container's probes.
type Kind int

// The kinds of probes.
const (
	Startup Kind = iota
	Readiness
	Liveness
)

func (k Kind) String() string { return [...]string{"Startup", "Readiness", "Liveness"}[k] }

// Verdicts are those of one running container.
type Verdicts [3]Verdict

// Config is what a Set needs.
type Config struct {
	Client  *cri.Client
	Clock   clock.Clock
	Changed func(types.UID)
	Event   func(pod *corev1.Pod, container, kind, reason, message string)
	Metrics prometheus.Registerer // shows what probes came to; nil: nobody asks
}

// Set runs the probes of the node's containers.
type Set struct {
	cfg Config
	wg  sync.WaitGroup

	mu    sync.Mutex
	ctx   context.Context // of Run; nil before
	items map[string]*item
	// results counts what probes came to, for as long as their pod is there.
	results *prometheus.CounterVec
}

type item struct {
	uid      types.UID
	verdicts Verdicts
	cancel   context.CancelFunc
}

// NewSet checks the configuration.
func NewSet(cfg Config) (*Set, error) {
	if cfg.Client == nil || cfg.Clock == nil || cfg.Changed == nil || cfg.Event == nil {
		return nil, fmt.Errorf("probes: Client, Clock, Changed and Event are required")
	}
	s := &Set{cfg: cfg, items: map[string]*item{}, results: prometheus.NewCounterVec(prometheus.CounterOpts{
		Subsystem: "prober", Name: "probe_total", Help: "Probes of containers, by how they ended.",
	}, []string{"probe_type", "result", "container", "pod", "namespace", labelUID})}
	if cfg.Metrics != nil {
		if err := cfg.Metrics.Register(s.results); err != nil {
			return nil, fmt.Errorf("show what probes come to: %w", err)
		}
	}
	return s, nil
}

// Run owns the probes' goroutines until ctx ends.
func (s *Set) Run(ctx context.Context) error {
	s.mu.Lock()
	s.ctx = ctx
	s.mu.Unlock()
	<-ctx.Done()
	s.wg.Wait()
	return nil
}

// Subject is a running container to probe.
type Subject struct {
	Pod    *corev1.Pod
	Target Target
	// Began is when the container started; WasReady and WasStarted carry verdicts over a restart of the agent.
	Began                time.Time
	WasReady, WasStarted bool
}

// Ensure starts the probes of a container unless they run already.
func (s *Set) Ensure(sub Subject) {
	c := sub.Target.Container
	if c.StartupProbe == nil && c.ReadinessProbe == nil && c.LivenessProbe == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	id := sub.Target.ContainerID
	if _, ok := s.items[id]; ok || s.ctx == nil {
		return
	}
	ctx, cancel := context.WithCancel(s.ctx)
	it := &item{uid: sub.Pod.UID, cancel: cancel}
	if sub.WasStarted {
		it.verdicts[Startup] = Success
	}
	if sub.WasReady {
		it.verdicts[Readiness] = Success
	}
	s.items[id] = it
	for k, p := range map[Kind]*corev1.Probe{Startup: c.StartupProbe, Readiness: c.ReadinessProbe, Liveness: c.LivenessProbe} {
		if p != nil {
			s.wg.Add(1)
			go func() {
				defer s.wg.Done()
				s.loop(ctx, &run{sub: sub, kind: k, probe: p})
			}()
		}
	}
}

// Forget ends the probes of a container.
func (s *Set) Forget(containerID string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if it := s.items[containerID]; it != nil {
		it.cancel()
		delete(s.items, containerID)
	}
}

// ForgetOthers ends the probes of a pod's containers that are not in keep.
func (s *Set) ForgetOthers(uid types.UID, keep map[string]bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, it := range s.items {
		if it.uid == uid && !keep[id] {
			it.cancel()
			delete(s.items, id)
		}
	}
}

// Leave ends the probes of a pod that is gone, and forgets what they came to.
func (s *Set) Leave(uid types.UID) {
	s.ForgetOthers(uid, nil)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.results.DeletePartialMatch(prometheus.Labels{labelUID: string(uid)})
}

// What a probe came to, as a label.
const (
	labelUID = "pod_uid"

	resultOK      = "successful"
	resultFailed  = "failed"
	resultUnknown = "unknown"
)

// count notes what a probe came to, unless its container has been forgotten meanwhile.
func (s *Set) count(r *run, result string) {
	pod := r.sub.Pod
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.items[r.sub.Target.ContainerID] != nil {
		s.results.WithLabelValues(r.kind.String(), result, r.sub.Target.Container.Name, pod.Name, pod.Namespace, string(pod.UID)).Inc()
	}
}

// Verdicts returns what is known of a container.
func (s *Set) Verdicts(containerID string) Verdicts {
	s.mu.Lock()
	defer s.mu.Unlock()
	if it := s.items[containerID]; it != nil {
		return it.verdicts
	}
	return Verdicts{}
}

// run is one probe of one container.
type run struct {
	sub   Subject
	kind  Kind
	probe *corev1.Probe
	last  Verdict
	count int32 // of equal outcomes in a row
}

func (s *Set) loop(ctx context.Context, r *run) {
	period := time.Duration(max(r.probe.PeriodSeconds, 1)) * time.Second
	first := r.sub.Began.Add(time.Duration(r.probe.InitialDelaySeconds) * time.Second).Sub(s.cfg.Clock.Now())
	if first < 0 && s.cfg.Clock.Since(r.sub.Began) > period {
		// The agent restarted: spread the probes of all containers over their period.
		first = time.Duration(rand.Int64N(int64(period)))
	}
	wait := max(first, 0)
	for {
		if wait > 0 {
			select {
			case <-ctx.Done():
				return
			case <-s.cfg.Clock.After(wait):
			}
		}
		wait = period
		started := s.started(r)
		switch {
		case r.kind == Startup && started:
			return
		case r.kind != Startup && !started:
			// Looking again soon lets readiness follow the start at once.
			wait = min(period, 200*time.Millisecond)
			continue
		}
		if s.once(ctx, r) {
			return
		}
	}
}

func (s *Set) started(r *run) bool {
	if r.sub.Target.Container.StartupProbe == nil {
		return true
	}
	return s.Verdicts(r.sub.Target.ContainerID)[Startup] == Success
}

// once runs the probe and counts its outcome; it reports whether the probe is over.
func (s *Set) once(ctx context.Context, r *run) bool {
	ok, msg, err := Check(ctx, s.cfg.Client, r.probe, r.sub.Target)
	if ctx.Err() != nil {
		return true
	}
	name := r.sub.Target.Container.Name
	if err != nil {
		s.count(r, resultUnknown)
		s.cfg.Event(r.sub.Pod, name, corev1.EventTypeWarning, "Unhealthy", fmt.Sprintf("%s probe errored and resulted in unknown state: %v", r.kind, err))
		return false
	}
	if ok {
		s.count(r, resultOK)
	} else {
		s.count(r, resultFailed)
		s.cfg.Event(r.sub.Pod, name, corev1.EventTypeWarning, "Unhealthy", fmt.Sprintf("%s probe failed: %s", r.kind, strings.TrimSpace(msg)))
	}
	v, decided := r.outcome(ok)
	if !decided {
		return false
	}
	s.set(r, v)
	// A container that failed to start or to live is about to be killed.
	return v == Failure && r.kind != Readiness
}

// outcome counts an outcome; decided is true once the threshold for it is reached.
func (r *run) outcome(ok bool) (v Verdict, decided bool) {
	v, threshold := Failure, max(r.probe.FailureThreshold, 1)
	if ok {
		v, threshold = Success, max(r.probe.SuccessThreshold, 1)
	}
	if r.last != v {
		r.last, r.count = v, 0
	}
	r.count++
	return v, r.count >= threshold
}

func (s *Set) set(r *run, v Verdict) {
	s.mu.Lock()
	it := s.items[r.sub.Target.ContainerID]
	changed := it != nil && it.verdicts[r.kind] != v
	if changed {
		it.verdicts[r.kind] = v
	}
	s.mu.Unlock()
	if changed {
		s.cfg.Changed(r.sub.Pod.UID)
	}
}
