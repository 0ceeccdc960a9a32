package store

// watcherIndex finds the watchers a record may concern. A watcher is in exactly one set: that of the most selective value
// its selector requires, or of all. Guarded by Resource.mu.
type watcherIndex struct {
	all     watcherSet
	byValue map[indexKey]*watcherSet
	fields  map[string]int // how many watchers are indexed by each field
}

// watcherSet is a list of watchers in the order in which they came, linked through them: every change walks it.
type watcherSet struct{ first, last *Watcher }

func (s *watcherSet) add(w *Watcher) {
	w.set, w.before, w.after = s, s.last, nil
	if s.last == nil {
		s.first = w
	} else {
		s.last.after = w
	}
	s.last = w
}

func (s *watcherSet) remove(w *Watcher) {
	if w.before == nil {
		s.first = w.after
	} else {
		w.before.after = w.after
	}
	if w.after == nil {
		s.last = w.before
	} else {
		w.after.before = w.before
	}
	w.set, w.before, w.after = nil, nil, nil
}

// wake tells all of them to look at record number i.
func (s *watcherSet) wake(i uint64) {
	if s == nil {
		return
	}
	for w := s.first; w != nil; w = w.after {
		w.wakeAt(i)
	}
}

// each calls f for all of them; it may remove the one that it is called for.
func (s *watcherSet) each(f func(*Watcher)) {
	for w := s.first; w != nil; {
		next := w.after
		f(w)
		w = next
	}
}

type indexKey struct{ field, value string }

// keyField indexes watchers of one namespace and name by the key below the prefix.
const keyField = "key"

// choose picks the set for a watcher.
func (r *Resource) choose(m *matcher) (indexKey, bool) {
	switch {
	case m.name != "" && (m.namespace != "" || !r.c.Namespaced):
		return indexKey{keyField, r.key(m.namespace, m.name)}, true
	case m.name != "":
		return indexKey{nameField, m.name}, true
	}
	if m.fields != nil {
		for _, field := range r.c.Indexed {
			if value, ok := equal(m.fields, field); ok {
				return indexKey{field, value}, true
			}
		}
	}
	if m.namespace != "" {
		return indexKey{namespaceField, m.namespace}, true
	}
	return indexKey{}, false
}

func (x *watcherIndex) add(w *Watcher) {
	if !w.indexed {
		x.all.add(w)
		return
	}
	if x.byValue == nil {
		x.byValue = map[indexKey]*watcherSet{}
		x.fields = map[string]int{}
	}
	set := x.byValue[w.index]
	if set == nil {
		set = &watcherSet{}
		x.byValue[w.index] = set
	}
	set.add(w)
	x.fields[w.index.field]++
}

func (x *watcherIndex) remove(w *Watcher) {
	set := w.set
	if set == nil {
		return
	}
	set.remove(w)
	if !w.indexed {
		return
	}
	if set.first == nil {
		delete(x.byValue, w.index)
	}
	if x.fields[w.index.field]--; x.fields[w.index.field] == 0 {
		delete(x.fields, w.index.field)
	}
}

// wake tells the watchers concerned that record number i is for them.
func (x *watcherIndex) wake(rec *record, i uint64) {
	x.all.wake(i)
	for field := range x.fields {
		before, now := value(rec.prev, field), value(rec.now, field)
		x.byValue[indexKey{field, before}].wake(i)
		if now != before {
			x.byValue[indexKey{field, now}].wake(i)
		}
	}
}

func value(e *Entry, field string) string {
	if e == nil {
		return ""
	}
	if field == keyField {
		return e.key
	}
	v, _ := e.field(field)
	return v
}

func (x *watcherIndex) each(f func(*Watcher)) {
	x.all.each(f)
	for _, set := range x.byValue {
		set.each(f)
	}
}
