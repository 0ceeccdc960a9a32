package scheduler

import (
	"fmt"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Results of an attempt, as labels.
const (
	resultScheduled     = "scheduled"
	resultUnschedulable = "unschedulable"
	resultError         = "error"
)

// metrics are the figures of one scheduler, under upstream's names.
type metrics struct {
	profile    string
	pending    map[string]prometheus.Gauge // by queue
	attempts   *prometheus.CounterVec
	duration   *prometheus.HistogramVec
	perPod     prometheus.Histogram
	latency    *prometheus.HistogramVec
	preempting prometheus.Counter
	victims    prometheus.Histogram
	all        []prometheus.Collector
}

// newMetrics is a flat table of the figures.
func newMetrics(profile string) *metrics {
	const namespace = "scheduler"
	pending := prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: namespace, Name: "pending_pods",
		Help: "Pods that wait for a node, by where they wait: active, backoff, unschedulable or gated."}, []string{"queue"})
	m := &metrics{
		profile: profile,
		pending: map[string]prometheus.Gauge{},
		attempts: prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: namespace, Name: "schedule_attempts_total",
			Help: "Attempts to schedule a pod, by result."}, []string{"profile", "result"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{Namespace: namespace, Name: "scheduling_attempt_duration_seconds",
			Help: "Time of an attempt: decision and binding.", Buckets: prometheus.ExponentialBuckets(0.001, 2, 15)}, []string{"profile", "result"}),
		perPod: prometheus.NewHistogram(prometheus.HistogramOpts{Namespace: namespace, Name: "pod_scheduling_attempts",
			Help: "Attempts that a scheduled pod took.", Buckets: prometheus.ExponentialBuckets(1, 2, 5)}),
		latency: prometheus.NewHistogramVec(prometheus.HistogramOpts{Namespace: namespace, Name: "pod_scheduling_sli_duration_seconds",
			Help: "Time from a pod's coming into the queue to its binding.", Buckets: prometheus.ExponentialBuckets(0.01, 2, 20)}, []string{"attempts"}),
		preempting: prometheus.NewCounter(prometheus.CounterOpts{Namespace: namespace, Name: "preemption_attempts_total",
			Help: "Attempts to make room for a refused pod by evicting others."}),
		victims: prometheus.NewHistogram(prometheus.HistogramOpts{Namespace: namespace, Name: "preemption_victims",
			Help: "Pods evicted for one pod.", Buckets: prometheus.ExponentialBuckets(1, 2, 7)}),
	}
	for _, queue := range []string{"active", "backoff", "unschedulable", "gated"} {
		m.pending[queue] = pending.WithLabelValues(queue)
	}
	m.all = []prometheus.Collector{pending, m.attempts, m.duration, m.perPod, m.latency, m.preempting, m.victims}
	return m
}

// register shows the metrics to r until the returned function is called. A nil r is nobody.
func (m *metrics) register(r prometheus.Registerer) (unregister func(), err error) {
	if r == nil {
		return func() {}, nil
	}
	unregister = func() {
		for _, c := range m.all {
			r.Unregister(c)
		}
	}
	for i, c := range m.all {
		if err := r.Register(c); err != nil {
			m.all = m.all[:i]
			unregister()
			return nil, fmt.Errorf("show the scheduler's metrics: %w", err)
		}
	}
	return unregister, nil
}

// attempt notes the end of one attempt.
func (m *metrics) attempt(result string, took time.Duration) {
	m.attempts.WithLabelValues(m.profile, result).Inc()
	m.duration.WithLabelValues(m.profile, result).Observe(took.Seconds())
}

// bound notes a pod that has its node, waited after it came into the queue.
func (m *metrics) bound(attempts int, waited time.Duration) {
	const many = 15
	label := strconv.Itoa(attempts)
	if attempts >= many {
		label = strconv.Itoa(many) + "+"
	}
	m.perPod.Observe(float64(attempts))
	m.latency.WithLabelValues(label).Observe(waited.Seconds())
}

// preempted notes an attempt to evict, with the victims found.
func (m *metrics) preempted(victims int) {
	m.preempting.Inc()
	if victims > 0 {
		m.victims.Observe(float64(victims))
	}
}

// queued shows how many pods wait, and where.
func (m *metrics) queued(q *queue) {
	m.pending["active"].Set(float64(q.active.Len()))
	m.pending["backoff"].Set(float64(q.backoff.Len()))
	m.pending["unschedulable"].Set(float64(len(q.refused)))
	m.pending["gated"].Set(float64(len(q.gated)))
}
