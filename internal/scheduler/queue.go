package scheduler

import (
	"container/heap"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

const (
	firstBackoff = time.Second
	lastBackoff  = 10 * time.Second
	// maxRefused is how long a refused pod waits at most before it is tried again although nothing turned its refusal.
	maxRefused = 5 * time.Minute
)

// Why pods come into a place of the queue, besides what happens to the cluster; in upstream's words, for metrics.
const (
	podAdded      = "UnschedulablePodAdd"
	podUpdated    = "UnschedulablePodUpdate"
	attemptFailed = "ScheduleAttemptFailure"
	backoffOver   = "BackoffComplete"
	poppedEarly   = "PopFromBackoffQ"
	waitedLong    = "UnschedulableTimeout"
	forced        = "ForceActivate"
)

// queued is a pod that waits for a node. It stands in exactly one of the queue's places.
type queued struct {
	info     *podInfo
	seq      int64 // order of arrival among equals
	attempts int
	since    time.Time // came into the queue first
	tried    time.Time // began to be tried last
	place    place
	at       int       // index in its heap
	ready    time.Time // backing off until then; refused: last refused at
	rules    []rule    // refused: those of its profile
	blockers ruleSet   // refused: those that did it
	awaiting bool      // refused: pods are leaving a node for its sake
}

type place int

const (
	active  place = iota // to be tried now
	backoff              // to be tried at ready, or before when there is nothing else to do
	failing              // to be tried at ready and not before: something broke
	refused              // to be tried when something happens that helps
	nowhere
)

// name is upstream's name of the place, as a metric's label.
func (p place) name() string {
	return [...]string{active: "active", backoff: "backoff", failing: "backoff", refused: "unschedulable", nowhere: ""}[p]
}

// queue orders the pods that wait: by priority, then by arrival. Owned by one goroutine.
type queue struct {
	pods        map[types.UID]*queued
	heaps       [nowhere]podHeap // by place
	blocked     map[blockedBy]*blocked
	gated       map[types.UID]bool // pods that are not to be tried yet; in none of the places
	seq         int64
	first, last time.Duration // back-off after the first attempt, and the longest
	watch       queueWatch
}

// queueWatch sees what goes on in a queue.
type queueWatch interface {
	// came is told of every pod that comes to a place, and why.
	came(why, to string)
	// blocked is told of pods that are refused (1) and that are no longer (-1).
	blocked(w *queued, count int)
}

type nobody struct{}

func (nobody) came(string, string)  {}
func (nobody) blocked(*queued, int) {}

// blockedBy is what refused pods are found by when something happens.
type blockedBy struct {
	rules    *rule // the first of the profile's
	blockers ruleSet
	awaiting bool
}

// blocked are the pods that the same rules refuse, by class: a hint is asked once for a class.
type blocked struct {
	rules    []rule
	blockers ruleSet
	awaiting bool
	turns    change // what can help one of them
	classes  map[*class]map[*queued]bool
}

func newQueue() *queue {
	early := func(a, b *queued) bool { return a.ready.Before(b.ready) || (a.ready.Equal(b.ready) && a.seq < b.seq) }
	q := &queue{pods: map[types.UID]*queued{}, blocked: map[blockedBy]*blocked{}, gated: map[types.UID]bool{}, first: firstBackoff, last: lastBackoff,
		watch: nobody{}}
	for p := range q.heaps {
		q.heaps[p].less = early
	}
	q.heaps[active].less = beforeByPriority
	return q
}

func beforeByPriority(a, b *queued) bool {
	if a.info.priority != b.info.priority {
		return a.info.priority > b.info.priority
	}
	return a.seq < b.seq
}

func (q *queue) count(p place) int { return len(q.heaps[p].list) }

// set adds a pod, or replaces a waiting pod's description; a refused pod that changed is tried again.
func (q *queue) set(p *podInfo, now time.Time) {
	delete(q.gated, p.pod.UID)
	w := q.pods[p.pod.UID]
	if w == nil {
		q.seq++
		w = &queued{info: p, seq: q.seq, since: now}
		q.pods[p.pod.UID] = w
		q.push(w, active, podAdded)
		return
	}
	was := w.place
	q.take(w)
	w.info = p
	if was == refused {
		q.wake(w, podUpdated, now)
		return
	}
	q.push(w, was, podUpdated)
}

func (q *queue) remove(uid types.UID) {
	delete(q.gated, uid)
	if w := q.pods[uid]; w != nil {
		q.take(w)
		delete(q.pods, uid)
	}
}

// gate notes a pod that is not to be tried yet.
func (q *queue) gate(uid types.UID) {
	if !q.gated[uid] {
		q.gated[uid] = true
		q.watch.came(podAdded, "gated")
	}
}

// pop returns the next pod to try and takes it out; nil when there is none now.
func (q *queue) pop(now time.Time) *queued {
	for _, p := range []place{backoff, failing} {
		for q.count(p) > 0 && !q.heaps[p].list[0].ready.After(now) {
			w := q.heaps[p].list[0]
			q.take(w)
			q.push(w, active, backoffOver)
		}
	}
	if q.count(active) == 0 && q.count(backoff) > 0 { // waiting would help nobody
		w := q.heaps[backoff].list[0]
		q.take(w)
		q.push(w, active, poppedEarly)
	}
	if q.count(active) == 0 {
		return nil
	}
	w := q.heaps[active].list[0]
	q.take(w)
	delete(q.pods, w.info.pod.UID)
	w.attempts++
	w.awaiting = false
	return w
}

// refuse puts a popped pod back until something happens that helps one of rules, the blockers.
func (q *queue) refuse(w *queued, rules []rule, blockers ruleSet, now time.Time) {
	w.ready, w.rules, w.blockers = now, rules, blockers
	q.pods[w.info.pod.UID] = w
	q.push(w, refused, attemptFailed)
}

// retry puts a popped pod back for another try after its back-off: something failed that may work next time.
func (q *queue) retry(w *queued, now time.Time) {
	w.ready = now.Add(q.backoffFor(w.attempts))
	q.pods[w.info.pod.UID] = w
	q.push(w, failing, attemptFailed)
}

// happened wakes the refused pods that e can help.
func (q *queue) happened(c *cluster, e *event, now time.Time) {
	for _, b := range q.blocked {
		if b.turns&e.what == 0 {
			continue
		}
		for class, pods := range b.classes {
			if !b.helps(c, class.info, e) || b.awaiting && !b.fits(c, class.another(), e) {
				continue
			}
			for w := range pods {
				q.take(w)
				q.wake(w, e.label(), now)
			}
		}
	}
	if e.node != nil {
		q.vacated(c, e, now)
	}
}

// vacated wakes the pods for which the last victim has left the node, and those that no longer need to wait for it.
func (q *queue) vacated(c *cluster, e *event, now time.Time) {
	for uid, nominee := range c.nominees[e.node.name] {
		w := q.pods[uid]
		if w == nil || w.place != refused || !w.awaiting {
			continue
		}
		b := q.blocked[w.blockedBy()]
		if e.what&podGone != 0 && !c.vacates(nominee) || b.turns&e.what != 0 && b.helps(c, w.info, e) && b.fits(c, w.info, e) {
			q.take(w)
			q.wake(w, e.label(), now)
		}
	}
}

// helps asks the hints of the rules that refused p.
func (b *blocked) helps(c *cluster, p *podInfo, e *event) bool {
	if b.blockers == 0 {
		return true
	}
	for i := range b.rules {
		if r := &b.rules[i]; b.blockers.has(i) && r.turns&e.what != 0 && (r.hint == nil || r.hint(c, p, e)) {
			return true
		}
	}
	return false
}

// fits reports whether what happened to a node may have made it good enough for p as it is. To pods for which others are leaving
// a node already it is of no use that more could be evicted: all of them would try again with each victim that goes.
func (b *blocked) fits(c *cluster, p *podInfo, e *event) bool {
	if e.what != podGone || e.node == nil || b.blockers == 0 {
		return true
	}
	for i := range b.rules {
		if b.blockers.has(i) && !b.rules[i].local {
			return true // it looks beyond the node
		}
	}
	if e.node.object == nil {
		return false
	}
	c.candidates()                                          // so that rules find the node where they look for it
	defer func(gen uint64) { e.node.gen = gen }(e.node.gen) // in the end nothing has changed
	why, rule := refusal(c, p, e.node, b.rules)
	return !why.refuses() || !b.rules[rule].local // that one is not asked again when a pod goes from elsewhere
}

// expire wakes the pods that were refused too long ago.
func (q *queue) expire(now time.Time) {
	for q.count(refused) > 0 && now.Sub(q.heaps[refused].list[0].ready) > maxRefused {
		w := q.heaps[refused].list[0]
		q.take(w)
		q.wake(w, waitedLong, now)
	}
}

// rethink wakes a refused pod although nothing it waits for happened.
func (q *queue) rethink(uid types.UID, now time.Time) {
	if w := q.pods[uid]; w != nil && w.place == refused {
		q.take(w)
		q.wake(w, forced, now)
	}
}

// wake moves w on: it may be tried once its back-off since the last attempt is over.
func (q *queue) wake(w *queued, why string, now time.Time) {
	w.ready = w.ready.Add(q.backoffFor(w.attempts))
	if w.ready.After(now) {
		q.push(w, backoff, why)
	} else {
		q.push(w, active, why)
	}
}

func (q *queue) backoffFor(attempts int) time.Duration {
	d := q.first
	for i := 1; i < attempts && d < q.last; i++ {
		d *= 2
	}
	return min(d, q.last)
}

// next returns when to look again if nothing happens, and false when only an event can help.
func (q *queue) next() (time.Time, bool) {
	var at time.Time
	for _, p := range []place{backoff, failing, refused} {
		if q.count(p) == 0 {
			continue
		}
		ready := q.heaps[p].list[0].ready
		if p == refused {
			ready = ready.Add(maxRefused + time.Second)
		}
		if at.IsZero() || ready.Before(at) {
			at = ready
		}
	}
	return at, !at.IsZero()
}

func (q *queue) push(w *queued, to place, why string) {
	w.place = to
	heap.Push(&q.heaps[to], w)
	q.watch.came(why, to.name())
	if to == refused {
		q.block(w)
		q.watch.blocked(w, 1)
	}
}

func (q *queue) take(w *queued) {
	heap.Remove(&q.heaps[w.place], w.at)
	if w.place == refused {
		q.unblock(w)
		q.watch.blocked(w, -1)
	}
}

func (w *queued) blockedBy() blockedBy {
	by := blockedBy{blockers: w.blockers, awaiting: w.awaiting}
	if len(w.rules) > 0 {
		by.rules = &w.rules[0]
	}
	return by
}

func (q *queue) block(w *queued) {
	by := w.blockedBy()
	b := q.blocked[by]
	if b == nil {
		b = &blocked{rules: w.rules, blockers: w.blockers, awaiting: w.awaiting, classes: map[*class]map[*queued]bool{}}
		if w.blockers == 0 {
			b.turns = nodeAdded // there was no node
		}
		for i := range w.rules {
			if w.blockers.has(i) {
				b.turns |= w.rules[i].turns
			}
		}
		q.blocked[by] = b
	}
	if b.classes[w.info.class] == nil {
		b.classes[w.info.class] = map[*queued]bool{}
	}
	b.classes[w.info.class][w] = true
}

func (q *queue) unblock(w *queued) {
	by := w.blockedBy()
	b := q.blocked[by]
	delete(b.classes[w.info.class], w)
	if len(b.classes[w.info.class]) == 0 {
		delete(b.classes, w.info.class)
	}
	if len(b.classes) == 0 {
		delete(q.blocked, by)
	}
}

// podHeap is a container/heap that keeps each pod's index.
type podHeap struct {
	list []*queued
	less func(a, b *queued) bool
}

func (h *podHeap) Len() int           { return len(h.list) }
func (h *podHeap) Less(i, j int) bool { return h.less(h.list[i], h.list[j]) }
func (h *podHeap) Swap(i, j int) {
	h.list[i], h.list[j] = h.list[j], h.list[i]
	h.list[i].at, h.list[j].at = i, j
}

// Push is for container/heap only.
func (h *podHeap) Push(x any) {
	w := x.(*queued)
	w.at = len(h.list)
	h.list = append(h.list, w)
}

// Pop is for container/heap only.
func (h *podHeap) Pop() any {
	last := len(h.list) - 1
	w := h.list[last]
	h.list[last] = nil
	h.list = h.list[:last]
	return w
}
