package apps

import (
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"canopus/internal/kinds"
	"canopus/internal/kinds/check"
	"canopus/internal/kinds/podspec"
	"canopus/internal/kinds/show"
)

// StatefulSet is apps/v1 statefulsets.
func StatefulSet() *kinds.Kind {
	return kinds.New(kinds.Spec[appsv1.StatefulSet, *appsv1.StatefulSet]{
		GVK:        appsv1.SchemeGroupVersion.WithKind("StatefulSet"),
		Plural:     "statefulsets",
		ShortNames: []string{"sts"},
		Categories: []string{"all"},
		Namespaced: true,
		NewList:    func() runtime.Object { return &appsv1.StatefulSetList{} },

		Default: defaultStatefulSet,
		PrepareCreate: func(s *appsv1.StatefulSet) {
			s.Status = appsv1.StatefulSetStatus{}
			podspec.DropGated(&s.Spec.Template.Spec, nil)
		},
		PrepareUpdate: func(obj, old *appsv1.StatefulSet) {
			obj.Status = old.Status
			podspec.DropGated(&obj.Spec.Template.Spec, &old.Spec.Template.Spec)
			kinds.Bump(obj, old, !equal(obj.Spec, old.Spec))
		},
		Generation:     true,
		Validate:       validateNewStatefulSet,
		ValidateUpdate: validateStatefulSetUpdate,
		Warnings:       statefulSetWarnings,
		Columns: append([]metav1.TableColumnDefinition{
			show.Name(), show.Column("Ready", "string", "Number of the pod with ready state"), show.AgeColumn(),
		}, wideColumns("")[:2]...),
		Cells: func(s *appsv1.StatefulSet, now time.Time) []any {
			ready := fmt.Sprintf("%d/%d", s.Status.ReadyReplicas, orZero(s.Spec.Replicas))
			return append([]any{s.Name, ready, show.Age(s.CreationTimestamp, now)}, wideCells(&s.Spec.Template, s.Spec.Selector)[:2]...)
		},
		Subresources: []kinds.Subresource{scaleSubresource(), kinds.Status(
			func(obj, old *appsv1.StatefulSet) { obj.Spec = old.Spec }, validateStatefulSetStatus)},
		Scale: &kinds.ScalePaths{
			Replicas: func(o kinds.Object) (spec, status int32) {
				s := o.(*appsv1.StatefulSet)
				return orZero(s.Spec.Replicas), s.Status.Replicas
			},
			Selector:    func(o kinds.Object) string { return selectorString(o.(*appsv1.StatefulSet).Spec.Selector) },
			SetReplicas: func(o kinds.Object, n int32) { o.(*appsv1.StatefulSet).Spec.Replicas = &n },
		},
	})
}

func defaultStatefulSet(set *appsv1.StatefulSet) {
	s := &set.Spec
	podspec.Default(&s.Template.Spec)
	if s.PodManagementPolicy == "" {
		s.PodManagementPolicy = appsv1.OrderedReadyPodManagement
	}
	if s.UpdateStrategy.Type == "" {
		s.UpdateStrategy.Type = appsv1.RollingUpdateStatefulSetStrategyType
		if s.UpdateStrategy.RollingUpdate == nil {
			s.UpdateStrategy.RollingUpdate = &appsv1.RollingUpdateStatefulSetStrategy{}
		}
	}
	if r := s.UpdateStrategy.RollingUpdate; r != nil && s.UpdateStrategy.Type == appsv1.RollingUpdateStatefulSetStrategyType {
		setDefault(&r.Partition, 0)
		setDefault(&r.MaxUnavailable, intstr.FromInt32(1))
	}
	if s.PersistentVolumeClaimRetentionPolicy == nil {
		s.PersistentVolumeClaimRetentionPolicy = &appsv1.StatefulSetPersistentVolumeClaimRetentionPolicy{}
	}
	p := s.PersistentVolumeClaimRetentionPolicy
	if p.WhenDeleted == "" {
		p.WhenDeleted = appsv1.RetainPersistentVolumeClaimRetentionPolicyType
	}
	if p.WhenScaled == "" {
		p.WhenScaled = appsv1.RetainPersistentVolumeClaimRetentionPolicyType
	}
	setDefault(&s.Replicas, 1)
	setDefault(&s.RevisionHistoryLimit, 10)
	for i := range s.VolumeClaimTemplates {
		t := &s.VolumeClaimTemplates[i]
		t.TypeMeta = metav1.TypeMeta{} // not part of the protobuf form; one answer for all readers
		setDefault(&t.Spec.VolumeMode, corev1.PersistentVolumeFilesystem)
		if t.Status.Phase == "" {
			t.Status.Phase = corev1.ClaimPending
		}
	}
}

// validateNewStatefulSet wants what becomes the subdomain of pods to be fit for that. It cannot be changed later, so that old sets
// with another are left alone.
func validateNewStatefulSet(set *appsv1.StatefulSet) field.ErrorList {
	errs := validateStatefulSet(set)
	if name := set.Spec.ServiceName; name != "" {
		errs = append(errs, check.Label(name, field.NewPath("spec", "serviceName"))...)
	}
	return errs
}

func validateStatefulSet(set *appsv1.StatefulSet) field.ErrorList {
	s, path := &set.Spec, field.NewPath("spec")
	errs := validatePodManagement(s.PodManagementPolicy, path.Child("podManagementPolicy"))
	// A set's name is the stem of its pods' host names.
	errs = append(errs, check.Messages(field.NewPath("metadata", "name"), set.Name, validation.IsDNS1123Label(set.Name))...)
	errs = append(errs, validateStatefulStrategy(&s.UpdateStrategy, path.Child("updateStrategy"))...)
	errs = append(errs, validateRetention(s.PersistentVolumeClaimRetentionPolicy, path.Child("persistentVolumeClaimRetentionPolicy"))...)
	errs = append(errs, check.OptionalNonNegative(s.Replicas, path.Child("replicas"))...)
	errs = append(errs, check.NonNegative(s.MinReadySeconds, path.Child("minReadySeconds"))...)
	if s.Ordinals != nil {
		errs = append(errs, check.NonNegative(s.Ordinals.Start, path.Child("ordinals", "start"))...)
	}
	// Mounts of claim templates are checked as if the claims were volumes, which is what they become.
	t := s.Template.DeepCopy()
	for _, claim := range s.VolumeClaimTemplates {
		t.Spec.Volumes = withVolume(t.Spec.Volumes, claim.Name)
	}
	errs = append(errs, validateSelector(s.Selector, "statefulset")...)
	return append(errs, validateTemplate(t, s.Selector, "StatefulSet")...)
}

func validatePodManagement(p appsv1.PodManagementPolicyType, path *field.Path) field.ErrorList {
	switch p {
	case appsv1.OrderedReadyPodManagement, appsv1.ParallelPodManagement:
		return nil
	case "":
		return field.ErrorList{field.Required(path, "")}
	}
	return field.ErrorList{field.Invalid(path, p, fmt.Sprintf("must be '%s' or '%s'", appsv1.OrderedReadyPodManagement, appsv1.ParallelPodManagement))}
}

// withVolume returns volumes with the claim's volume in the place of one of the same name, or at the end.
func withVolume(volumes []corev1.Volume, claim string) []corev1.Volume {
	v := corev1.Volume{Name: claim, VolumeSource: corev1.VolumeSource{
		PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: claim},
	}}
	for i := range volumes {
		if volumes[i].Name == claim {
			volumes[i] = v
			return volumes
		}
	}
	return append(volumes, v)
}

func validateStatefulStrategy(s *appsv1.StatefulSetUpdateStrategy, path *field.Path) field.ErrorList {
	at := path.Child("rollingUpdate")
	switch s.Type {
	case "":
		return field.ErrorList{field.Required(path, "")}
	case appsv1.OnDeleteStatefulSetStrategyType:
		if s.RollingUpdate != nil {
			return field.ErrorList{field.Invalid(at, s.RollingUpdate, "only allowed for updateStrategy '"+string(appsv1.RollingUpdateStatefulSetStrategyType)+"'")}
		}
		return nil
	case appsv1.RollingUpdateStatefulSetStrategyType:
		if s.RollingUpdate == nil {
			return nil
		}
		errs := check.OptionalNonNegative(s.RollingUpdate.Partition, at.Child("partition"))
		if m := s.RollingUpdate.MaxUnavailable; m != nil {
			errs = append(errs, check.CountOrPercent(*m, at.Child("maxUnavailable"))...)
			errs = append(errs, check.AtMostAll(*m, at.Child("maxUnavailable"))...)
			if isZero(*m) {
				errs = append(errs, field.Invalid(at.Child("maxUnavailable"), *m, "cannot be 0"))
			}
		}
		return errs
	default:
		return field.ErrorList{field.Invalid(path, *s, fmt.Sprintf("must be '%s' or '%s'",
			appsv1.RollingUpdateStatefulSetStrategyType, appsv1.OnDeleteStatefulSetStrategyType))}
	}
}

func validateRetention(p *appsv1.StatefulSetPersistentVolumeClaimRetentionPolicy, path *field.Path) field.ErrorList {
	if p == nil {
		return nil
	}
	allowed := []appsv1.PersistentVolumeClaimRetentionPolicyType{
		appsv1.RetainPersistentVolumeClaimRetentionPolicyType, appsv1.DeletePersistentVolumeClaimRetentionPolicyType,
	}
	return append(check.OneOf(p.WhenDeleted, path.Child("whenDeleted"), allowed...), check.OneOf(p.WhenScaled, path.Child("whenScaled"), allowed...)...)
}

// statefulSetWarnings are about the templates of pods and claims, and about a history that is never cut.
func statefulSetWarnings(s, old *appsv1.StatefulSet) []string {
	if old != nil && s.Generation == old.Generation {
		return nil
	}
	out := templateWarnings(s, nil, &s.Spec.Template)
	for i := range s.Spec.VolumeClaimTemplates {
		at := field.NewPath("spec", "volumeClaimTemplates").Index(i)
		out = append(out, podspec.ClaimWarnings(&s.Spec.VolumeClaimTemplates[i].Spec, at.Child("spec"))...)
	}
	if orZero(s.Spec.RevisionHistoryLimit) < 0 {
		out = append(out, "spec.revisionHistoryLimit: a negative value retains all historical revisions; a value >= 0 is recommended")
	}
	return out
}

const statefulMayChange = "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', " +
	"'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden"

func validateStatefulSetUpdate(obj, old *appsv1.StatefulSet) field.ErrorList {
	masked := obj.Spec.DeepCopy()
	masked.Replicas, masked.Template, masked.UpdateStrategy = old.Spec.Replicas, old.Spec.Template, old.Spec.UpdateStrategy
	masked.MinReadySeconds, masked.Ordinals = old.Spec.MinReadySeconds, old.Spec.Ordinals
	masked.RevisionHistoryLimit = old.Spec.RevisionHistoryLimit
	masked.PersistentVolumeClaimRetentionPolicy = old.Spec.PersistentVolumeClaimRetentionPolicy
	errs := validateStatefulSet(obj)
	if !equal(*masked, old.Spec) {
		errs = append(errs, field.Forbidden(field.NewPath("spec"), statefulMayChange))
	}
	return errs
}

func validateStatefulSetStatus(obj, old *appsv1.StatefulSet) field.ErrorList {
	s, path := &obj.Status, field.NewPath("status")
	errs := validateCounts(path,
		count{name: "replicas", value: s.Replicas},
		count{"readyReplicas", s.ReadyReplicas, s.Replicas, "status.replicas"},
		count{"currentReplicas", s.CurrentReplicas, s.Replicas, "status.replicas"},
		count{"updatedReplicas", s.UpdatedReplicas, s.Replicas, "status.replicas"},
		count{"availableReplicas", s.AvailableReplicas, s.Replicas, "status.replicas"})
	if s.AvailableReplicas > s.ReadyReplicas {
		errs = append(errs, field.Invalid(path.Child("availableReplicas"), s.AvailableReplicas, "cannot be greater than status.readyReplicas"))
	}
	errs = append(errs, check.NonNegative(s.ObservedGeneration, path.Child("observedGeneration"))...)
	return append(errs, validateCollisions(s.CollisionCount, old.Status.CollisionCount, path.Child("collisionCount"))...)
}
