package core

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/diff"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"canopus/internal/kinds/check"
	"canopus/internal/kinds/podspec"
)

// validateClaimUpdate: a claim stays what was asked for, but for its volume, which is set once, a class given where none
// was, and on a bound claim its size and attributes.
func validateClaimUpdate(c, old *corev1.PersistentVolumeClaim) field.ErrorList {
	path := field.NewPath("spec")
	errs := podspec.ValidateClaimSpec(&c.Spec, path)
	annotation, was := c.Annotations[corev1.BetaStorageClassAnnotation], old.Annotations[corev1.BetaStorageClassAnnotation]
	upgraded := upgradesClass(c, old)
	if !upgraded && annotation != was {
		errs = append(errs, field.Invalid(field.NewPath("metadata", "annotations").Key(corev1.BetaStorageClassAnnotation), annotation, check.Immutable))
	}
	if fixed := fixedClaim(c, old, upgraded); !equal(*fixed, old.Spec) {
		errs = append(errs, field.Forbidden(path, fmt.Sprintf(
			"spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims\n%v", diff.Diff(old.Spec, *fixed))))
	}
	// A size that has not been reached may be taken back; one that has, not: volumes do not shrink.
	now, before, reached := size(c.Spec.Resources.Requests), size(old.Spec.Resources.Requests), size(old.Status.Capacity)
	if now.Cmp(before) < 0 && now.Cmp(reached) <= 0 {
		errs = append(errs, field.Forbidden(path.Child("resources", "requests", "storage"), "field can not be less than status.capacity"))
	}
	errs = append(errs, apivalidation.ValidateImmutableField(c.Spec.VolumeMode, old.Spec.VolumeMode, field.NewPath("volumeMode"))...)
	return append(errs, keepsAttributes(c, old)...)
}

// upgradesClass says whether the class moves from the annotation of old to the field, the same class in both.
func upgradesClass(c, old *corev1.PersistentVolumeClaim) bool {
	was, had := old.Annotations[corev1.BetaStorageClassAnnotation]
	now, has := c.Annotations[corev1.BetaStorageClassAnnotation]
	return had && old.Spec.StorageClassName == nil && c.Spec.StorageClassName != nil && *c.Spec.StorageClassName == was && (!has || now == was)
}

// fixedClaim returns c's spec with old's values where a change is allowed, so that the rest can be compared.
func fixedClaim(c, old *corev1.PersistentVolumeClaim, upgraded bool) *corev1.PersistentVolumeClaimSpec {
	spec, was := c.Spec.DeepCopy(), &old.Spec
	if was.VolumeName == "" {
		spec.VolumeName = ""
	}
	_, annotated := old.Annotations[corev1.BetaStorageClassAnnotation]
	if upgraded || was.StorageClassName == nil && !annotated {
		spec.StorageClassName = was.StorageClassName
	}
	if was.DataSource == nil || was.DataSourceRef == nil { // stored before both were kept alike
		paired := was.DeepCopy()
		pairDataSources(paired)
		if equal(paired.DataSource, spec.DataSource) && equal(paired.DataSourceRef, spec.DataSourceRef) {
			spec.DataSource, spec.DataSourceRef = was.DataSource, was.DataSourceRef
		}
	}
	if old.Status.Phase == corev1.ClaimBound {
		if spec.Resources.Requests != nil {
			spec.Resources.Requests[corev1.ResourceStorage] = size(was.Resources.Requests)
		}
		spec.VolumeAttributesClassName = was.VolumeAttributesClassName
	}
	return spec
}

// keepsAttributes: attributes that were applied cannot be taken away, only changed to others.
func keepsAttributes(c, old *corev1.PersistentVolumeClaim) field.ErrorList {
	applied := ptr.Deref(old.Status.CurrentVolumeAttributesClassName, "") != ""
	if !applied || ptr.Deref(old.Spec.VolumeAttributesClassName, "") == "" || ptr.Deref(c.Spec.VolumeAttributesClassName, "") != "" {
		return nil
	}
	to := "nil"
	if c.Spec.VolumeAttributesClassName != nil {
		to = "an empty string"
	}
	return field.ErrorList{field.Forbidden(field.NewPath("spec", "volumeAttributesClassName"), "update from non-nil value to "+to+" is forbidden")}
}

func size(list corev1.ResourceList) resource.Quantity { return list[corev1.ResourceStorage] }

func validateClaimStatus(c, _ *corev1.PersistentVolumeClaim) field.ErrorList {
	status := field.NewPath("status")
	var errs field.ErrorList
	for name, q := range c.Status.Capacity {
		errs = append(errs, check.NonNegativeQuantity(q, status.Child("capacity").Key(string(name)))...)
	}
	for name, q := range c.Status.AllocatedResources {
		at := status.Child("allocatedResources").Key(string(name))
		errs = append(errs, claimResource(name, at)...)
		errs = append(errs, check.NonNegativeQuantity(q, at)...)
	}
	for name, s := range c.Status.AllocatedResourceStatuses {
		at := status.Child("allocatedResourceStatuses").Key(string(name))
		errs = append(errs, claimResource(name, at)...)
		errs = append(errs, check.OneOf(s, at, corev1.PersistentVolumeClaimControllerResizeInProgress, corev1.PersistentVolumeClaimControllerResizeInfeasible,
			corev1.PersistentVolumeClaimNodeResizePending, corev1.PersistentVolumeClaimNodeResizeInProgress, corev1.PersistentVolumeClaimNodeResizeInfeasible)...)
	}
	return errs
}

// claimResource refuses names of what a claim cannot hold: it is storage, or something with a prefix of its owner.
func claimResource(name corev1.ResourceName, at *field.Path) field.ErrorList {
	if name == corev1.ResourceStorage {
		return nil
	}
	if errs := check.Messages(at, string(name), validation.IsQualifiedName(string(name))); len(errs) > 0 {
		return errs
	}
	prefix, _, ok := strings.Cut(string(name), "/")
	if !ok || prefix == "kubernetes.io" || strings.HasSuffix(prefix, ".kubernetes.io") {
		return field.ErrorList{field.NotSupported(at, name, []corev1.ResourceName{corev1.ResourceStorage})}
	}
	return nil
}
