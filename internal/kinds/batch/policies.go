package batch

import (
	"fmt"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"canopus/internal/kinds/check"
)

// Limits of policies.
const (
	maxRules     = 20
	maxExitCodes = 255
)

func validateFailurePolicy(s *batchv1.JobSpec, path *field.Path) field.ErrorList {
	if s.PodFailurePolicy == nil {
		return nil
	}
	at := path.Child("rules")
	var errs field.ErrorList
	if n := len(s.PodFailurePolicy.Rules); n > maxRules {
		errs = append(errs, field.TooMany(at, n, maxRules))
	}
	names := map[string]bool{}
	for _, c := range s.Template.Spec.InitContainers {
		names[c.Name] = true
	}
	for _, c := range s.Template.Spec.Containers {
		names[c.Name] = true
	}
	for i := range s.PodFailurePolicy.Rules {
		errs = append(errs, validateFailureRule(s, &s.PodFailurePolicy.Rules[i], names, at.Index(i))...)
	}
	return errs
}

func validateFailureRule(s *batchv1.JobSpec, r *batchv1.PodFailurePolicyRule, names map[string]bool, at *field.Path) field.ErrorList {
	actions := []batchv1.PodFailurePolicyAction{
		batchv1.PodFailurePolicyActionCount, batchv1.PodFailurePolicyActionFailIndex,
		batchv1.PodFailurePolicyActionFailJob, batchv1.PodFailurePolicyActionIgnore,
	}
	errs := check.RequiredOneOf(r.Action, at.Child("action"), actions...)
	if r.Action == batchv1.PodFailurePolicyActionFailIndex && s.BackoffLimitPerIndex == nil {
		errs = append(errs, field.Invalid(at.Child("action"), r.Action, "requires the backoffLimitPerIndex to be set"))
	}
	switch {
	case r.OnExitCodes != nil && len(r.OnPodConditions) > 0:
		return append(errs, field.Invalid(at, field.OmitValueType{}, "specifying both OnExitCodes and OnPodConditions is not supported"))
	case r.OnExitCodes == nil && len(r.OnPodConditions) == 0:
		return append(errs, field.Invalid(at, field.OmitValueType{}, "specifying one of OnExitCodes and OnPodConditions is required"))
	case r.OnExitCodes != nil:
		return append(errs, validateExitCodes(r.OnExitCodes, names, at.Child("onExitCodes"))...)
	}
	at = at.Child("onPodConditions")
	if n := len(r.OnPodConditions); n > maxRules {
		errs = append(errs, field.TooMany(at, n, maxRules))
	}
	for i, p := range r.OnPodConditions {
		errs = append(errs, check.Qualified(string(p.Type), at.Index(i).Child("type"))...)
		errs = append(errs, check.RequiredOneOf(p.Status, at.Index(i).Child("status"), corev1.ConditionFalse, corev1.ConditionTrue, corev1.ConditionUnknown)...)
	}
	return errs
}

func validateExitCodes(e *batchv1.PodFailurePolicyOnExitCodesRequirement, names map[string]bool, at *field.Path) field.ErrorList {
	errs := check.RequiredOneOf(e.Operator, at.Child("operator"), batchv1.PodFailurePolicyOnExitCodesOpIn, batchv1.PodFailurePolicyOnExitCodesOpNotIn)
	if e.ContainerName != nil && !names[*e.ContainerName] {
		errs = append(errs, field.Invalid(at.Child("containerName"), *e.ContainerName, "must be one of the container or initContainer names in the pod template"))
	}
	values := at.Child("values")
	switch n := len(e.Values); {
	case n == 0:
		errs = append(errs, field.Invalid(values, e.Values, "at least one value is required"))
	case n > maxExitCodes:
		errs = append(errs, field.TooMany(values, n, maxExitCodes))
	}
	if !ascending(e.Values) {
		errs = append(errs, field.Invalid(values, e.Values, "must be ordered"))
	}
	seen := check.Duplicates[int32]{}
	for i, v := range e.Values {
		if e.Operator == batchv1.PodFailurePolicyOnExitCodesOpIn && v == 0 {
			errs = append(errs, field.Invalid(values.Index(i), v, "must not be 0 for the In operator"))
		}
		errs = append(errs, seen.Check(v, values.Index(i))...)
	}
	return errs
}

func validateSuccessPolicy(s *batchv1.JobSpec, path *field.Path) field.ErrorList {
	if s.SuccessPolicy == nil {
		return nil
	}
	if !indexed(s) {
		return field.ErrorList{field.Invalid(path, *s.SuccessPolicy, "requires indexed completion mode")}
	}
	at := path.Child("rules")
	var errs field.ErrorList
	switch n := len(s.SuccessPolicy.Rules); {
	case n == 0:
		errs = append(errs, field.Required(at, "at least one rules must be specified when the successPolicy is specified"))
	case n > maxRules:
		errs = append(errs, field.TooMany(at, n, maxRules))
	}
	for i, r := range s.SuccessPolicy.Rules {
		errs = append(errs, validateSuccessRule(r, orZero(s.Completions), at.Index(i))...)
	}
	return errs
}

func validateSuccessRule(r batchv1.SuccessPolicyRule, completions int32, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	if r.SucceededIndexes == nil && r.SucceededCount == nil {
		errs = append(errs, field.Required(at, "at least one of succeededCount or succeededIndexes must be specified"))
	}
	if r.SucceededIndexes != nil {
		if err := intervals(*r.SucceededIndexes, completions); err != nil {
			errs = append(errs, field.Invalid(at.Child("succeededIndexes"), *r.SucceededIndexes, "error parsing succeededIndexes: "+err.Error()))
		}
	}
	if n := r.SucceededCount; n != nil {
		errs = append(errs, check.Positive(*n, at.Child("succeededCount"))...)
		if *n > completions {
			errs = append(errs, field.Invalid(at.Child("succeededCount"), *n, fmt.Sprintf("must be less than or equal to %d (the number of specified completions)", completions)))
		}
	}
	return errs
}
