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

// queued is a pod that waits for a node. It stands in exactly one of the queue's three places.
type queued struct {
	info     *podInfo
	seq      int64 // order of arrival among equals
	attempts int
	since    time.Time // came into the queue first
	tried    time.Time // began to be tried last
	place    place
	at       int       // index in its heap
	ready    time.Time // backing off until then; refused: last refused at
	turns    change    // refused: what may turn the refusal
}

type place int

const (
	active  place = iota // to be tried now
	backoff              // to be tried at ready
	refused              // to be tried when something in turns happens
)

// queue orders the pods that wait: by priority, then by arrival. Owned by one goroutine.
type queue struct {
	pods    map[types.UID]*queued
	active  podHeap
	backoff podHeap
	refused map[types.UID]*queued
	gated   map[types.UID]bool // pods that are not to be tried yet; in none of the three places
	seq     int64
}

func newQueue() *queue {
	return &queue{
		pods:    map[types.UID]*queued{},
		refused: map[types.UID]*queued{},
		gated:   map[types.UID]bool{},
		active:  podHeap{less: beforeByPriority},
		backoff: podHeap{less: func(a, b *queued) bool { return a.ready.Before(b.ready) }},
	}
}

func beforeByPriority(a, b *queued) bool {
	if a.info.priority != b.info.priority {
		return a.info.priority > b.info.priority
	}
	return a.seq < b.seq
}

// set adds a pod, or replaces a waiting pod's description; a refused pod that changed is tried again.
func (q *queue) set(p *podInfo, now time.Time) {
	delete(q.gated, p.pod.UID)
	w := q.pods[p.pod.UID]
	if w == nil {
		q.seq++
		w = &queued{info: p, seq: q.seq, since: now}
		q.pods[p.pod.UID] = w
		q.push(w, active)
		return
	}
	was := w.place
	q.take(w)
	w.info = p
	if was == refused {
		q.wake(w, now)
		return
	}
	q.push(w, was)
}

func (q *queue) remove(uid types.UID) {
	delete(q.gated, uid)
	if w := q.pods[uid]; w != nil {
		q.take(w)
		delete(q.pods, uid)
	}
}

// pop returns the next pod to try and takes it out; nil when there is none now.
func (q *queue) pop(now time.Time) *queued {
	for len(q.backoff.list) > 0 && !q.backoff.list[0].ready.After(now) {
		w := q.backoff.list[0]
		q.take(w)
		q.push(w, active)
	}
	if len(q.active.list) == 0 {
		return nil
	}
	w := q.active.list[0]
	q.take(w)
	delete(q.pods, w.info.pod.UID)
	w.attempts++
	return w
}

// refuse puts a popped pod back until one of turns happens.
func (q *queue) refuse(w *queued, turns change, now time.Time) {
	w.turns, w.ready = turns, now
	q.pods[w.info.pod.UID] = w
	q.push(w, refused)
}

// retry puts a popped pod back for another try after its back-off: something failed that may work next time.
func (q *queue) retry(w *queued, now time.Time) {
	w.ready = now
	q.pods[w.info.pod.UID] = w
	q.wake(w, now)
}

// happened wakes the refused pods that c may help, and those refused too long ago.
func (q *queue) happened(c change, now time.Time) {
	for _, w := range q.refused {
		if w.turns&c != 0 || now.Sub(w.ready) > maxRefused {
			q.take(w)
			q.wake(w, now)
		}
	}
}

// rethink wakes a refused pod although nothing it waits for happened.
func (q *queue) rethink(uid types.UID, now time.Time) {
	if w := q.refused[uid]; w != nil {
		q.take(w)
		q.wake(w, now)
	}
}

// wake moves w on: it may be tried once its back-off since the last attempt is over.
func (q *queue) wake(w *queued, now time.Time) {
	w.ready = w.ready.Add(backoffFor(w.attempts))
	if w.ready.After(now) {
		q.push(w, backoff)
	} else {
		q.push(w, active)
	}
}

func backoffFor(attempts int) time.Duration {
	d := firstBackoff
	for i := 1; i < attempts && d < lastBackoff; i++ {
		d *= 2
	}
	return min(d, lastBackoff)
}

// next returns when to look again if nothing happens, and false when only an event can help.
func (q *queue) next() (time.Time, bool) {
	switch {
	case len(q.backoff.list) > 0:
		return q.backoff.list[0].ready, true
	case len(q.refused) > 0:
		oldest := time.Time{}
		for _, w := range q.refused {
			if oldest.IsZero() || w.ready.Before(oldest) {
				oldest = w.ready
			}
		}
		return oldest.Add(maxRefused + time.Second), true
	}
	return time.Time{}, false
}

func (q *queue) push(w *queued, to place) {
	w.place = to
	switch to {
	case active:
		heap.Push(&q.active, w)
	case backoff:
		heap.Push(&q.backoff, w)
	case refused:
		q.refused[w.info.pod.UID] = w
	}
}

func (q *queue) take(w *queued) {
	switch w.place {
	case active:
		heap.Remove(&q.active, w.at)
	case backoff:
		heap.Remove(&q.backoff, w.at)
	case refused:
		delete(q.refused, w.info.pod.UID)
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
