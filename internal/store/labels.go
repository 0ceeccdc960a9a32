package store

import (
	"hash/maphash"
	"maps"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
)

// labelSet is what objects with equal labels share: most objects are made by the hundreds from one template. It spares their
// maps, and a list by a selector looks at each set once instead of at each object. Immutable.
type labelSet struct {
	labels labels.Set
	id     uint32
}

const (
	// maxLabelSets bounds the sets that can be found again. Where labels are different for each object, finding them is no use.
	maxLabelSets = 4096

	// maxLabels is how many labels a set has that can be: their number has no limit, and they may outlive all their objects.
	maxLabels = 64
)

// labelSets finds the set of labels that are equal to given ones. Safe for concurrent use.
type labelSets struct {
	seed  maphash.Seed
	empty labelSet
	mu    sync.Mutex
	known map[uint64]*labelSet
	made  uint32
}

// share returns the set of l, which must not be changed from now on.
func (s *labelSets) share(l labels.Set) *labelSet {
	switch {
	case len(l) == 0:
		return &s.empty
	case len(l) > maxLabels:
		return &labelSet{labels: l}
	}
	h := s.hash(l)
	s.mu.Lock()
	defer s.mu.Unlock()
	if found := s.known[h]; found != nil && maps.Equal(found.labels, l) {
		return found
	}
	if s.known == nil || len(s.known) >= maxLabelSets { // start anew: what is in use comes back at once
		s.known = map[uint64]*labelSet{}
	}
	s.made++
	set := &labelSet{labels: l, id: s.made}
	s.known[h] = set
	return set
}

// hash does not depend on the order in which a map is read.
func (s *labelSets) hash(l labels.Set) uint64 {
	var sum uint64
	for key, value := range l {
		sum += maphash.String(s.seed, key) * (maphash.String(s.seed, value) | 1)
	}
	return sum
}

// shareLabels has obj show the labels that it shares with others, instead of its own equal ones.
func shareLabels(obj runtime.Object, set *labelSet) {
	if _, custom := obj.(runtime.Unstructured); custom || set == nil || len(set.labels) == 0 {
		return
	}
	if m, ok := obj.(metav1.Object); ok {
		m.SetLabels(set.labels)
	}
}

// labelMatch is a label selector that remembers what it found of the sets it met last. For one goroutine.
type labelMatch struct {
	selector labels.Selector
	last     [16]struct {
		set *labelSet
		ok  bool
	}
}

func (m *labelMatch) matches(e *Entry) bool {
	if e.shared == nil {
		return m.selector.Matches(e.Labels)
	}
	slot := &m.last[e.shared.id%uint32(len(m.last))]
	if slot.set != e.shared {
		slot.set, slot.ok = e.shared, m.selector.Matches(e.Labels)
	}
	return slot.ok
}
