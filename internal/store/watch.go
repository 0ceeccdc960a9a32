package store

import (
	"context"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/utils/clock"
)

// Watcher is a cursor in a resource's history. For one goroutine, but for Close.
//
// It goes through up to three phases: the initial state, history older than the ring (segments read from etcd), the ring.
type Watcher struct {
	r       *Resource
	m       matcher
	o       WatchOptions
	index   indexKey
	indexed bool
	wakeUp  chan struct{}
	closing sync.Once

	// Guarded by r.mu.
	set           *watcherSet // where the applier finds it; nil: it does not
	before, after *Watcher    // in set

	cursor uint64 // number of the next record to look at
	idle   bool   // every record so far was looked at or does not concern the watcher: cursor counts for nothing
	err    error  // why the watch has ended

	// Owned by the goroutine that calls Next.
	opening  bool // initial state is being handed out: the entries of opened from key next on
	opened   tree
	next     string
	behind   bool // records up to the ring have still to come from etcd's history
	position int64
	drained  bool // take has seen the end: there is nothing to look at before the next wake-up
	scratch  []*record
	out      []Event
	bookmark clock.Timer
}

const (
	watchBatch    = 256 // records or initial entries handed out at once
	bookmarkEvery = time.Minute
)

// Watch starts a watch; see WatchOptions. Close it when done. Errors: *TooLargeRevision, *Expired.
func (r *Resource) Watch(ctx context.Context, o WatchOptions) (*Watcher, error) {
	if err := r.waitLoaded(ctx); err != nil {
		return nil, err
	}
	if err := r.waitStart(ctx, o); err != nil {
		return nil, err
	}
	w := &Watcher{r: r, m: r.matcher(o.Selector), o: o, wakeUp: make(chan struct{}, 1)}
	w.index, w.indexed = r.choose(&w.m)
	if o.Revision == 0 || o.InitialEvents {
		w.startFromState()
	} else if err := w.startFrom(ctx, o.Revision); err != nil {
		w.Close()
		return nil, err
	}
	if o.Bookmarks {
		w.bookmark = r.store.c.Clock.NewTimer(bookmarkEvery)
	}
	return w, nil
}

func (r *Resource) waitStart(ctx context.Context, o WatchOptions) error {
	switch {
	case o.Revision > 0:
		return r.store.waitApplied(ctx, o.Revision, freshWait)
	case o.Consistent:
		_, err := r.store.Revision(ctx)
		return err
	}
	return nil
}

// startFromState begins with the present state.
func (w *Watcher) startFromState() {
	r := w.r
	r.mu.Lock()
	defer r.mu.Unlock()
	st, rev := r.now() // under the lock: the ring ends where the state does
	w.position = rev
	w.cursor, w.idle = r.ring.end, true
	w.opening, w.opened = true, st.tree
	w.enter()
}

// startFrom begins after a revision: in the ring if it reaches back so far, else in etcd's history.
func (w *Watcher) startFrom(ctx context.Context, rev int64) error {
	w.position = rev
	if w.join() {
		return nil
	}
	w.behind = true
	_, err := w.r.history(ctx, rev) // now, so that the caller learns at once when it is compacted away
	return err
}

// join enters the ring after w.position, if everything since is there.
func (w *Watcher) join() bool {
	r := w.r
	r.mu.Lock()
	defer r.mu.Unlock()
	if w.position < r.floor {
		return false
	}
	w.cursor = r.ring.after(w.position)
	w.idle = w.cursor == r.ring.end
	w.behind = false
	w.enter()
	return true
}

// enter makes the watcher known to the applier. r.mu is held.
func (w *Watcher) enter() {
	select {
	case <-w.r.gone:
		w.err = ErrUnregistered
	case <-w.r.store.progress.stopped:
		w.err = ErrClosed
	default:
		if w.err == nil {
			w.r.watchers.add(w)
		}
	}
}

// wakeAt tells the watcher to look at record i. r.mu is held.
func (w *Watcher) wakeAt(i uint64) {
	if w.idle {
		w.cursor, w.idle = i, false
		signal(w.wakeUp)
	}
}

// end makes Next return err from now on. r.mu is held.
func (w *Watcher) end(err error) {
	if w.err == nil {
		w.err = err
	}
	w.r.watchers.remove(w)
	signal(w.wakeUp)
}

// Close ends the watch. It may be called at any time, more than once.
func (w *Watcher) Close() {
	w.closing.Do(func() {
		w.r.mu.Lock()
		w.end(ErrClosed)
		w.r.mu.Unlock()
	})
}

func (r *Resource) endWatches(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.watchers.each(func(w *Watcher) { w.end(err) })
}

// Next blocks until there is something to tell and returns it in order, at least one event. The slice is valid until the
// next call. Errors end the watch: ErrOvertaken, *Expired (its history is compacted away), ErrUnregistered, ErrClosed, ctx's.
func (w *Watcher) Next(ctx context.Context) ([]Event, error) {
	for {
		w.out = w.out[:0]
		events, err := w.ready(ctx)
		if err != nil {
			w.finish()
			return nil, err
		}
		if len(events) > 0 {
			return events, nil
		}
		if events, err = w.wait(ctx); err != nil {
			w.finish()
			return nil, err
		}
		if len(events) > 0 {
			return events, nil
		}
	}
}

// ready returns what can be told without waiting; nothing when the watcher is at the end.
func (w *Watcher) ready(ctx context.Context) ([]Event, error) {
	if w.opening {
		return w.initial()
	}
	for w.behind {
		if err := w.ended(); err != nil {
			return nil, err
		}
		if w.join() {
			break
		}
		seg, err := w.r.history(ctx, w.position)
		if err != nil {
			return nil, err
		}
		w.tell(seg.after(w.position))
		w.position = seg.to
		if len(w.out) > 0 {
			return w.out, nil
		}
	}
	for !w.drained {
		if err := w.take(); err != nil {
			return nil, err
		}
		w.tell(w.scratch)
		clear(w.scratch)
		if len(w.out) > 0 {
			break
		}
	}
	return w.out, nil
}

// ended is why the watch is over, or nil.
func (w *Watcher) ended() error {
	w.r.mu.Lock()
	defer w.r.mu.Unlock()
	return w.err
}

// initial hands out the next part of the initial state.
func (w *Watcher) initial() ([]Event, error) {
	if err := w.ended(); err != nil {
		return nil, err
	}
	for e := range w.opened.matching(&w.m, w.next) {
		if len(w.out) == watchBatch {
			w.next = e.key
			return w.out, nil
		}
		w.out = append(w.out, Event{Type: watch.Added, Entry: e, Revision: e.Revision})
	}
	w.opening, w.opened = false, tree{}
	if w.o.InitialEvents && w.o.Bookmarks {
		w.out = append(w.out, Event{Type: watch.Bookmark, Revision: w.position, Initial: true})
	}
	return w.out, nil
}

// take copies the next records of the ring to scratch.
func (w *Watcher) take() error {
	w.scratch = w.scratch[:0]
	r := w.r
	r.mu.Lock()
	defer r.mu.Unlock()
	if w.err != nil {
		return w.err
	}
	_, reached := r.now()
	if w.idle {
		w.position, w.drained = max(w.position, reached), true
		return nil
	}
	if w.cursor < r.ring.first {
		w.end(ErrOvertaken)
		return w.err
	}
	var last int64
	for ; w.cursor != r.ring.end; w.cursor++ {
		rec := r.ring.at(w.cursor)
		if len(w.scratch) >= watchBatch && rec.rev != last { // a revision is told whole: position can stand at it
			break
		}
		w.scratch, last = append(w.scratch, rec), rec.rev
	}
	if w.cursor == r.ring.end {
		w.idle, w.drained = true, true
		w.position = max(w.position, reached)
		return nil
	}
	w.position, w.drained = max(w.position, last), false
	return nil
}

// tell appends what records mean to this watcher.
func (w *Watcher) tell(records []*record) {
	for _, rec := range records {
		before, now := w.m.matches(rec.prev), w.m.matches(rec.now)
		switch {
		case before && now:
			w.out = append(w.out, Event{Type: watch.Modified, Entry: rec.now, Revision: rec.rev})
		case now:
			w.out = append(w.out, Event{Type: watch.Added, Entry: rec.now, Revision: rec.rev})
		case before:
			w.out = append(w.out, Event{Type: watch.Deleted, Entry: rec.last(), Revision: rec.rev})
		}
	}
}

// wait blocks until there may be something to tell. It returns a bookmark when one is due.
func (w *Watcher) wait(ctx context.Context) ([]Event, error) {
	var due <-chan time.Time
	if w.bookmark != nil {
		due = w.bookmark.C()
	}
	select {
	case <-w.wakeUp:
		w.drained = false
		return nil, nil
	case <-due:
		w.bookmark.Reset(bookmarkEvery)
		if err := w.take(); err != nil { // moves position to the applied revision; records go first
			return nil, err
		}
		w.tell(w.scratch)
		clear(w.scratch)
		return append(w.out, Event{Type: watch.Bookmark, Revision: w.position}), nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Bookmark returns a bookmark event at the watcher's position, to send before a watch is ended for its time-out; false
// while the initial state has not been told. Only between calls of Next.
func (w *Watcher) Bookmark() (Event, bool) {
	return Event{Type: watch.Bookmark, Revision: w.position}, !w.opening
}

// finish lets go of what Next holds.
func (w *Watcher) finish() {
	if w.bookmark != nil {
		w.bookmark.Stop()
	}
	w.Close()
}
