package storage

import (
	"time"

	storagev1 "k8s.io/api/storage/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"canopus/internal/kinds"
	"canopus/internal/kinds/check"
	"canopus/internal/kinds/podspec"
	"canopus/internal/kinds/show"
)

// maxErrorSize bounds the text of an attach or detach error.
const maxErrorSize = 1024

// VolumeAttachment is storage.k8s.io/v1 volumeattachments: a volume that is to be attached to a node, for its driver to do.
func VolumeAttachment() *kinds.Kind {
	spec, status := storagev1.VolumeAttachmentSpec{}.SwaggerDoc(), storagev1.VolumeAttachmentStatus{}.SwaggerDoc()
	return kinds.New(kinds.Spec[storagev1.VolumeAttachment, *storagev1.VolumeAttachment]{
		GVK:           storagev1.SchemeGroupVersion.WithKind("VolumeAttachment"),
		Plural:        "volumeattachments",
		NewList:       func() runtime.Object { return &storagev1.VolumeAttachmentList{} },
		ReturnDeleted: true,

		Default: func(a *storagev1.VolumeAttachment) {
			if inline := a.Spec.Source.InlineVolumeSpec; inline != nil {
				podspec.DefaultVolumeSpec(inline)
			}
		},
		PrepareCreate:  func(a *storagev1.VolumeAttachment) { a.Status = storagev1.VolumeAttachmentStatus{} },
		PrepareUpdate:  func(a, old *storagev1.VolumeAttachment) { a.Status = old.Status },
		Validate:       validateAttachment,
		ValidateUpdate: validateAttachmentUpdate,
		Subresources: []kinds.Subresource{kinds.Status(func(a, old *storagev1.VolumeAttachment) {
			a.Spec = old.Spec
			metav1.ResetObjectMetaForStatus(&a.ObjectMeta, &old.ObjectMeta)
		}, func(a, _ *storagev1.VolumeAttachment) field.ErrorList { return validateAttachmentStatus(&a.Status) })},
		Columns: []metav1.TableColumnDefinition{
			show.Name(),
			show.Column("Attacher", "string", spec["attacher"]),
			show.Column("PV", "string", storagev1.VolumeAttachmentSource{}.SwaggerDoc()["persistentVolumeName"]),
			show.Column("Node", "string", spec["nodeName"]),
			show.Column("Attached", "boolean", status["attached"]),
			show.AgeColumn(),
		},
		Cells: func(a *storagev1.VolumeAttachment, now time.Time) []any {
			pv := ""
			if name := a.Spec.Source.PersistentVolumeName; name != nil {
				pv = *name
			}
			return []any{a.Name, a.Spec.Attacher, pv, a.Spec.NodeName, a.Status.Attached, show.Age(a.CreationTimestamp, now)}
		},
	})
}

func validateAttachment(a *storagev1.VolumeAttachment) field.ErrorList {
	path := field.NewPath("spec")
	errs := podspec.CSIDriverName(a.Spec.Attacher, path.Child("attacher"))
	errs = append(errs, validateAttachmentSource(&a.Spec.Source, path.Child("source"))...)
	errs = append(errs, check.Messages(path.Child("nodeName"), a.Spec.NodeName, apivalidation.NameIsDNSSubdomain(a.Spec.NodeName, false))...)
	return append(errs, validateAttachmentStatus(&a.Status)...)
}

func validateAttachmentSource(s *storagev1.VolumeAttachmentSource, at *field.Path) field.ErrorList {
	switch {
	case s.InlineVolumeSpec == nil && s.PersistentVolumeName == nil:
		return field.ErrorList{field.Required(at, "must specify exactly one of inlineVolumeSpec and persistentVolumeName")}
	case s.InlineVolumeSpec != nil && s.PersistentVolumeName != nil:
		return field.ErrorList{field.Forbidden(at, "must specify exactly one of inlineVolumeSpec and persistentVolumeName")}
	case s.InlineVolumeSpec != nil:
		return podspec.ValidateInlineVolumeSpec(s.InlineVolumeSpec, at.Child("inlineVolumeSpec"))
	}
	name := at.Child("persistentVolumeName")
	if *s.PersistentVolumeName == "" {
		return field.ErrorList{field.Required(name, "must specify non empty persistentVolumeName")}
	}
	return check.Subdomain(*s.PersistentVolumeName, name)
}

func validateAttachmentUpdate(a, old *storagev1.VolumeAttachment) field.ErrorList {
	errs := validateAttachment(a)
	if !equal(a.Spec, old.Spec) {
		errs = append(errs, field.Invalid(field.NewPath("spec"), a.Spec, check.Immutable))
	}
	return errs
}

func validateAttachmentStatus(s *storagev1.VolumeAttachmentStatus) field.ErrorList {
	at := field.NewPath("status")
	errs := validateParameters(s.AttachmentMetadata, at.Child("attachmentMetadata"))
	errs = append(errs, validateError(s.AttachError, at.Child("attachError"))...)
	return append(errs, validateError(s.DetachError, at.Child("detachError"))...)
}

func validateError(e *storagev1.VolumeError, at *field.Path) field.ErrorList {
	if e != nil && len(e.Message) > maxErrorSize {
		return field.ErrorList{field.TooLong(at.Child("message"), e.Message, maxErrorSize)}
	}
	return nil
}
