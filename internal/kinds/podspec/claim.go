package podspec

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"canopus/internal/kinds/check"
)

// ValidateClaimSpec checks the spec of a persistent volume claim, by itself or as a template in a pod or stateful set.
func ValidateClaimSpec(spec *corev1.PersistentVolumeClaimSpec, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if len(spec.AccessModes) == 0 {
		errs = append(errs, field.Required(path.Child("accessModes"), "at least 1 access mode is required"))
	}
	errs = append(errs, check.Selector(spec.Selector, path.Child("selector"))...)
	errs = append(errs, accessModes(spec.AccessModes, path.Child("accessModes"))...)
	at := path.Child("resources").Key(string(corev1.ResourceStorage))
	if size, ok := spec.Resources.Requests[corev1.ResourceStorage]; !ok {
		errs = append(errs, field.Required(at, ""))
	} else if size.Sign() <= 0 {
		errs = append(errs, field.Invalid(at, size.String(), "must be greater than zero"))
	}
	if c := spec.StorageClassName; c != nil && *c != "" {
		errs = append(errs, check.Subdomain(*c, path.Child("storageClassName"))...)
	}
	if m := spec.VolumeMode; m != nil {
		errs = append(errs, check.OneOf(*m, path.Child("volumeMode"), corev1.PersistentVolumeBlock, corev1.PersistentVolumeFilesystem)...)
	}
	if c := spec.VolumeAttributesClassName; c != nil && *c != "" {
		errs = append(errs, check.Subdomain(*c, path.Child("volumeAttributesClassName"))...)
	}
	return append(errs, validateDataSource(spec, path)...)
}

func validateDataSource(spec *corev1.PersistentVolumeClaimSpec, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	one := func(group *string, kind, name string, at *field.Path) {
		errs = append(errs, check.Required(name, at.Child("name"))...)
		errs = append(errs, check.Required(kind, at.Child("kind"))...)
		if (group == nil || *group == "") && kind != "PersistentVolumeClaim" {
			errs = append(errs, field.Invalid(at, kind, "must be 'PersistentVolumeClaim' when referencing the default apiGroup"))
		}
	}
	if d := spec.DataSource; d != nil {
		one(d.APIGroup, d.Kind, d.Name, path.Child("dataSource"))
	}
	r := spec.DataSourceRef
	if r == nil {
		return errs
	}
	one(r.APIGroup, r.Kind, r.Name, path.Child("dataSourceRef"))
	if r.Namespace != nil && *r.Namespace != "" {
		errs = append(errs, check.Label(*r.Namespace, path.Child("dataSourceRef", "namespace"))...)
		if spec.DataSource != nil {
			errs = append(errs, field.Invalid(path, "dataSource", "may not be specified when dataSourceRef.namespace is specified"))
		}
		return errs
	}
	if d := spec.DataSource; d != nil && (d.Name != r.Name || d.Kind != r.Kind || !equal(d.APIGroup, r.APIGroup)) {
		errs = append(errs, field.Invalid(path, "dataSource", "must match dataSourceRef"))
	}
	return errs
}
