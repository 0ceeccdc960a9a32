package scheduling

import (
	"slices"

	schedulingv1beta1 "k8s.io/api/scheduling/v1beta1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/api/validation/path"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"canopus/internal/kinds"
	"canopus/internal/kinds/check"
)

// Workload is scheduling.k8s.io/v1beta1 workloads: the templates from which a controller makes PodGroups.
func Workload() *kinds.Kind {
	return kinds.New(kinds.Spec[schedulingv1beta1.Workload, *schedulingv1beta1.Workload]{
		GVK:        schedulingv1beta1.SchemeGroupVersion.WithKind("Workload"),
		Plural:     "workloads",
		Namespaced: true,
		NewList:    func() runtime.Object { return &schedulingv1beta1.WorkloadList{} },

		PrepareUpdate: func(w, old *schedulingv1beta1.Workload) {
			if !apiequality.Semantic.DeepEqual(w.Spec, old.Spec) {
				w.Generation = old.Generation + 1
			}
		},
		Generation:     true,
		Validate:       validateWorkload,
		ValidateUpdate: validateWorkloadUpdate,
	})
}

func validateWorkload(w *schedulingv1beta1.Workload) field.ErrorList {
	var errs field.ErrorList
	spec := field.NewPath("spec")
	if ref := w.Spec.ControllerRef; ref != nil {
		at := spec.Child("controllerRef")
		if ref.APIGroup != "" {
			errs = append(errs, check.Subdomain(ref.APIGroup, at.Child("apiGroup"))...)
		}
		errs = append(errs, segment(ref.Kind, at.Child("kind"))...)
		errs = append(errs, segment(ref.Name, at.Child("name"))...)
	}
	if len(w.Spec.CompositePodGroupTemplates) > 0 {
		errs = append(errs, field.Forbidden(spec.Child("compositePodGroupTemplates"), "composite pod groups are not available"))
	} else if len(w.Spec.PodGroupTemplates) == 0 {
		errs = append(errs, field.Required(spec.Child("podGroupTemplates"), ""))
	}
	at := spec.Child("podGroupTemplates")
	if n := len(w.Spec.PodGroupTemplates); n > schedulingv1beta1.WorkloadMaxPodGroupTemplates {
		return append(errs, field.TooMany(at, n, schedulingv1beta1.WorkloadMaxPodGroupTemplates))
	}
	seen := check.Duplicates[string]{}
	for i := range w.Spec.PodGroupTemplates {
		t, each := &w.Spec.PodGroupTemplates[i], at.Index(i)
		errs = append(errs, check.RequiredLabel(t.Name, each.Child("name"))...)
		errs = append(errs, seen.Check(t.Name, each)...)
		m := member{t.SchedulingPolicy, t.SchedulingConstraints, t.ResourceClaims, t.DisruptionMode, t.PriorityClassName, t.Priority, t.PreemptionPolicy}
		errs = append(errs, m.validate(each)...)
	}
	return errs
}

// segment wants a name that can be part of a path.
func segment(value string, at *field.Path) field.ErrorList {
	if value == "" {
		return field.ErrorList{field.Required(at, "")}
	}
	return check.Messages(at, value, path.IsValidPathSegmentName(value))
}

// validateWorkloadUpdate lets nothing change but how many pods the gangs of the templates need.
func validateWorkloadUpdate(w, old *schedulingv1beta1.Workload) field.ErrorList {
	errs := validateWorkload(w)
	spec := field.NewPath("spec")
	errs = append(errs, apivalidation.ValidateImmutableField(w.Spec.ControllerRef, old.Spec.ControllerRef, spec.Child("controllerRef"))...)
	at := spec.Child("podGroupTemplates")
	if !slices.EqualFunc(w.Spec.PodGroupTemplates, old.Spec.PodGroupTemplates, sameName) {
		return append(errs, field.Forbidden(at, "templates may not be added, removed or moved"))
	}
	for i := range w.Spec.PodGroupTemplates {
		now, was, each := w.Spec.PodGroupTemplates[i].DeepCopy(), old.Spec.PodGroupTemplates[i], at.Index(i)
		errs = append(errs, keepPolicy(now.SchedulingPolicy, was.SchedulingPolicy, each.Child("schedulingPolicy"))...)
		now.SchedulingPolicy = was.SchedulingPolicy
		if !apiequality.Semantic.DeepEqual(*now, was) {
			errs = append(errs, field.Invalid(each, now.Name, check.Immutable))
		}
	}
	return errs
}

func sameName(a, b schedulingv1beta1.PodGroupTemplate) bool { return a.Name == b.Name }
