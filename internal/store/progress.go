package store

import (
	"context"
	"fmt"
	"sort"
	"sync"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// progress is the applied revision and those who wait for it.
type progress struct {
	applied atomic.Int64
	asked   atomic.Int64  // when a waiter last asked etcd where it is, in nanoseconds
	stopped chan struct{} // closed when Run returns
	mu      sync.Mutex
	waiters []*waiter // by revision
}

type waiter struct {
	rev  int64
	done chan struct{}
}

// advance makes rev the applied revision. Everything up to it has been published.
func (p *progress) advance(rev int64) {
	if rev <= p.applied.Load() {
		return
	}
	p.applied.Store(rev)
	p.mu.Lock()
	n := sort.Search(len(p.waiters), func(i int) bool { return p.waiters[i].rev > rev })
	for i, w := range p.waiters[:n] {
		close(w.done)
		p.waiters[i] = nil
	}
	p.waiters = p.waiters[n:]
	p.mu.Unlock()
}

// await adds a waiter for rev; nil when rev is applied already.
func (p *progress) await(rev int64) *waiter {
	if p.applied.Load() >= rev {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.applied.Load() >= rev { // advance stores first and locks second
		return nil
	}
	w := &waiter{rev: rev, done: make(chan struct{})}
	i := len(p.waiters)
	for i > 0 && p.waiters[i-1].rev > rev { // nearly always the newest
		i--
	}
	p.waiters = append(p.waiters, nil)
	copy(p.waiters[i+1:], p.waiters[i:])
	p.waiters[i] = w
	return w
}

func (p *progress) drop(w *waiter) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range p.waiters {
		if p.waiters[i] == w {
			p.waiters = append(p.waiters[:i], p.waiters[i+1:]...)
			return
		}
	}
}

// freshWait is how long a read waits for a revision the store has not seen.
const freshWait = 3 * time.Second

// nudgeAfter is when a reader that waits asks etcd where it is. Until then the revision is expected from the watch;
// afterwards it may be that of a write outside our prefix, which only a progress notification brings.
const nudgeAfter = 10 * time.Millisecond

// waitApplied returns when rev is applied, or an error. limit 0: as long as ctx lasts.
func (s *Store) waitApplied(ctx context.Context, rev int64, limit time.Duration) error {
	w := s.progress.await(rev)
	if w == nil {
		return nil
	}
	nudge := time.NewTimer(nudgeAfter)
	select {
	case <-w.done:
		nudge.Stop()
		return nil
	case <-nudge.C:
	case <-ctx.Done():
		nudge.Stop()
	case <-s.progress.stopped:
		nudge.Stop()
	}
	defer s.progress.drop(w)
	return s.waitLong(ctx, w, limit)
}

// waitLong waits for what did not come at once, and asks for it from time to time.
func (s *Store) waitLong(ctx context.Context, w *waiter, limit time.Duration) error {
	var late <-chan time.Time
	if limit > 0 {
		t := s.c.Clock.NewTimer(limit)
		defer t.Stop()
		late = t.C()
	}
	nudge := time.NewTicker(nudgeAfter)
	defer nudge.Stop()
	for {
		s.requestProgress(ctx)
		select {
		case <-w.done:
			return nil
		case <-late:
			return &TooLargeRevision{Asked: w.rev, Applied: s.Applied()}
		case <-nudge.C:
		case <-ctx.Done():
			return fmt.Errorf("wait for revision %d (applied: %d): %w", w.rev, s.Applied(), ctx.Err())
		case <-s.progress.stopped:
			return ErrClosed
		}
	}
}

// requestProgress asks etcd to tell its revision on the applier's watch. One answer serves all who wait, so they ask once
// in nudgeAfter together.
func (s *Store) requestProgress(ctx context.Context) {
	now, last := time.Now().UnixNano(), s.progress.asked.Load()
	if now-last < int64(nudgeAfter) || !s.progress.asked.CompareAndSwap(last, now) {
		return
	}
	s.mu.Lock()
	stream := s.watchCtx
	s.mu.Unlock()
	if stream == nil || ctx.Err() != nil {
		return
	}
	if err := s.c.Etcd.RequestProgress(stream); err != nil {
		s.c.Log.Debug("etcd progress request", "error", err)
	}
}

// revisionReader lets all who need etcd's present revision share linearizable reads: a read serves those who asked before
// it was sent.
type revisionReader struct {
	work chan struct{}
	mu   sync.Mutex
	next *revisionCall
}

type revisionCall struct {
	done chan struct{}
	rev  int64
	err  error
}

func (q *revisionReader) ask() *revisionCall {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.next == nil {
		q.next = &revisionCall{done: make(chan struct{})}
		signal(q.work)
	}
	return q.next
}

// revisionTimeout bounds one linearizable read, so that readers learn when etcd has no quorum.
const revisionTimeout = 10 * time.Second

// readRevisions serves the revision reader until ctx ends.
func (s *Store) readRevisions(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.newest.work:
		}
		s.newest.mu.Lock()
		call := s.newest.next
		s.newest.next = nil
		s.newest.mu.Unlock()
		call.rev, call.err = s.etcdRevision(ctx)
		close(call.done)
	}
}

// etcdRevision is one linearizable read.
func (s *Store) etcdRevision(ctx context.Context) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, revisionTimeout)
	defer cancel()
	resp, err := s.c.Etcd.Get(ctx, s.c.Prefix, clientv3.WithCountOnly()) // a key that never is: only the header matters
	if err != nil {
		return 0, fmt.Errorf("read the present revision from etcd: %w", err)
	}
	return resp.Header.Revision, nil
}

// Revision returns a revision at least as new as every write acknowledged before the call, once it is applied.
func (s *Store) Revision(ctx context.Context) (int64, error) {
	call := s.newest.ask()
	select {
	case <-call.done:
	case <-ctx.Done():
		return 0, fmt.Errorf("wait for etcd's present revision: %w", ctx.Err())
	case <-s.progress.stopped:
		return 0, ErrClosed
	}
	if call.err != nil {
		return 0, call.err
	}
	return call.rev, s.waitApplied(ctx, call.rev, 0)
}

// waitFresh returns when the store is as fresh as f asks.
func (s *Store) waitFresh(ctx context.Context, f Freshness) error {
	switch f.Match {
	case Consistent:
		_, err := s.Revision(ctx)
		return err
	case NotOlderThan, Exact:
		return s.waitApplied(ctx, f.Revision, freshWait)
	case Any:
	}
	return nil
}
