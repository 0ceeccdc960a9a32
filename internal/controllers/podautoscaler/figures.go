package podautoscaler

import (
	"context"
	"errors"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"

	"canopus/internal/controllers/reconcile"

	"github.com/prometheus/client_golang/prometheus"
)

// figures are what is counted of looks at autoscalers, under upstream's names.
type figures struct {
	looks, metrics       *prometheus.CounterVec
	lookTook, metricTook *prometheus.HistogramVec
}

func newFigures(d reconcile.Deps) (figures, error) {
	const subsystem = "horizontal_pod_autoscaler_controller"
	counter := func(name, help string, labels ...string) (*prometheus.CounterVec, error) {
		return reconcile.Show(d, prometheus.NewCounterVec(prometheus.CounterOpts{Subsystem: subsystem, Name: name, Help: help}, labels))
	}
	histogram := func(name, help string, labels ...string) (*prometheus.HistogramVec, error) {
		return reconcile.Show(d, prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Subsystem: subsystem, Name: name, Help: help, Buckets: prometheus.ExponentialBuckets(0.001, 2, 15),
		}, labels))
	}
	var f figures
	var errs [4]error
	f.looks, errs[0] = counter("reconciliations_total", "Looks at autoscalers, by what was done and by the first error.", "action", "error")
	f.lookTook, errs[1] = histogram("reconciliation_duration_seconds", "Time that a look at an autoscaler takes, with what is done about it.", "action", "error")
	f.metrics, errs[2] = counter("metric_computation_total", "Metrics that were read, by what they ask for and by what is wrong with them.", "action", "error", "metric_type")
	f.metricTook, errs[3] = histogram("metric_computation_duration_seconds", "Time that it takes to read a metric.", "action", "error", "metric_type")
	return f, errors.Join(errs[:]...)
}

// looked notes a look at an autoscaler, how it ended, and the metrics that were read for it.
func (f figures) looked(d *decision, err error, took time.Duration) {
	done := none
	if d.done {
		done = actionOf(d.from, d.to)
	}
	if d.err != nil { // the first
		err = d.err
	}
	if errors.Is(err, context.Canceled) {
		return
	}
	f.looks.WithLabelValues(done, errorOf(err)).Inc()
	f.lookTook.WithLabelValues(done, errorOf(err)).Observe(took.Seconds())
	for _, m := range d.computed {
		f.metrics.WithLabelValues(m.action, errorOf(m.err), string(m.kind)).Inc()
		f.metricTook.WithLabelValues(m.action, errorOf(m.err), string(m.kind)).Observe(m.took.Seconds())
	}
}

// computed is what came of one metric.
type computed struct {
	kind   autoscalingv2.MetricSourceType
	action string
	err    error
	took   time.Duration
}

// What is done or asked for and what is wrong, as labels.
const none = "none"

func actionOf(from, to int32) string {
	switch {
	case to > from:
		return "scale_up"
	case to < from:
		return "scale_down"
	}
	return none
}

func errorOf(err error) string {
	switch {
	case err == nil:
		return none
	case errors.As(err, &specError{}):
		return "spec"
	}
	return "internal"
}

// specError is an error that only who writes the autoscaler or its target can correct.
type specError struct{ error }

// Unwrap lets errors.Is look at what is wrong.
func (e specError) Unwrap() error { return e.error }
