package scheduler

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"os"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/record/util"
	"k8s.io/utils/clock"
)

const (
	maxAnnounced     = 1 << 16 // events that wait to be written; those beyond are never told
	announcers       = 4       // few: events must not take the server's time from bindings
	announceAttempts = 12
	announcePause    = 10 * time.Second
)

// announcer writes the events of placements and evictions. A pod is placed once and evicted once, so that there is never a series
// to add to, and what client-go's recorder keeps and copies for series is not needed. It never blocks who announces.
type announcer struct {
	client   kubernetes.Interface
	clock    clock.Clock
	log      *slog.Logger
	instance string // of the reporting controller: behind its name

	mu      sync.Mutex
	waiting []announcement // a ring: count of them from first on
	first   int
	count   int
	lost    int // since it was last said
	more    chan struct{}
}

// announcement is that a pod has been bound, or evicted.
type announcement struct {
	pod  *corev1.Pod // as it was before
	node string
	by   *corev1.Pod // for whose sake it was evicted; nil: it was bound
	at   time.Time
}

func newAnnouncer(c *Config) *announcer {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return &announcer{client: c.Client, clock: c.Clock, log: c.Log, instance: "-" + host, more: make(chan struct{}, 1)}
}

// bound has it written that pod has been bound to node.
func (a *announcer) bound(pod *corev1.Pod, node string) { a.tell(announcement{pod: pod, node: node}) }

// evicted has it written that pod had to leave node for the sake of by.
func (a *announcer) evicted(pod, by *corev1.Pod, node string) {
	a.tell(announcement{pod: pod, node: node, by: by})
}

func (a *announcer) tell(p announcement) {
	p.at = a.clock.Now()
	a.mu.Lock()
	if a.count == maxAnnounced {
		a.lost++
	} else {
		a.push(p)
	}
	a.mu.Unlock()
	a.token()
}

func (a *announcer) push(p announcement) {
	if a.count == len(a.waiting) {
		const few = 64
		larger := make([]announcement, max(few, 2*a.count))
		for i := range a.count {
			larger[i] = a.waiting[(a.first+i)%len(a.waiting)]
		}
		a.waiting, a.first = larger, 0
	}
	a.waiting[(a.first+a.count)%len(a.waiting)] = p
	a.count++
}

// take returns the oldest announcement, and wakes another goroutine when there are more; false when there is none. With the
// last of a flood the room it took goes.
func (a *announcer) take() (p announcement, ok bool, lost int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.count == 0 {
		return announcement{}, false, 0
	}
	p, a.waiting[a.first] = a.waiting[a.first], announcement{}
	a.first = (a.first + 1) % len(a.waiting)
	if a.count--; a.count > 0 {
		a.token()
		return p, true, 0
	}
	lost, a.lost = a.lost, 0
	a.waiting, a.first = nil, 0
	return p, true, lost
}

func (a *announcer) token() {
	select {
	case a.more <- struct{}{}:
	default:
	}
}

// run writes events until ctx ends.
func (a *announcer) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-a.more:
		}
		for p, ok, lost := a.take(); ok && ctx.Err() == nil; p, ok, lost = a.take() {
			if lost > 0 {
				a.log.Warn("pods were bound or evicted faster than events could be written; some have no event of it", "pods", lost)
			}
			a.write(ctx, a.event(p))
		}
	}
}

func (a *announcer) event(p announcement) *eventsv1.Event {
	scheduler := p.pod.Spec.SchedulerName
	if p.by != nil {
		scheduler = p.by.Spec.SchedulerName
	}
	e := &eventsv1.Event{
		ObjectMeta:          metav1.ObjectMeta{Name: util.GenerateEventName(p.pod.Name, p.at.UnixNano()), Namespace: p.pod.Namespace},
		EventTime:           metav1.NewMicroTime(p.at),
		ReportingController: scheduler,
		ReportingInstance:   scheduler + a.instance,
		Action:              "Binding",
		Reason:              "Scheduled",
		Regarding:           referenceTo(p.pod),
		Note:                "Successfully assigned " + p.pod.Namespace + "/" + p.pod.Name + " to " + p.node,
		Type:                corev1.EventTypeNormal,
	}
	if p.by != nil {
		by := referenceTo(p.by)
		e.Related = &by
		e.Action, e.Reason, e.Note = "Preempting", "Preempted", "Preempted by pod "+string(p.by.UID)+" on node "+p.node
	}
	return e
}

func referenceTo(pod *corev1.Pod) corev1.ObjectReference {
	return corev1.ObjectReference{APIVersion: "v1", Kind: "Pod", Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID, ResourceVersion: pod.ResourceVersion}
}

// write creates an event, again and again while the server cannot be reached.
func (a *announcer) write(ctx context.Context, e *eventsv1.Event) {
	var err error
	for range announceAttempts {
		if _, err = a.client.EventsV1().Events(e.Namespace).Create(ctx, e, metav1.CreateOptions{}); err == nil || ctx.Err() != nil {
			return
		}
		var refusal apierrors.APIStatus
		if errors.As(err, &refusal) {
			break // it was understood, and is not wanted: another time would not help
		}
		if !a.pause(ctx) {
			return
		}
	}
	a.log.Warn("an event of a pod that was bound or evicted could not be written", "pod", e.Namespace+"/"+e.Regarding.Name, "error", err)
}

// pause waits a little less or more than announcePause; false when ctx ended before.
func (a *announcer) pause(ctx context.Context) bool {
	t := a.clock.NewTimer(announcePause + rand.N(announcePause/4))
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C():
		return true
	}
}
