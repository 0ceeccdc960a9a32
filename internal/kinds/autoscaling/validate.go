package autoscaling

import (
	"slices"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/api/validation/path"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"canopus/internal/kinds/check"
)

// The longest that rules may look back, in seconds.
const (
	maxWindow = 3600
	maxPeriod = 1800
)

func validateAutoscaler(h *autoscalingv2.HorizontalPodAutoscaler) field.ErrorList {
	return append(validateSpec(&h.Spec, field.NewPath("spec")), validateVersion(h.Spec.ScaleTargetRef, field.NewPath("spec", "scaleTargetRef"))...)
}

// validateAutoscalerUpdate lets a reference that was stored before its version was checked stay as it is.
func validateAutoscalerUpdate(h, old *autoscalingv2.HorizontalPodAutoscaler) field.ErrorList {
	errs := validateSpec(&h.Spec, field.NewPath("spec"))
	if h.Spec.ScaleTargetRef.APIVersion != old.Spec.ScaleTargetRef.APIVersion {
		errs = append(errs, validateVersion(h.Spec.ScaleTargetRef, field.NewPath("spec", "scaleTargetRef"))...)
	}
	return errs
}

func validateAutoscalerStatus(obj, _ *autoscalingv2.HorizontalPodAutoscaler) field.ErrorList {
	at := field.NewPath("status")
	return append(check.NonNegative(obj.Status.CurrentReplicas, at.Child("currentReplicas")),
		check.NonNegative(obj.Status.DesiredReplicas, at.Child("desiredReplicas"))...)
}

func validateSpec(s *autoscalingv2.HorizontalPodAutoscalerSpec, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	if s.MinReplicas != nil {
		errs = append(errs, check.NonNegative(*s.MinReplicas, at.Child("minReplicas"))...)
	}
	errs = append(errs, check.Positive(s.MaxReplicas, at.Child("maxReplicas"))...)
	if s.MinReplicas != nil && s.MaxReplicas < *s.MinReplicas {
		errs = append(errs, field.Invalid(at.Child("maxReplicas"), s.MaxReplicas, "must be greater than or equal to `minReplicas`"))
	}
	errs = append(errs, validateReference(s.ScaleTargetRef, at.Child("scaleTargetRef"))...)
	for i := range s.Metrics {
		errs = append(errs, validateMetric(&s.Metrics[i], at.Child("metrics").Index(i))...)
	}
	if s.MinReplicas != nil && *s.MinReplicas == 0 && !slices.ContainsFunc(s.Metrics, withoutPods) {
		errs = append(errs, field.Forbidden(at.Child("metrics"), "must specify at least one Object or External metric to support scaling to zero replicas"))
	}
	if b := s.Behavior; b != nil {
		errs = append(errs, validateRules(b.ScaleUp, at.Child("behavior", "scaleUp"))...)
		errs = append(errs, validateRules(b.ScaleDown, at.Child("behavior", "scaleDown"))...)
	}
	return errs
}

// withoutPods says whether a metric can be read while there is no pod to measure.
func withoutPods(m autoscalingv2.MetricSpec) bool {
	return m.Type == autoscalingv2.ObjectMetricSourceType || m.Type == autoscalingv2.ExternalMetricSourceType
}

func validateReference(r autoscalingv2.CrossVersionObjectReference, at *field.Path) field.ErrorList {
	return append(validateSegment(r.Kind, at.Child("kind")), validateSegment(r.Name, at.Child("name"))...)
}

func validateSegment(value string, at *field.Path) field.ErrorList {
	if value == "" {
		return field.ErrorList{field.Required(at, "")}
	}
	return check.Messages(at, value, path.IsValidPathSegmentName(value))
}

func validateVersion(r autoscalingv2.CrossVersionObjectReference, at *field.Path) field.ErrorList {
	if _, err := schema.ParseGroupVersion(r.APIVersion); err != nil {
		return field.ErrorList{field.Invalid(at.Child("apiVersion"), r.APIVersion, err.Error())}
	}
	return nil
}

func validateRules(r *autoscalingv2.HPAScalingRules, at *field.Path) field.ErrorList {
	if r == nil {
		return nil
	}
	var errs field.ErrorList
	if w := r.StabilizationWindowSeconds; w != nil && *w < 0 {
		errs = append(errs, field.Invalid(at.Child("stabilizationWindowSeconds"), *w, "must be greater than or equal to zero"))
	}
	if w := r.StabilizationWindowSeconds; w != nil && *w > maxWindow {
		errs = append(errs, field.Invalid(at.Child("stabilizationWindowSeconds"), *w, "must be less than or equal to 3600"))
	}
	if r.SelectPolicy != nil {
		errs = append(errs, check.OneOf(*r.SelectPolicy, at.Child("selectPolicy"),
			autoscalingv2.DisabledPolicySelect, autoscalingv2.MaxChangePolicySelect, autoscalingv2.MinChangePolicySelect)...)
	}
	if len(r.Policies) == 0 {
		errs = append(errs, field.Required(at.Child("policies"), "must specify at least one Policy"))
	}
	for i := range r.Policies {
		errs = append(errs, validatePolicy(&r.Policies[i], at.Child("policies").Index(i))...)
	}
	if r.Tolerance != nil && r.Tolerance.Sign() < 0 {
		errs = append(errs, field.Invalid(at.Child("tolerance"), r.Tolerance.String(), "must be greater or equal to zero"))
	}
	return errs
}

func validatePolicy(p *autoscalingv2.HPAScalingPolicy, at *field.Path) field.ErrorList {
	const zero = "must be greater than zero"
	errs := check.OneOf(p.Type, at.Child("type"), autoscalingv2.PercentScalingPolicy, autoscalingv2.PodsScalingPolicy)
	if p.Value <= 0 {
		errs = append(errs, field.Invalid(at.Child("value"), p.Value, zero))
	}
	if p.PeriodSeconds <= 0 {
		errs = append(errs, field.Invalid(at.Child("periodSeconds"), p.PeriodSeconds, zero))
	}
	if p.PeriodSeconds > maxPeriod {
		errs = append(errs, field.Invalid(at.Child("periodSeconds"), p.PeriodSeconds, "must be less than or equal to 1800"))
	}
	return errs
}

// source is one of the fields of a metric of which its type wants exactly one.
type source struct {
	of      autoscalingv2.MetricSourceType
	name    string
	present bool
	check   func(*field.Path) field.ErrorList
}

func sourcesOf(m *autoscalingv2.MetricSpec) []source {
	return []source{
		{autoscalingv2.ContainerResourceMetricSourceType, "containerResource", m.ContainerResource != nil,
			func(at *field.Path) field.ErrorList { return validateContainerResource(m.ContainerResource, at) }},
		{autoscalingv2.ExternalMetricSourceType, "external", m.External != nil,
			func(at *field.Path) field.ErrorList { return validateExternal(m.External, at) }},
		{autoscalingv2.ObjectMetricSourceType, "object", m.Object != nil,
			func(at *field.Path) field.ErrorList { return validateObject(m.Object, at) }},
		{autoscalingv2.PodsMetricSourceType, "pods", m.Pods != nil,
			func(at *field.Path) field.ErrorList { return validatePods(m.Pods, at) }},
		{autoscalingv2.ResourceMetricSourceType, "resource", m.Resource != nil,
			func(at *field.Path) field.ErrorList { return validateResource(m.Resource, at) }},
	}
}

func validateMetric(m *autoscalingv2.MetricSpec, at *field.Path) field.ErrorList {
	if m.Type == "" {
		return field.ErrorList{field.Required(at.Child("type"), "must specify a metric source type")}
	}
	all := sourcesOf(m)
	var types []autoscalingv2.MetricSourceType
	for _, s := range all {
		types = append(types, s.of)
	}
	errs := check.OneOf(m.Type, at.Child("type"), types...)
	for _, s := range all {
		switch {
		case s.of == m.Type && !s.present:
			errs = append(errs, field.Required(at.Child(s.name), "must populate information for the given metric source"))
		case s.of == m.Type:
			errs = append(errs, s.check(at.Child(s.name))...)
		case s.present:
			errs = append(errs, field.Forbidden(at.Child(s.name), "must populate the given metric source only"))
		}
	}
	return errs
}

func validateObject(s *autoscalingv2.ObjectMetricSource, at *field.Path) field.ErrorList {
	errs := validateReference(s.DescribedObject, at.Child("describedObject"))
	errs = append(errs, validateIdentifier(s.Metric, at.Child("metric"))...)
	errs = append(errs, validateTarget(s.Target, at.Child("target"))...)
	if s.Target.Value == nil && s.Target.AverageValue == nil {
		errs = append(errs, field.Required(at.Child("target", "averageValue"), "must set either a target value or averageValue"))
	}
	return errs
}

func validateExternal(s *autoscalingv2.ExternalMetricSource, at *field.Path) field.ErrorList {
	errs := append(validateIdentifier(s.Metric, at.Child("metric")), validateTarget(s.Target, at.Child("target"))...)
	if s.Target.Value == nil && s.Target.AverageValue == nil {
		errs = append(errs, field.Required(at.Child("target", "averageValue"), "must set either a target value for metric or a per-pod target"))
	}
	if s.Target.Value != nil && s.Target.AverageValue != nil {
		errs = append(errs, field.Forbidden(at.Child("target", "value"), "may not set both a target value for metric and a per-pod target"))
	}
	return errs
}

func validatePods(s *autoscalingv2.PodsMetricSource, at *field.Path) field.ErrorList {
	errs := append(validateIdentifier(s.Metric, at.Child("metric")), validateTarget(s.Target, at.Child("target"))...)
	if s.Target.AverageValue == nil || s.Target.AverageValue.Sign() <= 0 {
		errs = append(errs, field.Required(at.Child("target", "averageValue"), "must specify a positive target averageValue"))
	}
	return errs
}

func validateContainerResource(s *autoscalingv2.ContainerResourceMetricSource, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	if s.Container == "" {
		errs = append(errs, field.Required(at.Child("container"), "must specify a container"))
	}
	return append(errs, validateResource(&autoscalingv2.ResourceMetricSource{Name: s.Name, Target: s.Target}, at)...)
}

func validateResource(s *autoscalingv2.ResourceMetricSource, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	if s.Name == "" {
		errs = append(errs, field.Required(at.Child("name"), "must specify a resource name"))
	}
	errs = append(errs, validateTarget(s.Target, at.Child("target"))...)
	if s.Target.AverageUtilization == nil && s.Target.AverageValue == nil {
		errs = append(errs, field.Required(at.Child("target", "averageUtilization"), "must set either a target raw value or a target utilization"))
	}
	if s.Target.AverageUtilization != nil && s.Target.AverageValue != nil {
		errs = append(errs, field.Forbidden(at.Child("target", "averageValue"), "may not set both a target raw value and a target utilization"))
	}
	return errs
}

func validateIdentifier(m autoscalingv2.MetricIdentifier, at *field.Path) field.ErrorList {
	if m.Name == "" {
		return field.ErrorList{field.Required(at.Child("name"), "must specify a metric name")}
	}
	errs := check.Messages(at.Child("name"), m.Name, path.IsValidPathSegmentName(m.Name))
	if m.Selector != nil {
		errs = append(errs, check.Selector(m.Selector, at.Child("selector"))...)
	}
	return errs
}

func validateTarget(t autoscalingv2.MetricTarget, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	switch t.Type {
	case autoscalingv2.UtilizationMetricType, autoscalingv2.ValueMetricType, autoscalingv2.AverageValueMetricType:
	case "":
		errs = append(errs, field.Required(at.Child("type"), "must specify a metric target type"))
	default:
		errs = append(errs, field.Invalid(at.Child("type"), t.Type, "must be either Utilization, Value, or AverageValue"))
	}
	errs = append(errs, validatePositive(t.Value, at.Child("value"))...)
	errs = append(errs, validatePositive(t.AverageValue, at.Child("averageValue"))...)
	if t.AverageUtilization != nil {
		errs = append(errs, check.Positive(*t.AverageUtilization, at.Child("averageUtilization"))...)
	}
	return errs
}

func validatePositive(q *resource.Quantity, at *field.Path) field.ErrorList {
	if q == nil || q.Sign() > 0 {
		return nil
	}
	return field.ErrorList{field.Invalid(at, q.String(), "must be positive")}
}
