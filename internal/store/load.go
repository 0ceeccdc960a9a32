package store

import (
	"cmp"
	"context"
	"fmt"
	"runtime"
	"slices"
	"sync"

	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/sync/errgroup"
)

// image is a resource as etcd has it at one revision.
type image struct {
	rev     int64
	entries []*Entry // in key order
	created []int64  // of each entry: the revision its key was created at
	broken  map[string]*Corrupt
}

// pageSize is how many keys are read from etcd at once.
const pageSize = 1000

// load reads the resource at a revision. Entries that known has at the same revision are taken from there.
func (r *Resource) load(ctx context.Context, rev int64, known tree) (*image, error) {
	img := &image{rev: rev, broken: map[string]*Corrupt{}}
	start, end := r.prefix, clientv3.GetPrefixRangeEnd(r.prefix)
	for {
		resp, err := r.store.c.Etcd.Get(ctx, start, clientv3.WithRange(end), clientv3.WithRev(rev), clientv3.WithLimit(pageSize))
		if err != nil {
			return nil, fmt.Errorf("read %s at revision %d from etcd: %w", r.prefix, rev, err)
		}
		for _, kv := range resp.Kvs {
			c := change{key: string(kv.Key[len(r.prefix):]), rev: kv.ModRevision, value: kv.Value}
			e := known.get(c.key)
			if e == nil || e.Revision != c.rev {
				e, err = r.decode(ctx, c)
			}
			if err != nil {
				img.broken[c.key] = r.unreadable(c, err)
				err = nil
				continue
			}
			img.entries = append(img.entries, e)
			img.created = append(img.created, kv.CreateRevision)
		}
		if !resp.More {
			return img, nil
		}
		start = string(resp.Kvs[len(resp.Kvs)-1].Key) + "\x00"
	}
}

// loadFirst loads everything that is registered, at one revision, before the watch starts.
func (s *Store) loadFirst(ctx context.Context) (int64, error) {
	rev, err := s.etcdRevision(ctx)
	if err != nil {
		return 0, err
	}
	var mu sync.Mutex
	images := map[*Resource]*image{}
	err = s.each(ctx, func(ctx context.Context, r *Resource) error {
		img, err := r.load(ctx, rev, tree{})
		mu.Lock()
		defer mu.Unlock()
		images[r] = img
		return err
	})
	if err != nil {
		return 0, err
	}
	for r, img := range images {
		r.install(img)
	}
	s.mu.Lock()
	s.waiting = slices.DeleteFunc(s.waiting, (*Resource).isLoaded)
	s.mu.Unlock()
	s.progress.advance(rev)
	return rev, nil
}

func (r *Resource) isLoaded() bool {
	select {
	case <-r.loaded:
		return true
	default:
		return false
	}
}

// each calls f for every resource, a few at a time.
func (s *Store) each(ctx context.Context, f func(context.Context, *Resource) error) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.GOMAXPROCS(0))
	for _, r := range *s.routes.Load() {
		g.Go(func() error { return f(ctx, r) })
	}
	return g.Wait()
}

// install makes img the resource's first state. Called by the applier, or before it follows etcd.
func (r *Resource) install(img *image) {
	r.mu.Lock()
	r.state.Store(&state{tree: treeOf(img.entries), rev: img.rev})
	r.floor = img.rev
	r.broken = img.broken
	r.mu.Unlock()
	r.loadedAt = img.rev
	close(r.loaded)
}

// loadLate loads resources that are registered while the store runs.
func (s *Store) loadLate(ctx context.Context) error {
	select {
	case <-s.ready:
	case <-ctx.Done():
		return nil
	}
	for {
		s.mu.Lock()
		todo := s.waiting
		s.waiting = nil
		s.mu.Unlock()
		for _, r := range todo {
			if _, err := s.retry(ctx, "load "+r.c.Name.String(), r.loadNow); err != nil {
				return nil
			}
		}
		select {
		case <-s.toLoad:
		case <-ctx.Done():
			return nil
		}
	}
}

// loadNow loads a resource beside the running applier. The applier has known the resource since before the read, so every
// event after the read's revision is in the backlog, and the applier works it in.
func (r *Resource) loadNow(ctx context.Context) (int64, error) {
	rev, err := r.store.etcdRevision(ctx)
	if err != nil {
		return 0, err
	}
	img, err := r.load(ctx, rev, tree{})
	if err != nil {
		return 0, err
	}
	done := make(chan error, 1)
	select {
	case r.store.control <- func() { done <- r.installLate(ctx, img) }:
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	return rev, <-done
}

// installLate is loadNow's part in the applier.
func (r *Resource) installLate(ctx context.Context, img *image) error {
	s := r.store
	if img.rev < s.gap {
		return fmt.Errorf("events up to revision %d were missed after %s was read", s.gap, r.c.Name)
	}
	if r.isLoaded() {
		return nil
	}
	r.install(img)
	var b batch
	for _, c := range r.backlog {
		r.stage(ctx, &b, c)
	}
	r.backlog = nil
	s.finish(&b)
	return nil
}

// resync compares memory with etcd after the watch has lost history, and tells watchers the difference.
func (s *Store) resync(ctx context.Context) (int64, error) {
	rev, err := s.etcdRevision(ctx)
	if err != nil {
		return 0, err
	}
	err = s.each(ctx, func(ctx context.Context, r *Resource) error {
		if !r.isLoaded() {
			return nil
		}
		return r.resync(ctx, rev)
	})
	if err != nil {
		return 0, err
	}
	for _, r := range *s.routes.Load() {
		if r.isLoaded() {
			r.publishResync(rev)
		}
	}
	s.gap = rev
	s.progress.advance(rev)
	s.history.trim()
	return rev, nil
}

// resync stages the difference between memory and etcd at rev.
func (r *Resource) resync(ctx context.Context, rev int64) error {
	old := r.state.Load().tree
	img, err := r.load(ctx, rev, old)
	if err != nil {
		return err
	}
	r.mu.Lock()
	r.broken = img.broken
	r.mu.Unlock()
	r.staged = staged{active: true, tree: treeOf(img.entries), records: difference(old, img)}
	return nil
}

// publishResync publishes what resync staged. What happened in between is known in sum only, so new watches from before rev
// read etcd's history.
func (r *Resource) publishResync(rev int64) {
	if !r.staged.active {
		return
	}
	r.publish()
	r.mu.Lock()
	r.floor = max(r.floor, rev)
	r.roots.forget(r.floor)
	r.state.Store(&state{tree: r.state.Load().tree, rev: rev})
	r.mu.Unlock()
	r.loadedAt = max(r.loadedAt, rev)
}

// difference says what led from old to img, in revision order. The revision of a deletion is not known any more: it carries
// img's.
func difference(old tree, img *image) []*record {
	var records []*record
	next := treeOf(img.entries)
	for e := range old.from("") {
		if next.get(e.key) == nil {
			records = append(records, &record{rev: img.rev, prev: e})
		}
	}
	for i, e := range img.entries {
		prev := old.get(e.key)
		switch {
		case prev == e:
			continue
		case prev != nil && img.created[i] > prev.Revision: // another object of the same name
			records = append(records, &record{rev: img.created[i], prev: prev}, &record{rev: e.Revision, now: e})
		default:
			records = append(records, &record{rev: e.Revision, prev: prev, now: e})
		}
	}
	slices.SortStableFunc(records, func(a, b *record) int { return cmp.Compare(a.rev, b.rev) })
	return records
}
