package patch

import (
	"reflect"
	"strings"

	"sigs.k8s.io/structured-merge-diff/v6/schema"
)

// structField is a field as JSON has it.
type structField struct {
	index               int
	name                string
	inline              bool
	omitEmpty, omitZero bool
}

// structFields returns the fields of a struct type, read from its tags once.
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

// present says whether JSON has the field; it may be null.
func (f structField) present(v reflect.Value) bool {
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
	case reflect.Pointer:
		if a.Pointer() == b.Pointer() {
			return true
		}
	case reflect.Slice, reflect.Map:
		if a.IsNil() && b.IsNil() {
			return true
		}
	}
	if a.Kind() == reflect.Struct && a.CanAddr() && b.CanAddr() { // as interfaces they would be copied
		return reflect.DeepEqual(a.Addr().Interface(), b.Addr().Interface())
	}
	return reflect.DeepEqual(a.Interface(), b.Interface())
}

// plainKind says whether values of a kind are to JSON what they are to Go.
func plainKind(k reflect.Kind) bool {
	switch k {
	case reflect.String, reflect.Bool, reflect.Int32, reflect.Int64, reflect.Int:
		return true
	}
	return false
}

// deref follows pointers; a nil one stays.
func deref(v reflect.Value) reflect.Value {
	for v.Kind() == reflect.Pointer && !v.IsNil() {
		v = v.Elem()
	}
	return v
}

// isNull says whether JSON shows null.
func isNull(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.Pointer, reflect.Map, reflect.Slice, reflect.Interface:
		return v.IsNil()
	}
	return false
}

// isList says whether v is a list of JSON; a nil slice is null, which passes for an empty one.
func isList(v reflect.Value) bool {
	return v.Kind() == reflect.Slice && v.Type().Elem().Kind() != reflect.Uint8
}

// shape is what a schema's type is made of.
type shape int

const (
	unclear shape = iota // it may be several
	scalar
	list
	mapping
)

func shapeOf(a schema.Atom) shape {
	switch {
	case a.Scalar != nil && a.List == nil && a.Map == nil:
		return scalar
	case a.List != nil && a.Scalar == nil && a.Map == nil:
		return list
	case a.Map != nil && a.Scalar == nil && a.List == nil:
		return mapping
	}
	return unclear
}
