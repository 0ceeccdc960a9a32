package apiserver

import (
	"strconv"
	"sync"

	"canopus/internal/kinds"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// metrics counts requests under the names that dashboards look for.
type metrics struct {
	total    *prometheus.CounterVec
	duration *prometheus.HistogramVec
	sizes    *prometheus.HistogramVec
	long     *prometheus.GaugeVec
	panics   prometheus.Counter
	old      *prometheus.GaugeVec   // deprecated kinds that somebody has asked for
	health   *prometheus.GaugeVec   // what the last look found
	checks   *prometheus.CounterVec // looks
	known    sync.Map               // seriesKey → *series: looking up ten labels costs more than the request's route
}

// seriesKey is what requests are counted by.
type seriesKey struct {
	group, version, resource, subresource, verb, scope string
	dryRun                                             bool
	code                                               int
}

type series struct {
	total    prometheus.Counter
	duration prometheus.Observer
	sizes    prometheus.Observer
}

var resourceLabels = []string{"component", "group", "resource", "scope", "subresource", "verb", "version"}

func newMetrics(reg *prometheus.Registry, s *Server) *metrics {
	m := &metrics{
		total: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "apiserver_request_total",
			Help: "Requests, by what they were for and how they were answered."},
			[]string{"code", "component", "dry_run", "group", "resource", "scope", "subresource", "system_client", "verb", "version"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "apiserver_request_duration_seconds",
			Help:    "Seconds until a request was answered.",
			Buckets: []float64{0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1, 1.25, 1.5, 2, 3, 4, 5, 6, 8, 10, 15, 20, 30, 45, 60}},
			append([]string{"dry_run"}, resourceLabels...)),
		sizes: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "apiserver_response_sizes",
			Help: "Bytes of answers.", Buckets: prometheus.ExponentialBuckets(1000, 10, 7)}, resourceLabels),
		long: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "apiserver_longrunning_requests",
			Help: "Watches and streams under way."}, resourceLabels),
		panics: prometheus.NewCounter(prometheus.CounterOpts{Name: "apiserver_request_panics_total",
			Help: "Requests that panicked: each is a bug."}),
		old: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "apiserver_requested_deprecated_apis",
			Help: "Deprecated kinds that have been asked for."}, []string{"group", "version", "resource", "subresource", "removed_release"}),
		health: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "kubernetes_healthcheck",
			Help: "What the last look at the server's health found: 1 is well."}, []string{"name", "type"}),
		checks: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "kubernetes_healthchecks_total",
			Help: "Looks at the server's health, by what they found."}, []string{"name", "type", "status"}),
	}
	reg.MustRegister(m.total, m.duration, m.sizes, m.long, m.panics, m.old, m.health, m.checks,
		inFlight(s, "mutating", func() int { return s.writes.inFlight() }),
		inFlight(s, "readOnly", func() int { return s.reads.inFlight() }),
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		&objectCounts{s: s})
	return m
}

func inFlight(_ *Server, kind string, n func() int) prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "apiserver_current_inflight_requests",
		Help: "Requests being served.", ConstLabels: prometheus.Labels{"request_kind": kind}}, func() float64 { return float64(n()) })
}

// verbLabel is a verb as the metrics call it.
func verbLabel(verb string) string {
	switch verb {
	case "get":
		return "GET"
	case "list":
		return "LIST"
	case "watch":
		return "WATCH"
	case "create":
		return "POST"
	case "update":
		return "PUT"
	case "patch":
		return "PATCH"
	case "delete":
		return "DELETE"
	case "deletecollection":
		return "DELETECOLLECTION"
	case "post", "put", "head", "options", "connect":
		return "OTHER"
	}
	return "OTHER"
}

func scopeOf(rt *route) string {
	switch {
	case rt.name != "":
		return "resource"
	case rt.namespace != "":
		return "namespace"
	}
	return "cluster"
}

// key says what a request is counted under. Paths and kinds that are not served share one series: names from outside
// must not make new ones.
func (m *metrics) key(rq *request) seriesKey {
	rt := &rq.route
	k := seriesKey{verb: verbLabel(rt.verb), code: rq.w.code, dryRun: rq.query.Get("dryRun") != ""}
	if !rt.resource || rq.s.served.Load().paths[pathKey{rt.group, rt.version, rt.plural}] == nil {
		return k
	}
	k.group, k.version, k.resource, k.scope = rt.group, rt.version, rt.plural, scopeOf(rt)
	if rt.subresource != "" && rq.s.served.Load().paths[pathKey{rt.group, rt.version, rt.plural}].Kind.Subresource(rt.subresource) != nil {
		k.subresource = rt.subresource
	}
	return k
}

// done counts a request that was answered.
func (m *metrics) done(rq *request) {
	key := m.key(rq)
	v, ok := m.known.Load(key)
	if !ok {
		v, _ = m.known.LoadOrStore(key, m.series(key))
	}
	one := v.(*series)
	one.total.Inc()
	if !rq.longRunning() {
		one.duration.Observe(rq.s.clock.Since(rq.began).Seconds())
		one.sizes.Observe(float64(rq.w.bytes))
	}
}

func (m *metrics) series(k seriesKey) *series {
	dry := ""
	if k.dryRun {
		dry = "All"
	}
	labels := []string{"apiserver", k.group, k.resource, k.scope, k.subresource, k.verb, k.version}
	return &series{
		total:    m.total.WithLabelValues(strconv.Itoa(k.code), "apiserver", dry, k.group, k.resource, k.scope, k.subresource, "", k.verb, k.version),
		duration: m.duration.WithLabelValues(append([]string{dry}, labels...)...),
		sizes:    m.sizes.WithLabelValues(labels...),
	}
}

// enterLong counts a long-running request while it lasts.
func (m *metrics) enterLong(rq *request) {
	k := m.key(rq)
	g := m.long.WithLabelValues("apiserver", k.group, k.resource, k.scope, k.subresource, k.verb, k.version)
	g.Inc()
	rq.ends = append(rq.ends, g.Dec)
}

// deprecated notes that somebody has asked for a kind that is not to be used any more.
func (m *metrics) deprecated(rt *route, k *kinds.Kind) {
	subresource := rt.subresource
	if subresource != "" && k.Subresource(subresource) == nil {
		return
	}
	m.old.WithLabelValues(rt.group, rt.version, rt.plural, subresource, removedRelease(k)).Set(1)
}

// removedRelease is the release of Kubernetes that has a kind no longer; "" as long as none is announced.
func removedRelease(k *kinds.Kind) string {
	removed, ok := k.New().(interface{ APILifecycleRemoved() (major, minor int) })
	if !ok {
		return ""
	}
	major, minor := removed.APILifecycleRemoved()
	return strconv.Itoa(major) + "." + strconv.Itoa(minor)
}

// checked notes what a health page, such as livez, found of one check.
func (m *metrics) checked(page, name string, err error) {
	status, well := "success", 1.0
	if err != nil {
		status, well = "error", 0
	}
	m.health.WithLabelValues(name, page).Set(well)
	m.checks.WithLabelValues(name, page, status).Inc()
}

// objectCounts tells how many objects of each kind are stored.
type objectCounts struct{ s *Server }

// Describe implements prometheus.Collector.
func (c *objectCounts) Describe(ch chan<- *prometheus.Desc) {
	ch <- objectsDesc()
	ch <- storedDesc()
}

// Collect implements prometheus.Collector.
func (c *objectCounts) Collect(ch chan<- prometheus.Metric) {
	select {
	case <-c.s.cfg.Store.Ready():
	default:
		return
	}
	desc, former := objectsDesc(), storedDesc()
	for gr, st := range c.s.served.Load().stored {
		if st.res != nil {
			count := float64(st.res.Count())
			ch <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, count, gr.Group, gr.Resource)
			ch <- prometheus.MustNewConstMetric(former, prometheus.GaugeValue, count, gr.String())
		}
	}
}

// storedDesc is the name before Kubernetes 1.34, which dashboards still ask for.
func storedDesc() *prometheus.Desc {
	return prometheus.NewDesc("apiserver_storage_objects", "Deprecated: use apiserver_resource_objects. Objects stored, by kind.", []string{"resource"}, nil)
}

func objectsDesc() *prometheus.Desc {
	return prometheus.NewDesc("apiserver_resource_objects", "Objects stored, by kind.", []string{"group", "resource"}, nil)
}
