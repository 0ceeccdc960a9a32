package storage

import (
	"time"

	storagev1 "k8s.io/api/storage/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"canopus/internal/kinds"
	"canopus/internal/kinds/check"
	"canopus/internal/kinds/podspec"
	"canopus/internal/kinds/show"
)

// Limits of the tokens that a driver gets for a pod, and of how often it says how many volumes fit.
const (
	minTokenSeconds  = 10 * 60
	maxTokenSeconds  = 1 << 32
	minPeriodSeconds = 10
)

// CSIDriver is storage.k8s.io/v1 csidrivers: what a driver wants of the cluster.
func CSIDriver() *kinds.Kind {
	doc := storagev1.CSIDriverSpec{}.SwaggerDoc()
	return kinds.New(kinds.Spec[storagev1.CSIDriver, *storagev1.CSIDriver]{
		GVK:           storagev1.SchemeGroupVersion.WithKind("CSIDriver"),
		Plural:        "csidrivers",
		NewList:       func() runtime.Object { return &storagev1.CSIDriverList{} },
		ReturnDeleted: true,

		Default: defaultDriver,
		PrepareUpdate: func(d, old *storagev1.CSIDriver) {
			kinds.Bump(d, old, !equal(d.Spec, old.Spec))
		},
		Validate:       validateDriver,
		ValidateUpdate: validateDriverUpdate,
		Columns: []metav1.TableColumnDefinition{
			show.Name(),
			show.Column("AttachRequired", "boolean", doc["attachRequired"]),
			show.Column("PodInfoOnMount", "boolean", doc["podInfoOnMount"]),
			show.Column("StorageCapacity", "boolean", doc["storageCapacity"]),
			show.Column("TokenRequests", "string", doc["tokenRequests"]),
			show.Column("RequiresRepublish", "boolean", doc["requiresRepublish"]),
			show.Column("Modes", "string", doc["volumeLifecycleModes"]),
			show.AgeColumn(),
		},
		Cells: driverCells,
	})
}

func defaultDriver(d *storagev1.CSIDriver) {
	s := &d.Spec
	for flag, value := range map[**bool]bool{
		&s.AttachRequired: true, &s.PodInfoOnMount: false, &s.StorageCapacity: false, &s.RequiresRepublish: false, &s.SELinuxMount: false,
	} {
		if *flag == nil {
			*flag = ptr.To(value)
		}
	}
	if s.FSGroupPolicy == nil {
		s.FSGroupPolicy = ptr.To(storagev1.ReadWriteOnceWithFSTypeFSGroupPolicy)
	}
	if len(s.VolumeLifecycleModes) == 0 {
		s.VolumeLifecycleModes = []storagev1.VolumeLifecycleMode{storagev1.VolumeLifecyclePersistent}
	}
}

func driverCells(d *storagev1.CSIDriver, now time.Time) []any {
	s := &d.Spec
	tokens := "<unset>"
	if s.TokenRequests != nil {
		var audiences []string
		for _, t := range s.TokenRequests {
			audiences = append(audiences, t.Audience)
		}
		tokens = joined(audiences)
	}
	return []any{
		d.Name, ptr.Deref(s.AttachRequired, true), ptr.Deref(s.PodInfoOnMount, false), ptr.Deref(s.StorageCapacity, false), tokens,
		ptr.Deref(s.RequiresRepublish, false), joined(s.VolumeLifecycleModes), show.Age(d.CreationTimestamp, now),
	}
}

func validateDriver(d *storagev1.CSIDriver) field.ErrorList {
	s, path := &d.Spec, field.NewPath("spec")
	errs := podspec.CSIDriverName(d.Name, field.NewPath("name"))
	for _, f := range []struct {
		name string
		set  bool
	}{
		{"attachedRequired", s.AttachRequired != nil}, {"podInfoOnMount", s.PodInfoOnMount != nil},
		{"storageCapacity", s.StorageCapacity != nil}, {"seLinuxMount", s.SELinuxMount != nil},
	} {
		if !f.set {
			errs = append(errs, field.Required(path.Child(f.name), ""))
		}
	}
	if p := s.FSGroupPolicy; p == nil {
		errs = append(errs, field.Required(path.Child("fsGroupPolicy"), ""))
	} else {
		errs = append(errs, check.OneOf(*p, path.Child("fsGroupPolicy"),
			storagev1.FileFSGroupPolicy, storagev1.NoneFSGroupPolicy, storagev1.ReadWriteOnceWithFSTypeFSGroupPolicy)...)
	}
	for _, mode := range s.VolumeLifecycleModes {
		errs = append(errs, check.OneOf(mode, path.Child("volumeLifecycleModes"), storagev1.VolumeLifecycleEphemeral, storagev1.VolumeLifecyclePersistent)...)
	}
	return append(errs, validateDriverTokens(s, path)...)
}

func validateDriverTokens(s *storagev1.CSIDriverSpec, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	seen := check.Duplicates[string]{}
	for i, t := range s.TokenRequests {
		at := path.Child("tokenRequests").Index(i)
		errs = append(errs, seen.Check(t.Audience, at.Child("audience"))...)
		switch e := t.ExpirationSeconds; {
		case e == nil:
		case *e < minTokenSeconds:
			errs = append(errs, field.Invalid(at.Child("expirationSeconds"), *e, "may not specify a duration less than 10 minutes"))
		case *e > maxTokenSeconds:
			errs = append(errs, field.Invalid(at.Child("expirationSeconds"), *e, "may not specify a duration larger than 2^32 seconds"))
		}
	}
	if s.ServiceAccountTokenInSecrets != nil && len(s.TokenRequests) == 0 {
		errs = append(errs, field.Invalid(path.Child("serviceAccountTokenInSecrets"), *s.ServiceAccountTokenInSecrets, "must be unset if tokenRequests is unset"))
	}
	if p := s.NodeAllocatableUpdatePeriodSeconds; p != nil && *p < minPeriodSeconds {
		errs = append(errs, field.Invalid(path.Child("nodeAllocatableUpdatePeriodSeconds"), *p, "must be greater than or equal to 10 seconds"))
	}
	return errs
}

// validateDriverUpdate: whether volumes are attached, and whether they outlive pods, is known from the start. The first
// path has a letter too many in the published API as well.
func validateDriverUpdate(d, old *storagev1.CSIDriver) field.ErrorList {
	path := field.NewPath("spec")
	errs := validateDriver(d)
	errs = append(errs, apivalidation.ValidateImmutableField(d.Spec.AttachRequired, old.Spec.AttachRequired, path.Child("attachedRequired"))...)
	return append(errs, apivalidation.ValidateImmutableField(d.Spec.VolumeLifecycleModes, old.Spec.VolumeLifecycleModes, path.Child("volumeLifecycleModes"))...)
}
