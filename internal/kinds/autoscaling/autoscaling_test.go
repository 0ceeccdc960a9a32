package autoscaling

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"canopus/internal/kinds"
)

func autoscaler(edit func(*autoscalingv2.HorizontalPodAutoscalerSpec)) *autoscalingv2.HorizontalPodAutoscaler {
	h := &autoscalingv2.HorizontalPodAutoscaler{ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "default"}}
	h.Spec.ScaleTargetRef = autoscalingv2.CrossVersionObjectReference{Kind: "Deployment", Name: "web", APIVersion: "apps/v1"}
	h.Spec.MaxReplicas = 5
	edit(&h.Spec)
	return h
}

func quantityOf(s string) *resource.Quantity { return ptr.To(resource.MustParse(s)) }

func external(target autoscalingv2.MetricTarget) autoscalingv2.MetricSpec {
	return autoscalingv2.MetricSpec{Type: autoscalingv2.ExternalMetricSourceType, External: &autoscalingv2.ExternalMetricSource{
		Metric: autoscalingv2.MetricIdentifier{Name: "queue"}, Target: target,
	}}
}

func TestValidation(t *testing.T) {
	t.Parallel()
	type spec = autoscalingv2.HorizontalPodAutoscalerSpec
	average := autoscalingv2.MetricTarget{Type: autoscalingv2.AverageValueMetricType, AverageValue: quantityOf("5")}
	rules := func(r autoscalingv2.HPAScalingRules) func(*spec) {
		return func(s *spec) { s.Behavior = &autoscalingv2.HorizontalPodAutoscalerBehavior{ScaleDown: &r} }
	}
	for name, tc := range map[string]struct {
		edit func(*spec)
		want string
	}{
		"plain":          {func(*spec) {}, ""},
		"no bound":       {func(s *spec) { s.MaxReplicas = 0 }, "spec.maxReplicas spec.maxReplicas"},
		"bounds crossed": {func(s *spec) { s.MinReplicas = ptr.To(int32(6)) }, "spec.maxReplicas"},
		"below zero":     {func(s *spec) { s.MinReplicas = ptr.To(int32(-1)) }, "spec.minReplicas"},
		"zero by cpu":    {func(s *spec) { s.MinReplicas = ptr.To(int32(0)) }, "spec.metrics"},
		"zero by a queue": {func(s *spec) {
			s.MinReplicas, s.Metrics = ptr.To(int32(0)), []autoscalingv2.MetricSpec{external(average)}
		}, ""},
		"no target":      {func(s *spec) { s.ScaleTargetRef.Name = "" }, "spec.scaleTargetRef.name"},
		"path in a name": {func(s *spec) { s.ScaleTargetRef.Kind = "a/b" }, "spec.scaleTargetRef.kind"},
		"odd version":    {func(s *spec) { s.ScaleTargetRef.APIVersion = "a/b/c" }, "spec.scaleTargetRef.apiVersion"},
		"no type":        {func(s *spec) { s.Metrics = []autoscalingv2.MetricSpec{{}} }, "spec.metrics[0].type"},
		"unknown type":   {func(s *spec) { s.Metrics = []autoscalingv2.MetricSpec{{Type: "Moon"}} }, "spec.metrics[0].type"},
		"no source":      {func(s *spec) { s.Metrics = []autoscalingv2.MetricSpec{{Type: "Pods"}} }, "spec.metrics[0].pods"},
		"other source": {func(s *spec) {
			m := external(average)
			m.Resource = cpuMetric(50).Resource
			s.Metrics = []autoscalingv2.MetricSpec{m}
		}, "spec.metrics[0].resource"},
		"two targets": {func(s *spec) {
			m := cpuMetric(50)
			m.Resource.Target.AverageValue = quantityOf("100m")
			s.Metrics = []autoscalingv2.MetricSpec{m}
		}, "spec.metrics[0].resource.target.averageValue"},
		"utilization of nothing": {func(s *spec) { s.Metrics = []autoscalingv2.MetricSpec{cpuMetric(0)} }, "spec.metrics[0].resource.target.averageUtilization"},
		"negative target": {func(s *spec) {
			s.Metrics = []autoscalingv2.MetricSpec{external(autoscalingv2.MetricTarget{Type: "Value", Value: quantityOf("-1")})}
		}, "spec.metrics[0].external.target.value"},
		"target type": {func(s *spec) {
			s.Metrics = []autoscalingv2.MetricSpec{external(autoscalingv2.MetricTarget{AverageValue: quantityOf("1")})}
		}, "spec.metrics[0].external.target.type"},
		"container": {func(s *spec) {
			s.Metrics = []autoscalingv2.MetricSpec{{Type: "ContainerResource", ContainerResource: &autoscalingv2.ContainerResourceMetricSource{Name: "cpu", Target: average}}}
		}, "spec.metrics[0].containerResource.container"},
		"defaults of a behavior": {rules(autoscalingv2.HPAScalingRules{}), ""},
		"no policy":              {rules(autoscalingv2.HPAScalingRules{Policies: []autoscalingv2.HPAScalingPolicy{}}), "spec.behavior.scaleDown.policies"},
		"long window":            {rules(autoscalingv2.HPAScalingRules{StabilizationWindowSeconds: ptr.To(int32(3601))}), "spec.behavior.scaleDown.stabilizationWindowSeconds"},
		"select":                 {rules(autoscalingv2.HPAScalingRules{SelectPolicy: ptr.To(autoscalingv2.ScalingPolicySelect("Best"))}), "spec.behavior.scaleDown.selectPolicy"},
		"tolerance":              {rules(autoscalingv2.HPAScalingRules{Tolerance: quantityOf("-100m")}), "spec.behavior.scaleDown.tolerance"},
		"policy": {rules(autoscalingv2.HPAScalingRules{Policies: []autoscalingv2.HPAScalingPolicy{{Type: "Nodes", PeriodSeconds: 1801}}}),
			"spec.behavior.scaleDown.policies[0].type spec.behavior.scaleDown.policies[0].value spec.behavior.scaleDown.policies[0].periodSeconds"},
	} {
		h := autoscaler(tc.edit)
		k := HorizontalPodAutoscaler()
		k.Default(h)
		var got []string
		for _, e := range k.Validate(h) {
			got = append(got, e.Field)
		}
		if strings.Join(got, " ") != tc.want {
			t.Errorf("%s: refused %q, want %q", name, strings.Join(got, " "), tc.want)
		}
	}
}

// TestStoredOddVersionMayStay: what an update does not touch, it is not refused for.
func TestStoredOddVersionMayStay(t *testing.T) {
	t.Parallel()
	odd := func(max int32, version string) *autoscalingv2.HorizontalPodAutoscaler {
		h := autoscaler(func(s *autoscalingv2.HorizontalPodAutoscalerSpec) {
			s.MaxReplicas, s.ScaleTargetRef.APIVersion = max, version
		})
		h.ResourceVersion = "1"
		return h
	}
	k := HorizontalPodAutoscaler()
	if errs := k.ValidateUpdate(odd(7, "a/b/c"), odd(5, "a/b/c")); len(errs) > 0 {
		t.Error(errs)
	}
	if errs := k.ValidateUpdate(odd(7, "a/b/c"), odd(5, "apps/v1")); len(errs) != 1 {
		t.Errorf("a changed odd version: %v", errs)
	}
}

func TestDefaults(t *testing.T) {
	t.Parallel()
	h := autoscaler(func(s *autoscalingv2.HorizontalPodAutoscalerSpec) {
		s.Behavior = &autoscalingv2.HorizontalPodAutoscalerBehavior{ScaleUp: &autoscalingv2.HPAScalingRules{
			SelectPolicy: ptr.To(autoscalingv2.MinChangePolicySelect), Tolerance: quantityOf("50m"),
		}}
	})
	HorizontalPodAutoscaler().Default(h)
	want := autoscaler(func(s *autoscalingv2.HorizontalPodAutoscalerSpec) {
		s.MinReplicas, s.Metrics = ptr.To(int32(1)), []autoscalingv2.MetricSpec{cpuMetric(80)}
		s.Behavior = &autoscalingv2.HorizontalPodAutoscalerBehavior{
			ScaleUp: &autoscalingv2.HPAScalingRules{
				SelectPolicy: ptr.To(autoscalingv2.MinChangePolicySelect), Tolerance: quantityOf("50m"), StabilizationWindowSeconds: ptr.To(int32(0)),
				Policies: []autoscalingv2.HPAScalingPolicy{{Type: "Pods", Value: 4, PeriodSeconds: 15}, {Type: "Percent", Value: 100, PeriodSeconds: 15}},
			},
			ScaleDown: &autoscalingv2.HPAScalingRules{
				SelectPolicy: ptr.To(autoscalingv2.MaxChangePolicySelect),
				Policies:     []autoscalingv2.HPAScalingPolicy{{Type: "Percent", Value: 100, PeriodSeconds: 15}},
			},
		}
	})
	if diff := cmp.Diff(want, h); diff != "" {
		t.Error(diff)
	}
}

// TestV1 shows CPU utilization in v1's own fields and everything else in annotations, and takes it back.
func TestV1(t *testing.T) {
	t.Parallel()
	h := autoscaler(func(s *autoscalingv2.HorizontalPodAutoscalerSpec) {
		s.MinReplicas = ptr.To(int32(2))
		s.Metrics = []autoscalingv2.MetricSpec{external(autoscalingv2.MetricTarget{Type: "Value", Value: quantityOf("30")}), cpuMetric(60)}
		s.Behavior = &autoscalingv2.HorizontalPodAutoscalerBehavior{ScaleDown: &autoscalingv2.HPAScalingRules{StabilizationWindowSeconds: ptr.To(int32(9))}}
	})
	h.Annotations = map[string]string{"mine": "kept"}
	h.Status = autoscalingv2.HorizontalPodAutoscalerStatus{
		CurrentReplicas: 2, DesiredReplicas: 3,
		CurrentMetrics: []autoscalingv2.MetricStatus{{Type: "Resource", Resource: &autoscalingv2.ResourceMetricStatus{
			Name: corev1.ResourceCPU, Current: autoscalingv2.MetricValueStatus{AverageUtilization: ptr.To(int32(41)), AverageValue: quantityOf("82m")}}}},
		Conditions: []autoscalingv2.HorizontalPodAutoscalerCondition{{Type: "AbleToScale", Status: "True", Reason: "ReadyForNewScale", Message: "m"}},
	}
	served, ok := kindSet(t).Kind(autoscalingv1.SchemeGroupVersion.WithKind("HorizontalPodAutoscaler"))
	if !ok {
		t.Fatal("autoscaling/v1 is not served")
	}
	out, err := served.FromHub(h)
	if err != nil {
		t.Fatal(err)
	}
	v1 := out.(*autoscalingv1.HorizontalPodAutoscaler)
	if *v1.Spec.TargetCPUUtilizationPercentage != 60 || *v1.Status.CurrentCPUUtilizationPercentage != 41 {
		t.Errorf("v1 shows %+v, %+v", v1.Spec, v1.Status)
	}
	wantNotes := map[string]string{
		"mine": "kept",
		"autoscaling.alpha.kubernetes.io/metrics":         `[{"type":"External","external":{"metricName":"queue","targetValue":"30"}}]`,
		"autoscaling.alpha.kubernetes.io/current-metrics": `[{"type":"Resource","resource":{"name":"cpu","currentAverageUtilization":41,"currentAverageValue":"82m"}}]`,
		"autoscaling.alpha.kubernetes.io/conditions":      `[{"type":"AbleToScale","status":"True","lastTransitionTime":null,"reason":"ReadyForNewScale","message":"m"}]`,
		"autoscaling.alpha.kubernetes.io/behavior":        `{"scaleDown":{"stabilizationWindowSeconds":9}}`,
	}
	if diff := cmp.Diff(wantNotes, v1.Annotations); diff != "" {
		t.Error(diff)
	}
	if len(h.Annotations) != 1 {
		t.Errorf("the stored object's annotations were changed: %v", h.Annotations)
	}
	back, err := served.Kind.Versions[0].ToHub(v1)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(h, back); diff != "" {
		t.Error(diff)
	}
}

// TestV1WithoutTarget: an autoscaler that kubectl autoscale of old made gets v2's default metric.
func TestV1WithoutTarget(t *testing.T) {
	t.Parallel()
	served, _ := kindSet(t).Kind(autoscalingv1.SchemeGroupVersion.WithKind("HorizontalPodAutoscaler"))
	in := &autoscalingv1.HorizontalPodAutoscaler{Spec: autoscalingv1.HorizontalPodAutoscalerSpec{MaxReplicas: 3}}
	in.Annotations = map[string]string{metricsAnnotation: "no JSON"}
	hub, err := served.ToHub(in)
	if err != nil {
		t.Fatal(err)
	}
	h := hub.(*autoscalingv2.HorizontalPodAutoscaler)
	if diff := cmp.Diff([]autoscalingv2.MetricSpec{cpuMetric(80)}, h.Spec.Metrics); diff != "" || len(h.Annotations) > 0 {
		t.Errorf("%s %v", diff, h.Annotations)
	}
}

func kindSet(t *testing.T) *kinds.Set {
	t.Helper()
	set, err := kinds.NewSet(HorizontalPodAutoscaler())
	if err != nil {
		t.Fatal(err)
	}
	return set
}

func TestColumns(t *testing.T) {
	t.Parallel()
	h := autoscaler(func(s *autoscalingv2.HorizontalPodAutoscalerSpec) {
		s.Metrics = []autoscalingv2.MetricSpec{
			cpuMetric(60), external(autoscalingv2.MetricTarget{Type: "AverageValue", AverageValue: quantityOf("5")}), cpuMetric(1), cpuMetric(2),
		}
	})
	h.Status.CurrentMetrics = []autoscalingv2.MetricStatus{{Type: "Resource", Resource: &autoscalingv2.ResourceMetricStatus{
		Current: autoscalingv2.MetricValueStatus{AverageUtilization: ptr.To(int32(41))}}}}
	h.Status.CurrentReplicas = 3
	got := HorizontalPodAutoscaler().Cells(h, time.Now())
	want := []any{"web", "Deployment/web", "cpu: 41%/60%, <unknown>/5 (avg) + 2 more...", "<unset>", int64(5), int64(3), "<unknown>"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
