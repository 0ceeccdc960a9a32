package patch

import (
	"bytes"
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"
	"sigs.k8s.io/structured-merge-diff/v6/schema"
	"sigs.k8s.io/structured-merge-diff/v6/value"
)

// maxKeyed bounds lists whose items are told apart by key: they are compared pairwise.
const maxKeyed = 64

// differ walks two Go values of one API type along its schema and collects the paths at which a value differs that is
// there in both. Its methods return false as soon as more than that is different.
type differ struct {
	schema  *schema.Schema
	fields  *sync.Map // reflect.Type → []structField
	reset   []string  // top-level fields that this writer cannot change
	path    fieldpath.Path
	changed []fieldpath.Path
}

// structField is a field as JSON has it.
type structField struct {
	index               int
	name                string
	inline              bool
	omitEmpty, omitZero bool
}

// object compares two whole objects. Kind, apiVersion and what only the server sets in metadata are nobody's field.
func (d *differ) object(a, b reflect.Value, tr schema.TypeRef) bool {
	atom, ok := d.schema.Resolve(tr)
	if !ok || atom.Map == nil {
		return false
	}
	for _, f := range d.structFields(a.Type()) {
		fa, fb := a.Field(f.index), b.Field(f.index)
		if f.inline { // TypeMeta
			continue
		}
		sub, ok := atom.Map.FindField(f.name)
		if !ok {
			return false
		}
		if f.name == "metadata" {
			if !d.metadata(fa, fb, sub.Type) {
				return false
			}
			continue
		}
		if same(fa, fb) {
			continue
		}
		if slices.Contains(d.reset, f.name) || !d.field(f, fa, fb, sub.Type) {
			return false
		}
	}
	return true
}

// metadata lets values of labels and annotations change; of the rest only what the server keeps may differ.
func (d *differ) metadata(a, b reflect.Value, tr schema.TypeRef) bool {
	ma, okA := a.Interface().(metav1.ObjectMeta)
	mb, okB := b.Interface().(metav1.ObjectMeta)
	atom, ok := d.schema.Resolve(tr)
	if !okA || !okB || !ok || atom.Map == nil {
		return false
	}
	for _, name := range []string{"labels", "annotations"} {
		sub, ok := atom.Map.FindField(name)
		la, lb := reflect.ValueOf(ma.Labels), reflect.ValueOf(mb.Labels)
		if name == "annotations" {
			la, lb = reflect.ValueOf(ma.Annotations), reflect.ValueOf(mb.Annotations)
		}
		if same(la, lb) {
			continue
		}
		d.path = append(d.path, fieldpath.FieldNameElement("metadata"))
		ok = ok && d.field(structField{name: name, omitEmpty: true}, la, lb, sub.Type)
		d.path = d.path[:len(d.path)-1]
		if !ok {
			return false
		}
	}
	for _, m := range []*metav1.ObjectMeta{&ma, &mb} {
		m.Labels, m.Annotations, m.ManagedFields, m.ResourceVersion = nil, nil, nil, ""
	}
	return same(reflect.ValueOf(ma), reflect.ValueOf(mb))
}

// field compares what a struct field holds; the two are known to differ.
func (d *differ) field(f structField, a, b reflect.Value, tr schema.TypeRef) bool {
	if !f.present(a) || !f.present(b) {
		return false
	}
	d.path = append(d.path, fieldpath.FieldNameElement(f.name))
	defer func() { d.path = d.path[:len(d.path)-1] }()
	return d.value(a, b, tr)
}

// value compares two values that are there and differ.
func (d *differ) value(a, b reflect.Value, tr schema.TypeRef) bool {
	for a.Kind() == reflect.Pointer {
		if a.IsNil() || b.IsNil() {
			return false
		}
		a, b = a.Elem(), b.Elem()
	}
	atom, ok := d.schema.Resolve(tr)
	if !ok {
		return false
	}
	switch {
	case atom.Scalar != nil && atom.List == nil && atom.Map == nil:
		return d.leaf(a, b)
	case atom.List != nil && atom.Scalar == nil && atom.Map == nil:
		if a.Kind() != reflect.Slice || a.Len() == 0 || b.Len() == 0 {
			return false
		}
		if atom.List.ElementRelationship == schema.Atomic {
			return d.leaf(a, b)
		}
		return d.keyed(a, b, atom.List)
	case atom.Map != nil && atom.Scalar == nil && atom.List == nil:
		if atom.Map.ElementRelationship == schema.Atomic {
			return !empty0(a) && !empty0(b) && d.leaf(a, b)
		}
		return d.fieldsOf(a, b, atom.Map)
	}
	return false
}

// leaf records the path if the two are different to a client, which sees them as JSON.
func (d *differ) leaf(a, b reflect.Value) bool {
	ja, errA := json.Marshal(a.Interface())
	jb, errB := json.Marshal(b.Interface())
	if errA != nil || errB != nil || string(ja) == "null" || string(jb) == "null" {
		return false
	}
	if !bytes.Equal(ja, jb) {
		d.changed = append(d.changed, slices.Clone(d.path))
	}
	return true
}

// fieldsOf compares structs and maps field by field.
func (d *differ) fieldsOf(a, b reflect.Value, m *schema.Map) bool {
	switch a.Kind() {
	case reflect.Struct:
		return d.structs(a, b, m)
	case reflect.Map:
		return d.maps(a, b, m)
	}
	return false
}

func (d *differ) structs(a, b reflect.Value, m *schema.Map) bool {
	for _, f := range d.structFields(a.Type()) {
		fa, fb := a.Field(f.index), b.Field(f.index)
		if same(fa, fb) {
			continue
		}
		if f.inline {
			if !d.structs(fa, fb, m) {
				return false
			}
			continue
		}
		sub, ok := m.FindField(f.name)
		if !ok || !d.field(f, fa, fb, sub.Type) {
			return false
		}
	}
	return true
}

func (d *differ) maps(a, b reflect.Value, m *schema.Map) bool {
	if a.Type().Key().Kind() != reflect.String || a.Len() != b.Len() {
		return false
	}
	for it := a.MapRange(); it.Next(); {
		va, vb := it.Value(), b.MapIndex(it.Key())
		if !vb.IsValid() {
			return false
		}
		if same(va, vb) {
			continue
		}
		if !d.field(structField{name: it.Key().String()}, va, vb, m.ElementType) {
			return false
		}
	}
	return true
}

// keyed compares lists of structs that are told apart by keys. They must have the same items in the same order.
func (d *differ) keyed(a, b reflect.Value, l *schema.List) bool {
	if len(l.Keys) == 0 || a.Len() != b.Len() || a.Len() > maxKeyed {
		return false
	}
	seen := make([]value.FieldList, 0, a.Len())
	for i := range a.Len() {
		ka, okA := d.key(a.Index(i), l.Keys)
		kb, okB := d.key(b.Index(i), l.Keys)
		if !okA || !okB || !ka.Equals(kb) || slices.ContainsFunc(seen, ka.Equals) {
			return false
		}
		seen = append(seen, ka)
	}
	for i := range a.Len() {
		if same(a.Index(i), b.Index(i)) {
			continue
		}
		d.path = append(d.path, fieldpath.PathElement{Key: &seen[i]})
		ok := d.value(a.Index(i), b.Index(i), l.ElementType)
		d.path = d.path[:len(d.path)-1]
		if !ok {
			return false
		}
	}
	return true
}

// key returns the values that name an item; ok is false if one is left out.
func (d *differ) key(item reflect.Value, names []string) (key value.FieldList, ok bool) {
	if item.Kind() != reflect.Struct {
		return nil, false
	}
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
		switch v.Kind() {
		case reflect.String:
			key = append(key, value.Field{Name: name, Value: value.NewValueInterface(v.String())})
		case reflect.Int32, reflect.Int64, reflect.Int:
			key = append(key, value.Field{Name: name, Value: value.NewValueInterface(v.Int())})
		default:
			return nil, false
		}
	}
	key.Sort()
	return key, true
}

// present says whether JSON has the field.
func (f structField) present(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Map, reflect.Interface:
		if v.IsNil() {
			return false
		}
	}
	return !(f.omitEmpty && empty0(v)) && !(f.omitZero && v.IsZero())
}

// empty0 is what omitempty means by empty: never a struct.
func empty0(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.Slice, reflect.Map, reflect.String, reflect.Array:
		return v.Len() == 0
	case reflect.Struct:
		return false
	}
	return v.IsZero()
}

// same is quick and errs on the side of different.
func same(a, b reflect.Value) bool {
	switch a.Kind() {
	case reflect.String:
		return a.String() == b.String()
	case reflect.Bool:
		return a.Bool() == b.Bool()
	case reflect.Int32, reflect.Int64, reflect.Int:
		return a.Int() == b.Int()
	}
	return reflect.DeepEqual(a.Interface(), b.Interface())
}

func (d *differ) structFields(t reflect.Type) []structField {
	if known, ok := d.fields.Load(t); ok {
		return known.([]structField)
	}
	var out []structField
	for i := range t.NumField() {
		f := t.Field(i)
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		if !f.IsExported() || name == "-" {
			continue
		}
		sf := structField{
			index: i, name: name, inline: f.Anonymous && name == "",
			omitEmpty: strings.Contains(options, "omitempty"), omitZero: strings.Contains(options, "omitzero"),
		}
		if name == "" && !sf.inline {
			sf.name = f.Name
		}
		out = append(out, sf)
	}
	d.fields.Store(t, out)
	return out
}
