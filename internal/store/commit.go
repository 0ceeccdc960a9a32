package store

import (
	"context"
	"errors"
	"fmt"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// transaction is a Commit on its way to etcd.
type transaction struct {
	changes []Change
	keys    []string   // in etcd
	values  [][]byte   // nil: deleted or unchanged
	written []*pending // nil where nothing is put
	same    []bool     // the change would store the bytes that are there
	compare []clientv3.Cmp
	size    int
}

// Commit writes all changes in one etcd transaction, or none. It returns when the result is applied: one entry per
// change (of a delete, the last state with the delete's revision). A change that would store the same bytes is only
// compared, not written: its entry is the old one. Once it has returned, Change.Now carries its new resourceVersion and may
// be read. Errors: *Conflict, *TooLarge, *NoSpace; any other error leaves the outcome unknown.
func (s *Store) Commit(ctx context.Context, changes ...Change) ([]*Entry, error) {
	t, err := s.prepare(ctx, changes)
	if err != nil {
		return nil, err
	}
	resp, err := s.send(ctx, t)
	if err != nil {
		s.pending.drop(t.written)
		return nil, t.explain(err)
	}
	rev := resp.Header.Revision
	if !resp.Succeeded {
		s.pending.drop(t.written)
		return nil, s.conflict(ctx, t, rev)
	}
	// The write is done: that the caller has gone away meanwhile changes nothing.
	waitErr := s.waitApplied(context.WithoutCancel(ctx), rev, freshWait)
	s.pending.drop(t.written)
	return t.result(rev, waitErr == nil)
}

// prepare encodes outside of any lock what the transaction puts.
func (s *Store) prepare(ctx context.Context, changes []Change) (*transaction, error) {
	t := &transaction{
		changes: changes,
		keys:    make([]string, len(changes)),
		values:  make([][]byte, len(changes)),
		written: make([]*pending, len(changes)),
		same:    make([]bool, len(changes)),
	}
	for i := range changes {
		if err := t.add(ctx, i); err != nil {
			return nil, err
		}
	}
	for _, p := range t.written {
		if p == nil {
			continue
		}
		if err := s.space.check(); err != nil {
			return nil, err
		}
		break
	}
	return t, nil
}

func (t *transaction) add(ctx context.Context, i int) error {
	c := &t.changes[i]
	r := c.Resource
	below := r.key(c.Namespace, c.Name)
	t.keys[i] = r.prefix + below
	for _, other := range t.keys[:i] {
		if other == t.keys[i] {
			return fmt.Errorf("two changes of %s in one transaction: join them into one", other)
		}
	}
	if c.Was == nil && c.Now == nil {
		return fmt.Errorf("change of %s deletes what is absent: set Was to the state to delete", t.keys[i])
	}
	if c.Was == nil {
		t.compare = append(t.compare, clientv3.Compare(clientv3.ModRevision(t.keys[i]), "=", 0))
	} else {
		t.compare = append(t.compare, clientv3.Compare(clientv3.ModRevision(t.keys[i]), "=", c.Was.Revision))
	}
	if c.Now == nil {
		return nil
	}
	return t.encode(ctx, i, below)
}

// encode makes the stored and the served form of change i.
func (t *transaction) encode(ctx context.Context, i int, below string) error {
	c := &t.changes[i]
	r := c.Resource
	if err := setRevision(c.Now, 0); err != nil {
		return err
	}
	stored, served, err := r.c.Codec.Encode(c.Now)
	if err != nil {
		return err
	}
	if t.same[i] = unchanged(c, served); t.same[i] {
		return nil
	}
	if r.c.Transformer != nil {
		if stored, err = r.c.Transformer.ToStorage(ctx, stored, t.keys[i]); err != nil {
			return fmt.Errorf("encrypt %s: %w", t.keys[i], err)
		}
	}
	e, err := r.draft(below, c.Now)
	if err != nil {
		return err
	}
	t.values[i] = stored
	t.written[i] = &pending{key: t.keys[i], value: stored, served: served, object: c.Now, entry: e}
	t.size += len(t.keys[i]) + len(stored)
	return nil
}

// unchanged says that storing served would change nothing.
func unchanged(c *Change, served []byte) bool {
	return c.Was != nil && !c.Was.Stale && c.Was.body != nil && c.Resource.c.Codec.Same(served, c.Was.body)
}

// send leaves the objects for the applier and runs the transaction.
func (s *Store) send(ctx context.Context, t *transaction) (*clientv3.TxnResponse, error) {
	s.pending.add(t.written)
	for attempt := 0; ; attempt++ {
		ops, err := s.operations(ctx, t)
		if err != nil {
			return nil, err
		}
		resp, err := s.c.Etcd.Txn(ctx).If(t.compare...).Then(ops...).Commit()
		if errors.Is(err, rpctypes.ErrLeaseNotFound) && attempt == 0 {
			s.leases.forget() // it ran out between grant and use: nothing is written
			continue
		}
		return resp, err
	}
}

func (s *Store) operations(ctx context.Context, t *transaction) ([]clientv3.Op, error) {
	ops := make([]clientv3.Op, 0, len(t.changes))
	for i := range t.changes {
		c := &t.changes[i]
		switch {
		case t.same[i]:
		case c.Now == nil:
			ops = append(ops, clientv3.OpDelete(t.keys[i]))
		default:
			var opts []clientv3.OpOption
			if c.Resource.c.TTL != nil {
				lease, err := s.leases.grant(ctx, c.Resource.c.TTL(c.Now))
				if err != nil {
					return nil, err
				}
				if lease != clientv3.NoLease {
					opts = append(opts, clientv3.WithLease(lease))
				}
			}
			put := clientv3.OpPut(t.keys[i], "", opts...)
			put.WithValueBytes(t.values[i]) // as a string it would be copied twice
			ops = append(ops, put)
		}
	}
	return ops, nil
}

// conflict finds the first change whose comparison failed, in memory, once that has come to the revision at which etcd compared.
// It may be ahead by then and show a change that came later: that one has not been made on the present state either.
func (s *Store) conflict(ctx context.Context, t *transaction, rev int64) error {
	if err := s.waitApplied(ctx, rev, freshWait); err != nil {
		return err
	}
	// What was there and is gone again; nothing else that is absent can have failed. Of several, all but one may never have been there.
	// The last is named: the first is what the caller makes, and others go with it, so it tries again and is not told that it exists.
	var passing *Conflict
	for i := range t.changes {
		c := &t.changes[i]
		current, found := c.Resource.latest(c.Resource.key(c.Namespace, c.Name))
		e := &Conflict{Change: i, Key: t.keys[i], Current: current}
		switch {
		case c.Was == nil && found == 0:
			e.Reason, passing = Exists, e
			continue
		case c.Was != nil && found == c.Was.Revision:
			continue
		case c.Was == nil:
			e.Reason = Exists
		case found == 0:
			e.Reason = Gone
		default:
			e.Reason = Changed
		}
		return e
	}
	if passing != nil {
		return passing
	}
	return fmt.Errorf("etcd refused the transaction on %v without a difference: this is a bug", t.keys)
}

// latest is what memory has of a key, and the revision of its last change: nil and 0 if it is absent, nil and a revision if
// what is there cannot be read.
func (r *Resource) latest(key string) (*Entry, int64) {
	if e := r.state.Load().tree.get(key); e != nil {
		return e, e.Revision
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if bad := r.broken[key]; bad != nil {
		return nil, bad.Entry.Revision
	}
	return nil, 0
}

// result is what Commit returns. When the applier has not shown the write in time (etcd's watch is down), the entries
// are made here: the write is acknowledged and must be reported so.
func (t *transaction) result(rev int64, applied bool) ([]*Entry, error) {
	entries := make([]*Entry, len(t.changes))
	for i := range t.changes {
		c, p := &t.changes[i], t.written[i]
		switch {
		case t.same[i]:
			entries[i] = c.Was
			if err := setRevision(c.Now, c.Was.Revision); err != nil {
				return nil, err
			}
		case c.Now == nil:
			entries[i] = c.Was.at(rev)
		case applied && p.taken.Load():
			entries[i] = p.entry
		default: // the applier read the value back from etcd (resync), or has not come so far
			e, err := p.independent(rev)
			if err != nil {
				return nil, err
			}
			entries[i] = e
		}
	}
	return entries, nil
}

// explain gives etcd's refusals a type.
func (t *transaction) explain(err error) error {
	switch {
	case errors.Is(err, rpctypes.ErrRequestTooLarge), status.Code(err) == codes.ResourceExhausted && !errors.Is(err, rpctypes.ErrNoSpace):
		return &TooLarge{Key: t.keys[0], Size: t.size}
	case errors.Is(err, rpctypes.ErrNoSpace):
		return &NoSpace{Err: err}
	}
	return fmt.Errorf("write %s to etcd: %w", t.keys[0], err)
}
