package store_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"canopus/internal/store"
	"canopus/internal/store/etcdtest"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	clocktesting "k8s.io/utils/clock/testing"
)

// cuttable is an etcd watcher whose watches can be cut, and kept from starting, until mended.
type cuttable struct {
	clientv3.Watcher
	mu   sync.Mutex
	open chan struct{} // closed while watches may start
	cuts []context.CancelFunc
}

func newCuttable(w clientv3.Watcher) *cuttable {
	c := &cuttable{Watcher: w, open: make(chan struct{})}
	close(c.open)
	return c
}

func (c *cuttable) Watch(ctx context.Context, key string, opts ...clientv3.OpOption) clientv3.WatchChan {
	c.mu.Lock()
	open := c.open
	ctx, cancel := context.WithCancel(ctx)
	c.cuts = append(c.cuts, cancel)
	c.mu.Unlock()
	<-open
	return c.Watcher.Watch(ctx, key, opts...)
}

func (c *cuttable) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open = make(chan struct{})
	for _, cancel := range c.cuts {
		cancel()
	}
	c.cuts = nil
}

func (c *cuttable) mend() {
	c.mu.Lock()
	defer c.mu.Unlock()
	close(c.open)
}

// cutOff returns a store whose etcd watch can be cut, and one on the same etcd that stays whole.
func cutOff(t *testing.T) (cut, whole *running, line *cuttable, etcd *clientv3.Client) {
	etcd = etcdtest.Start(t)
	line = newCuttable(etcd.Watcher)
	wired := &clientv3.Client{KV: etcd.KV, Lease: etcd.Lease, Watcher: line, Maintenance: etcd.Maintenance}
	return run(t, config(wired)), run(t, config(etcd)), line, etcd
}

// A watch that breaks goes on where it stopped: every event comes, once.
func TestWatchBreaks(t *testing.T) {
	t.Parallel()
	cut, whole, line, _ := cutOff(t)
	w := must[*store.Watcher](t)(cut.pods.Watch(t.Context(), store.WatchOptions{Revision: cut.Applied()}))
	defer w.Close()
	var want []string
	for i := range 5 {
		line.cut()
		for j := range 3 {
			e := whole.create(t, pod("a", fmt.Sprintf("p%d-%d", i, j), nil, ""))
			want = append(want, fmt.Sprintf("ADDED a/%s@%d", e.Name, e.Revision))
		}
		line.mend()
		equal(t, collect(t, w, 3), want[len(want)-3:]...)
	}
}

// A writer whose store lost its watch still learns that its write is done.
func TestCommitWhileCutOff(t *testing.T) {
	t.Parallel()
	cut, whole, line, _ := cutOff(t)
	line.cut()
	made := cut.create(t, pod("a", "x", nil, "one"))
	if note := consistent(t, made); note != "one" {
		t.Errorf("the write gave %q", note)
	}
	seen := must[*store.Entry](t)(whole.pods.Get(t.Context(), "a", "x", store.Freshness{}))
	if seen.Revision != made.Revision {
		t.Errorf("written at %d, reported %d", seen.Revision, made.Revision)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := cut.pods.Get(ctx, "a", "x", store.Freshness{}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("consistent read while cut off: %v", err)
	}
	line.mend()
	if e := must[*store.Entry](t)(cut.pods.Get(t.Context(), "a", "x", store.Freshness{})); e.Revision != made.Revision {
		t.Errorf("after mending: %d", e.Revision)
	}
}

// When the history missed is compacted away, watchers are told the difference.
func TestResync(t *testing.T) {
	t.Parallel()
	cut, whole, line, etcd := cutOff(t)
	kept := whole.create(t, pod("a", "kept", nil, "kept"))
	changed := whole.create(t, pod("a", "changed", nil, "1"))
	replaced := whole.create(t, pod("a", "replaced", nil, "old"))
	removed := whole.create(t, pod("a", "removed", nil, "bye"))
	w := must[*store.Watcher](t)(cut.pods.Watch(t.Context(), store.WatchOptions{Selector: store.Selector{Namespace: "a"}, InitialEvents: true, Consistent: true, Bookmarks: true}))
	defer w.Close()
	collect(t, w, 5)

	line.cut()
	changed = whole.write(t, whole.write(t, changed, pod("a", "changed", nil, "2")), pod("a", "changed", nil, "3"))
	whole.remove(t, whole.pods, replaced)
	replaced = whole.create(t, pod("a", "replaced", nil, "new"))
	whole.remove(t, whole.pods, removed)
	whole.remove(t, whole.pods, whole.create(t, pod("a", "passing", nil, "")))
	added := whole.create(t, pod("a", "added", nil, ""))
	if _, err := etcd.Compact(t.Context(), added.Revision); err != nil {
		t.Fatal(err)
	}
	line.mend()

	got := collect(t, w, 5)
	slices.Sort(got)
	equal(t, got,
		fmt.Sprintf("ADDED a/added@%d", added.Revision), fmt.Sprintf("ADDED a/replaced@%d", replaced.Revision),
		fmt.Sprintf("DELETED a/removed@%d", added.Revision), fmt.Sprintf("DELETED a/replaced@%d", replaced.Revision),
		fmt.Sprintf("MODIFIED a/changed@%d", changed.Revision))
	l := must[store.List](t)(cut.pods.List(t.Context(), store.ListOptions{}))
	if len(l.Entries) != 4 || l.Entries[2] != must[*store.Entry](t)(cut.pods.Get(t.Context(), "a", "kept", store.Freshness{})) || l.Entries[2].Revision != kept.Revision {
		t.Errorf("list after resync: %d entries", len(l.Entries))
	}
	var expired *store.Expired
	if _, err := cut.pods.Watch(t.Context(), store.WatchOptions{Revision: added.Revision - 2}); !errors.As(err, &expired) {
		t.Errorf("watch from within the gap: %v", err)
	}
	late := whole.create(t, pod("a", "late", nil, ""))
	equal(t, collect(t, w, 1), fmt.Sprintf("ADDED a/late@%d", late.Revision))
}

// History is kept for the compaction interval, and then goes.
func TestCompaction(t *testing.T) {
	t.Parallel()
	c := config(etcdtest.Start(t))
	clock := clocktesting.NewFakeClock(time.Now())
	c.Clock, c.Compact = clock, time.Minute
	s := run(t, c)
	rev := s.create(t, configMap("m", "x")).Revision
	compacted := func() bool {
		_, err := c.Etcd.Get(t.Context(), "/registry/configmaps/default/m", clientv3.WithRev(rev))
		return errors.Is(err, rpctypes.ErrCompacted)
	}
	steps := 0
	for tick := range tickUntil(t, compacted) {
		if tick%10 == 0 && clock.HasWaiters() {
			s.create(t, configMap(fmt.Sprint(steps), "x"))
			clock.Step(time.Minute)
			steps++
		}
	}
	if steps < 2 {
		t.Errorf("compacted after %d intervals: what was written within the last must stay", steps)
	}
}

// tickUntil yields every few milliseconds until done, at most for 20 seconds.
func tickUntil(t *testing.T, done func() bool) func(func(int) bool) {
	return func(yield func(int) bool) {
		ticker := time.NewTicker(5 * time.Millisecond)
		defer ticker.Stop()
		for i := range 4000 {
			if done() || !yield(i) {
				return
			}
			<-ticker.C
		}
		t.Fatal("the condition never came true")
	}
}
