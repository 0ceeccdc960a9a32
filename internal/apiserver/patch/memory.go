package patch

import (
	"sync"

	"canopus/internal/kinds"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	maxMakers = 64 // managers whose last objects are remembered
	maxMade   = 4  // objects of one manager
)

// memory remembers the last objects of one kind that each manager made, and the fields that are its own for it: those of
// the next object are nearly always the same, and comparing two objects costs far less than naming every field of one. It
// also lets such objects share one FieldsV1. Safe for concurrent use.
type memory struct {
	mu     sync.Mutex
	makers map[string]*maker
}

// maker is what one manager made last, in a ring.
type maker struct {
	made [maxMade]made
	next int
}

// made is immutable: a copy of an object as it was when its fields were named.
type made struct {
	object kinds.Object
	fields *metav1.FieldsV1
}

func newMemory() *memory { return &memory{makers: map[string]*maker{}} }

// fieldsOf returns the fields that manager owns of a new object; nil if it has made none like it.
func (m *memory) fieldsOf(o *Owners, object kinds.Object, manager string) *metav1.FieldsV1 {
	m.mu.Lock()
	last, ok := m.makers[manager]
	if !ok {
		m.mu.Unlock()
		return nil
	}
	all := last.made
	m.mu.Unlock()
	d, ok := o.differ()
	if !ok {
		return nil
	}
	d.alike = true
	for _, one := range all {
		if one.object == nil {
			continue
		}
		if d.odd = false; o.compare(d, one.object, object) && !d.odd {
			return one.fields
		}
		d.path = d.path[:0]
	}
	return nil
}

// keep remembers object, whose managers are known now.
func (m *memory) keep(object kinds.Object, manager string) {
	entries := object.GetManagedFields()
	if len(entries) != 1 || entries[0].FieldsV1 == nil {
		return
	}
	copied, ok := object.DeepCopyObject().(kinds.Object)
	if !ok {
		return
	}
	copied.SetManagedFields(nil)
	m.mu.Lock()
	defer m.mu.Unlock()
	of := m.makers[manager]
	if of == nil {
		if len(m.makers) >= maxMakers { // start anew: who is at work comes back at once
			clear(m.makers)
		}
		of = &maker{}
		m.makers[manager] = of
	}
	of.made[of.next] = made{copied, entries[0].FieldsV1}
	of.next = (of.next + 1) % maxMade
}
