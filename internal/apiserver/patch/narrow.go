package patch

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// joining makes, of what patching a part of an object gave, what patching the whole would have given.
type joining func(patched runtime.Object, strict []error, err error) (runtime.Object, []error, error)

// narrow returns the part of current that the patch speaks of: an object with only the top-level fields that it names, and
// in metadata without managedFields, unless it names those. Patching the part and joining gives what patching the whole
// would, since top-level fields are patched independently, and spares turning the rest into JSON and back.
//
// A patch with directives of its own at the top is for the whole object; so is one that cannot be read: whoever
// applies it says why.
func (p Patch) narrow(current runtime.Object) (part runtime.Object, join joining) {
	whole := func(patched runtime.Object, strict []error, err error) (runtime.Object, []error, error) {
		return patched, strict, err
	}
	var named map[string]json.RawMessage
	if _, custom := current.(runtime.Unstructured); custom || json.Unmarshal(p.Body, &named) != nil || bytes.Contains(p.Body, []byte("managedFields")) {
		return current, whole
	}
	for name := range named {
		if strings.HasPrefix(name, "$") {
			return current, whole
		}
	}
	from := reflect.ValueOf(current).Elem()
	part = empty(current)
	to := reflect.ValueOf(part).Elem()
	var fields []int
	for i := range from.NumField() {
		name, _, _ := strings.Cut(from.Type().Field(i).Tag.Get("json"), ",")
		if _, ok := named[name]; ok && name != "" {
			fields = append(fields, i)
			to.Field(i).Set(from.Field(i))
		}
	}
	meta, ok := part.(metav1.Object)
	if !ok {
		return current, whole
	}
	meta.SetManagedFields(nil) // of part alone: its metadata is a copy
	return part, func(patched runtime.Object, strict []error, err error) (runtime.Object, []error, error) {
		if err != nil {
			return nil, nil, err
		}
		return graft(current, patched, fields), strict, nil
	}
}

// graft returns a copy of current with the given fields, kind and apiVersion of patched.
func graft(current, patched runtime.Object, fields []int) runtime.Object {
	managers := current.(metav1.Object).GetManagedFields()
	out := current.DeepCopyObject()
	to, from := reflect.ValueOf(out).Elem(), reflect.ValueOf(patched).Elem()
	for _, i := range fields {
		to.Field(i).Set(from.Field(i))
	}
	out.(metav1.Object).SetManagedFields(managers) // shared, which shows that nothing has touched them
	out.GetObjectKind().SetGroupVersionKind(patched.GetObjectKind().GroupVersionKind())
	return out
}
