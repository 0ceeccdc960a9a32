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
	incoming   *prometheus.CounterVec
	refusedBy  *prometheus.GaugeVec
	evaluated  *prometheus.CounterVec
	points     *prometheus.HistogramVec
	goroutines *prometheus.GaugeVec
	permitted  *prometheus.HistogramVec
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
		incoming: prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: namespace, Name: "queue_incoming_pods_total",
			Help: "Pods that came to a place of the queue, by what brought them."}, []string{"queue", "event"}),
		refusedBy: prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: namespace, Name: "unschedulable_pods",
			Help: "Pods that wait because a plugin refused them; one that several refused counts for each."}, []string{"plugin", "profile"}),
		evaluated: prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: namespace, Name: "plugin_evaluation_total",
			Help: "Attempts in which a plugin had something to say, by where it was asked."}, []string{"plugin", "extension_point", "profile"}),
		points: prometheus.NewHistogramVec(prometheus.HistogramOpts{Namespace: namespace, Name: "framework_extension_point_duration_seconds",
			Help: "Time that all plugins took at one point of an attempt.", Buckets: prometheus.ExponentialBuckets(0.0001, 2, 12)}, []string{"extension_point", "status", "profile"}),
		goroutines: prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: namespace, Name: "goroutines",
			Help: "Goroutines at work, by what they do."}, []string{"operation"}),
		permitted: prometheus.NewHistogramVec(prometheus.HistogramOpts{Namespace: namespace, Name: "permit_wait_duration_seconds",
			Help: "Time that pods with a node waited for leave to be bound.", Buckets: prometheus.ExponentialBuckets(0.001, 2, 15)}, []string{"result"}),
	}
	for _, queue := range []string{"active", "backoff", "unschedulable", "gated"} {
		m.pending[queue] = pending.WithLabelValues(queue)
	}
	m.all = []prometheus.Collector{pending, m.attempts, m.duration, m.perPod, m.latency, m.preempting, m.victims,
		m.incoming, m.refusedBy, m.evaluated, m.points, m.goroutines, m.permitted}
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
	m.pending["active"].Set(float64(q.count(active)))
	m.pending["backoff"].Set(float64(q.count(backoff) + q.count(failing)))
	m.pending["unschedulable"].Set(float64(q.count(refused)))
	m.pending["gated"].Set(float64(len(q.gated)))
}

// came counts a pod that comes to a place of the queue.
func (m *metrics) came(why, to string) { m.incoming.WithLabelValues(to, why).Inc() }

// blocked counts the plugins that keep a pod waiting.
func (m *metrics) blocked(w *queued, count int) {
	for i := range w.rules {
		if w.blockers.has(i) {
			m.refusedBy.WithLabelValues(w.rules[i].name, m.profile).Add(float64(count))
		}
	}
}

// decided notes which rules a decision asked, and how long its parts took.
func (m *metrics) decided(d *decision, rules []rule) {
	for i := range rules {
		if d.ran.filtered.has(i) {
			m.evaluated.WithLabelValues(rules[i].name, "Filter", m.profile).Inc()
		}
		if d.ran.scored.has(i) {
			m.evaluated.WithLabelValues(rules[i].name, "Score", m.profile).Inc()
		}
	}
	for _, lap := range d.ran.laps {
		m.point(lap.name, lap.success, lap.took)
	}
}

// point notes the time that plugins took at one point.
func (m *metrics) point(name string, success bool, took time.Duration) {
	status := "Success"
	if !success {
		status = "Unschedulable"
		if name == "Bind" {
			status = "Error"
		}
	}
	m.points.WithLabelValues(name, status, m.profile).Observe(took.Seconds())
}

func (m *metrics) binding(count float64) { m.goroutines.WithLabelValues("binding").Add(count) }
