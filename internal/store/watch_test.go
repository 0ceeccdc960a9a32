package store_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"canopus/internal/store"
	"canopus/internal/store/etcdtest"

	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/watch"
	clocktesting "k8s.io/utils/clock/testing"
)

// collect reads n events.
func collect(t testing.TB, w *store.Watcher, n int) []string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	var got []string
	for len(got) < n {
		events, err := w.Next(ctx)
		if err != nil {
			t.Fatalf("after %q: %v", got, err)
		}
		for _, e := range events {
			if e.Entry != nil {
				consistent(t, e.Entry)
			}
			got = append(got, describe(e))
		}
	}
	return got
}

func equal(t testing.TB, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

func TestWatchSelector(t *testing.T) {
	t.Parallel()
	s := run(t, config(etcdtest.Start(t)))
	in, out := map[string]string{"in": "yes"}, map[string]string{"in": "no"}
	w := must[*store.Watcher](t)(s.pods.Watch(t.Context(), store.WatchOptions{
		Selector: store.Selector{Namespace: "a", Labels: labels.SelectorFromSet(in)}, Revision: s.Applied(),
	}))
	defer w.Close()
	e := s.create(t, pod("a", "x", out, "1"))
	e = s.write(t, e, pod("a", "x", in, "2"))
	enter := e.Revision
	e = s.write(t, e, pod("a", "x", in, "3"))
	change := e.Revision
	e = s.write(t, e, pod("a", "x", out, "4"))
	leave := e.Revision
	s.remove(t, s.pods, e)
	s.create(t, pod("b", "x", in, "1"))
	e = s.create(t, pod("a", "y", in, "1"))
	gone := s.remove(t, s.pods, e)
	equal(t, collect(t, w, 5),
		fmt.Sprintf("ADDED a/x@%d", enter), fmt.Sprintf("MODIFIED a/x@%d", change), fmt.Sprintf("DELETED a/x@%d", leave),
		fmt.Sprintf("ADDED a/y@%d", e.Revision), fmt.Sprintf("DELETED a/y@%d", gone.Revision))
}

// Watchers that require a field's value, a namespace or a name see just that.
func TestWatchIndexed(t *testing.T) {
	t.Parallel()
	s := run(t, config(etcdtest.Start(t)))
	since := s.Applied()
	open := func(sel store.Selector) *store.Watcher {
		w := must[*store.Watcher](t)(s.pods.Watch(t.Context(), store.WatchOptions{Selector: sel, Revision: since}))
		t.Cleanup(w.Close)
		return w
	}
	node := open(store.Selector{Fields: fields.OneTermEqualSelector("spec.nodeName", "n1")})
	ns := open(store.Selector{Namespace: "b"})
	name := open(store.Selector{Fields: fields.OneTermEqualSelector("metadata.name", "p")})
	key := open(store.Selector{Namespace: "a", Fields: fields.OneTermEqualSelector("metadata.name", "p")})

	a := s.create(t, pod("a", "p", nil, ""))
	b := s.create(t, pod("b", "p", nil, ""))
	bound := pod("a", "p", nil, "")
	bound.Spec.NodeName = "n1"
	moved := s.write(t, a, bound)
	for i := range 600 { // more than a batch that concerns none of them but the last
		s.create(t, pod("c", fmt.Sprintf("q%d", i), nil, ""))
	}
	gone := s.remove(t, s.pods, moved)
	last := s.remove(t, s.pods, b)

	created, createdB := fmt.Sprintf("ADDED a/p@%d", a.Revision), fmt.Sprintf("ADDED b/p@%d", b.Revision)
	deleted, deletedB := fmt.Sprintf("DELETED a/p@%d", gone.Revision), fmt.Sprintf("DELETED b/p@%d", last.Revision)
	modified := fmt.Sprintf("MODIFIED a/p@%d", moved.Revision)
	equal(t, collect(t, node, 2), fmt.Sprintf("ADDED a/p@%d", moved.Revision), deleted)
	equal(t, collect(t, ns, 2), createdB, deletedB)
	equal(t, collect(t, name, 5), created, createdB, modified, deleted, deletedB)
	equal(t, collect(t, key, 3), created, modified, deleted)
}

func TestInitialEventsAndBookmarks(t *testing.T) {
	t.Parallel()
	c := config(etcdtest.Start(t))
	clock := clocktesting.NewFakeClock(time.Now())
	c.Clock = clock
	s := run(t, c)
	for i := range 700 {
		s.create(t, pod("a", fmt.Sprintf("p%03d", i), nil, ""))
	}
	w := must[*store.Watcher](t)(s.pods.Watch(t.Context(), store.WatchOptions{InitialEvents: true, Consistent: true, Bookmarks: true}))
	defer w.Close()
	if _, ok := w.Bookmark(); ok {
		t.Error("a bookmark is offered before the initial state is told")
	}
	got := collect(t, w, 701)
	if got[0][:11] != "ADDED a/p00" || got[700] != fmt.Sprintf("BOOKMARK@%d initial=true", s.Applied()) {
		t.Errorf("got %q … %q", got[0], got[700])
	}
	other := s.create(t, configMap("m", "x")) // moves the revision, but tells this watcher nothing
	wait := make(chan []store.Event, 1)
	go func() {
		events, err := w.Next(t.Context())
		if err != nil {
			t.Error(err)
		}
		wait <- slices.Clone(events)
	}()
	for {
		clock.Step(time.Minute)
		select {
		case events := <-wait:
			if len(events) != 1 || events[0].Type != watch.Bookmark || events[0].Revision < other.Revision {
				t.Errorf("got %v", events)
			}
			return
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func TestOvertaken(t *testing.T) {
	t.Parallel()
	c := config(etcdtest.Start(t))
	c.HistoryByte = 20_000
	s := run(t, c)
	open := func(sel store.Selector) *store.Watcher {
		return must[*store.Watcher](t)(s.pods.Watch(t.Context(), store.WatchOptions{Selector: sel, Revision: s.Applied()}))
	}
	all, idle := open(store.Selector{}), open(store.Selector{Namespace: "other"})
	for i := range 500 {
		s.create(t, pod("a", fmt.Sprint(i), nil, ""))
	}
	if _, err := all.Next(t.Context()); !errors.Is(err, store.ErrOvertaken) {
		t.Errorf("slow watcher: %v", err)
	}
	e := s.create(t, pod("other", "x", nil, "")) // nothing concerned this one so far: it lost nothing
	equal(t, collect(t, idle, 1), fmt.Sprintf("ADDED other/x@%d", e.Revision))
	idle.Close()
	if _, err := idle.Next(t.Context()); !errors.Is(err, store.ErrClosed) {
		t.Errorf("closed watcher: %v", err)
	}
}

// A new process resumes watches from revisions that only etcd remembers, until they are compacted away.
func TestResumeAfterRestart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first := etcdtest.StartIn(t, dir)
	s := run(t, config(first.Client))
	from := s.create(t, pod("a", "x", nil, "1")).Revision
	var want []string
	for i := range 300 {
		e := s.create(t, pod("a", fmt.Sprintf("p%d", i), nil, "v"))
		gone := s.remove(t, s.pods, e)
		want = append(want, fmt.Sprintf("ADDED a/p%d@%d", i, e.Revision), fmt.Sprintf("DELETED a/p%d@%d", i, gone.Revision))
	}
	s.stop()
	first.Close()

	second := etcdtest.StartIn(t, dir)
	c := config(second.Client)
	c.HistoryByte = 100_000 // several segments
	s = run(t, c)
	watchFrom := func(rev int64) (*store.Watcher, error) {
		return s.pods.Watch(t.Context(), store.WatchOptions{Revision: rev})
	}
	w := must[*store.Watcher](t)(watchFrom(from))
	late := must[*store.Watcher](t)(watchFrom(from + 10))
	e := s.create(t, pod("a", "new", nil, ""))
	want = append(want, fmt.Sprintf("ADDED a/new@%d", e.Revision))
	equal(t, collect(t, w, len(want)), want...)
	equal(t, collect(t, late, len(want)-10), want[10:]...)
	w.Close()
	late.Close()

	if _, err := second.Client.Compact(t.Context(), e.Revision-5); err != nil {
		t.Fatal(err)
	}
	s.stop()
	s = run(t, config(second.Client))
	var expired *store.Expired
	if _, err := watchFrom(e.Revision - 7); !errors.As(err, &expired) {
		t.Errorf("watch from a compacted revision: %v", err)
	}
	w = must[*store.Watcher](t)(watchFrom(e.Revision - 5))
	defer w.Close()
	equal(t, collect(t, w, 5), want[len(want)-5:]...)
}
