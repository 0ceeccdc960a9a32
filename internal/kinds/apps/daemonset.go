package apps

import (
	"strconv"
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

// DaemonSet is apps/v1 daemonsets.
func DaemonSet() *kinds.Kind {
	return kinds.New(kinds.Spec[appsv1.DaemonSet, *appsv1.DaemonSet]{
		GVK:        appsv1.SchemeGroupVersion.WithKind("DaemonSet"),
		Plural:     "daemonsets",
		ShortNames: []string{"ds"},
		Categories: []string{"all"},
		Namespaced: true,
		NewList:    func() runtime.Object { return &appsv1.DaemonSetList{} },

		Default: defaultDaemonSet,
		PrepareCreate: func(d *appsv1.DaemonSet) {
			d.Status = appsv1.DaemonSetStatus{}
			podspec.DropGated(&d.Spec.Template.Spec, nil)
			setTemplateGeneration(d, max(1, templateGeneration(d)))
		},
		PrepareUpdate: func(obj, old *appsv1.DaemonSet) {
			obj.Status = old.Status
			podspec.DropGated(&obj.Spec.Template.Spec, &old.Spec.Template.Spec)
			next := templateGeneration(old)
			if !equal(obj.Spec.Template, old.Spec.Template) {
				next++
			}
			setTemplateGeneration(obj, next)
			kinds.Bump(obj, old, !equal(obj.Spec, old.Spec))
		},
		Generation: true,
		Validate:   validateDaemonSet,
		ValidateUpdate: func(obj, old *appsv1.DaemonSet) field.ErrorList {
			return append(validateDaemonSet(obj), sameSelector(obj.Spec.Selector, old.Spec.Selector)...)
		},
		Warnings: func(d, old *appsv1.DaemonSet) []string { return templateWarnings(d, old, &d.Spec.Template) },
		Columns:  daemonSetColumns(),
		Cells:    daemonSetCells,
		Subresources: []kinds.Subresource{kinds.Status(
			func(obj, old *appsv1.DaemonSet) { obj.Spec = old.Spec }, validateDaemonSetStatus)},
	})
}

// templateGeneration counts the templates that a DaemonSet has had. It was a field of its spec before apps/v1 and lives on as
// an annotation that the server alone writes; clients of that time compare it with a label of the pods.
func templateGeneration(d *appsv1.DaemonSet) int64 {
	n, err := strconv.ParseInt(d.Annotations[appsv1.DeprecatedTemplateGeneration], 10, 64)
	if err != nil {
		return 0
	}
	return n
}

func setTemplateGeneration(d *appsv1.DaemonSet, n int64) {
	if d.Annotations == nil {
		d.Annotations = map[string]string{}
	}
	d.Annotations[appsv1.DeprecatedTemplateGeneration] = strconv.FormatInt(n, 10)
}

func defaultDaemonSet(d *appsv1.DaemonSet) {
	s := &d.Spec
	podspec.Default(&s.Template.Spec)
	if s.UpdateStrategy.Type == "" {
		s.UpdateStrategy.Type = appsv1.RollingUpdateDaemonSetStrategyType
	}
	if s.UpdateStrategy.Type == appsv1.RollingUpdateDaemonSetStrategyType {
		if s.UpdateStrategy.RollingUpdate == nil {
			s.UpdateStrategy.RollingUpdate = &appsv1.RollingUpdateDaemonSet{}
		}
		setDefault(&s.UpdateStrategy.RollingUpdate.MaxUnavailable, intstr.FromInt32(1))
		setDefault(&s.UpdateStrategy.RollingUpdate.MaxSurge, intstr.FromInt32(0))
	}
	setDefault(&s.RevisionHistoryLimit, 10)
}

func validateDaemonSet(d *appsv1.DaemonSet) field.ErrorList {
	s, path := &d.Spec, field.NewPath("spec")
	errs := validateSelector(s.Selector, "daemonset")
	errs = append(errs, validateTemplate(&s.Template, s.Selector, "DaemonSet")...)
	errs = append(errs, check.NonNegative(s.MinReadySeconds, path.Child("minReadySeconds"))...)
	errs = append(errs, check.OptionalNonNegative(s.RevisionHistoryLimit, path.Child("revisionHistoryLimit"))...)
	return append(errs, validateDaemonStrategy(&s.UpdateStrategy, path.Child("updateStrategy"))...)
}

func validateDaemonStrategy(s *appsv1.DaemonSetUpdateStrategy, path *field.Path) field.ErrorList {
	switch s.Type {
	case appsv1.OnDeleteDaemonSetStrategyType:
		return nil
	case appsv1.RollingUpdateDaemonSetStrategyType:
		at := path.Child("rollingUpdate")
		if s.RollingUpdate == nil {
			return field.ErrorList{field.Required(at, "")}
		}
		unavailable, surge := orZero(s.RollingUpdate.MaxUnavailable), orZero(s.RollingUpdate.MaxSurge)
		errs := check.CountOrPercent(unavailable, at.Child("maxUnavailable"))
		errs = append(errs, check.AtMostAll(unavailable, at.Child("maxUnavailable"))...)
		errs = append(errs, check.CountOrPercent(surge, at.Child("maxSurge"))...)
		errs = append(errs, check.AtMostAll(surge, at.Child("maxSurge"))...)
		switch noneDown, noneUp := isZero(unavailable), isZero(surge); {
		case noneDown && noneUp:
			errs = append(errs, field.Required(at.Child("maxUnavailable"), "cannot be 0 when maxSurge is 0"))
		case !noneDown && !noneUp:
			errs = append(errs, field.Invalid(at.Child("maxSurge"), surge, "may not be set when maxUnavailable is non-zero"))
		}
		return errs
	default:
		return field.ErrorList{field.NotSupported(path.Child("type"), s.Type, []appsv1.DaemonSetUpdateStrategyType{
			appsv1.RollingUpdateDaemonSetStrategyType, appsv1.OnDeleteDaemonSetStrategyType,
		})}
	}
}

func validateDaemonSetStatus(obj, old *appsv1.DaemonSet) field.ErrorList {
	s, path := &obj.Status, field.NewPath("status")
	errs := validateCounts(path,
		count{name: "currentNumberScheduled", value: s.CurrentNumberScheduled},
		count{name: "numberMisscheduled", value: s.NumberMisscheduled},
		count{name: "desiredNumberScheduled", value: s.DesiredNumberScheduled},
		count{name: "numberReady", value: s.NumberReady},
		count{name: "updatedNumberScheduled", value: s.UpdatedNumberScheduled},
		count{name: "numberAvailable", value: s.NumberAvailable},
		count{name: "numberUnavailable", value: s.NumberUnavailable})
	errs = append(errs, check.NonNegative(s.ObservedGeneration, path.Child("observedGeneration"))...)
	return append(errs, validateCollisions(s.CollisionCount, old.Status.CollisionCount, path.Child("collisionCount"))...)
}

func daemonSetColumns() []metav1.TableColumnDefinition {
	spec, status := appsv1.DaemonSetSpec{}.SwaggerDoc(), appsv1.DaemonSetStatus{}.SwaggerDoc()
	return append([]metav1.TableColumnDefinition{
		show.Name(),
		show.Column("Desired", "integer", status["desiredNumberScheduled"]),
		show.Column("Current", "integer", status["currentNumberScheduled"]),
		show.Column("Ready", "integer", status["numberReady"]),
		show.Column("Up-to-date", "integer", status["updatedNumberScheduled"]),
		show.Column("Available", "integer", status["numberAvailable"]),
		show.Column("Node Selector", "string", "Labels of the nodes that the pods run on."),
		show.AgeColumn(),
	}, wideColumns(spec["selector"])...)
}

func daemonSetCells(d *appsv1.DaemonSet, now time.Time) []any {
	s := &d.Status
	return append([]any{
		d.Name, int64(s.DesiredNumberScheduled), int64(s.CurrentNumberScheduled), int64(s.NumberReady),
		int64(s.UpdatedNumberScheduled), int64(s.NumberAvailable), show.Labels(d.Spec.Template.Spec.NodeSelector),
		show.Age(d.CreationTimestamp, now),
	}, wideCells(&d.Spec.Template, d.Spec.Selector)...)
}
