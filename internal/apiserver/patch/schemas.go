package patch

import (
	"sync"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"k8s.io/client-go/applyconfigurations"
	"sigs.k8s.io/structured-merge-diff/v6/typed"
)

// Schemas knows the structure of every built-in kind, as field ownership needs it: which lists are merged by key, which
// values are taken whole. Building it costs about 0.1 s and 12 MiB for a moment, of which 1 MiB stays, so it is built by
// the first write. Safe for concurrent use.
type Schemas struct {
	scheme *runtime.Scheme
	once   sync.Once
	built  managedfields.TypeConverter
	fields sync.Map // reflect.Type → []structField
	sets   setCache
}

// NewSchemas returns the schemas of the kinds in scheme that k8s.io/api describes.
func NewSchemas(scheme *runtime.Scheme) *Schemas {
	return &Schemas{scheme: scheme}
}

func (s *Schemas) converter() managedfields.TypeConverter {
	s.once.Do(func() { s.built = applyconfigurations.NewTypeConverter(s.scheme) })
	return s.built
}

// ObjectToTyped implements managedfields.TypeConverter.
func (s *Schemas) ObjectToTyped(obj runtime.Object, opts ...typed.ValidationOptions) (*typed.TypedValue, error) {
	return s.converter().ObjectToTyped(obj, opts...)
}

// TypedToObject implements managedfields.TypeConverter.
func (s *Schemas) TypedToObject(v *typed.TypedValue) (runtime.Object, error) {
	return s.converter().TypedToObject(v)
}
