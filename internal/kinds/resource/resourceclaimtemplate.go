package resource

import (
	"time"

	resourcev1 "k8s.io/api/resource/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metavalidation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"canopus/internal/kinds"
	"canopus/internal/kinds/show"
)

// ResourceClaimTemplate is resource.k8s.io/v1 resourceclaimtemplates: what the claims of each pod of a workload look like.
func ResourceClaimTemplate() *kinds.Kind {
	return kinds.New(kinds.Spec[resourcev1.ResourceClaimTemplate, *resourcev1.ResourceClaimTemplate]{
		GVK:           resourcev1.SchemeGroupVersion.WithKind("ResourceClaimTemplate"),
		Plural:        "resourceclaimtemplates",
		Namespaced:    true,
		NewList:       func() runtime.Object { return &resourcev1.ResourceClaimTemplateList{} },
		ReturnDeleted: true,

		Default:  func(t *resourcev1.ResourceClaimTemplate) { defaultClaim(&t.Spec.Spec) },
		Validate: validateTemplate,
		ValidateUpdate: func(t, old *resourcev1.ResourceClaimTemplate) field.ErrorList {
			return apivalidation.ValidateImmutableField(t.Spec, old.Spec, field.NewPath("spec"))
		},
		Columns: []metav1.TableColumnDefinition{show.Name(), show.AgeColumn()},
		Cells: func(t *resourcev1.ResourceClaimTemplate, now time.Time) []any {
			return []any{t.Name, show.Age(t.CreationTimestamp, now)}
		},
	})
}

// validateTemplate lets a template say nothing of a claim's metadata but labels and annotations.
func validateTemplate(t *resourcev1.ResourceClaimTemplate) field.ErrorList {
	path := field.NewPath("spec")
	errs := validateClaimSpec(&t.Spec.Spec, path.Child("spec"))
	meta, at := t.Spec.ObjectMeta.DeepCopy(), path.Child("metadata")
	errs = append(errs, metavalidation.ValidateLabels(meta.Labels, at.Child("labels"))...)
	errs = append(errs, apivalidation.ValidateAnnotations(meta.Annotations, at.Child("annotations"))...)
	meta.Labels, meta.Annotations = nil, nil
	for _, f := range []struct {
		name string
		set  bool
	}{
		{"name", meta.Name != ""}, {"generateName", meta.GenerateName != ""}, {"namespace", meta.Namespace != ""}, {"uid", meta.UID != ""},
		{"resourceVersion", meta.ResourceVersion != ""}, {"generation", meta.Generation != 0}, {"selfLink", meta.SelfLink != ""},
		{"creationTimestamp", !meta.CreationTimestamp.IsZero()}, {"deletionTimestamp", meta.DeletionTimestamp != nil},
		{"deletionGracePeriodSeconds", meta.DeletionGracePeriodSeconds != nil}, {"ownerReferences", len(meta.OwnerReferences) > 0},
		{"finalizers", len(meta.Finalizers) > 0}, {"managedFields", len(meta.ManagedFields) > 0},
	} {
		if f.set {
			errs = append(errs, field.Forbidden(at.Child(f.name), "cannot be set in this position"))
		}
	}
	return errs
}
