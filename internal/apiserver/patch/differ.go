package patch

import (
	"bytes"
	"encoding/json"
	"reflect"
	"slices"
	"sync"

	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"
	"sigs.k8s.io/structured-merge-diff/v6/schema"
	"sigs.k8s.io/structured-merge-diff/v6/value"
)

// maxKeyed bounds lists whose items are told apart by key: they are compared pairwise.
const maxKeyed = 64

// differ walks two Go values of one API type along its schema, as JSON would show them, and collects the paths at which they
// differ. Its methods return false at anything that they do not fully understand; what was collected then means nothing.
//
// A path stands for a leaf (a scalar, or a list or map that is taken whole), or for an item, a key or a field with all
// that is below it when only one side has it: then the paths below are collected too.
type differ struct {
	schema *schema.Schema
	root   schema.TypeRef // of the whole object
	fields *sync.Map      // reflect.Type → []structField
	reset  []string       // top-level fields that this writer cannot change: they are left out
	path   fieldpath.Path
	// alike: collect nothing; only see whether the two have the same paths that an empty object has not.
	alike bool
	odd   bool // they do not, or it is hard to tell

	changed, added, removed []fieldpath.Path // in both, in b only, in a only
}

// serverFields are fields of metadata that are nobody's.
func serverFields() []string {
	return []string{"name", "namespace", "creationTimestamp", "selfLink", "uid", "generation", "managedFields", "resourceVersion"}
}

// object compares two whole objects. Kind and apiVersion are nobody's fields.
func (d *differ) object(a, b reflect.Value, tr schema.TypeRef) bool {
	atom, ok := d.schema.Resolve(tr)
	if !ok || atom.Map == nil {
		return false
	}
	for _, f := range d.structFields(a.Type()) {
		if f.inline || slices.Contains(d.reset, f.name) { // inline: TypeMeta
			continue
		}
		if f.name != "metadata" {
			if !d.structField(f, a, b, atom.Map) {
				return false
			}
			continue
		}
		sub, ok := atom.Map.FindField(f.name)
		if !ok || !d.metadata(a.Field(f.index), b.Field(f.index), sub.Type) {
			return false
		}
	}
	return true
}

func (d *differ) metadata(a, b reflect.Value, tr schema.TypeRef) bool {
	atom, ok := d.schema.Resolve(tr)
	if !ok || atom.Map == nil || a.Kind() != reflect.Struct {
		return false
	}
	d.push(fieldpath.FieldNameElement("metadata"))
	defer d.pop()
	server := serverFields()
	for _, f := range d.structFields(a.Type()) {
		if !slices.Contains(server, f.name) && !d.structField(f, a, b, atom.Map) {
			return false
		}
	}
	return true
}

func (d *differ) push(e fieldpath.PathElement) { d.path = append(d.path, e) }
func (d *differ) pop()                         { d.path = d.path[:len(d.path)-1] }

func (d *differ) note(to *[]fieldpath.Path) {
	if d.alike {
		d.odd = true
		return
	}
	*to = append(*to, slices.Clone(d.path))
}

// structField compares one field of two structs.
func (d *differ) structField(f structField, a, b reflect.Value, m *schema.Map) bool {
	fa, fb := a.Field(f.index), b.Field(f.index)
	if same(fa, fb) {
		return true
	}
	if f.inline {
		return d.structs(fa, fb, m)
	}
	sub, ok := m.FindField(f.name)
	return ok && d.field(f.name, f.present(fa), f.present(fb), fa, fb, sub.Type)
}

// field compares what stands under a name on either side.
func (d *differ) field(name string, inA, inB bool, a, b reflect.Value, tr schema.TypeRef) bool {
	if !inA && !inB {
		return true
	}
	d.push(fieldpath.FieldNameElement(name))
	defer d.pop()
	switch {
	case inA && inB:
		return d.value(a, b, tr)
	case inB:
		return d.only(b, tr, &d.added)
	}
	return d.only(a, tr, &d.removed)
}

// value compares two values that are there.
func (d *differ) value(a, b reflect.Value, tr schema.TypeRef) bool {
	atom, ok := d.schema.Resolve(tr)
	if !ok {
		return false
	}
	a, b = deref(a), deref(b)
	switch shapeOf(atom) {
	case scalar:
		return d.leaf(a, b)
	case list:
		if !isList(a) || !isList(b) {
			return false
		}
		if atom.List.ElementRelationship == schema.Atomic || a.Len() == 0 && b.Len() == 0 {
			return d.leaf(a, b)
		}
		return d.items(a, b, atom.List)
	case mapping:
		if atom.Map.ElementRelationship == schema.Atomic {
			return d.leaf(a, b)
		}
		return d.fieldsOf(a, b, atom.Map)
	}
	return false
}

// fieldsOf compares structs and maps field by field. A nil one is JSON's null, which has no fields.
func (d *differ) fieldsOf(a, b reflect.Value, m *schema.Map) bool {
	switch {
	case isNull(a) && isNull(b):
		return true
	case isNull(a) || isNull(b):
		return d.withNull(a, b, m)
	case a.Kind() == reflect.Struct:
		return d.structs(a, b, m)
	case a.Kind() == reflect.Map && a.Type().Key().Kind() == reflect.String:
		return d.maps(a, b, m)
	}
	return false
}

// withNull compares null with a struct or a map that is there: as with an empty one, unless both are empty.
func (d *differ) withNull(a, b reflect.Value, m *schema.Map) bool {
	there, to := b, &d.added
	if isNull(b) {
		there, to = a, &d.removed
	}
	n := len(*to)
	if !d.children(there, m, to) {
		return false
	}
	if len(*to) == n && !d.odd {
		d.note(&d.changed)
	}
	return true
}

func (d *differ) structs(a, b reflect.Value, m *schema.Map) bool {
	for _, f := range d.structFields(a.Type()) {
		if !d.structField(f, a, b, m) {
			return false
		}
	}
	return true
}

func (d *differ) maps(a, b reflect.Value, m *schema.Map) bool {
	for it := a.MapRange(); it.Next(); {
		va, vb := it.Value(), b.MapIndex(it.Key())
		if vb.IsValid() && same(va, vb) {
			continue
		}
		if !d.field(it.Key().String(), true, vb.IsValid(), va, vb, m.ElementType) {
			return false
		}
	}
	for it := b.MapRange(); it.Next(); {
		if a.MapIndex(it.Key()).IsValid() {
			continue
		}
		if !d.field(it.Key().String(), false, true, reflect.Value{}, it.Value(), m.ElementType) {
			return false
		}
	}
	return true
}

// items compares lists whose items are told apart by a key, or are all different. Their order is nobody's.
func (d *differ) items(a, b reflect.Value, l *schema.List) bool {
	inA, okA := d.elements(a, l)
	inB, okB := d.elements(b, l)
	if !okA || !okB {
		return false
	}
	for i, e := range inA {
		j := i // nearly always
		if j >= len(inB) || !e.Equals(inB[j]) {
			j = slices.IndexFunc(inB, e.Equals)
		}
		if j >= 0 && same(a.Index(i), b.Index(j)) {
			continue
		}
		d.push(e)
		ok := false
		if j < 0 {
			ok = d.only(a.Index(i), l.ElementType, &d.removed)
		} else {
			ok = d.value(a.Index(i), b.Index(j), l.ElementType)
		}
		d.pop()
		if !ok {
			return false
		}
	}
	for j, e := range inB {
		if j < len(inA) && e.Equals(inA[j]) || slices.ContainsFunc(inA, e.Equals) {
			continue
		}
		d.push(e)
		ok := d.only(b.Index(j), l.ElementType, &d.added)
		d.pop()
		if !ok {
			return false
		}
	}
	return true
}

// only collects the path of a value that one side has, and those below it.
func (d *differ) only(v reflect.Value, tr schema.TypeRef, to *[]fieldpath.Path) bool {
	d.note(to)
	v = deref(v)
	atom, ok := d.schema.Resolve(tr)
	if !ok {
		return false
	}
	switch shapeOf(atom) {
	case scalar:
		return true
	case list:
		if !isList(v) {
			return false
		}
		return atom.List.ElementRelationship == schema.Atomic || v.Len() == 0 || d.onlyItems(v, atom.List, to)
	case mapping:
		return atom.Map.ElementRelationship == schema.Atomic || isNull(v) || d.children(v, atom.Map, to)
	}
	return false
}

func (d *differ) onlyItems(v reflect.Value, l *schema.List, to *[]fieldpath.Path) bool {
	elements, ok := d.elements(v, l)
	if !ok {
		return false
	}
	for i, e := range elements {
		d.push(e)
		ok := d.only(v.Index(i), l.ElementType, to)
		d.pop()
		if !ok {
			return false
		}
	}
	return true
}

// children collects what is below a struct or a map that one side has.
func (d *differ) children(v reflect.Value, m *schema.Map, to *[]fieldpath.Path) bool {
	child := func(name string, v reflect.Value, tr schema.TypeRef) bool {
		d.push(fieldpath.FieldNameElement(name))
		defer d.pop()
		return d.only(v, tr, to)
	}
	switch {
	case v.Kind() == reflect.Struct:
		for _, f := range d.structFields(v.Type()) {
			fv := v.Field(f.index)
			if f.inline {
				if !d.children(fv, m, to) {
					return false
				}
				continue
			}
			if !f.present(fv) {
				continue
			}
			sub, ok := m.FindField(f.name)
			if !ok || !child(f.name, fv, sub.Type) {
				return false
			}
		}
		return true
	case v.Kind() == reflect.Map && v.Type().Key().Kind() == reflect.String:
		for it := v.MapRange(); it.Next(); {
			if !child(it.Key().String(), it.Value(), m.ElementType) {
				return false
			}
		}
		return true
	}
	return false
}

// leaf records the path if the two are different to a client, which sees them as JSON.
func (d *differ) leaf(a, b reflect.Value) bool {
	if d.alike && !a.IsZero() && !b.IsZero() {
		return true // an empty object has a zero here, or nothing
	}
	if a.Kind() == b.Kind() && plainKind(a.Kind()) {
		if !same(a, b) {
			d.note(&d.changed)
		}
		return true
	}
	ja, errA := json.Marshal(a.Interface())
	jb, errB := json.Marshal(b.Interface())
	if errA != nil || errB != nil {
		return false
	}
	if !bytes.Equal(ja, jb) {
		d.note(&d.changed)
	}
	return true
}

// elements returns what the items of a list are called, in its order; ok is false if two are called the same.
func (d *differ) elements(v reflect.Value, l *schema.List) (out []fieldpath.PathElement, ok bool) {
	if v.Len() > maxKeyed {
		return nil, false
	}
	out = make([]fieldpath.PathElement, 0, v.Len())
	for i := range v.Len() {
		e, ok := d.element(deref(v.Index(i)), l.Keys)
		if !ok || slices.ContainsFunc(out, e.Equals) {
			return nil, false
		}
		out = append(out, e)
	}
	return out, true
}

func (d *differ) element(item reflect.Value, keys []string) (e fieldpath.PathElement, ok bool) {
	if len(keys) > 0 {
		key, ok := d.key(item, keys)
		return fieldpath.PathElement{Key: &key}, ok
	}
	v, ok := plain(item)
	return fieldpath.PathElement{Value: &v}, ok
}

// key returns the values that name an item; ok is false if one is left out.
func (d *differ) key(item reflect.Value, names []string) (key value.FieldList, ok bool) {
	if item.Kind() != reflect.Struct {
		return nil, false
	}
	key = make(value.FieldList, 0, len(names))
	for _, name := range names {
		fields := d.structFields(item.Type())
		i := slices.IndexFunc(fields, func(f structField) bool { return f.name == name && !f.inline })
		if i < 0 {
			return nil, false
		}
		v := item.Field(fields[i].index)
		if !fields[i].present(v) {
			return nil, false
		}
		named, ok := plain(v)
		if !ok {
			return nil, false
		}
		key = append(key, value.Field{Name: name, Value: named})
	}
	key.Sort()
	return key, true
}

// plain returns a string or an integer in the schema's terms.
func plain(v reflect.Value) (value.Value, bool) {
	switch v.Kind() {
	case reflect.String:
		return value.NewValueInterface(v.String()), true
	case reflect.Int32, reflect.Int64, reflect.Int:
		return value.NewValueInterface(v.Int()), true
	}
	return nil, false
}
