package apps

import (
	"strconv"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"canopus/internal/kinds"
	"canopus/internal/kinds/check"
	"canopus/internal/kinds/podspec"
	"canopus/internal/kinds/show"
)

// ReplicaSet is apps/v1 replicasets.
func ReplicaSet() *kinds.Kind {
	return kinds.New(kinds.Spec[appsv1.ReplicaSet, *appsv1.ReplicaSet]{
		GVK:        appsv1.SchemeGroupVersion.WithKind("ReplicaSet"),
		Plural:     "replicasets",
		ShortNames: []string{"rs"},
		Categories: []string{"all"},
		Namespaced: true,
		NewList:    func() runtime.Object { return &appsv1.ReplicaSetList{} },

		Default:    defaultReplicaSet,
		Generation: true,
		PrepareCreate: func(r *appsv1.ReplicaSet) {
			r.Status = appsv1.ReplicaSetStatus{}
			podspec.DropGated(&r.Spec.Template.Spec, nil)
		},
		PrepareUpdate: func(r, old *appsv1.ReplicaSet) {
			r.Status = old.Status
			podspec.DropGated(&r.Spec.Template.Spec, &old.Spec.Template.Spec)
			kinds.Bump(r, old, !equal(r.Spec, old.Spec))
		},
		Validate: validateReplicaSet,
		ValidateUpdate: func(r, old *appsv1.ReplicaSet) field.ErrorList {
			return append(validateReplicaSet(r), sameSelector(r.Spec.Selector, old.Spec.Selector)...)
		},
		Warnings: func(r, old *appsv1.ReplicaSet) []string { return namedWarnings(r, old, &r.Spec.Template) },
		Subresources: []kinds.Subresource{scaleSubresource(), kinds.Status(
			func(obj, old *appsv1.ReplicaSet) { obj.Spec = old.Spec }, validateReplicaSetStatus)},
		Scale: &kinds.ScalePaths{
			Replicas: func(obj kinds.Object) (spec, status int32) {
				r := obj.(*appsv1.ReplicaSet)
				return orZero(r.Spec.Replicas), r.Status.Replicas
			},
			Selector:    func(obj kinds.Object) string { return selectorString(obj.(*appsv1.ReplicaSet).Spec.Selector) },
			SetReplicas: func(obj kinds.Object, n int32) { obj.(*appsv1.ReplicaSet).Spec.Replicas = &n },
		},
		Fields: map[string]func(*appsv1.ReplicaSet) string{
			"status.replicas": func(r *appsv1.ReplicaSet) string { return strconv.Itoa(int(r.Status.Replicas)) },
		},
		Columns: replicaSetColumns(),
		Cells: func(r *appsv1.ReplicaSet, now time.Time) []any {
			return append([]any{
				r.Name, int64(orZero(r.Spec.Replicas)), int64(r.Status.Replicas), int64(r.Status.ReadyReplicas), show.Age(r.CreationTimestamp, now),
			}, wideCells(&r.Spec.Template, r.Spec.Selector)...)
		},
	})
}

func replicaSetColumns() []metav1.TableColumnDefinition {
	spec, status := appsv1.ReplicaSetSpec{}.SwaggerDoc(), appsv1.ReplicaSetStatus{}.SwaggerDoc()
	return append([]metav1.TableColumnDefinition{
		show.Name(),
		show.Column("Desired", "integer", spec["replicas"]),
		show.Column("Current", "integer", status["replicas"]),
		show.Column("Ready", "integer", status["readyReplicas"]),
		show.AgeColumn(),
	}, wideColumns(spec["selector"])...)
}

func defaultReplicaSet(r *appsv1.ReplicaSet) {
	setDefault(&r.Spec.Replicas, 1)
	podspec.Default(&r.Spec.Template.Spec)
}

func validateReplicaSet(r *appsv1.ReplicaSet) field.ErrorList {
	at := field.NewPath("spec")
	errs := check.NonNegative(orZero(r.Spec.Replicas), at.Child("replicas"))
	errs = append(errs, check.NonNegative(r.Spec.MinReadySeconds, at.Child("minReadySeconds"))...)
	errs = append(errs, validateSelector(r.Spec.Selector, "deployment")...)
	return append(errs, validateTemplate(&r.Spec.Template, r.Spec.Selector, "ReplicaSet")...)
}

func validateReplicaSetStatus(obj, _ *appsv1.ReplicaSet) field.ErrorList {
	s, at := &obj.Status, field.NewPath("status")
	errs := validateCounts(at,
		count{name: "replicas", value: s.Replicas},
		count{"fullyLabeledReplicas", s.FullyLabeledReplicas, s.Replicas, "status.replicas"},
		count{"readyReplicas", s.ReadyReplicas, s.Replicas, "status.replicas"},
		count{"availableReplicas", s.AvailableReplicas, s.Replicas, "status.replicas"})
	if s.AvailableReplicas > s.ReadyReplicas {
		errs = append(errs, field.Invalid(at.Child("availableReplicas"), s.AvailableReplicas, "cannot be greater than readyReplicas"))
	}
	errs = append(errs, check.NonNegative(s.ObservedGeneration, at.Child("observedGeneration"))...)
	return append(errs, check.OptionalNonNegative(s.TerminatingReplicas, at.Child("terminatingReplicas"))...)
}
