package scheduler

import (
	"context"
	"fmt"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/rest"
)

// figure returns a metric's value, or the number of what a histogram has observed.
func figure(t testing.TB, g prometheus.Gatherer, name string, labels map[string]string) float64 {
	t.Helper()
	families, err := g.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
	metrics:
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if labels[l.GetName()] != l.GetValue() {
					continue metrics
				}
			}
			switch {
			case m.Histogram != nil:
				return float64(m.Histogram.GetSampleCount())
			case m.Counter != nil:
				return m.Counter.GetValue()
			case m.Gauge != nil:
				return m.Gauge.GetValue()
			}
		}
	}
	return -1
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewRegistry()
	r := start(t, func(c *Config, _ *rest.Config) { c.Metrics = registry })
	r.node("a", nil)
	r.pod("fits", nil)
	r.bound("fits", "a")
	r.pod("large", with(cpu("3500m"), priority(-1)))
	r.pod("gated", func(p *corev1.Pod) { p.Spec.SchedulingGates = []corev1.PodSchedulingGate{{Name: "x.io/wait"}} })
	const profile = corev1.DefaultSchedulerName
	for _, want := range []struct {
		name   string
		labels map[string]string
		value  float64
	}{
		{"scheduler_pending_pods", map[string]string{"queue": "active"}, 0},
		{"scheduler_pending_pods", map[string]string{"queue": "unschedulable"}, 1},
		{"scheduler_pending_pods", map[string]string{"queue": "gated"}, 1},
		{"scheduler_schedule_attempts_total", map[string]string{"profile": profile, "result": "scheduled"}, 1},
		{"scheduler_schedule_attempts_total", map[string]string{"profile": profile, "result": "unschedulable"}, 1},
		{"scheduler_scheduling_attempt_duration_seconds", map[string]string{"profile": profile, "result": "scheduled"}, 1},
		{"scheduler_pod_scheduling_attempts", nil, 1},
		{"scheduler_pod_scheduling_sli_duration_seconds", map[string]string{"attempts": "1"}, 1},
		{"scheduler_preemption_attempts_total", nil, 1},
		{"scheduler_preemption_victims", nil, 0},
	} {
		r.eventually(want.name, func(context.Context) (string, error) {
			if got := figure(t, registry, want.name, want.labels); got != want.value {
				return fmt.Sprintf("%v is %v, want %v", want.labels, got, want.value), nil
			}
			return "", nil
		})
	}
}

func TestMetricsEndWithTheScheduler(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewRegistry()
	for range 2 {
		hide, err := newMetrics("x").register(registry)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := newMetrics("y").register(registry); err == nil {
			t.Fatal("two schedulers show their metrics under the same names")
		}
		if got := figure(t, registry, "scheduler_preemption_attempts_total", nil); got != 0 {
			t.Fatalf("a refused registration took the metrics of the other away: %v", got)
		}
		hide()
	}
}
