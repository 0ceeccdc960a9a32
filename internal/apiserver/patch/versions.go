package patch

import (
	"errors"
	"fmt"
	"net/url"
	"reflect"

	"canopus/internal/kinds"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Versions finds the versions of a kind; *kinds.Set is one.
type Versions interface {
	Kind(schema.GroupVersionKind) (kinds.Served, bool)
}

// versions converts one kind's objects between its versions, in the terms of the field manager. What it returns carries
// kind and apiVersion, lacks managedFields and shares the rest with its argument, which stays as it is.
type versions struct {
	all Versions
	hub schema.GroupVersionKind
}

// ConvertToVersion implements runtime.ObjectConvertor.
func (v versions) ConvertToVersion(in runtime.Object, target runtime.GroupVersioner) (runtime.Object, error) {
	gvk, ok := target.KindForGroupVersionKinds([]schema.GroupVersionKind{v.hub})
	if gv, exact := target.(schema.GroupVersion); exact {
		gvk, ok = gv.WithKind(v.hub.Kind), true
	}
	if !ok {
		return nil, runtime.NewNotRegisteredErrForTarget("kinds", reflect.TypeOf(in), target)
	}
	from := in.GetObjectKind().GroupVersionKind()
	if from.Empty() {
		from = v.hub
	}
	in, err := v.structured(in, from)
	if err != nil {
		return nil, err
	}
	if from == gvk {
		return bare(in, gvk), nil
	}
	return v.convert(in, from, gvk)
}

func (v versions) convert(in runtime.Object, from, to schema.GroupVersionKind) (runtime.Object, error) {
	source, err := v.served(from)
	if err != nil {
		return nil, err
	}
	sink, err := v.served(to)
	if err != nil {
		return nil, err
	}
	if !source.Hub() {
		if in, err = source.ToHub(in.DeepCopyObject()); err != nil {
			return nil, err
		}
	}
	out, err := sink.FromHub(in)
	if err != nil {
		return nil, err
	}
	return bare(out, to), nil
}

func (v versions) served(gvk schema.GroupVersionKind) (kinds.Served, error) {
	s, ok := v.all.Kind(gvk)
	if !ok { // the field manager forgets managers of versions that are gone
		return s, runtime.NewNotRegisteredErrForKind("kinds", gvk)
	}
	return s, nil
}

// structured returns in as the Go struct of its kind when the field manager has turned it into maps.
func (v versions) structured(in runtime.Object, gvk schema.GroupVersionKind) (runtime.Object, error) {
	u, ok := in.(*unstructured.Unstructured)
	if !ok {
		return in, nil
	}
	out, err := v.New(gvk)
	if err != nil {
		return nil, err
	}
	if _, custom := out.(runtime.Unstructured); custom {
		return in, nil
	}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, out); err != nil {
		return nil, fmt.Errorf("read the fields of %s: %w", gvk.Kind, err)
	}
	return out, nil
}

// New implements runtime.ObjectCreater.
func (v versions) New(gvk schema.GroupVersionKind) (runtime.Object, error) {
	s, err := v.served(gvk)
	if err != nil {
		return nil, err
	}
	obj := s.New()
	obj.GetObjectKind().SetGroupVersionKind(gvk)
	return obj, nil
}

// emptyHub returns an empty object of the hub version.
func (v versions) emptyHub() runtime.Object {
	obj, err := v.New(v.hub)
	if err != nil { // the hub is one of the versions
		panic(err)
	}
	return obj
}

// Default implements runtime.ObjectDefaulter. Other versions than the hub are defaulted on their way to it.
func (v versions) Default(obj runtime.Object) {
	s, err := v.served(obj.GetObjectKind().GroupVersionKind())
	if o, ok := obj.(kinds.Object); ok && err == nil && s.Hub() {
		s.Kind.Default(o)
	}
}

// Convert implements runtime.ObjectConvertor; nobody calls it.
func (v versions) Convert(in, _, _ any) error {
	if _, ok := in.(*url.Values); ok {
		return errors.New("query parameters are not objects")
	}
	return fmt.Errorf("convert %T: only conversion between versions is known here", in)
}

// ConvertFieldLabel implements runtime.ObjectConvertor; nobody calls it.
func (v versions) ConvertFieldLabel(gvk schema.GroupVersionKind, label, _ string) (string, string, error) {
	return "", "", fmt.Errorf("field label %s of %s is not known here", label, gvk)
}

// bare returns a shallow copy of obj with kind and apiVersion and without managedFields, which own no fields themselves.
func bare(obj runtime.Object, gvk schema.GroupVersionKind) runtime.Object {
	if u, ok := obj.(*unstructured.Unstructured); ok {
		return bareMap(u, gvk)
	}
	src := reflect.ValueOf(obj).Elem()
	dst := reflect.New(src.Type())
	dst.Elem().Set(src)
	out := dst.Interface().(runtime.Object)
	out.GetObjectKind().SetGroupVersionKind(gvk)
	if m, ok := out.(metav1.Object); ok {
		m.SetManagedFields(nil)
	}
	return out
}

func bareMap(u *unstructured.Unstructured, gvk schema.GroupVersionKind) runtime.Object {
	fields := make(map[string]any, len(u.Object)+2)
	for key, value := range u.Object {
		fields[key] = value
	}
	if meta, ok := fields["metadata"].(map[string]any); ok {
		kept := make(map[string]any, len(meta))
		for key, value := range meta {
			if key != "managedFields" {
				kept[key] = value
			}
		}
		fields["metadata"] = kept
	}
	fields["apiVersion"], fields["kind"] = gvk.ToAPIVersionAndKind()
	return &unstructured.Unstructured{Object: fields}
}
