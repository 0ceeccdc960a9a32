package patch

import (
	"encoding/json"
	"reflect"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	kjson "sigs.k8s.io/json"
	"sigs.k8s.io/structured-merge-diff/v6/value"
)

// quickly does what applyMerge or applyStrategic does, at a fraction of the cost: it writes the fields that the patch names into a
// copy of current, and turns only those into JSON and back that cannot be set as they are, such as lists. It returns nil in
// any case that it does not fully understand, and for whatever the client is to be told of: then the others decide, and say why.
// The tests hold them against each other.
func (p Patch) quickly(current runtime.Object) runtime.Object {
	if _, custom := current.(runtime.Unstructured); custom {
		return nil
	}
	var change map[string]any
	if strict, err := kjson.UnmarshalStrict(p.Body, &change); err != nil || len(strict) > 0 || change == nil {
		return nil
	}
	if !p.sameKind(change) || namesManagers(change) {
		return nil
	}
	out := current.DeepCopyObject()
	if !(quick{strategic: p.Type == types.StrategicMergePatchType}).fields(reflect.ValueOf(out).Elem(), change) {
		return nil
	}
	before, okBefore := current.(metav1.Object)
	after, okAfter := out.(metav1.Object)
	if !okBefore || !okAfter {
		return nil
	}
	after.SetManagedFields(before.GetManagedFields()) // shared, which shows that nothing has touched them
	out.GetObjectKind().SetGroupVersionKind(p.GVK)
	return out
}

// sameKind takes kind and apiVersion out of the change, if they say what the object is.
func (p Patch) sameKind(change map[string]any) bool {
	apiVersion, kind := p.GVK.ToAPIVersionAndKind()
	for name, want := range map[string]string{"apiVersion": apiVersion, "kind": kind} {
		if got, ok := change[name]; ok && got != want {
			return false
		}
		delete(change, name)
	}
	return true
}

// namesManagers says whether a change is about managers, by a directive even.
func namesManagers(change map[string]any) bool {
	meta, _ := change["metadata"].(map[string]any)
	for key := range meta {
		if strings.HasSuffix(key, "managedFields") {
			return true
		}
	}
	return false
}

// quick writes a patch into an object.
type quick struct{ strategic bool }

// fields changes a struct as JSON's names say. False means that it cannot, and that v is spoilt.
func (q quick) fields(v reflect.Value, change map[string]any) bool {
	known := value.TypeReflectEntryOf(v.Type()).Fields()
	directed := q.directed(change)
	var rest map[string]any // what cannot be set as it is
	for name, to := range change {
		field, ok := known[q.fieldOf(name)]
		if !ok {
			return false
		}
		f := field.GetFrom(v)
		if !f.CanSet() {
			return false
		}
		below, isObject := to.(map[string]any)
		switch {
		case directed[q.fieldOf(name)]: // a directive, or what it is about: they go together
			if f.Kind() != reflect.Slice {
				return false
			}
		case !isObject:
			if setScalar(f, to) {
				continue
			}
		case setEntries(f, below):
			continue
		case f.Kind() == reflect.Pointer && !f.IsNil() && q.plain(v, name, f.Elem(), below):
			if !q.fields(f.Elem(), below) {
				return false
			}
			continue
		case q.plain(v, name, f, below) && !field.CanOmit(f):
			if !q.fields(f, below) {
				return false
			}
			continue
		}
		if rest == nil {
			rest = map[string]any{}
		}
		rest[name] = to
	}
	return len(rest) == 0 || q.join(v, rest)
}

// directed is the fields of a change that directives beside them are about.
func (q quick) directed(change map[string]any) (fields map[string]bool) {
	for key := range change {
		if !q.strategic || !strings.HasPrefix(key, "$") {
			continue
		}
		if fields == nil {
			fields = map[string]bool{}
		}
		fields[q.fieldOf(key)] = true
	}
	return fields
}

// fieldOf is the field that a key of a patch is about: directives for a list name it behind a slash.
func (q quick) fieldOf(key string) string {
	if q.strategic && strings.HasPrefix(key, "$") {
		_, field, _ := strings.Cut(key, "/")
		return field
	}
	return key
}

// plain says whether a struct is changed field by field: whether no directive and no tag of its field says otherwise.
func (q quick) plain(parent reflect.Value, name string, v reflect.Value, change map[string]any) bool {
	if v.Kind() != reflect.Struct || value.TypeReflectEntryOf(v.Type()).CanConvertFromUnstructured() {
		return false
	}
	if !q.strategic {
		return true
	}
	for key := range change {
		if strings.HasPrefix(key, "$") && !strings.Contains(key, "/") {
			return false
		}
	}
	_, meta, err := strategicpatch.PatchMetaFromStruct{T: parent.Type()}.LookupPatchMetadataForStruct(name)
	return err == nil && strings.Join(meta.GetPatchStrategies(), "") == "" // without a tag there is one that is empty
}

// join does by way of JSON what fields could not, one struct's fields at a time. It uses change up.
func (q quick) join(v reflect.Value, change map[string]any) bool {
	known := value.TypeReflectEntryOf(v.Type()).Fields()
	part, fresh := reflect.New(v.Type()), reflect.New(v.Type())
	named := make([]*value.FieldCacheEntry, 0, len(change))
	for name := range change {
		field := known[q.fieldOf(name)]
		to := field.GetFrom(part.Elem())
		if !to.CanSet() {
			return false
		}
		to.Set(field.GetFrom(v))
		named = append(named, field)
	}
	before, err := runtime.DefaultUnstructuredConverter.ToUnstructured(part.Interface())
	if err != nil || !q.merge(before, change, fresh.Interface()) {
		return false
	}
	for _, field := range named {
		field.GetFrom(v).Set(field.GetFrom(fresh.Elem()))
	}
	return true
}

// merge reads into fresh what change makes of before. False means an error or what a strict decoder objects to.
func (q quick) merge(before, change map[string]any, fresh any) bool {
	if q.strategic {
		after, err := strategicpatch.StrategicMergeMapPatch(before, change, fresh)
		return err == nil && runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(after, fresh, true) == nil
	}
	merge(before, change)
	data, err := json.Marshal(before)
	if err != nil {
		return false
	}
	strict, err := kjson.UnmarshalStrict(data, fresh)
	return err == nil && len(strict) == 0
}

// setScalar sets a field to null, a string, a number or a boolean; false if it does not take it just so.
func setScalar(f reflect.Value, to any) bool {
	if to == nil {
		f.SetZero()
		return true
	}
	if _, isList := to.([]any); isList {
		return false
	}
	if f.Kind() != reflect.Pointer {
		return setValue(f, to)
	}
	v := reflect.New(f.Type().Elem())
	if !setValue(v.Elem(), to) {
		return false
	}
	f.Set(v)
	return true
}

func setValue(v reflect.Value, to any) bool {
	switch to := to.(type) {
	case string:
		if v.Kind() == reflect.String {
			v.SetString(to)
			return true
		}
	case bool:
		if v.Kind() == reflect.Bool {
			v.SetBool(to)
			return true
		}
	case int64:
		if v.CanInt() && !v.OverflowInt(to) {
			v.SetInt(to)
			return true
		}
	}
	entry := value.TypeReflectEntryOf(v.Type())
	if v.Kind() != reflect.Struct || !entry.CanConvertFromUnstructured() {
		return false
	}
	fresh := reflect.New(v.Type()).Elem()
	if entry.FromUnstructured(reflect.ValueOf(to), fresh) != nil {
		return false
	}
	v.Set(fresh)
	return true
}

// setEntries changes a map of strings; false, and nothing is changed, if it is none or a directive is among the keys.
func setEntries(f reflect.Value, change map[string]any) bool {
	if f.Kind() != reflect.Map || f.Type().Key().Kind() != reflect.String || f.Type().Elem().Kind() != reflect.String {
		return false
	}
	for key, to := range change {
		if _, ok := to.(string); !ok && to != nil || strings.HasPrefix(key, "$") {
			return false
		}
	}
	if f.IsNil() {
		f.Set(reflect.MakeMapWithSize(f.Type(), len(change)))
	}
	for key, to := range change {
		k := reflect.ValueOf(key).Convert(f.Type().Key())
		if to == nil {
			f.SetMapIndex(k, reflect.Value{})
		} else {
			f.SetMapIndex(k, reflect.ValueOf(to).Convert(f.Type().Elem()))
		}
	}
	return true
}
