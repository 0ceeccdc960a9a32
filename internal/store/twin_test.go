package store_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sort"
	"sync"
	"testing"
	"time"

	"canopus/internal/store"
	"canopus/internal/store/etcdtest"

	clientv3 "go.etcd.io/etcd/client/v3"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/watch"
)

// step is one change of one object, as the twin sees it.
type step struct {
	key         string
	rev         int64
	was, now    string // notes; "" for absent
	wasIn, isIn bool   // the selector of half of the watchers
}

// twin is the slow, obvious model: every change that etcd's own watch tells, in a list.
type twin struct{ steps []step }

// events is what a watcher from rev must see, with or without the selector.
func (m *twin) events(rev int64, selected bool) []string {
	var out []string
	for _, s := range m.steps {
		if s.rev <= rev {
			continue
		}
		before, now := s.was != "" && (!selected || s.wasIn), s.now != "" && (!selected || s.isIn)
		switch {
		case before && now:
			out = append(out, fmt.Sprintf("%s %s@%d %s", watch.Modified, s.key, s.rev, s.now))
		case now:
			out = append(out, fmt.Sprintf("%s %s@%d %s", watch.Added, s.key, s.rev, s.now))
		case before:
			out = append(out, fmt.Sprintf("%s %s@%d %s", watch.Deleted, s.key, s.rev, s.was))
		}
	}
	return out
}

// state is every key's note at rev.
func (m *twin) state(rev int64) map[string]string {
	state := map[string]string{}
	for _, s := range m.steps {
		if s.rev > rev {
			break
		}
		if s.now == "" {
			delete(state, s.key)
		} else {
			state[s.key] = s.now
		}
	}
	return state
}

// record builds the twin from etcd's own history.
func recordTwin(t *testing.T, etcd *clientv3.Client, from, to int64) *twin {
	t.Helper()
	m := &twin{}
	last := map[string]step{}
	codec := podConfig().Codec
	for resp := range etcd.Watch(t.Context(), "/registry/pods/", clientv3.WithPrefix(), clientv3.WithRev(from+1)) {
		for _, ev := range resp.Events {
			key := string(ev.Kv.Key)[len("/registry/pods/"):]
			s := step{key: key, rev: ev.Kv.ModRevision, was: last[key].now, wasIn: last[key].isIn}
			if ev.Type == clientv3.EventTypePut {
				obj, err := codec.Decode(ev.Kv.Value)
				if err != nil {
					t.Fatal(err)
				}
				s.now, s.isIn = obj.(message).GetAnnotations()["note"], obj.(message).GetLabels()["in"] == "yes"
			}
			last[key] = s
			m.steps = append(m.steps, s)
			if s.rev == to {
				return m
			}
		}
	}
	t.Fatal("etcd's watch ended")
	return nil
}

// observed is what one watcher saw.
type observed struct {
	from     int64
	selected bool
	events   []string
}

// Many writers on two stores over one etcd; watchers from random revisions on both must see exactly etcd's history, and
// lists at random revisions exactly its states.
func TestAgainstTwin(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t)
	small := config(etcd)
	small.HistoryByte = 200_000 // some watches and lists must go to etcd's history
	stores := []*running{run(t, config(etcd)), run(t, small)}
	from := stores[0].Applied()

	var mu sync.Mutex
	revisions := []int64{from}
	var writers sync.WaitGroup
	for i := range 8 {
		writers.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(i), 7))
			s := stores[i%2]
			for n := range 250 {
				if rev := randomWrite(t, s, rng, fmt.Sprintf("%d-%d", i, n)); rev > 0 {
					mu.Lock()
					revisions = append(revisions, rev)
					mu.Unlock()
				}
			}
		})
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var seen []*observed
	finished := make(chan struct{})
	var watchers sync.WaitGroup
	go func() { writers.Wait(); close(finished) }()
	watchFrom := func(rev int64, i int) {
		o := &observed{from: rev, selected: i%2 == 0}
		seen = append(seen, o)
		watchers.Go(func() {
			if err := o.runUntilEnd(ctx, stores[(i/2)%2].pods); err != nil {
				t.Errorf("watch from %d: %v", rev, err)
			}
		})
	}
	for i := range 12 { // while writes go on
		mu.Lock()
		rev := revisions[rand.IntN(len(revisions))]
		mu.Unlock()
		watchFrom(rev, i)
		if i%3 == 0 {
			must[store.List](t)(stores[i%2].pods.List(ctx, store.ListOptions{}))
		}
	}
	<-finished
	for i := range 12 { // when all is history
		watchFrom(revisions[rand.IntN(len(revisions))], i)
	}
	last := stores[0].create(t, pod("end", "end", map[string]string{"in": "yes"}, "end")).Revision
	watchers.Wait()
	model := recordTwin(t, etcd, from, last)
	for _, o := range seen {
		compare(t, fmt.Sprintf("watch from %d, selected=%v", o.from, o.selected), o.events, model.events(o.from, o.selected))
	}
	for i := range 30 {
		rev := revisions[rand.IntN(len(revisions))]
		l := must[store.List](t)(stores[i%2].pods.List(ctx, store.ListOptions{Match: store.Exact, Revision: rev}))
		var got, want []string
		for _, e := range l.Entries {
			got = append(got, e.Namespace+"/"+e.Name+" "+consistent(t, e))
		}
		for key, note := range model.state(rev) {
			want = append(want, key+" "+note)
		}
		sort.Strings(want)
		sort.Strings(got)
		compare(t, fmt.Sprintf("list at %d", rev), got, want)
	}
}

// runUntilEnd watches until the object named "end" comes, which every watcher selects.
func (o *observed) runUntilEnd(ctx context.Context, r *store.Resource) error {
	sel := store.Selector{}
	if o.selected {
		sel.Labels = labels.SelectorFromSet(labels.Set{"in": "yes"})
	}
	w, err := r.Watch(ctx, store.WatchOptions{Selector: sel, Revision: o.from, Bookmarks: true})
	if err != nil {
		return err
	}
	defer w.Close()
	seen := o.from
	for {
		events, err := w.Next(ctx)
		if errors.Is(err, store.ErrOvertaken) { // on a slow machine; then as any client: on from what was seen last
			if w, err = r.Watch(ctx, store.WatchOptions{Selector: sel, Revision: seen, Bookmarks: true}); err != nil {
				return err
			}
			defer w.Close()
			continue
		}
		if err != nil {
			return err
		}
		for _, e := range events {
			seen = e.Revision
			if e.Type == watch.Bookmark {
				continue
			}
			obj, err := e.Entry.Object()
			if err != nil {
				return err
			}
			o.events = append(o.events, fmt.Sprintf("%s %s/%s@%d %s", e.Type, e.Entry.Namespace, e.Entry.Name, e.Revision,
				obj.(message).GetAnnotations()["note"]))
			if e.Entry.Name == "end" {
				return nil
			}
		}
	}
}

// randomWrite creates, changes or deletes one of a few objects, on a state that may be stale; 0 when it lost.
func randomWrite(t *testing.T, s *running, rng *rand.Rand, note string) int64 {
	namespace, name := fmt.Sprintf("ns%d", rng.IntN(2)), fmt.Sprintf("p%d", rng.IntN(20))
	was, err := s.pods.Get(t.Context(), namespace, name, store.Freshness{Match: store.Any})
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		t.Error(err)
		return 0
	}
	c := store.Change{Resource: s.pods, Namespace: namespace, Name: name, Was: was}
	if was == nil || rng.IntN(3) > 0 {
		c.Now = pod(namespace, name, map[string]string{"in": []string{"yes", "no"}[rng.IntN(2)]}, note)
	}
	entries, err := s.Commit(t.Context(), c)
	var conflict *store.Conflict
	switch {
	case errors.As(err, &conflict):
		return 0
	case err != nil:
		t.Error(err)
		return 0
	}
	return entries[0].Revision
}

func compare(t *testing.T, what string, got, want []string) {
	t.Helper()
	for i := range max(len(got), len(want)) {
		if i >= len(got) || i >= len(want) || got[i] != want[i] {
			t.Errorf("%s: %d events, want %d; first difference at %d", what, len(got), len(want), i)
			if i < len(got) {
				t.Errorf("  got  %s", got[i])
			}
			if i < len(want) {
				t.Errorf("  want %s", want[i])
			}
			return
		}
	}
}
