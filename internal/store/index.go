package store

// watcherIndex finds the watchers a record may concern. A watcher is in exactly one set: that of the most selective value
// its selector requires, or of all. Guarded by Resource.mu.
type watcherIndex struct {
	all     map[*Watcher]struct{}
	byValue map[indexKey]map[*Watcher]struct{}
	fields  map[string]int // how many watchers are indexed by each field
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
		if x.all == nil {
			x.all = map[*Watcher]struct{}{}
		}
		x.all[w] = struct{}{}
		return
	}
	if x.byValue == nil {
		x.byValue = map[indexKey]map[*Watcher]struct{}{}
		x.fields = map[string]int{}
	}
	set := x.byValue[w.index]
	if set == nil {
		set = map[*Watcher]struct{}{}
		x.byValue[w.index] = set
	}
	set[w] = struct{}{}
	x.fields[w.index.field]++
}

func (x *watcherIndex) remove(w *Watcher) {
	if !w.indexed {
		delete(x.all, w)
		return
	}
	set := x.byValue[w.index]
	if _, ok := set[w]; !ok {
		return
	}
	delete(set, w)
	if len(set) == 0 {
		delete(x.byValue, w.index)
	}
	if x.fields[w.index.field]--; x.fields[w.index.field] == 0 {
		delete(x.fields, w.index.field)
	}
}

// wake tells the watchers concerned that record number i is for them.
func (x *watcherIndex) wake(rec *record, i uint64) {
	for w := range x.all {
		w.wakeAt(i)
	}
	for field := range x.fields {
		before, now := value(rec.prev, field), value(rec.now, field)
		for w := range x.byValue[indexKey{field, before}] {
			w.wakeAt(i)
		}
		if now != before {
			for w := range x.byValue[indexKey{field, now}] {
				w.wakeAt(i)
			}
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
	for w := range x.all {
		f(w)
	}
	for _, set := range x.byValue {
		for w := range set {
			f(w)
		}
	}
}
