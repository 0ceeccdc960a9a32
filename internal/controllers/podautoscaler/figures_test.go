package podautoscaler

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"

	"canopus/internal/controllers/reconcile"

	"github.com/prometheus/client_golang/prometheus"
)

// counted returns the series that a look leaves behind, without the prefix of their names, and how often each.
func counted(t *testing.T, d *decision, err error) []string {
	t.Helper()
	r := prometheus.NewRegistry()
	f, e := newFigures(reconcile.Deps{Metrics: r})
	if e != nil {
		t.Fatal(e)
	}
	f.looked(d, err, 3*time.Second)
	families, e := r.Gather()
	if e != nil {
		t.Fatal(e)
	}
	var out []string
	for _, family := range families {
		for _, m := range family.GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() {
				labels = append(labels, l.GetValue())
			}
			value := m.GetCounter().GetValue()
			if h := m.GetHistogram(); h != nil {
				value = h.GetSampleSum()
			}
			name := strings.TrimPrefix(family.GetName(), "horizontal_pod_autoscaler_controller_")
			out = append(out, fmt.Sprintf("%s%v%v", name, labels, value))
		}
	}
	return out
}

func TestLooked(t *testing.T) {
	t.Parallel()
	cpu, queue := cpuTarget(50), queueTarget("10")
	aimless := cpu
	aimless.Resource = &autoscalingv2.ResourceMetricSource{Name: "cpu"}
	gone := errors.New("gone")
	for name, tc := range map[string]struct {
		o                observed
		edit             func(*observed)
		scaling, writing error
		want             []string // of counters
	}{
		"up": {scene([]autoscalingv2.MetricSpec{cpu}, 100, 100), nil, nil, nil,
			[]string{"metric_computation_total[scale_up none Resource]1", "reconciliations_total[scale_up none]1"}},
		"up, if only it could": {scene([]autoscalingv2.MetricSpec{cpu}, 100, 100), nil, gone, nil,
			[]string{"metric_computation_total[scale_up none Resource]1", "reconciliations_total[none internal]1"}},
		"down, but not yet": {scene([]autoscalingv2.MetricSpec{cpu}, 10, 10), nil, nil, nil,
			[]string{"metric_computation_total[scale_down none Resource]1", "reconciliations_total[none none]1"}},
		"one metric of two": {scene([]autoscalingv2.MetricSpec{cpu, queue}, 100, 100), func(o *observed) { o.measures[1] = measure{err: gone} }, nil, nil,
			[]string{"metric_computation_total[none internal External]1", "metric_computation_total[scale_up none Resource]1", "reconciliations_total[scale_up internal]1"}},
		"no number to aim at": {scene([]autoscalingv2.MetricSpec{aimless, queue}, 100), func(o *observed) { o.measures[1] = measure{err: gone} }, nil, nil,
			[]string{"metric_computation_total[none internal External]1", "metric_computation_total[none spec Resource]1", "reconciliations_total[none spec]1"}},
		"no selector": {scene([]autoscalingv2.MetricSpec{cpu}, 100), func(o *observed) { _, o.selectErr = selectorOf(o.scale) }, nil, gone,
			[]string{"reconciliations_total[none spec]1"}},
		"no scale": {scene(nil, 100), func(o *observed) { o.scale, o.scaleErr = nil, gone }, nil, nil,
			[]string{"reconciliations_total[none internal]1"}},
		"no status": {scene([]autoscalingv2.MetricSpec{cpu}, 100, 100), nil, nil, gone,
			[]string{"metric_computation_total[scale_up none Resource]1", "reconciliations_total[scale_up internal]1"}},
		"the process ends": {scene([]autoscalingv2.MetricSpec{cpu}, 100, 100), nil, nil, fmt.Errorf("write: %w", context.Canceled), nil},
	} {
		if tc.edit != nil {
			tc.edit(&tc.o)
		}
		for i := range tc.o.measures {
			tc.o.measures[i].took = time.Second
		}
		d := decide(tc.o, noon())
		d.finish(tc.o.hpa, tc.scaling, noon())
		var want []string
		for _, c := range tc.want { // each has its time
			took := strings.Replace(c, "reconciliations_total", "reconciliation_duration_seconds", 1)
			took = strings.Replace(took, "computation_total", "computation_duration_seconds", 1)
			if strings.HasPrefix(c, "rec") {
				took = strings.TrimSuffix(took, "1") + "3"
			}
			want = append(want, c, took)
		}
		got := counted(t, &d, tc.writing)
		slices.Sort(want)
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("%s:\n%s\nwant\n%s", name, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
}
