package store

import (
	"context"
	"fmt"
	"iter"
)

// Get returns one object. Errors: ErrNotFound, *Corrupt, *TooLargeRevision, *Expired (Exact only).
func (r *Resource) Get(ctx context.Context, namespace, name string, f Freshness) (*Entry, error) {
	if err := r.waitLoaded(ctx); err != nil {
		return nil, err
	}
	if err := r.store.waitFresh(ctx, f); err != nil {
		return nil, err
	}
	key := r.key(namespace, name)
	st, _ := r.now()
	if f.Match == Exact {
		return r.getExact(ctx, key, f.Revision)
	}
	if e := st.tree.get(key); e != nil {
		return e, nil
	}
	r.mu.Lock()
	bad := r.broken[key]
	r.mu.Unlock()
	if bad != nil {
		return nil, bad
	}
	return nil, fmt.Errorf("%s%s: %w", r.prefix, key, ErrNotFound)
}

func (r *Resource) getExact(ctx context.Context, key string, rev int64) (*Entry, error) {
	var found *Entry
	if t, ok := r.rebuild(rev); ok {
		found = t.get(key)
	} else {
		err := r.archived(ctx, rev, span{key, key + "\x00"}, 1, func(e *Entry, _ int64) bool {
			found = e
			return false
		})
		if err != nil {
			return nil, err
		}
	}
	if found != nil {
		return found, nil
	}
	return nil, fmt.Errorf("%s%s at revision %d: %w", r.prefix, key, rev, ErrNotFound)
}

// List returns one page in key order. Errors: *TooLargeRevision, *Expired, *InvalidContinue.
func (r *Resource) List(ctx context.Context, o ListOptions) (List, error) {
	if err := r.waitLoaded(ctx); err != nil {
		return List{}, err
	}
	m := r.matcher(o.Selector)
	start, _ := m.bounds()
	f := Freshness{o.Match, o.Revision}
	if o.Continue != "" {
		token, err := decodeToken(o.Continue)
		if err != nil {
			return List{}, err
		}
		start += token.Start
		if f = (Freshness{Exact, token.Revision}); token.Revision < 0 {
			f = Freshness{Match: Consistent}
		}
	}
	if err := r.store.waitFresh(ctx, f); err != nil {
		return List{}, err
	}
	st, rev := r.now()
	t, page := st.tree, pageOptions{m: &m, start: start, limit: o.Limit}
	if f.Match == Exact {
		var kept bool
		if t, kept = r.rebuild(f.Revision); !kept {
			l, err := r.archivedPage(ctx, f.Revision, page)
			return l, r.expired(err, &m, start)
		}
		rev = f.Revision
	}
	return r.page(t, rev, page)
}

// expired adds to an *Expired the token that goes on from start inconsistently.
func (r *Resource) expired(err error, m *matcher, start string) error {
	if e, ok := err.(*Expired); ok { //nolint:errorlint // archived's own error, not wrapped
		base, _ := m.bounds()
		return &Expired{Revision: e.Revision, Continue: encodeToken(-1, start[len(base):])}
	}
	return err
}

type pageOptions struct {
	m     *matcher
	start string
	limit int64
}

// page reads a page off t, which holds at rev.
func (r *Resource) page(t tree, rev int64, o pageOptions) (List, error) {
	l := List{Revision: rev}
	base, end := o.m.bounds()
	if o.m.name != "" && o.limit == 0 {
		return r.single(t, l, o.m), nil
	}
	if !o.m.selects() {
		n := t.before(end) - t.rank(o.start)
		if o.limit > 0 {
			n = min(n, int(o.limit))
		}
		l.Entries = make([]*Entry, 0, max(n, 0))
	}
	for e := range t.matching(o.m, o.start) {
		if o.limit > 0 && int64(len(l.Entries)) == o.limit {
			next := l.Entries[o.limit-1].key + "\x00"
			l.Continue = encodeToken(rev, next[len(base):])
			if !o.m.selects() {
				rest := int64(t.before(end) - t.rank(next))
				l.Remaining = &rest
			}
			r.retain(rev, t)
			break
		}
		l.Entries = append(l.Entries, e)
	}
	return l, nil
}

// single answers a list by name: at most one entry when the namespace is known.
func (r *Resource) single(t tree, l List, m *matcher) List {
	if r.c.Namespaced && m.namespace == "" {
		for e := range t.matching(m, "") {
			l.Entries = append(l.Entries, e)
		}
		return l
	}
	if e := t.get(r.key(m.namespace, m.name)); m.matches(e) {
		l.Entries = []*Entry{e}
	}
	return l
}

// before is the number of entries before end, "" for all.
func (t tree) before(end string) int {
	if end == "" {
		return t.len()
	}
	return t.rank(end)
}

// matching walks the entries m picks, from key start on.
func (t tree) matching(m *matcher, start string) iter.Seq[*Entry] {
	first, end := m.bounds()
	return func(yield func(*Entry) bool) {
		for e := range t.from(max(first, start)) {
			if end != "" && e.key >= end {
				return
			}
			if m.matches(e) && !yield(e) {
				return
			}
		}
	}
}
