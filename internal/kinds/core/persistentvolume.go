package core

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/diff"
	"k8s.io/apimachinery/pkg/util/validation/field"
	storagehelpers "k8s.io/component-helpers/storage/volume"

	"canopus/internal/kinds"
	"canopus/internal/kinds/podspec"
	"canopus/internal/kinds/show"
)

// unset stands in columns where an optional setting is missing.
const unset = "<unset>"

// PersistentVolume is v1 persistentvolumes: storage that outlives pods.
func PersistentVolume() *kinds.Kind {
	status := kinds.Status(func(obj, old *corev1.PersistentVolume) { obj.Spec = old.Spec }, nil)
	status.Stamp = func(obj, old kinds.Object, now time.Time) {
		stampPhase(obj.(*corev1.PersistentVolume), old.(*corev1.PersistentVolume), now)
	}
	return kinds.New(kinds.Spec[corev1.PersistentVolume, *corev1.PersistentVolume]{
		GVK:           corev1.SchemeGroupVersion.WithKind("PersistentVolume"),
		Plural:        "persistentvolumes",
		ShortNames:    []string{"pv"},
		NewList:       func() runtime.Object { return &corev1.PersistentVolumeList{} },
		ReturnDeleted: true,

		Default: func(pv *corev1.PersistentVolume) {
			podspec.DefaultVolumeSpec(&pv.Spec)
			if pv.Status.Phase == "" {
				pv.Status.Phase = corev1.VolumePending
			}
		},
		PrepareCreate: func(pv *corev1.PersistentVolume) {
			born := pv.CreationTimestamp
			pv.Status = corev1.PersistentVolumeStatus{Phase: corev1.VolumePending, LastPhaseTransitionTime: &born}
		},
		PrepareUpdate: func(obj, old *corev1.PersistentVolume) { obj.Status = old.Status },
		Validate: func(pv *corev1.PersistentVolume) field.ErrorList {
			return podspec.ValidateVolumeSpec(&pv.Spec, field.NewPath("spec"))
		},
		ValidateUpdate: validateVolumeUpdate,
		Warnings:       volumeWarnings,
		Columns:        volumeColumns(),
		Cells:          volumeCells,
		Subresources:   []kinds.Subresource{status},
	})
}

// stampPhase notes when the phase changed, unless the writer says so itself.
func stampPhase(pv, old *corev1.PersistentVolume, now time.Time) {
	said := pv.Status.LastPhaseTransitionTime
	if pv.Status.Phase != old.Status.Phase && (said == nil || said.Equal(old.Status.LastPhaseTransitionTime)) {
		t := metav1.NewTime(now.UTC().Truncate(time.Second))
		pv.Status.LastPhaseTransitionTime = &t
	}
}

// validateVolumeUpdate: where the bytes are and how they are reached stays for a volume's life.
func validateVolumeUpdate(pv, old *corev1.PersistentVolume) field.ErrorList {
	path := field.NewPath("spec")
	errs := podspec.ValidateVolumeSpec(&pv.Spec, path)
	if source, was := fixedSource(pv, old), old.Spec.PersistentVolumeSource; !equal(source, was) {
		errs = append(errs, field.Forbidden(path.Child("persistentvolumesource"),
			fmt.Sprintf("spec.persistentvolumesource is immutable after creation\n%v", diff.Diff(was, source))))
	}
	errs = append(errs, apivalidation.ValidateImmutableField(pv.Spec.VolumeMode, old.Spec.VolumeMode, field.NewPath("volumeMode"))...)
	if old.Spec.NodeAffinity != nil {
		errs = append(errs, immutableAffinity(pv.Spec.NodeAffinity, old.Spec.NodeAffinity)...)
	}
	return errs
}

// fixedSource returns pv's source without the one secret that may be added later.
func fixedSource(pv, old *corev1.PersistentVolume) corev1.PersistentVolumeSource {
	s := pv.Spec.PersistentVolumeSource
	if was := old.Spec.CSI; s.CSI != nil && was != nil && was.ControllerExpandSecretRef == nil {
		csi := *s.CSI
		csi.ControllerExpandSecretRef = nil
		s.CSI = &csi
	}
	return s
}

// renamedLabels are topology labels of the past and the names they have now.
func renamedLabels() map[string]string {
	return map[string]string{
		corev1.LabelFailureDomainBetaZone: corev1.LabelTopologyZone, corev1.LabelFailureDomainBetaRegion: corev1.LabelTopologyRegion,
		"beta.kubernetes.io/os": corev1.LabelOSStable, "beta.kubernetes.io/arch": corev1.LabelArchStable,
		corev1.LabelInstanceType: corev1.LabelInstanceTypeStable,
	}
}

// immutableAffinity lets nothing change but old names of topology labels to new ones.
func immutableAffinity(now, was *corev1.VolumeNodeAffinity) field.ErrorList {
	was = was.DeepCopy()
	if now != nil && now.Required != nil && was.Required != nil && len(now.Required.NodeSelectorTerms) == len(was.Required.NodeSelectorTerms) {
		renamed := renamedLabels()
		for i, term := range now.Required.NodeSelectorTerms {
			old := was.Required.NodeSelectorTerms[i].MatchExpressions
			if len(old) != len(term.MatchExpressions) {
				continue
			}
			for j := range old {
				if key := term.MatchExpressions[j].Key; renamed[old[j].Key] == key {
					old[j].Key = key
				}
			}
		}
	}
	return apivalidation.ValidateImmutableField(now, was, field.NewPath("nodeAffinity"))
}

func volumeColumns() []metav1.TableColumnDefinition {
	spec, status := corev1.PersistentVolumeSpec{}.SwaggerDoc(), corev1.PersistentVolumeStatus{}.SwaggerDoc()
	return []metav1.TableColumnDefinition{
		show.Name(),
		show.Column("Capacity", "string", spec["capacity"]),
		show.Column("Access Modes", "string", spec["accessModes"]),
		show.Column("Reclaim Policy", "string", spec["persistentVolumeReclaimPolicy"]),
		show.Column("Status", "string", status["phase"]),
		show.Column("Claim", "string", spec["claimRef"]),
		show.Column("StorageClass", "string", "StorageClass of the pv"),
		show.Column("VolumeAttributesClass", "string", "VolumeAttributesClass of the pv"),
		show.Column("Reason", "string", status["reason"]),
		show.AgeColumn(),
		show.Wide("VolumeMode", "string", spec["volumeMode"]),
	}
}

func volumeCells(pv *corev1.PersistentVolume, now time.Time) []any {
	claim := ""
	if ref := pv.Spec.ClaimRef; ref != nil {
		claim = ref.Namespace + "/" + ref.Name
	}
	phase := string(pv.Status.Phase)
	if pv.DeletionTimestamp != nil {
		phase = "Terminating"
	}
	return []any{
		pv.Name, storageSize(pv.Spec.Capacity), show.AccessModes(pv.Spec.AccessModes), string(pv.Spec.PersistentVolumeReclaimPolicy), phase, claim,
		storagehelpers.GetPersistentVolumeClass(pv), orUnset(pv.Spec.VolumeAttributesClassName), pv.Status.Reason,
		show.Age(pv.CreationTimestamp, now), orUnset(pv.Spec.VolumeMode),
	}
}

func storageSize(list corev1.ResourceList) string {
	q := size(list)
	return q.String()
}

func orUnset[S ~string](value *S) string {
	if value == nil {
		return unset
	}
	return string(*value)
}
