package builtin_test

import (
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	"k8s.io/apimachinery/pkg/api/resource"
	"sigs.k8s.io/randfill"
)

// shapes fill what validation allows only in some shapes, where no other shape can be said in every version.
func shapes() []any { return []any{fillMetric, fillMetricStatus, fillRules} }

// fillRules leaves policies out where they are empty: protobuf knows no difference, and validation refuses them.
func fillRules(r *autoscalingv2.HPAScalingRules, c randfill.Continue) {
	c.FillNoCustom(r)
	if len(r.Policies) == 0 {
		r.Policies = nil
	}
}

func fillMetric(m *autoscalingv2.MetricSpec, c randfill.Continue) {
	c.FillNoCustom(m)
	for _, t := range []*autoscalingv2.MetricTarget{targetOf(m.Resource), containerTargetOf(m.ContainerResource)} {
		if t.Value, t.Type = nil, autoscalingv2.AverageValueMetricType; t.AverageUtilization != nil {
			t.Type = autoscalingv2.UtilizationMetricType
		}
	}
	if m.Object != nil {
		shapeValue(&m.Object.Target)
	}
	if m.External != nil {
		shapeValue(&m.External.Target)
	}
	if m.Pods != nil {
		m.Pods.Target = autoscalingv2.MetricTarget{Type: autoscalingv2.AverageValueMetricType, AverageValue: resource.NewQuantity(7, resource.DecimalSI)}
	}
}

func targetOf(r *autoscalingv2.ResourceMetricSource) *autoscalingv2.MetricTarget {
	if r == nil {
		return &autoscalingv2.MetricTarget{}
	}
	return &r.Target
}

func containerTargetOf(r *autoscalingv2.ContainerResourceMetricSource) *autoscalingv2.MetricTarget {
	if r == nil {
		return &autoscalingv2.MetricTarget{}
	}
	return &r.Target
}

func shapeValue(t *autoscalingv2.MetricTarget) {
	t.AverageUtilization = nil
	if t.Type = autoscalingv2.AverageValueMetricType; t.AverageValue == nil {
		t.Type, t.Value = autoscalingv2.ValueMetricType, resource.NewQuantity(3, resource.DecimalSI)
	}
	if t.Value != nil && t.Value.IsZero() {
		t.Value = nil
	}
}

func fillMetricStatus(m *autoscalingv2.MetricStatus, c randfill.Continue) {
	c.FillNoCustom(m)
	measured := resource.NewMilliQuantity(1500, resource.DecimalSI)
	if m.Object != nil {
		m.Object.Current = autoscalingv2.MetricValueStatus{Value: measured}
	}
	if m.External != nil {
		m.External.Current = autoscalingv2.MetricValueStatus{AverageValue: measured}
	}
	if m.Pods != nil {
		m.Pods.Current = autoscalingv2.MetricValueStatus{AverageValue: measured}
	}
	if m.Resource != nil {
		m.Resource.Current.Value, m.Resource.Current.AverageValue = nil, measured
	}
	if m.ContainerResource != nil {
		m.ContainerResource.Current.Value, m.ContainerResource.Current.AverageValue = nil, measured
	}
}
