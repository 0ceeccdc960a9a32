// Package autoscaling describes HorizontalPodAutoscalers: stored as autoscaling/v2, also served as autoscaling/v1.
//
// Read horizontalpodautoscaler.go (the kind and its defaults), validate.go, targets.go (the column that shows metrics),
// convert.go (v1, which keeps in annotations what it has no fields for) and metrics.go (its metrics, both ways).
package autoscaling

import (
	"time"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/utils/ptr"

	"canopus/internal/kinds"
	"canopus/internal/kinds/show"
)

// defaultUtilization is the CPU target, in percent of what pods request, of an autoscaler that names no metric.
const defaultUtilization int32 = 80

// HorizontalPodAutoscaler is autoscaling/v2 horizontalpodautoscalers, and the same as autoscaling/v1.
func HorizontalPodAutoscaler() *kinds.Kind {
	return kinds.New(kinds.Spec[autoscalingv2.HorizontalPodAutoscaler, *autoscalingv2.HorizontalPodAutoscaler]{
		GVK:        autoscalingv2.SchemeGroupVersion.WithKind("HorizontalPodAutoscaler"),
		Plural:     "horizontalpodautoscalers",
		ShortNames: []string{"hpa"},
		Categories: []string{"all"},
		Namespaced: true,
		NewList:    func() runtime.Object { return &autoscalingv2.HorizontalPodAutoscalerList{} },
		Versions: []kinds.Version{{
			Version: "v1",
			New:     func() runtime.Object { return &autoscalingv1.HorizontalPodAutoscaler{} },
			NewList: func() runtime.Object { return &autoscalingv1.HorizontalPodAutoscalerList{} },
			ToHub:   fromV1, FromHub: toV1,
		}},

		Default:    defaultAutoscaler,
		Generation: true,
		PrepareCreate: func(h *autoscalingv2.HorizontalPodAutoscaler) {
			h.Status = autoscalingv2.HorizontalPodAutoscalerStatus{}
		},
		PrepareUpdate: func(obj, old *autoscalingv2.HorizontalPodAutoscaler) {
			obj.Status = old.Status
			kinds.Bump(obj, old, !apiequality.Semantic.DeepEqual(obj.Spec, old.Spec))
		},
		Validate:       validateAutoscaler,
		ValidateUpdate: validateAutoscalerUpdate,
		Subresources: []kinds.Subresource{kinds.Status(
			func(obj, old *autoscalingv2.HorizontalPodAutoscaler) { obj.Spec = old.Spec }, validateAutoscalerStatus)},
		Columns: autoscalerColumns(),
		Cells: func(h *autoscalingv2.HorizontalPodAutoscaler, now time.Time) []any {
			return []any{
				h.Name, h.Spec.ScaleTargetRef.Kind + "/" + h.Spec.ScaleTargetRef.Name, targets(h.Spec.Metrics, h.Status.CurrentMetrics),
				minCell(h.Spec.MinReplicas), int64(h.Spec.MaxReplicas), int64(h.Status.CurrentReplicas), show.Age(h.CreationTimestamp, now),
			}
		},
	})
}

func autoscalerColumns() []metav1.TableColumnDefinition {
	spec, status := autoscalingv2.HorizontalPodAutoscalerSpec{}.SwaggerDoc(), autoscalingv2.HorizontalPodAutoscalerStatus{}.SwaggerDoc()
	return []metav1.TableColumnDefinition{
		show.Name(),
		show.Column("Reference", "string", spec["scaleTargetRef"]),
		show.Column("Targets", "string", spec["metrics"]),
		show.Column("MinPods", "string", spec["minReplicas"]),
		show.Column("MaxPods", "string", spec["maxReplicas"]),
		show.Column("Replicas", "string", status["currentReplicas"]),
		show.AgeColumn(),
	}
}

// defaultAutoscaler fills in the metric and, where a behavior is asked for at all, the rules that it leaves open. The
// window of scaling down stays open: the controller's own setting applies.
func defaultAutoscaler(h *autoscalingv2.HorizontalPodAutoscaler) {
	s := &h.Spec
	if s.MinReplicas == nil {
		s.MinReplicas = ptr.To(int32(1))
	}
	if len(s.Metrics) == 0 {
		s.Metrics = []autoscalingv2.MetricSpec{cpuMetric(defaultUtilization)}
	}
	if s.Behavior == nil {
		return
	}
	const period = 15
	s.Behavior.ScaleUp = defaultRules(s.Behavior.ScaleUp, ptr.To(int32(0)),
		autoscalingv2.HPAScalingPolicy{Type: autoscalingv2.PodsScalingPolicy, Value: 4, PeriodSeconds: period},
		autoscalingv2.HPAScalingPolicy{Type: autoscalingv2.PercentScalingPolicy, Value: 100, PeriodSeconds: period})
	s.Behavior.ScaleDown = defaultRules(s.Behavior.ScaleDown, nil,
		autoscalingv2.HPAScalingPolicy{Type: autoscalingv2.PercentScalingPolicy, Value: 100, PeriodSeconds: period})
}

// defaultRules fills in what r leaves open. Policies that are there but empty are a mistake for validation to name.
func defaultRules(r *autoscalingv2.HPAScalingRules, window *int32, policies ...autoscalingv2.HPAScalingPolicy) *autoscalingv2.HPAScalingRules {
	if r == nil {
		r = &autoscalingv2.HPAScalingRules{}
	}
	if r.SelectPolicy == nil {
		r.SelectPolicy = ptr.To(autoscalingv2.MaxChangePolicySelect)
	}
	if r.StabilizationWindowSeconds == nil {
		r.StabilizationWindowSeconds = window
	}
	if r.Policies == nil {
		r.Policies = policies
	}
	return r
}

func cpuMetric(percent int32) autoscalingv2.MetricSpec {
	return autoscalingv2.MetricSpec{Type: autoscalingv2.ResourceMetricSourceType, Resource: &autoscalingv2.ResourceMetricSource{
		Name:   corev1.ResourceCPU,
		Target: autoscalingv2.MetricTarget{Type: autoscalingv2.UtilizationMetricType, AverageUtilization: &percent},
	}}
}
