package patch

import (
	"errors"
	"fmt"

	"canopus/internal/kinds"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"
	"sigs.k8s.io/structured-merge-diff/v6/typed"
)

// ScaleOwners keeps track of who owns spec.replicas when it is written through the scale subresource. Objects are
// *autoscalingv1.Scale; the managers are those of the scaled object.
type ScaleOwners struct {
	owners   *Owners
	gv       schema.GroupVersion
	mappings managedfields.ResourcePathMappings
}

// NewScaleOwners returns the ScaleOwners of parent, a kind whose replicas are at the dotted path in each of its served
// versions ("spec.replicas").
func NewScaleOwners(s *Schemas, all Versions, parent kinds.Served) (*ScaleOwners, error) {
	if s == nil || all == nil || parent.Kind == nil {
		return nil, errors.New("field ownership of scale: schemas, versions and parent are required")
	}
	replicas := fieldpath.MakePathOrDie("spec", "replicas")
	mappings := managedfields.ResourcePathMappings{parent.Kind.GVK.GroupVersion().String(): replicas}
	for _, v := range parent.Kind.Versions {
		gv := schema.GroupVersion{Group: parent.Kind.GVK.Group, Version: v.Version}
		if v.Group != "" {
			gv.Group = v.Group
		}
		mappings[gv.String()] = replicas
	}
	types, err := scaleTypes(s.scheme)
	if err != nil {
		return nil, err
	}
	owners, err := newOwners(OwnersConfig{Schemas: s, Versions: scaleOnly{}, Served: scaleServed(), Subresource: "scale"}, types)
	if err != nil {
		return nil, err
	}
	return &ScaleOwners{owners: owners, gv: parent.GVK.GroupVersion(), mappings: mappings}, nil
}

// Update returns the managedFields of the parent after manager has changed its scale from live to obj. The parent's
// are those before.
func (o *ScaleOwners) Update(parent []metav1.ManagedFieldsEntry, live, obj *autoscalingv1.Scale, manager string) ([]metav1.ManagedFieldsEntry, error) {
	handler, live, err := o.enter(parent, live)
	if err != nil {
		return parent, err
	}
	obj.ManagedFields = nil
	if err := o.owners.Update(live, obj, manager); err != nil {
		return parent, err
	}
	return o.leave(handler, obj)
}

// Apply is Owners.Apply for the scale subresource: it returns the wanted scale and the parent's managedFields.
func (o *ScaleOwners) Apply(parent []metav1.ManagedFieldsEntry, live *autoscalingv1.Scale, w Wish) (*autoscalingv1.Scale, []metav1.ManagedFieldsEntry, []string, error) {
	handler, live, err := o.enter(parent, live)
	if err != nil {
		return nil, nil, nil, err
	}
	obj, warnings, err := o.owners.Apply(live, w)
	if err != nil {
		return nil, nil, nil, err
	}
	scale, ok := obj.(*autoscalingv1.Scale)
	if !ok {
		return nil, nil, nil, fmt.Errorf("apply scale: the merged object is a %T", obj)
	}
	entries, err := o.leave(handler, scale)
	return scale, entries, warnings, err
}

// enter shows the managers of the parent as managers of its scale.
func (o *ScaleOwners) enter(parent []metav1.ManagedFieldsEntry, live *autoscalingv1.Scale) (*managedfields.ScaleHandler, *autoscalingv1.Scale, error) {
	handler := managedfields.NewScaleHandler(parent, o.gv, o.mappings)
	entries, err := handler.ToSubresource()
	if err != nil {
		return nil, nil, fmt.Errorf("read the managers of the scaled object: %w", err)
	}
	copied := live.DeepCopy()
	copied.ManagedFields = entries
	return handler, copied, nil
}

func (o *ScaleOwners) leave(handler *managedfields.ScaleHandler, scale *autoscalingv1.Scale) ([]metav1.ManagedFieldsEntry, error) {
	entries, err := handler.ToParent(scale.ManagedFields)
	if err != nil {
		return nil, fmt.Errorf("record the managers of the scaled object: %w", err)
	}
	scale.ManagedFields = nil
	return entries, nil
}

// scaleTypes describes Scale, which client-go's schema lacks because nobody applies one by itself. Of metadata it
// knows nothing: it is the parent's.
func scaleTypes(scheme *runtime.Scheme) (managedfields.TypeConverter, error) {
	parser, err := typed.NewParser(`types:
- name: io.k8s.api.autoscaling.v1.Scale
  map:
    fields:
    - {name: apiVersion, type: {scalar: string}}
    - {name: kind, type: {scalar: string}}
    - {name: metadata, type: {namedType: metadata}}
    - {name: spec, type: {map: {fields: [{name: replicas, type: {scalar: numeric}}]}}}
    - {name: status, type: {map: {fields: [{name: replicas, type: {scalar: numeric}}, {name: selector, type: {scalar: string}}]}}}
- name: metadata
  map:
    elementType: {namedType: anything}
- name: anything
  scalar: untyped
  list: {elementType: {namedType: anything}, elementRelationship: atomic}
  map: {elementType: {namedType: anything}, elementRelationship: separable}
`)
	if err != nil {
		return nil, fmt.Errorf("read the schema of scale: %w", err)
	}
	return managedfields.NewSchemeTypeConverter(scheme, parser), nil
}

// scaleOnly is the one kind that ScaleOwners converts, in its one version.
type scaleOnly struct{}

func (scaleOnly) Kind(gvk schema.GroupVersionKind) (kinds.Served, bool) {
	s := scaleServed()
	return s, gvk == s.GVK
}

func scaleServed() kinds.Served {
	gvk := autoscalingv1.SchemeGroupVersion.WithKind("Scale")
	return kinds.Served{GVK: gvk, Kind: &kinds.Kind{
		GVK: gvk, Plural: "scales",
		New:     func() runtime.Object { return &autoscalingv1.Scale{} },
		Default: func(kinds.Object) {},
	}}
}
