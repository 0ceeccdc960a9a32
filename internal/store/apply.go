package store

import (
	"context"
	"fmt"
	"strconv"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
)

// change is one key's change as etcd tells it.
type change struct {
	key     string // below the resource's prefix
	rev     int64
	value   []byte
	deleted bool
}

// staged collects what a batch changes in one resource, to be published at once.
type staged struct {
	active  bool
	tree    tree
	records []*record
}

// maxBatch bounds how many etcd events are applied before readers see them.
const maxBatch = 1024

// follow applies etcd's watch from revision from+1 on until ctx ends or the watch breaks; then it returns the error.
func (s *Store) follow(ctx context.Context, from int64) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ctx = streamContext(clientv3.WithRequireLeader(ctx), "apply")
	s.mu.Lock()
	s.watchCtx = ctx
	s.mu.Unlock()
	watch := s.c.Etcd.Watch(ctx, s.c.Prefix, clientv3.WithPrefix(), clientv3.WithRev(from+1))
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case f := <-s.control:
			f()
		case resp, ok := <-watch:
			if !ok {
				return errWatchEnded
			}
			if err := s.applyResponses(ctx, resp, watch); err != nil {
				return err
			}
		}
	}
}

// applyResponses applies resp and whatever else waits in the channel, as one batch.
func (s *Store) applyResponses(ctx context.Context, resp clientv3.WatchResponse, watch clientv3.WatchChan) error {
	var b batch
	for {
		if err := resp.Err(); err != nil {
			s.finish(&b)
			return err
		}
		for _, ev := range resp.Events {
			s.applyEvent(ctx, &b, ev)
		}
		if resp.IsProgressNotify() {
			b.rev = max(b.rev, resp.Header.Revision)
		}
		if b.events >= maxBatch {
			break
		}
		var ok bool
		select {
		case resp, ok = <-watch:
			if ok {
				continue
			}
		default:
		}
		break // nothing more for now; a closed channel shows on the next receive
	}
	s.finish(&b)
	return nil
}

// batch is what is applied together.
type batch struct {
	rev     int64 // the last event's: a response's header may be ahead of its events
	events  int
	touched []*Resource
}

func (s *Store) applyEvent(ctx context.Context, b *batch, ev *clientv3.Event) {
	b.rev = max(b.rev, ev.Kv.ModRevision)
	b.events++
	r, key := s.route(string(ev.Kv.Key))
	if r == nil {
		return
	}
	c := change{key: key, rev: ev.Kv.ModRevision, value: ev.Kv.Value, deleted: ev.Type == mvccpb.DELETE}
	select {
	case <-r.loaded:
		r.stage(ctx, b, c)
	default:
		r.backlog = append(r.backlog, c)
	}
}

// finish publishes a batch: every resource's new state, then the applied revision, then the wake-ups have been given.
func (s *Store) finish(b *batch) {
	for _, r := range b.touched {
		r.publish()
	}
	s.progress.advance(b.rev)
	s.history.trim()
}

// stage works one change into the resource's next state.
func (r *Resource) stage(ctx context.Context, b *batch, c change) {
	if c.rev <= r.loadedAt {
		return // the load has seen it
	}
	if !r.staged.active {
		r.staged = staged{active: true, tree: r.state.Load().tree, records: r.staged.records[:0]}
		b.touched = append(b.touched, r)
	}
	prev := r.staged.tree.get(c.key)
	var now *Entry
	if !c.deleted {
		now = r.read(ctx, c)
	} else {
		r.setBroken(c.key, nil)
	}
	switch {
	case now != nil:
		r.staged.tree = r.staged.tree.set(now)
	case prev != nil:
		r.staged.tree = r.staged.tree.delete(c.key)
	default:
		return // created and deleted again before we looked, or a key nobody could read
	}
	r.staged.records = append(r.staged.records, &record{rev: c.rev, prev: prev, now: now})
}

// read turns a stored value into an entry: the writer's own when it left one, else decrypted and decoded. A value that
// cannot be read is noted, and nil returned.
func (r *Resource) read(ctx context.Context, c change) *Entry {
	e := r.store.pending.take(r.prefix+c.key, c.value, c.rev)
	var err error
	if e == nil {
		e, err = r.decode(ctx, c)
	}
	if err != nil {
		r.setBroken(c.key, r.unreadable(c, err))
		return nil
	}
	r.setBroken(c.key, nil)
	return e
}

// unreadable logs and describes a value that cannot be decrypted or decoded.
func (r *Resource) unreadable(c change, err error) *Corrupt {
	namespace, name, _ := r.split(c.key)
	bad := &Corrupt{
		Key: r.prefix + c.key, Err: err,
		Entry: &Entry{Namespace: namespace, Name: name, Revision: c.rev, resource: r, key: c.key},
	}
	r.store.c.Log.Error("stored value cannot be read; the key is left out of lists until it is deleted or replaced",
		"key", bad.Key, "revision", c.rev, "error", err)
	return bad
}

// decode makes an entry from a stored value.
func (r *Resource) decode(ctx context.Context, c change) (*Entry, error) {
	plain, stale := c.value, false
	if r.c.Transformer != nil {
		var err error
		if plain, stale, err = r.c.Transformer.FromStorage(ctx, c.value, r.prefix+c.key); err != nil {
			return nil, err
		}
	}
	obj, err := r.c.Codec.Decode(plain)
	if err != nil {
		return nil, err
	}
	served, err := r.c.Codec.Serve(obj)
	if err != nil {
		return nil, err
	}
	e, err := r.draft(c.key, obj)
	if err != nil {
		return nil, err
	}
	e.Stale = stale
	return e, e.complete(served, obj, c.rev)
}

// complete gives a draft its revision. It is the last change of an entry before others see it.
func (e *Entry) complete(served []byte, obj runtime.Object, rev int64) error {
	body, err := e.resource.c.Codec.WithRevision(served, rev)
	if err != nil {
		return err
	}
	e.body, e.Revision = body, rev
	if err := setRevision(obj, rev); err != nil {
		return err
	}
	if e.resource.c.KeepDecoded {
		e.object.Store(&obj)
	}
	return nil
}

// setRevision writes rev ("" for 0) into obj's metadata.
func setRevision(obj runtime.Object, rev int64) error {
	m, err := meta.Accessor(obj)
	if err != nil {
		return fmt.Errorf("%T is no API object: %w", obj, err)
	}
	if rev == 0 {
		m.SetResourceVersion("")
	} else {
		m.SetResourceVersion(strconv.FormatInt(rev, 10))
	}
	return nil
}

// publish makes the staged state the resource's state and wakes the watchers it concerns.
func (r *Resource) publish() {
	st := &r.staged
	st.active = false
	if len(st.records) == 0 {
		return
	}
	next := &state{tree: st.tree, rev: st.records[len(st.records)-1].rev}
	r.mu.Lock()
	r.state.Store(next)
	for _, rec := range st.records {
		r.watchers.wake(rec, r.ring.end)
		r.ring.push(rec)
		r.store.history.add(r, rec)
	}
	r.mu.Unlock()
	clear(st.records)
	st.tree = tree{}
}

// setBroken notes that key's value cannot be read, or (nil) that it can or is gone.
func (r *Resource) setBroken(key string, bad *Corrupt) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if bad == nil {
		delete(r.broken, key)
	} else {
		r.broken[key] = bad
	}
}
