package store

import (
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/selection"
)

// matcher is a Selector made ready for one resource.
type matcher struct {
	namespace string
	labels    *labelMatch     // nil: everything
	fields    fields.Selector // nil: everything
	name      string          // what metadata.name must be; "" when not said
}

func (r *Resource) matcher(s Selector) matcher {
	var m matcher
	if r.c.Namespaced {
		m.namespace = s.Namespace
	}
	if s.Labels != nil && !s.Labels.Empty() {
		m.labels = &labelMatch{selector: s.Labels}
	}
	if s.Fields != nil && !s.Fields.Empty() {
		m.fields = s.Fields
		m.name, _ = equal(s.Fields, nameField)
		if ns, ok := equal(s.Fields, namespaceField); ok && r.c.Namespaced && m.namespace == "" {
			m.namespace = ns // the field requirement stays, so this only narrows the walk
		}
	}
	return m
}

// equal is the value a selector requires a field to have.
func equal(s fields.Selector, field string) (string, bool) {
	for _, q := range s.Requirements() {
		if q.Field == field && (q.Operator == selection.Equals || q.Operator == selection.DoubleEquals) && q.Value != "" {
			return q.Value, true
		}
	}
	return "", false
}

// selects reports whether a selector takes part, beyond a namespace.
func (m *matcher) selects() bool { return m.labels != nil || m.fields != nil }

func (m *matcher) matches(e *Entry) bool {
	return e != nil &&
		(m.namespace == "" || e.Namespace == m.namespace) &&
		(m.labels == nil || m.labels.matches(e)) &&
		(m.fields == nil || m.fields.Matches(fieldView{e}))
}

// bounds is the range of keys a matcher can match: start <= key < end; end "" is no bound.
func (m *matcher) bounds() (start, end string) {
	if m.namespace == "" {
		return "", ""
	}
	return m.namespace + "/", m.namespace + "0" // '0' follows '/'
}
