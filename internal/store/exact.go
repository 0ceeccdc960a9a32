package store

import (
	"context"
	"errors"
	"fmt"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// span is a range of keys below a resource's prefix: start <= key < end; end "" is no bound.
type span struct{ start, end string }

// roots keeps the states that pages of lists were read from, so that the next page need not rebuild its own. What they hold
// beyond the present state is held by the ring's records too, so the history budget covers them: roots older than the ring go.
type roots struct {
	list []root // newest use last
}

type root struct {
	rev  int64
	tree tree
}

// maxRoots bounds the nodes (not entries) that only old roots hold.
const maxRoots = 16

func (k *roots) find(rev int64) (tree, bool) {
	for _, have := range k.list {
		if have.rev == rev {
			return have.tree, true
		}
	}
	return tree{}, false
}

func (k *roots) add(rev int64, t tree) {
	if _, ok := k.find(rev); ok {
		return
	}
	if len(k.list) == maxRoots {
		k.list = append(k.list[:0], k.list[1:]...)
	}
	k.list = append(k.list, root{rev, t})
}

// forget drops what is older than the ring.
func (k *roots) forget(floor int64) {
	kept := k.list[:0]
	for _, have := range k.list {
		if have.rev >= floor {
			kept = append(kept, have)
		}
	}
	clear(k.list[len(kept):])
	k.list = kept
}

// retain keeps t for the next page of a list at rev.
func (r *Resource) retain(rev int64, t tree) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if rev >= r.floor {
		r.roots.add(rev, t)
	}
}

// rebuild returns the state at rev, kept or made by undoing what the ring holds; false when rev is older than the ring. rev is applied.
func (r *Resource) rebuild(rev int64) (tree, bool) {
	r.mu.Lock()
	if rev < r.floor {
		r.mu.Unlock()
		return tree{}, false
	}
	if t, ok := r.roots.find(rev); ok {
		r.mu.Unlock()
		return t, true
	}
	t := r.state.Load().tree
	var undo []*record
	for i := r.ring.after(rev); i != r.ring.end; i++ {
		undo = append(undo, r.ring.at(i))
	}
	r.mu.Unlock()
	for i := len(undo) - 1; i >= 0; i-- {
		if rec := undo[i]; rec.prev != nil {
			t = t.set(rec.prev)
		} else {
			t = t.delete(rec.now.key)
		}
	}
	return t, true
}

// archived hands the entries of s as they were at rev to take, in key order, until it returns false; left is how many keys there are from
// this one on. They are read from etcd, chunk keys at a time: of a long list no more than what is asked for. Errors: *Expired.
func (r *Resource) archived(ctx context.Context, rev int64, s span, chunk int64, take func(e *Entry, left int64) bool) error {
	end := clientv3.GetPrefixRangeEnd(r.prefix)
	if s.end != "" {
		end = r.prefix + s.end
	}
	live := r.state.Load().tree
	for start := r.prefix + s.start; ; {
		resp, err := r.store.c.Etcd.Get(ctx, start, clientv3.WithRange(end), clientv3.WithRev(rev), clientv3.WithLimit(chunk))
		if errors.Is(err, rpctypes.ErrCompacted) {
			return &Expired{Revision: rev}
		}
		if err != nil {
			return fmt.Errorf("read %s at revision %d from etcd: %w", r.prefix, rev, err)
		}
		for i, kv := range resp.Kvs {
			c := change{key: string(kv.Key[len(r.prefix):]), rev: kv.ModRevision, value: kv.Value}
			e := live.get(c.key)
			if e == nil || e.Revision != c.rev {
				if e, err = r.decode(ctx, c); err != nil {
					r.unreadable(c, err)
					continue
				}
			}
			if !take(e, resp.Count-int64(i)) {
				return nil
			}
		}
		if !resp.More {
			return nil
		}
		start = string(resp.Kvs[len(resp.Kvs)-1].Key) + "\x00"
	}
}

// archivedPage is page for a revision that is older than the ring.
func (r *Resource) archivedPage(ctx context.Context, rev int64, o pageOptions) (List, error) {
	l := List{Revision: rev}
	base, end := o.m.bounds()
	chunk := int64(pageSize)
	if o.limit > 0 && o.limit < pageSize && !o.m.selects() {
		chunk = o.limit + 1 // the one that tells that there are more
	}
	err := r.archived(ctx, rev, span{max(base, o.start), end}, chunk, func(e *Entry, left int64) bool {
		if !o.m.matches(e) {
			return true
		}
		if o.limit > 0 && int64(len(l.Entries)) == o.limit {
			l.Continue = encodeToken(rev, (l.Entries[o.limit-1].key + "\x00")[len(base):])
			if !o.m.selects() {
				l.Remaining = &left
			}
			return false
		}
		l.Entries = append(l.Entries, e)
		return true
	})
	return l, err
}
