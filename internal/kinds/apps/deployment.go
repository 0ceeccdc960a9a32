package apps

import (
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"canopus/internal/kinds"
	"canopus/internal/kinds/check"
	"canopus/internal/kinds/podspec"
	"canopus/internal/kinds/show"
)

// Deployment is apps/v1 deployments.
func Deployment() *kinds.Kind {
	return kinds.New(kinds.Spec[appsv1.Deployment, *appsv1.Deployment]{
		GVK:        appsv1.SchemeGroupVersion.WithKind("Deployment"),
		Plural:     "deployments",
		ShortNames: []string{"deploy"},
		Categories: []string{"all"},
		Namespaced: true,
		NewList:    func() runtime.Object { return &appsv1.DeploymentList{} },

		Default:    defaultDeployment,
		Generation: true,
		PrepareCreate: func(d *appsv1.Deployment) {
			d.Status = appsv1.DeploymentStatus{}
			podspec.DropGated(&d.Spec.Template.Spec, nil)
		},
		PrepareUpdate: prepareDeploymentUpdate,
		Validate:      validateDeployment,
		ValidateUpdate: func(d, old *appsv1.Deployment) field.ErrorList {
			return append(validateDeployment(d), sameSelector(d.Spec.Selector, old.Spec.Selector)...)
		},
		Warnings: func(d, old *appsv1.Deployment) []string { return namedWarnings(d, old, &d.Spec.Template) },
		Subresources: []kinds.Subresource{scaleSubresource(), kinds.Status(
			func(obj, old *appsv1.Deployment) { obj.Spec, obj.Labels = old.Spec, old.Labels }, validateDeploymentStatus)},
		Scale: &kinds.ScalePaths{
			Replicas: func(obj kinds.Object) (spec, status int32) {
				d := obj.(*appsv1.Deployment)
				return orZero(d.Spec.Replicas), d.Status.Replicas
			},
			Selector:    func(obj kinds.Object) string { return selectorString(obj.(*appsv1.Deployment).Spec.Selector) },
			SetReplicas: func(obj kinds.Object, n int32) { obj.(*appsv1.Deployment).Spec.Replicas = &n },
		},
		Columns: deploymentColumns(),
		Cells: func(d *appsv1.Deployment, now time.Time) []any {
			return append([]any{
				d.Name, fmt.Sprintf("%d/%d", d.Status.ReadyReplicas, orZero(d.Spec.Replicas)),
				int64(d.Status.UpdatedReplicas), int64(d.Status.AvailableReplicas), show.Age(d.CreationTimestamp, now),
			}, wideCells(&d.Spec.Template, d.Spec.Selector)...)
		},
	})
}

func deploymentColumns() []metav1.TableColumnDefinition {
	spec, status := appsv1.DeploymentSpec{}.SwaggerDoc(), appsv1.DeploymentStatus{}.SwaggerDoc()
	return append([]metav1.TableColumnDefinition{
		show.Name(),
		show.Column("Ready", "string", "Number of the pod with ready state"),
		show.Column("Up-to-date", "string", status["updatedReplicas"]),
		show.Column("Available", "string", status["availableReplicas"]),
		show.AgeColumn(),
	}, wideColumns(spec["selector"])...)
}

func defaultDeployment(d *appsv1.Deployment) {
	setDefault(&d.Spec.Replicas, 1)
	podspec.Default(&d.Spec.Template.Spec)
	if d.Spec.Strategy.Type == "" {
		d.Spec.Strategy.Type = appsv1.RollingUpdateDeploymentStrategyType
	}
	if d.Spec.Strategy.Type == appsv1.RollingUpdateDeploymentStrategyType {
		setDefault(&d.Spec.Strategy.RollingUpdate, appsv1.RollingUpdateDeployment{})
		setDefault(&d.Spec.Strategy.RollingUpdate.MaxUnavailable, intstr.FromString("25%"))
		setDefault(&d.Spec.Strategy.RollingUpdate.MaxSurge, intstr.FromString("25%"))
	}
	setDefault(&d.Spec.RevisionHistoryLimit, 10)
	setDefault(&d.Spec.ProgressDeadlineSeconds, 600)
}

// prepareDeploymentUpdate counts annotations to what the user wants: the controller copies them to ReplicaSets.
func prepareDeploymentUpdate(d, old *appsv1.Deployment) {
	d.Status = old.Status
	podspec.DropGated(&d.Spec.Template.Spec, &old.Spec.Template.Spec)
	kinds.Bump(d, old, !equal(d.Spec, old.Spec) || !equal(d.Annotations, old.Annotations))
}

func validateDeployment(d *appsv1.Deployment) field.ErrorList {
	at := field.NewPath("spec")
	errs := check.NonNegative(orZero(d.Spec.Replicas), at.Child("replicas"))
	errs = append(errs, validateSelector(d.Spec.Selector, "deployment")...)
	errs = append(errs, validateTemplate(&d.Spec.Template, d.Spec.Selector, "ReplicaSet")...)
	errs = append(errs, validateStrategy(&d.Spec.Strategy, at.Child("strategy"))...)
	errs = append(errs, check.NonNegative(d.Spec.MinReadySeconds, at.Child("minReadySeconds"))...)
	errs = append(errs, check.OptionalNonNegative(d.Spec.RevisionHistoryLimit, at.Child("revisionHistoryLimit"))...)
	if deadline := d.Spec.ProgressDeadlineSeconds; deadline != nil {
		errs = append(errs, check.NonNegative(*deadline, at.Child("progressDeadlineSeconds"))...)
		if *deadline <= d.Spec.MinReadySeconds {
			errs = append(errs, field.Invalid(at.Child("progressDeadlineSeconds"), *deadline, "must be greater than minReadySeconds"))
		}
	}
	return errs
}

func validateStrategy(s *appsv1.DeploymentStrategy, at *field.Path) field.ErrorList {
	switch s.Type {
	case appsv1.RecreateDeploymentStrategyType:
		if s.RollingUpdate != nil {
			return field.ErrorList{field.Forbidden(at.Child("rollingUpdate"), "may not be specified when strategy `type` is '"+string(s.Type)+"'")}
		}
		return nil
	case appsv1.RollingUpdateDeploymentStrategyType:
		if s.RollingUpdate == nil {
			return field.ErrorList{field.Required(at.Child("rollingUpdate"), "this should be defaulted and never be nil")}
		}
		return validateRollingUpdate(s.RollingUpdate, at.Child("rollingUpdate"))
	}
	return field.ErrorList{field.NotSupported(at, s.Type, []appsv1.DeploymentStrategyType{appsv1.RecreateDeploymentStrategyType, appsv1.RollingUpdateDeploymentStrategyType})}
}

func validateRollingUpdate(r *appsv1.RollingUpdateDeployment, at *field.Path) field.ErrorList {
	unavailable, surge := orZero(r.MaxUnavailable), orZero(r.MaxSurge)
	errs := check.CountOrPercent(unavailable, at.Child("maxUnavailable"))
	errs = append(errs, check.CountOrPercent(surge, at.Child("maxSurge"))...)
	if isZero(unavailable) && isZero(surge) {
		errs = append(errs, field.Invalid(at.Child("maxUnavailable"), unavailable, "may not be 0 when `maxSurge` is 0"))
	}
	return append(errs, check.AtMostAll(unavailable, at.Child("maxUnavailable"))...)
}

func isZero(v intstr.IntOrString) bool {
	if n, ok := check.Percent(v); ok {
		return n == 0
	}
	return v.Type == intstr.Int && v.IntVal == 0
}

func validateDeploymentStatus(obj, old *appsv1.Deployment) field.ErrorList {
	s, at := &obj.Status, field.NewPath("status")
	errs := check.NonNegative(s.ObservedGeneration, at.Child("observedGeneration"))
	errs = append(errs, validateCounts(at,
		count{name: "replicas", value: s.Replicas},
		count{"updatedReplicas", s.UpdatedReplicas, s.Replicas, "status.replicas"},
		count{"readyReplicas", s.ReadyReplicas, s.Replicas, "status.replicas"},
		count{"availableReplicas", s.AvailableReplicas, s.Replicas, "status.replicas"},
		count{name: "unavailableReplicas", value: s.UnavailableReplicas})...)
	if s.AvailableReplicas > s.ReadyReplicas {
		errs = append(errs, field.Invalid(at.Child("availableReplicas"), s.AvailableReplicas, "cannot be greater than readyReplicas"))
	}
	errs = append(errs, check.OptionalNonNegative(s.TerminatingReplicas, at.Child("terminatingReplicas"))...)
	return append(errs, validateCollisions(s.CollisionCount, old.Status.CollisionCount, at.Child("collisionCount"))...)
}
