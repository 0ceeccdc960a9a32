package patch

import (
	"slices"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"
)

// change is what a write does to the fields of one manager.
type change struct {
	from           *fieldpath.Set // from a setCache, where equal sets are mostly one; nobody changes it
	own            bool           // the manager is the one who writes: it takes the fields that others lose
	taken, removed []fieldpath.Path
}

// matters says whether the manager has other fields after the change.
func (c *change) matters() bool {
	if slices.ContainsFunc(c.removed, c.from.Has) {
		return true
	}
	if c.own {
		return slices.ContainsFunc(c.taken, func(p fieldpath.Path) bool { return !c.from.Has(p) })
	}
	return slices.ContainsFunc(c.taken, c.from.Has)
}

// result is the manager's fields after the change.
func (c *change) result() *fieldpath.Set {
	next := without(c.from, c.removed)
	if c.own {
		return next.Union(fieldpath.NewSet(c.taken...))
	}
	return without(next, c.taken)
}

func without(set *fieldpath.Set, paths []fieldpath.Path) *fieldpath.Set {
	var have []fieldpath.Path
	for _, p := range paths {
		if set.Has(p) {
			have = append(have, p)
		}
	}
	if len(have) == 0 {
		return set
	}
	return set.Difference(fieldpath.NewSet(have...))
}

// same says whether two changes have one result. It may say no when they have.
func (c *change) same(b *change) bool {
	return (c.from == b.from || c.from.Empty() && b.from.Empty()) && c.own == b.own &&
		slices.EqualFunc(c.taken, b.taken, fieldpath.Path.Equals) && slices.EqualFunc(c.removed, b.removed, fieldpath.Path.Equals)
}

const (
	maxChanges = 16  // of one kind through one subresource that are remembered: what the writers in a pod's life do
	maxPaths   = 256 // of a change that is remembered
)

// changes remembers the last changes and what they led to, in a ring: thousands of pods go the same way. Safe for concurrent use.
type changes struct {
	mu   sync.Mutex
	last [maxChanges]struct {
		change
		fields *metav1.FieldsV1 // nil: none are left
	}
	used, next int
}

func (m *changes) known(c *change) (fields *metav1.FieldsV1, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range m.last[:m.used] {
		if last := &m.last[i]; last.same(c) {
			return last.fields, true
		}
	}
	return nil, false
}

// fields returns the fields that a manager has after a change; nil if none are left.
func (m *changes) fields(sets *setCache, c change) (*metav1.FieldsV1, error) {
	rare := len(c.taken)+len(c.removed) > maxPaths // and much to keep
	if !rare {
		if fields, ok := m.known(&c); ok {
			return fields, nil
		}
	}
	set := c.result()
	var fields *metav1.FieldsV1
	if !set.Empty() {
		var err error
		if fields, err = sets.format(set); err != nil {
			return nil, err
		}
	}
	if rare {
		return fields, nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.last[m.next].change, m.last[m.next].fields = c, fields
	m.used = max(m.used, m.next+1)
	m.next = (m.next + 1) % maxChanges
	return fields, nil
}
