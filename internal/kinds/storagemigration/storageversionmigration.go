// Package storagemigration describes the rewriting of stored objects.
package storagemigration

import (
	storagemigrationv1 "k8s.io/api/storagemigration/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metavalidation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/resourceversion"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"canopus/internal/kinds"
	"canopus/internal/kinds/check"
)

// StorageVersionMigration is storagemigration.k8s.io/v1 storageversionmigrations.
func StorageVersionMigration() *kinds.Kind {
	return kinds.New(kinds.Spec[storagemigrationv1.StorageVersionMigration, *storagemigrationv1.StorageVersionMigration]{
		GVK:     storagemigrationv1.SchemeGroupVersion.WithKind("StorageVersionMigration"),
		Plural:  "storageversionmigrations",
		NewList: func() runtime.Object { return &storagemigrationv1.StorageVersionMigrationList{} },

		PrepareCreate: func(m *storagemigrationv1.StorageVersionMigration) {
			m.Status = storagemigrationv1.StorageVersionMigrationStatus{}
		},
		PrepareUpdate:  func(m, old *storagemigrationv1.StorageVersionMigration) { m.Status = old.Status },
		Validate:       validate,
		ValidateUpdate: validateUpdate,
		Subresources: []kinds.Subresource{kinds.Status(
			func(m, old *storagemigrationv1.StorageVersionMigration) { m.Spec = old.Spec }, validateStatus)},
	})
}

func validate(m *storagemigrationv1.StorageVersionMigration) field.ErrorList {
	at := field.NewPath("spec", "resource")
	errs := check.RequiredLabel(m.Spec.Resource.Resource, at.Child("resource"))
	if g := m.Spec.Resource.Group; g != "" {
		errs = append(errs, check.Subdomain(g, at.Child("group"))...)
	}
	return errs
}

func validateUpdate(m, old *storagemigrationv1.StorageVersionMigration) field.ErrorList {
	return apivalidation.ValidateImmutableField(m.Spec, old.Spec, field.NewPath("spec"))
}

// validateStatus keeps a migration's end: it succeeds or fails once, and the revision it began at stays.
func validateStatus(m, old *storagemigrationv1.StorageVersionMigration) field.ErrorList {
	at := field.NewPath("status")
	errs := metavalidation.ValidateConditions(m.Status.Conditions, at.Child("conditions"))
	rv, before := m.Status.ResourceVersion, old.Status.ResourceVersion
	if rv != "" {
		if _, err := resourceversion.CompareResourceVersion(rv, "1"); err != nil {
			errs = append(errs, field.Invalid(at.Child("resourceVersion"), rv, "must be a resource version"))
		}
	}
	if before != "" && rv != before {
		errs = append(errs, field.Invalid(at.Child("resourceVersion"), rv, "field is immutable once set"))
	}
	is := func(s *storagemigrationv1.StorageVersionMigration, t storagemigrationv1.MigrationConditionType) bool {
		return meta.IsStatusConditionTrue(s.Status.Conditions, string(t))
	}
	ended := []storagemigrationv1.MigrationConditionType{storagemigrationv1.MigrationSucceeded, storagemigrationv1.MigrationFailed}
	for _, t := range ended {
		if is(old, t) && !is(m, t) {
			errs = append(errs, field.Invalid(at.Child("conditions"), string(t), "a condition that ended the migration cannot be taken back"))
		}
		if is(m, t) && is(m, storagemigrationv1.MigrationRunning) {
			errs = append(errs, field.Invalid(at.Child("conditions"), string(t), "a running migration cannot have ended"))
		}
	}
	if is(m, ended[0]) && is(m, ended[1]) {
		errs = append(errs, field.Invalid(at.Child("conditions"), []metav1.Condition(nil), "both success and failed conditions cannot be true at the same time"))
	}
	return errs
}
