package podautoscaler

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

func cpuTarget(percent int32) autoscalingv2.MetricSpec {
	return autoscalingv2.MetricSpec{Type: autoscalingv2.ResourceMetricSourceType, Resource: &autoscalingv2.ResourceMetricSource{
		Name: corev1.ResourceCPU, Target: autoscalingv2.MetricTarget{Type: autoscalingv2.UtilizationMetricType, AverageUtilization: &percent},
	}}
}

func queueTarget(value string) autoscalingv2.MetricSpec {
	return autoscalingv2.MetricSpec{Type: autoscalingv2.ExternalMetricSourceType, External: &autoscalingv2.ExternalMetricSource{
		Metric: autoscalingv2.MetricIdentifier{Name: "queue", Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"q": "a"}}},
		Target: autoscalingv2.MetricTarget{Type: autoscalingv2.ValueMetricType, Value: ptr.To(resource.MustParse(value))},
	}}
}

// scene is an autoscaler from 1 to 10 by half of the CPU, over pods with these uses.
func scene(metrics []autoscalingv2.MetricSpec, uses ...int64) observed {
	w, m := load(nil, uses...)
	o := observed{
		hpa: &autoscalingv2.HorizontalPodAutoscaler{
			ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "default", Generation: 7},
			Spec:       autoscalingv2.HorizontalPodAutoscalerSpec{MinReplicas: ptr.To(int32(1)), MaxReplicas: 10, Metrics: metrics},
		},
		scale: &autoscalingv1.Scale{Spec: autoscalingv1.ScaleSpec{Replicas: w.wanted}, Status: autoscalingv1.ScaleStatus{Replicas: w.wanted}},
		pods:  w.pods,
	}
	for range metrics {
		o.measures = append(o.measures, measure{pods: m})
	}
	return o
}

// told is what a decision tells people, line by line.
func told(d decision) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d -> %d %s\n", d.from, d.to, d.why)
	for _, c := range d.status.Conditions {
		fmt.Fprintf(&b, "%s=%s %s: %s\n", c.Type, c.Status, c.Reason, c.Message)
	}
	for _, e := range d.events {
		fmt.Fprintf(&b, "%s %s: %s\n", e.kind, e.reason, e.message)
	}
	return b.String()
}

func TestDecide(t *testing.T) {
	t.Parallel()
	cpu, queue := cpuTarget(50), queueTarget("10")
	gone := errors.New("the server could not find the requested resource")
	const able = "AbleToScale=True SucceededGetScale: the HPA controller was able to get the target's current scale\n"
	for name, c := range map[string]struct {
		o    observed
		edit func(*observed)
		want string
	}{
		"up": {scene([]autoscalingv2.MetricSpec{cpu}, 100, 100), nil, `2 -> 4 cpu resource utilization (percentage of request) above target
AbleToScale=True ReadyForNewScale: recommended size matches current size
ScalingActive=True ValidMetricFound: the HPA was able to successfully calculate a replica count from cpu resource utilization (percentage of request)
ScalingLimited=False DesiredWithinRange: the desired count is within the acceptable range
`},
		"down, but not yet": {scene([]autoscalingv2.MetricSpec{cpu}, 10, 10), nil, `2 -> 2 All metrics below target
AbleToScale=True ScaleDownStabilized: recent recommendations were higher than current one, applying the highest recent recommendation
ScalingActive=True ValidMetricFound: the HPA was able to successfully calculate a replica count from cpu resource utilization (percentage of request)
ScalingLimited=False DesiredWithinRange: the desired count is within the acceptable range
`},
		"the most counts": {scene([]autoscalingv2.MetricSpec{cpu, queue}, 100, 100), func(o *observed) { o.measures[1] = measure{value: 30000} },
			`2 -> 4 external metric queue(q=a) above target
AbleToScale=True ReadyForNewScale: recommended size matches current size
ScalingActive=True ValidMetricFound: the HPA was able to successfully calculate a replica count from external metric queue(q=a)
ScalingLimited=True ScaleUpLimit: the desired replica count is increasing faster than the maximum scale rate
`},
		"no metrics": {scene([]autoscalingv2.MetricSpec{cpu}, 100), func(o *observed) { o.measures[0] = measure{err: gone} }, `1 -> 1 
` + able + `ScalingActive=False FailedGetResourceMetric: the HPA was unable to compute the replica count: failed to get cpu utilization: the server could not find the requested resource
Warning FailedGetResourceMetric: failed to get cpu utilization: the server could not find the requested resource
Warning FailedComputeMetricsReplicas: invalid metrics (1 invalid out of 1), first error is: failed to get cpu resource metric value: failed to get cpu utilization: the server could not find the requested resource
`},
		"half of them may not shrink": {scene([]autoscalingv2.MetricSpec{cpu, queue}, 1, 1), func(o *observed) { o.measures[1] = measure{err: gone} }, `2 -> 2 
` + able + `ScalingActive=False FailedGetExternalMetric: the HPA was unable to compute the replica count: the server could not find the requested resource
Warning FailedGetExternalMetric: the server could not find the requested resource
Warning FailedComputeMetricsReplicas: invalid metrics (1 invalid out of 2), first error is: failed to get queue external metric value: the server could not find the requested resource
`},
		"half of them may grow": {scene([]autoscalingv2.MetricSpec{cpu, queue}, 100, 100), func(o *observed) { o.measures[1] = measure{err: gone} },
			`2 -> 4 cpu resource utilization (percentage of request) above target
AbleToScale=True ReadyForNewScale: recommended size matches current size
ScalingActive=True ValidMetricFound: the HPA was able to successfully calculate a replica count from cpu resource utilization (percentage of request)
ScalingLimited=False DesiredWithinRange: the desired count is within the acceptable range
Warning FailedGetExternalMetric: the server could not find the requested resource
`},
		"turned off": {scene([]autoscalingv2.MetricSpec{cpu}), nil, `0 -> 0 
` + able + `ScalingActive=False ScalingDisabled: scaling is disabled since the replica count of the target is zero
`},
		"above the range": {scene([]autoscalingv2.MetricSpec{cpu}, 1), func(o *observed) { o.scale.Spec.Replicas = 12 },
			"12 -> 10 Current number of replicas above Spec.MaxReplicas\n" + able},
		"below the range": {scene([]autoscalingv2.MetricSpec{cpu}, 1), func(o *observed) { *o.hpa.Spec.MinReplicas = 3 },
			"1 -> 3 Current number of replicas below Spec.MinReplicas\n" + able},
		"no target": {scene([]autoscalingv2.MetricSpec{cpu}, 1), func(o *observed) { o.scale, o.scaleErr = nil, gone }, `0 -> 0 
AbleToScale=False FailedGetScale: the HPA controller was unable to get the target's current scale: the server could not find the requested resource
Warning FailedGetScale: the server could not find the requested resource
`},
		"no selector": {scene([]autoscalingv2.MetricSpec{cpu}, 1), func(o *observed) { _, o.selectErr = selectorOf(o.scale) }, `1 -> 1 
` + able + `ScalingActive=False InvalidSelector: the HPA target's scale is missing a selector
Warning SelectorRequired: selector is required
Warning FailedComputeMetricsReplicas: selector is required
`},
	} {
		if c.edit != nil {
			c.edit(&c.o)
		}
		d := decide(c.o, noon())
		if got := told(d); got != c.want {
			t.Errorf("%s:\n%s\nwant\n%s", name, got, c.want)
		}
		if d.scaled != (d.from != d.to) || *d.status.ObservedGeneration != 7 {
			t.Errorf("%s: scaled %v, %+v", name, d.scaled, d.status)
		}
	}
}

func TestFinish(t *testing.T) {
	t.Parallel()
	o := scene([]autoscalingv2.MetricSpec{cpuTarget(50)}, 100, 100)
	d := decide(o, noon())
	d.finish(o.hpa, nil, noon())
	if got := told(d); !strings.Contains(got, "SucceededRescale: the HPA controller was able to update the target scale to 4") ||
		!strings.Contains(got, "Normal SuccessfulRescale: New size: 4; reason: cpu resource utilization (percentage of request) above target") ||
		!d.status.LastScaleTime.Time.Equal(noon()) || d.status.DesiredReplicas != 4 || d.status.CurrentReplicas != 2 {
		t.Errorf("%s%+v", got, d.status)
	}
	d = decide(o, noon())
	d.finish(o.hpa, errors.New("conflict"), noon())
	if got := told(d); !strings.Contains(got, "AbleToScale=False FailedUpdateScale: the HPA controller was unable to update the target scale: conflict") ||
		!strings.Contains(got, "Warning FailedRescale: New size: 4; reason: cpu resource utilization (percentage of request) above target; error: conflict") ||
		d.status.LastScaleTime != nil {
		t.Errorf("%s%+v", got, d.status)
	}
}

// TestScaleToZero: what the autoscaler scaled to zero it wakes again, what somebody else did it leaves alone.
func TestScaleToZero(t *testing.T) {
	t.Parallel()
	o := scene([]autoscalingv2.MetricSpec{queueTarget("10")}, 100)
	*o.hpa.Spec.MinReplicas = 0
	o.measures[0] = measure{value: 0}
	now := noon()
	o.history = history{recommended: []timed{{now.Add(-time.Hour), 1}}}
	d := decide(o, now)
	if d.finish(o.hpa, nil, now); d.to != 0 || !strings.Contains(told(d), "ScaledToZero=True") {
		t.Fatal(told(d))
	}
	o.hpa.Status, o.history, o.pods = d.status, d.history, nil
	o.scale.Spec.Replicas, o.scale.Status.Replicas = 0, 0
	o.measures[0] = measure{value: 25000}
	d = decide(o, now.Add(time.Minute))
	if d.finish(o.hpa, nil, now); d.to != 3 || !strings.Contains(told(d), "ScaledToZero=False") {
		t.Fatal(told(d))
	}
	*o.hpa.Spec.MinReplicas = 1 // the user changed their mind while it slept
	if d = decide(o, now.Add(time.Minute)); d.to != 1 {
		t.Fatal(told(d))
	}
}

// TestLoop plays a day of load against the decision, with pods that follow it at once: replicas stay in their range, reach
// what the load needs, and go down only once the need was lower for the whole window.
func TestLoop(t *testing.T) {
	t.Parallel()
	for seed := range uint64(15) {
		r := rand.New(rand.NewPCG(seed, 3))
		now, replicas, need := noon(), int32(1), int64(50)
		var h history
		status := autoscalingv2.HorizontalPodAutoscalerStatus{}
		var wishes []timed // all that the metric ever asked for
		for tick := range 2000 {
			if tick%40 == 0 {
				need = 10 + r.Int64N(600)
			}
			uses := make([]int64, replicas)
			for i := range uses {
				uses[i] = min(need/int64(replicas), 1000)
			}
			o := scene([]autoscalingv2.MetricSpec{cpuTarget(50)}, uses...)
			for _, p := range o.pods {
				long := metav1.NewTime(now.Add(-time.Hour))
				p.Status.StartTime, p.Status.Conditions[0].LastTransitionTime = &long, long
			}
			o.history, o.hpa.Status = h, status
			d := decide(o, now)
			if d.scaled {
				d.finish(o.hpa, nil, now)
			}
			wanted := ceil(float64(need) / 50)
			wishes = append(wishes, d.history.recommended[len(d.history.recommended)-1])
			switch {
			case d.to < 1 || d.to > 10:
				t.Fatalf("seed %d tick %d: %d replicas", seed, tick, d.to)
			case d.to < replicas && slices.ContainsFunc(wishes, func(x timed) bool { return now.Sub(x.at) < downWindow && min(x.n, 10) > d.to }):
				t.Fatalf("seed %d tick %d: down from %d to %d though more were asked for within the window", seed, tick, replicas, d.to)
			case tick%40 == 39 && float64(d.to)*1.15+1 < float64(min(wanted, 10)):
				t.Fatalf("seed %d tick %d: %d replicas for a load of %d", seed, tick, d.to, wanted)
			case tick%40 == 39 && d.to > max(wanted, 1)+2:
				t.Fatalf("seed %d tick %d: still %d replicas for a load of %d", seed, tick, d.to, wanted)
			}
			replicas, h, status = d.to, d.history, d.status
			now = now.Add(15 * time.Second)
		}
	}
}
