package reconcile

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/utils/clock"
)

// Queues measures the work queues of a process under upstream's names. What can be computed when somebody asks is computed
// then: client-go's own figures take a goroutine and a ticker for every queue. It is a prometheus.Collector.
type Queues struct {
	adds, retries    *prometheus.CounterVec
	waited, worked   *prometheus.HistogramVec
	depth            *prometheus.Desc
	unfinished, held *prometheus.Desc

	mu   sync.Mutex
	open map[string]load // by name of the queue
}

// load is the state of a queue.
type load interface {
	// now returns how many keys wait, how long the work in progress has taken in all and the longest of it, and whether the
	// queue's caches are filled, nothing waits and nothing is in work.
	now() (depth int, unfinished, longest time.Duration, settled bool)
}

// NewQueues measures no queue yet.
func NewQueues() *Queues {
	const subsystem = "workqueue"
	label := []string{"name"}
	name := func(s string) string { return prometheus.BuildFQName("", subsystem, s) }
	buckets := prometheus.ExponentialBuckets(10e-9, 10, 10)
	return &Queues{
		adds: prometheus.NewCounterVec(prometheus.CounterOpts{Subsystem: subsystem, Name: "adds_total",
			Help: "Keys that came into the queue; one that was in it already does not count."}, label),
		retries: prometheus.NewCounterVec(prometheus.CounterOpts{Subsystem: subsystem, Name: "retries_total",
			Help: "Keys that were to come back later, after a failure or because time will bring work."}, label),
		waited: prometheus.NewHistogramVec(prometheus.HistogramOpts{Subsystem: subsystem, Name: "queue_duration_seconds",
			Help: "Time that a key waits for a worker.", Buckets: buckets}, label),
		worked: prometheus.NewHistogramVec(prometheus.HistogramOpts{Subsystem: subsystem, Name: "work_duration_seconds",
			Help: "Time that work on a key takes.", Buckets: buckets}, label),
		depth:      prometheus.NewDesc(name("depth"), "Keys that wait for a worker.", label, nil),
		unfinished: prometheus.NewDesc(name("unfinished_work_seconds"), "Time that work in progress has taken so far, in all.", label, nil),
		held:       prometheus.NewDesc(name("longest_running_processor_seconds"), "Time that the longest work in progress has taken so far.", label, nil),
		open:       map[string]load{},
	}
}

// Describe implements prometheus.Collector.
func (q *Queues) Describe(ch chan<- *prometheus.Desc) {
	for _, c := range []prometheus.Collector{q.adds, q.retries, q.waited, q.worked} {
		c.Describe(ch)
	}
	ch <- q.depth
	ch <- q.unfinished
	ch <- q.held
}

// Collect implements prometheus.Collector.
func (q *Queues) Collect(ch chan<- prometheus.Metric) {
	for _, c := range []prometheus.Collector{q.adds, q.retries, q.waited, q.worked} {
		c.Collect(ch)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	for name, l := range q.open {
		depth, unfinished, longest, _ := l.now()
		ch <- prometheus.MustNewConstMetric(q.depth, prometheus.GaugeValue, float64(depth), name)
		ch <- prometheus.MustNewConstMetric(q.unfinished, prometheus.GaugeValue, unfinished.Seconds(), name)
		ch <- prometheus.MustNewConstMetric(q.held, prometheus.GaugeValue, longest.Seconds(), name)
	}
}

// Settled reports whether there are queues, their caches are filled, and no key is in one or in work. Keys that will come
// later do not count.
func (q *Queues) Settled() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, l := range q.open {
		if _, _, _, settled := l.now(); !settled {
			return false
		}
	}
	return len(q.open) > 0
}

// meter counts what goes through one queue. It is also that queue's list of waiting keys, first in, first out.
type meter[K comparable] struct {
	clock          clock.PassiveClock
	adds, retries  prometheus.Counter
	waited, worked prometheus.Observer

	mu        sync.Mutex // held shortly: the queue calls with its own lock held
	filled    bool
	waiting   []entry[K]
	working   map[K]time.Time // since when
	releasing int
}

type entry[K comparable] struct {
	key   K
	since time.Time
}

// meterOf begins to measure the queue with this name. One that had the name before is forgotten: a Loop runs once per term.
func meterOf[K comparable](q *Queues, name string, c clock.PassiveClock) *meter[K] {
	m := &meter[K]{
		clock: c, working: map[K]time.Time{},
		adds: q.adds.WithLabelValues(name), retries: q.retries.WithLabelValues(name),
		waited: q.waited.WithLabelValues(name), worked: q.worked.WithLabelValues(name),
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.open[name] = m
	return m
}

// Touch implements workqueue.Queue.
func (m *meter[K]) Touch(K) {}

// Push implements workqueue.Queue.
func (m *meter[K]) Push(key K) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.adds.Inc()
	m.waiting = append(m.waiting, entry[K]{key, m.clock.Now()})
}

// Len implements workqueue.Queue.
func (m *meter[K]) Len() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.waiting)
}

// Pop implements workqueue.Queue. The work on the key begins.
func (m *meter[K]) Pop() K {
	m.mu.Lock()
	defer m.mu.Unlock()
	first := m.waiting[0]
	m.waiting[0] = entry[K]{} // the array stays, what the key refers to need not
	m.waiting = m.waiting[1:]
	now := m.clock.Now()
	m.waited.Observe(now.Sub(first.since).Seconds())
	m.working[first.key] = now
	return first.key
}

// release ends the work on key. done is the queue's own Done, which may push the key again: until it returns, the queue has
// not settled.
func (m *meter[K]) release(key K, done func(K)) {
	m.mu.Lock()
	m.worked.Observe(m.clock.Since(m.working[key]).Seconds())
	delete(m.working, key)
	m.releasing++
	m.mu.Unlock()
	done(key)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.releasing--
}

// fill notes that the caches are filled.
func (m *meter[K]) fill() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.filled = true
}

func (m *meter[K]) now() (depth int, unfinished, longest time.Duration, settled bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, since := range m.working {
		d := m.clock.Since(since)
		unfinished += d
		longest = max(longest, d)
	}
	return len(m.waiting), unfinished, longest, m.filled && len(m.waiting)+len(m.working)+m.releasing == 0
}
