package store_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"canopus/internal/store"
	"canopus/internal/store/etcdtest"

	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
)

func contextWithCancel(t testing.TB) (context.Context, context.CancelFunc) {
	return context.WithCancel(t.Context())
}

func TestCommitAndGet(t *testing.T) {
	t.Parallel()
	s := run(t, config(etcdtest.Start(t)))
	ctx := t.Context()
	get := func(f store.Freshness) (*store.Entry, error) { return s.pods.Get(ctx, "a", "web", f) }

	if _, err := get(store.Freshness{}); !errors.Is(err, store.ErrNotFound) {
		t.Fatalf("absent: %v", err)
	}
	made := s.create(t, pod("a", "web", nil, "one"))
	if note := consistent(t, made); note != "one" {
		t.Errorf("made %q", note)
	}
	if e, err := get(store.Freshness{Match: store.Any}); err != nil || e != made {
		t.Errorf("a read with Any does not see the write: %v, %v", e, err)
	}
	changed := s.write(t, made, pod("a", "web", nil, "two"))
	same := s.write(t, changed, pod("a", "web", nil, "two"))
	if same.Revision != changed.Revision {
		t.Errorf("writing the same bytes moved the revision from %d to %d", changed.Revision, same.Revision)
	}
	if e := must[*store.Entry](t)(get(store.Freshness{Match: store.Exact, Revision: made.Revision})); consistent(t, e) != "one" {
		t.Error("exact read gives another state")
	}
	var late *store.TooLargeRevision
	if _, err := get(store.Freshness{Match: store.NotOlderThan, Revision: changed.Revision + 1000}); !errors.As(err, &late) {
		t.Errorf("read of the future: %v", err)
	}
	gone := s.remove(t, s.pods, changed)
	if consistent(t, gone) != "two" || gone.Revision <= changed.Revision {
		t.Errorf("deletion gives %+v", gone)
	}
	if _, err := get(store.Freshness{}); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("after deletion: %v", err)
	}
}

func TestConflicts(t *testing.T) {
	t.Parallel()
	s := run(t, config(etcdtest.Start(t)))
	ctx := t.Context()
	first := s.create(t, pod("a", "web", nil, "one"))
	second := s.write(t, first, pod("a", "web", nil, "two"))
	gone := s.remove(t, s.pods, s.create(t, pod("a", "gone", nil, "")))
	other := s.change(nil, configMap("other", "x"))

	for name, c := range map[string]struct {
		change  store.Change
		reason  store.Reason
		current *store.Entry
	}{
		"create of what is there":      {s.change(nil, pod("a", "web", nil, "x")), store.Exists, second},
		"update of an old state":       {s.change(first, pod("a", "web", nil, "x")), store.Changed, second},
		"update back to the old state": {s.change(first, pod("a", "web", nil, "one")), store.Changed, second},
		"update of what is gone":       {s.change(gone, pod("a", "gone", nil, "x")), store.Gone, nil},
		"delete of an old state":       {store.Change{Resource: s.pods, Namespace: "a", Name: "web", Was: first}, store.Changed, second},
	} {
		_, err := s.Commit(ctx, other, c.change)
		var conflict *store.Conflict
		if !errors.As(err, &conflict) || conflict.Change != 1 || conflict.Reason != c.reason || conflict.Current != c.current {
			t.Errorf("%s: %v", name, err)
		}
		if s.maps.Count() != 0 {
			t.Fatalf("%s: half of a refused transaction was written", name)
		}
	}
	entries, err := s.Commit(ctx, s.change(nil, configMap("other", "x")), store.Change{Resource: s.pods, Namespace: "a", Name: "web", Was: second})
	if err != nil || entries[0].Revision != entries[1].Revision {
		t.Fatalf("transaction: %v, %v", entries, err)
	}
	if s.maps.Count() != 1 || s.pods.Count() != 0 {
		t.Errorf("%d maps and %d pods after the transaction", s.maps.Count(), s.pods.Count())
	}
}

// TestCreatesThatLackTheirCompanion makes objects together with something that others make and remove all the time: whoever comes
// second is never told that the object itself was there. In memory both may be absent by then.
func TestCreatesThatLackTheirCompanion(t *testing.T) {
	t.Parallel()
	s := run(t, config(etcdtest.Start(t)))
	var refused atomic.Int64
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 40 {
				entries, err := s.Commit(t.Context(), s.change(nil, configMap(fmt.Sprintf("own-%d-%d", i, j), "x")), s.change(nil, pod("a", "contested", nil, "")))
				var conflict *store.Conflict
				switch {
				case err == nil:
					if _, err := s.Commit(t.Context(), store.Change{Resource: s.pods, Namespace: "a", Name: "contested", Was: entries[1]}); err != nil {
						t.Errorf("delete by who made it: %v", err)
					}
				case errors.As(err, &conflict) && conflict.Change == 1:
					refused.Add(1)
				default:
					t.Errorf("create: %v", err)
				}
			}
		})
	}
	wg.Wait()
	if refused.Load() == 0 {
		t.Error("nothing raced")
	}
}

// TestCreatesRaceWithDeletes has many make and remove one object: whoever comes second is told of a conflict, and of nothing else,
// although what he met may be gone again when it is looked for.
func TestCreatesRaceWithDeletes(t *testing.T) {
	t.Parallel()
	s := run(t, config(etcdtest.Start(t)))
	var made, refused atomic.Int64
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 40 {
				entries, err := s.Commit(t.Context(), s.change(nil, pod("a", "contested", nil, "")))
				var conflict *store.Conflict
				switch {
				case err == nil:
					made.Add(1)
					if _, err := s.Commit(t.Context(), store.Change{Resource: s.pods, Namespace: "a", Name: "contested", Was: entries[0]}); err != nil {
						t.Errorf("delete by who made it: %v", err)
					}
				case errors.As(err, &conflict) && conflict.Reason == store.Exists:
					refused.Add(1)
				default:
					t.Errorf("create: %v", err)
				}
			}
		})
	}
	wg.Wait()
	if made.Load() == 0 || refused.Load() == 0 {
		t.Errorf("%d made, %d refused: nothing raced", made.Load(), refused.Load())
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	free := uint64(1 << 40)
	c := config(etcdtest.Start(t))
	c.FreeSpace = func() (uint64, error) { return free, nil }
	s := run(t, c)
	made := s.create(t, configMap("a", "x"))

	_, err := s.Commit(t.Context(), s.change(nil, configMap("big", strings.Repeat("x", 2<<20))))
	var large *store.TooLarge
	if !errors.As(err, &large) || large.Size < 2<<20 || !strings.Contains(err.Error(), "configmaps/default/big") {
		t.Errorf("big object: %v", err)
	}

	free = 1
	none := run(t, c)
	_, err = none.Commit(t.Context(), none.change(nil, configMap("b", "x")))
	var space *store.NoSpace
	if !errors.As(err, &space) || space.Free != 1 {
		t.Errorf("write on a full disk: %v", err)
	}
	was := must[*store.Entry](t)(none.maps.Get(t.Context(), "default", "a", store.Freshness{}))
	if was.Revision != made.Revision {
		t.Errorf("second store has revision %d, want %d", was.Revision, made.Revision)
	}
	none.remove(t, none.maps, was)
}

func TestListSelectorsAndPages(t *testing.T) {
	t.Parallel()
	s := run(t, config(etcdtest.Start(t)))
	ctx := t.Context()
	for i := range 60 {
		p := pod([]string{"a", "a-b", "b"}[i%3], fmt.Sprintf("p%02d", i), map[string]string{"even": fmt.Sprint(i%2 == 0)}, "")
		p.Spec.NodeName = fmt.Sprintf("n%d", i%4)
		s.create(t, p)
	}
	list := func(o store.ListOptions) store.List { t.Helper(); return must[store.List](t)(s.pods.List(ctx, o)) }

	all := list(store.ListOptions{})
	if len(all.Entries) != 60 || all.Revision != s.Applied() || all.Continue != "" || all.Remaining != nil {
		t.Fatalf("list of all: %d entries at %d", len(all.Entries), all.Revision)
	}
	if all.Entries[0].Namespace != "a-b" || all.Entries[59].Namespace != "b" {
		t.Errorf("order is not that of the keys: first %s, last %s", all.Entries[0].Namespace, all.Entries[59].Namespace)
	}
	for want, sel := range map[int]store.Selector{
		20: {Namespace: "a"},
		30: {Labels: labels.SelectorFromSet(labels.Set{"even": "true"})},
		10: {Namespace: "b", Labels: labels.SelectorFromSet(labels.Set{"even": "true"})},
		15: {Fields: fields.OneTermEqualSelector("spec.nodeName", "n1")},
		1:  {Fields: fields.OneTermEqualSelector("metadata.name", "p07")},
		0:  {Namespace: "c"},
	} {
		if got := list(store.ListOptions{Selector: sel}); len(got.Entries) != want {
			t.Errorf("%+v: %d entries, want %d", sel, len(got.Entries), want)
		}
	}

	for _, sel := range []store.Selector{{}, {Namespace: "a"}, {Labels: labels.SelectorFromSet(labels.Set{"even": "true"})}} {
		whole := list(store.ListOptions{Selector: sel})
		var got []*store.Entry
		page := store.ListOptions{Selector: sel, Limit: 7}
		for n := 0; ; n++ {
			l := list(page)
			got = append(got, l.Entries...)
			if l.Revision != whole.Revision {
				t.Fatalf("page %d is at revision %d, the list at %d", n, l.Revision, whole.Revision)
			}
			if l.Continue == "" {
				break
			}
			if rest := len(whole.Entries) - len(got); sel.Labels == nil && *l.Remaining != int64(rest) || sel.Labels != nil && l.Remaining != nil {
				t.Errorf("page %d: remaining %v, want %d", n, l.Remaining, rest)
			}
			page.Continue = l.Continue
			// What happens between pages must not show.
			s.remove(t, s.pods, s.create(t, pod("a", fmt.Sprintf("p00-%d", n), map[string]string{"even": "true"}, "")))
			if n == 1 {
				was := whole.Entries[len(whole.Entries)-1]
				p := pod(was.Namespace, was.Name, was.Labels, "changed meanwhile")
				p.Spec.NodeName = "n9"
				s.write(t, was, p)
			}
		}
		if len(got) != len(whole.Entries) {
			t.Fatalf("%+v: pages give %d entries, the list %d", sel, len(got), len(whole.Entries))
		}
		for i := range got {
			if got[i] != whole.Entries[i] {
				t.Fatalf("%+v: entry %d differs", sel, i)
			}
		}
	}
	var invalid *store.InvalidContinue
	for _, token := range []string{"%", "bm8", "e30"} {
		if _, err := s.pods.List(ctx, store.ListOptions{Continue: token}); !errors.As(err, &invalid) {
			t.Errorf("token %q: %v", token, err)
		}
	}
}

// A page whose revision is compacted away is refused with a token that goes on at the latest revision.
func TestExpiredContinue(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t)
	c := config(etcd)
	c.HistoryByte = 1 // nothing is kept in memory
	s := run(t, c)
	for i := range 10 {
		s.create(t, pod("a", fmt.Sprintf("p%d", i), nil, ""))
	}
	first := must[store.List](t)(s.pods.List(t.Context(), store.ListOptions{Selector: store.Selector{Namespace: "a"}, Limit: 4}))
	next := store.ListOptions{Selector: store.Selector{Namespace: "a"}, Limit: 4, Continue: first.Continue}
	late := s.create(t, pod("a", "p5x", nil, ""))

	fromEtcd := must[store.List](t)(s.pods.List(t.Context(), next))
	if len(fromEtcd.Entries) != 4 || fromEtcd.Entries[2].Name != "p6" || fromEtcd.Revision != first.Revision {
		t.Fatalf("second page from etcd's history: %v", fromEtcd)
	}
	if _, err := etcd.Compact(t.Context(), late.Revision); err != nil {
		t.Fatal(err)
	}
	_, err := s.pods.List(t.Context(), next)
	var expired *store.Expired
	if !errors.As(err, &expired) || expired.Continue == "" {
		t.Fatalf("after compaction: %v", err)
	}
	next.Continue = expired.Continue
	rest := must[store.List](t)(s.pods.List(t.Context(), next))
	if len(rest.Entries) != 4 || rest.Entries[2].Name != "p5x" {
		t.Fatalf("inconsistent second page: %v", rest)
	}
}

// Writes outside the prefix move etcd's revision; consistent reads must not wait for events that never come.
func TestForeignWrites(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t)
	s := run(t, config(etcd))
	put, err := etcd.Put(t.Context(), "/elsewhere", "x")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if rev, err := s.Revision(ctx); err != nil || rev < put.Header.Revision {
		t.Fatalf("revision %d, %v; want at least %d", rev, err, put.Header.Revision)
	}
}

func TestRegisterAtRunTime(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t)
	before := run(t, config(etcd))
	for i := range 50 {
		before.create(t, configMap(fmt.Sprintf("m%d", i), "x"))
	}
	s, err := store.New(config(etcd))
	if err != nil {
		t.Fatal(err)
	}
	start(t, s)
	maps := must[*store.Resource](t)(s.Register(configMapConfig()))
	after := before.create(t, configMap("late", "x")) // may come before, during or after the load
	l := must[store.List](t)(maps.List(t.Context(), store.ListOptions{}))
	if len(l.Entries) != 51 || l.Revision < after.Revision {
		t.Fatalf("%d entries at %d", len(l.Entries), l.Revision)
	}
	if _, err := s.Register(configMapConfig()); err == nil {
		t.Error("the same prefix was registered twice")
	}
	w := must[*store.Watcher](t)(maps.Watch(t.Context(), store.WatchOptions{Revision: l.Revision}))
	s.Unregister(maps)
	if _, err := w.Next(t.Context()); !errors.Is(err, store.ErrUnregistered) {
		t.Errorf("watch after unregister: %v", err)
	}
	if _, err := maps.List(t.Context(), store.ListOptions{}); !errors.Is(err, store.ErrUnregistered) {
		t.Errorf("list after unregister: %v", err)
	}
	again := must[*store.Resource](t)(s.Register(configMapConfig()))
	if l := must[store.List](t)(again.List(t.Context(), store.ListOptions{})); len(l.Entries) != 51 {
		t.Errorf("%d entries after registering again", len(l.Entries))
	}
}

// A value nobody can read hides its own key and nothing else, and can be deleted.
func TestCorruptValue(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t)
	if _, err := etcd.Put(t.Context(), "/registry/pods/a/bad", "garbage"); err != nil {
		t.Fatal(err)
	}
	s := run(t, config(etcd))
	good := s.create(t, pod("a", "good", nil, ""))
	if _, err := etcd.Put(t.Context(), "/registry/pods/a/good", "garbage"); err != nil {
		t.Fatal(err)
	}
	w := must[*store.Watcher](t)(s.pods.Watch(t.Context(), store.WatchOptions{Revision: good.Revision}))
	defer w.Close()
	if events := must[[]store.Event](t)(w.Next(t.Context())); len(events) != 1 || !strings.HasPrefix(describe(events[0]), "DELETED a/good@") {
		t.Errorf("a value that became unreadable: %v", events)
	}
	if l := must[store.List](t)(s.pods.List(t.Context(), store.ListOptions{})); len(l.Entries) != 0 {
		t.Errorf("listed: %v", l.Entries)
	}
	for _, name := range []string{"bad", "good"} {
		_, err := s.pods.Get(t.Context(), "a", name, store.Freshness{})
		var corrupt *store.Corrupt
		if !errors.As(err, &corrupt) || corrupt.Key != "/registry/pods/a/"+name {
			t.Fatalf("%s: %v", name, err)
		}
		var conflict *store.Conflict
		_, err = s.Commit(t.Context(), s.change(nil, pod("a", name, nil, "")))
		if !errors.As(err, &conflict) || conflict.Reason != store.Exists || conflict.Current != nil {
			t.Errorf("create of %s, which is there and cannot be read: %v", name, err)
		}
		s.remove(t, s.pods, corrupt.Entry)
		if _, err := s.pods.Get(t.Context(), "a", name, store.Freshness{}); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("%s after its deletion: %v", name, err)
		}
	}
}

func TestTTL(t *testing.T) {
	t.Parallel()
	c := podConfig()
	c.TTL = func(runtime.Object) time.Duration { return time.Second }
	s := runWith(t, config(etcdtest.Start(t)), c)
	made := s.create(t, pod("a", "short", nil, "brief"))
	w := must[*store.Watcher](t)(s.pods.Watch(t.Context(), store.WatchOptions{Revision: made.Revision}))
	defer w.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	events := must[[]store.Event](t)(w.Next(ctx))
	if len(events) != 1 || events[0].Type != "DELETED" || consistent(t, events[0].Entry) != "brief" {
		t.Fatalf("got %v", events)
	}
}
