package admission

import (
	"strconv"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// The phases of admission, as labels.
const (
	phaseAdmit    = "admit"
	phaseValidate = "validate"
)

func newPluginSeconds() *prometheus.HistogramVec {
	return prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "apiserver_admission_controller_admission_duration_seconds",
		Help: "Time that one admission plugin took for one write.", Buckets: secondsBuckets()}, []string{"type", "name", "operation", "rejected"})
}

func newStepSeconds() *prometheus.HistogramVec {
	return prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "apiserver_admission_step_admission_duration_seconds",
		Help: "Time that all admission plugins of a phase took for one write.", Buckets: secondsBuckets()}, []string{"type", "operation", "rejected"})
}

func secondsBuckets() []float64 { return []float64{0.005, 0.025, 0.1, 0.5, 1, 2.5} }

// Describe implements prometheus.Collector.
func (c *Chain) Describe(ch chan<- *prometheus.Desc) {
	c.plugins.Describe(ch)
	c.steps.Describe(ch)
}

// Collect implements prometheus.Collector.
func (c *Chain) Collect(ch chan<- prometheus.Metric) {
	c.plugins.Collect(ch)
	c.steps.Collect(ch)
}

// timer measures one plugin, or one phase. A write runs some thirty of them: each looks its series up once.
type timer struct {
	seconds *prometheus.HistogramVec
	labels  []string // the first ones of seconds
	known   [operations][2]atomic.Pointer[prometheus.Observer]
}

const operations = 4

func place(op Operation) int {
	switch op {
	case Create:
		return 0
	case Update:
		return 1
	case Delete:
		return 2
	case Connect:
		return 3
	}
	return -1
}

// lap notes what began at last and has ended now, and returns now.
func (t *timer) lap(op Operation, last time.Time, err error) time.Time {
	now := time.Now()
	t.observe(op, now.Sub(last), err)
	return now
}

func (t *timer) observe(op Operation, took time.Duration, err error) {
	i, rejected := place(op), 0
	if i < 0 {
		return
	}
	if err != nil {
		rejected = 1
	}
	known := &t.known[i][rejected]
	o := known.Load()
	if o == nil {
		labels := append(append([]string(nil), t.labels...), string(op), strconv.FormatBool(err != nil))
		series := t.seconds.WithLabelValues(labels...)
		o = &series
		known.Store(o)
	}
	(*o).Observe(took.Seconds())
}
