package builtin_test

import (
	"reflect"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"canopus/internal/kinds"
)

// podSpecIn finds the pod spec in an object, of a pod or of a template; nil if there is none. Pointers on the way to it are
// filled in.
func podSpecIn(v reflect.Value) *corev1.PodSpec {
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			if v.Type().Elem() != reflect.TypeFor[corev1.PodTemplateSpec]() {
				return nil
			}
			v.Set(reflect.New(v.Type().Elem()))
		}
		return podSpecIn(v.Elem())
	case reflect.Struct:
		if spec, ok := v.Addr().Interface().(*corev1.PodSpec); ok {
			return spec
		}
		for _, name := range []string{"Spec", "JobTemplate", "Template"} {
			if f := v.FieldByName(name); f.IsValid() {
				if spec := podSpecIn(f); spec != nil {
					return spec
				}
			}
		}
	}
	return nil
}

// TestGatedFieldsAreDropped: in every kind with a pod spec, fields that are off do not come in, and are not lost once there.
func TestGatedFieldsAreDropped(t *testing.T) {
	t.Parallel()
	eachKind(t, func(t *testing.T, k *kinds.Kind) {
		object := func(set bool) (kinds.Object, *corev1.PodSpec) {
			obj := k.New().(kinds.Object)
			spec := podSpecIn(reflect.ValueOf(obj))
			if spec != nil && set {
				spec.EvictionResponders = []corev1.EvictionResponder{{Name: "a"}}
			}
			return obj, spec
		}
		obj, spec := object(true)
		if spec == nil {
			return
		}
		if k.PrepareCreate(obj); len(spec.EvictionResponders) != 0 {
			t.Error("a create brings them in")
		}
		old, _ := object(false)
		obj, spec = object(true)
		if k.PrepareUpdate(obj, old); len(spec.EvictionResponders) != 0 || obj.GetGeneration() != old.GetGeneration() {
			t.Errorf("an update brings them in: %v, generation %d", spec.EvictionResponders, obj.GetGeneration())
		}
		old, _ = object(true)
		obj, spec = object(true)
		if k.PrepareUpdate(obj, old); len(spec.EvictionResponders) != 1 {
			t.Error("an update loses them")
		}
	})
}
