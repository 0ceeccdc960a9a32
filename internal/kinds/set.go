package kinds

import (
	"cmp"
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Served is a kind as one of its versions shows it.
type Served struct {
	Kind *Kind
	GVK  schema.GroupVersionKind
	alt  *Version // nil: the hub
}

// Set is the immutable set of served kinds. A changed set is a new value.
type Set struct {
	kinds  []*Kind // sorted by group, plural
	served []Served
	byGVR  map[schema.GroupVersionResource]Served
	byGVK  map[schema.GroupVersionKind]Served
}

// NewSet returns the set of the given kinds. It refuses two kinds under one name.
func NewSet(all ...*Kind) (*Set, error) {
	s := &Set{
		kinds: slices.Clone(all),
		byGVR: map[schema.GroupVersionResource]Served{},
		byGVK: map[schema.GroupVersionKind]Served{},
	}
	slices.SortStableFunc(s.kinds, func(a, b *Kind) int {
		return cmp.Or(cmp.Compare(a.GVK.Group, b.GVK.Group), cmp.Compare(a.Plural, b.Plural))
	})
	for _, k := range s.kinds {
		if err := s.add(Served{Kind: k, GVK: k.GVK}); err != nil {
			return nil, err
		}
		for i := range k.Versions {
			v := &k.Versions[i]
			gvk := schema.GroupVersionKind{Group: cmp.Or(v.Group, k.GVK.Group), Version: v.Version, Kind: k.GVK.Kind}
			if err := s.add(Served{Kind: k, GVK: gvk, alt: v}); err != nil {
				return nil, err
			}
		}
	}
	return s, nil
}

func (s *Set) add(v Served) error {
	if old, ok := s.byGVR[v.GVR()]; ok {
		return fmt.Errorf("%s is already served as kind %s", v.GVR(), old.GVK.Kind)
	}
	if old, ok := s.byGVK[v.GVK]; ok {
		return fmt.Errorf("%s is already served as resource %s", v.GVK, old.Kind.Plural)
	}
	s.byGVR[v.GVR()], s.byGVK[v.GVK] = v, v
	s.served = append(s.served, v)
	return nil
}

// Kinds returns every kind, by group and plural. The caller must not change the slice.
func (s *Set) Kinds() []*Kind { return s.kinds }

// Served returns every kind in every version, by the kind's group and plural, hub first. The caller must not change the slice.
func (s *Set) Served() []Served { return s.served }

// Resource finds what is served at a REST path.
func (s *Set) Resource(gvr schema.GroupVersionResource) (Served, bool) {
	v, ok := s.byGVR[gvr]
	return v, ok
}

// Kind finds what a body of this kind is served as.
func (s *Set) Kind(gvk schema.GroupVersionKind) (Served, bool) {
	v, ok := s.byGVK[gvk]
	return v, ok
}

// With returns a set that also has the given kinds; one that names the resource of a present kind replaces it.
func (s *Set) With(more ...*Kind) (*Set, error) {
	replaced := map[schema.GroupResource]bool{}
	for _, k := range more {
		replaced[k.GroupResource()] = true
	}
	kept := slices.DeleteFunc(slices.Clone(s.kinds), func(k *Kind) bool { return replaced[k.GroupResource()] })
	return NewSet(append(kept, more...)...)
}

// Without returns a set that lacks the given resources.
func (s *Set) Without(gone ...schema.GroupResource) *Set {
	kept := slices.DeleteFunc(slices.Clone(s.kinds), func(k *Kind) bool { return slices.Contains(gone, k.GroupResource()) })
	out, err := NewSet(kept...)
	if err != nil { // a subset of a set without collisions has none
		panic(err)
	}
	return out
}

// GroupResource names the resource the way errors, RBAC and the store do.
func (k *Kind) GroupResource() schema.GroupResource {
	return schema.GroupResource{Group: k.GVK.Group, Resource: k.Plural}
}

// Subresource returns the named subresource, or nil.
func (k *Kind) Subresource(name string) *Subresource {
	for i := range k.Subresources {
		if k.Subresources[i].Name == name {
			return &k.Subresources[i]
		}
	}
	return nil
}

// Hub says whether this is the version that is stored.
func (v Served) Hub() bool { return v.alt == nil }

// GVR is where the kind is served.
func (v Served) GVR() schema.GroupVersionResource {
	return v.GVK.GroupVersion().WithResource(v.Kind.Plural)
}

// New returns an empty object of this version.
func (v Served) New() runtime.Object {
	if v.alt != nil {
		return v.alt.New()
	}
	return v.Kind.New()
}

// NewList returns an empty list of this version.
func (v Served) NewList() runtime.Object {
	if v.alt != nil {
		return v.alt.NewList()
	}
	return v.Kind.NewList()
}

// ToHub turns an object of this version into one of the hub, defaulted by this version's rules and then by the hub's.
// It owns in.
func (v Served) ToHub(in runtime.Object) (Object, error) {
	if v.alt != nil {
		if v.alt.Default != nil {
			v.alt.Default(in)
		}
		hub, err := v.alt.ToHub(in)
		if err != nil {
			return nil, fmt.Errorf("convert %s to %s: %w", v.GVK, v.Kind.GVK, err)
		}
		in = hub
	}
	obj, ok := in.(Object)
	if !ok {
		return nil, fmt.Errorf("convert %s: %T has no metadata", v.GVK, in)
	}
	v.Kind.Default(obj)
	return obj, nil
}

// FromHub turns an object of the hub into one of this version. The result may share memory with hub, which is not changed.
func (v Served) FromHub(hub runtime.Object) (runtime.Object, error) {
	if v.alt == nil {
		return hub, nil
	}
	out, err := v.alt.FromHub(hub)
	if err != nil {
		return nil, fmt.Errorf("convert %s to %s: %w", v.Kind.GVK, v.GVK, err)
	}
	return out, nil
}

// Validate checks an object, in the hub version, that is created in this version.
func (v Served) Validate(hub Object) field.ErrorList {
	errs := v.Kind.Validate(hub)
	if v.alt != nil && v.alt.Validate != nil {
		errs = append(errs, v.alt.Validate(hub)...)
	}
	return errs
}

// ValidateUpdate checks an object, in the hub version, that is changed in this version.
func (v Served) ValidateUpdate(hub, old Object) field.ErrorList {
	errs := v.Kind.ValidateUpdate(hub, old)
	if v.alt != nil && v.alt.ValidateUpdate != nil {
		errs = append(errs, v.alt.ValidateUpdate(hub, old)...)
	}
	return errs
}
