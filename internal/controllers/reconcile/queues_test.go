package reconcile

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	clocktesting "k8s.io/utils/clock/testing"
)

// figures gathers what q shows of the queue with this name: values of counters and gauges, counts of histograms.
func figures(t *testing.T, q *Queues, queue string) map[string]float64 {
	t.Helper()
	r := prometheus.NewRegistry()
	r.MustRegister(q)
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if len(m.GetLabel()) != 1 || m.GetLabel()[0].GetName() != "name" || m.GetLabel()[0].GetValue() != queue {
				t.Errorf("%s has labels %v", f.GetName(), m.GetLabel())
			}
			out[f.GetName()] = m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	return out
}

func TestQueuesAreMeasured(t *testing.T) {
	t.Parallel()
	q := NewQueues()
	if q.Settled() {
		t.Error("settled without a queue")
	}
	clock := clocktesting.NewFakeClock(time.Unix(1000, 0))
	taken, release := make(chan string), make(chan error)
	l, err := New(Config[string]{Name: "web", Workers: 1, Clock: clock, Log: quiet(), Queues: q, Reconcile: func(_ context.Context, key string) (time.Duration, error) {
		taken <- key
		return 0, <-release
	}})
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"a", "b", "a"} {
		l.Add(key)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- l.Run(ctx) }()

	<-taken
	clock.Step(3 * time.Second)
	want := map[string]float64{
		"workqueue_adds_total": 2, "workqueue_depth": 1, "workqueue_retries_total": 0,
		"workqueue_queue_duration_seconds": 1, "workqueue_work_duration_seconds": 0,
		"workqueue_unfinished_work_seconds": 3, "workqueue_longest_running_processor_seconds": 3,
	}
	got := figures(t, q, "web")
	for name, value := range want {
		if v, ok := got[name]; !ok || v != value {
			t.Errorf("%s is %v (shown: %v), want %v", name, v, ok, value)
		}
	}
	if q.Settled() {
		t.Error("settled with a key in work")
	}
	release <- errors.New("not yet")
	<-taken // the next key is in work, so the failure has been counted
	if n := figures(t, q, "web")["workqueue_retries_total"]; n != 1 {
		t.Errorf("%v retries, want 1", n)
	}
	release <- nil
	for !q.Settled() {
		clock.Step(0) // lets the queue's goroutines go on
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
