package autoscaling

import (
	"encoding/json"
	"fmt"
	"maps"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// The annotations in which v1 keeps what it has no fields for.
const (
	metricsAnnotation    = "autoscaling.alpha.kubernetes.io/metrics"
	currentAnnotation    = "autoscaling.alpha.kubernetes.io/current-metrics"
	conditionsAnnotation = "autoscaling.alpha.kubernetes.io/conditions"
	behaviorAnnotation   = "autoscaling.alpha.kubernetes.io/behavior"
)

// note adds value as JSON to annotations.
func note(annotations map[string]string, key string, value any) error {
	text, err := json.Marshal(value)
	if err != nil {
		return fmt.Errorf("annotation %s: %w", key, err)
	}
	annotations[key] = string(text)
	return nil
}

// take reads an annotation. One that cannot be read says nothing: anybody may write annotations.
func take[T any](annotations map[string]string, key string) (value T, ok bool) {
	text, found := annotations[key]
	if !found || json.Unmarshal([]byte(text), &value) != nil {
		var zero T
		return zero, false
	}
	return value, true
}

// without returns annotations less those that stand for fields. The argument is not changed.
func without(annotations map[string]string) map[string]string {
	out := maps.Clone(annotations)
	for _, key := range []string{metricsAnnotation, currentAnnotation, conditionsAnnotation, behaviorAnnotation} {
		delete(out, key)
	}
	return out
}

func toV1(in runtime.Object) (runtime.Object, error) {
	h, ok := in.(*autoscalingv2.HorizontalPodAutoscaler)
	if !ok {
		return nil, fmt.Errorf("%T is not an autoscaling/v2 HorizontalPodAutoscaler", in)
	}
	out := &autoscalingv1.HorizontalPodAutoscaler{
		ObjectMeta: h.ObjectMeta,
		Spec: autoscalingv1.HorizontalPodAutoscalerSpec{
			ScaleTargetRef: autoscalingv1.CrossVersionObjectReference(h.Spec.ScaleTargetRef),
			MinReplicas:    h.Spec.MinReplicas, MaxReplicas: h.Spec.MaxReplicas,
		},
		Status: autoscalingv1.HorizontalPodAutoscalerStatus{
			ObservedGeneration: h.Status.ObservedGeneration, LastScaleTime: h.Status.LastScaleTime,
			CurrentReplicas: h.Status.CurrentReplicas, DesiredReplicas: h.Status.DesiredReplicas,
		},
	}
	notes := map[string]string{}
	if err := noteMetrics(notes, &h.Spec, &out.Spec); err != nil {
		return nil, err
	}
	if err := noteStatus(notes, &h.Status, &out.Status); err != nil {
		return nil, err
	}
	if out.Annotations = without(h.Annotations); len(notes) > 0 {
		if out.Annotations == nil {
			out.Annotations = notes
		} else {
			maps.Copy(out.Annotations, notes)
		}
	}
	return out, nil
}

// noteMetrics puts the first CPU utilization into its field and all other metrics into an annotation.
func noteMetrics(notes map[string]string, in *autoscalingv2.HorizontalPodAutoscalerSpec, out *autoscalingv1.HorizontalPodAutoscalerSpec) error {
	var rest []autoscalingv1.MetricSpec
	for i := range in.Metrics {
		m := &in.Metrics[i]
		if r := m.Resource; out.TargetCPUUtilizationPercentage == nil && m.Type == autoscalingv2.ResourceMetricSourceType &&
			r != nil && r.Name == corev1.ResourceCPU && r.Target.AverageUtilization != nil {
			out.TargetCPUUtilizationPercentage = r.Target.AverageUtilization
			continue
		}
		rest = append(rest, metricToV1(m))
	}
	if len(rest) > 0 {
		if err := note(notes, metricsAnnotation, rest); err != nil {
			return err
		}
	}
	if in.Behavior == nil {
		return nil
	}
	return note(notes, behaviorAnnotation, in.Behavior)
}

func noteStatus(notes map[string]string, in *autoscalingv2.HorizontalPodAutoscalerStatus, out *autoscalingv1.HorizontalPodAutoscalerStatus) error {
	var current []autoscalingv1.MetricStatus
	for i := range in.CurrentMetrics {
		m := &in.CurrentMetrics[i]
		if r := m.Resource; m.Type == autoscalingv2.ResourceMetricSourceType && r != nil && r.Name == corev1.ResourceCPU && r.Current.AverageUtilization != nil {
			out.CurrentCPUUtilizationPercentage = r.Current.AverageUtilization
		}
		current = append(current, statusToV1(m))
	}
	if len(current) > 0 {
		if err := note(notes, currentAnnotation, current); err != nil {
			return err
		}
	}
	var conditions []autoscalingv1.HorizontalPodAutoscalerCondition
	for _, c := range in.Conditions {
		conditions = append(conditions, autoscalingv1.HorizontalPodAutoscalerCondition{
			Type: autoscalingv1.HorizontalPodAutoscalerConditionType(c.Type), Status: c.Status,
			LastTransitionTime: c.LastTransitionTime, Reason: c.Reason, Message: c.Message, ObservedGeneration: c.ObservedGeneration,
		})
	}
	if len(conditions) == 0 {
		return nil
	}
	return note(notes, conditionsAnnotation, conditions)
}

func fromV1(in runtime.Object) (runtime.Object, error) {
	h, ok := in.(*autoscalingv1.HorizontalPodAutoscaler)
	if !ok {
		return nil, fmt.Errorf("%T is not an autoscaling/v1 HorizontalPodAutoscaler", in)
	}
	out := &autoscalingv2.HorizontalPodAutoscaler{
		ObjectMeta: h.ObjectMeta,
		Spec: autoscalingv2.HorizontalPodAutoscalerSpec{
			ScaleTargetRef: autoscalingv2.CrossVersionObjectReference(h.Spec.ScaleTargetRef),
			MinReplicas:    h.Spec.MinReplicas, MaxReplicas: h.Spec.MaxReplicas,
		},
		Status: autoscalingv2.HorizontalPodAutoscalerStatus{
			ObservedGeneration: h.Status.ObservedGeneration, LastScaleTime: h.Status.LastScaleTime,
			CurrentReplicas: h.Status.CurrentReplicas, DesiredReplicas: h.Status.DesiredReplicas,
		},
	}
	metrics, _ := take[[]autoscalingv1.MetricSpec](h.Annotations, metricsAnnotation)
	for i := range metrics {
		out.Spec.Metrics = append(out.Spec.Metrics, metricFromV1(&metrics[i]))
	}
	if percent := h.Spec.TargetCPUUtilizationPercentage; percent != nil {
		out.Spec.Metrics = append(out.Spec.Metrics, cpuMetric(*percent))
	}
	out.Spec.Behavior, _ = take[*autoscalingv2.HorizontalPodAutoscalerBehavior](h.Annotations, behaviorAnnotation)
	takeStatus(h, &out.Status)
	out.Annotations = without(h.Annotations)
	return out, nil
}

func takeStatus(h *autoscalingv1.HorizontalPodAutoscaler, out *autoscalingv2.HorizontalPodAutoscalerStatus) {
	current, ok := take[[]autoscalingv1.MetricStatus](h.Annotations, currentAnnotation)
	for i := range current {
		out.CurrentMetrics = append(out.CurrentMetrics, statusFromV1(&current[i]))
	}
	if percent := h.Status.CurrentCPUUtilizationPercentage; percent != nil && !ok {
		out.CurrentMetrics = []autoscalingv2.MetricStatus{{Type: autoscalingv2.ResourceMetricSourceType, Resource: &autoscalingv2.ResourceMetricStatus{
			Name: corev1.ResourceCPU, Current: autoscalingv2.MetricValueStatus{AverageUtilization: percent},
		}}}
	}
	conditions, _ := take[[]autoscalingv1.HorizontalPodAutoscalerCondition](h.Annotations, conditionsAnnotation)
	for _, c := range conditions {
		out.Conditions = append(out.Conditions, autoscalingv2.HorizontalPodAutoscalerCondition{
			Type: autoscalingv2.HorizontalPodAutoscalerConditionType(c.Type), Status: c.Status,
			LastTransitionTime: c.LastTransitionTime, Reason: c.Reason, Message: c.Message, ObservedGeneration: c.ObservedGeneration,
		})
	}
}
