package server

import (
	"net/http"
	"time"

	corev1 "k8s.io/api/core/v1"
	statsapi "k8s.io/kubelet/pkg/apis/stats/v1alpha1"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// resourceMetrics is /metrics/resource, what a metrics server reads. When the runtime does not answer it still tells of the
// machine, and that there was an error.
func (s *Server) resourceMetrics(w http.ResponseWriter, r *http.Request) {
	us, err := s.recentUsages(r.Context())
	reg := prometheus.NewRegistry()
	reg.MustRegister(resources{us, s.nodeStats(), err != nil})
	promhttp.HandlerFor(reg, promhttp.HandlerOpts{}).ServeHTTP(w, r)
}

// resources collects one reading.
type resources struct {
	containers []usage
	node       statsapi.NodeStats
	failed     bool
}

// Describe describes nothing: the series follow the containers.
func (resources) Describe(chan<- *prometheus.Desc) {}

// series is one line of readings that have the same labels.
type series struct {
	ch             chan<- prometheus.Metric
	labels, values []string
}

func (s series) send(typ prometheus.ValueType, name, help string, v float64, at time.Time) {
	metric := prometheus.MustNewConstMetric(prometheus.NewDesc(name, help, s.labels, nil), typ, v, s.values...)
	if !at.IsZero() {
		metric = prometheus.NewMetricWithTimestamp(at, metric)
	}
	s.ch <- metric
}

func (s series) counter(name, help string, v float64, at time.Time) {
	s.send(prometheus.CounterValue, name, help, v, at)
}

func (s series) gauge(name, help string, v float64, at time.Time) {
	s.send(prometheus.GaugeValue, name, help, v, at)
}

// sums are what the containers of a pod use together.
type sums struct {
	cpu, memory, swap          float64
	cpuAt, memoryAt, swapAt    time.Time
	hasCPU, hasMemory, hasSwap bool
}

// Collect sends the readings.
func (m resources) Collect(ch chan<- prometheus.Metric) {
	node := series{ch: ch}
	if m.node.CPU != nil {
		node.counter("node_cpu_usage_seconds_total", "Cumulative cpu time consumed by the node in core-seconds",
			float64(*m.node.CPU.UsageCoreNanoSeconds)/1e9, m.node.CPU.Time.Time)
		node.gauge("node_memory_working_set_bytes", "Current working set of the node in bytes",
			float64(*m.node.Memory.WorkingSetBytes), m.node.Memory.Time.Time)
	}
	if m.node.Swap != nil {
		node.gauge("node_swap_usage_bytes", "Current swap usage of the node in bytes. Reported only on non-windows systems",
			float64(*m.node.Swap.SwapUsageBytes), m.node.Swap.Time.Time)
	}
	pods := map[*corev1.Pod]*sums{}
	for _, u := range m.containers {
		if pods[u.pod] == nil {
			pods[u.pod] = &sums{}
		}
		collectContainer(series{ch, []string{"container", "namespace", "pod"}, []string{u.container, u.pod.Namespace, u.pod.Name}}, u, pods[u.pod])
	}
	for pod, t := range pods {
		s := series{ch, []string{"namespace", "pod"}, []string{pod.Namespace, pod.Name}}
		if t.hasCPU {
			s.counter("pod_cpu_usage_seconds_total", "Cumulative cpu time consumed by the pod in core-seconds", t.cpu, t.cpuAt)
		}
		if t.hasMemory {
			s.gauge("pod_memory_working_set_bytes", "Current working set of the pod in bytes", t.memory, t.memoryAt)
		}
		if t.hasSwap {
			s.gauge("pod_swap_usage_bytes", "Current amount of the pod swap usage in bytes. Reported only on non-windows systems", t.swap, t.swapAt)
		}
	}
	failed := 0.0
	if m.failed {
		failed = 1
	}
	node.gauge("resource_scrape_error", "1 if there was an error while getting container metrics, 0 otherwise", failed, time.Time{})
	node.gauge("scrape_error", "1 if there was an error while getting container metrics, 0 otherwise", failed, time.Time{})
}

// collectContainer sends what one container uses and adds it to its pod's.
func collectContainer(s series, u usage, pod *sums) {
	if c := u.stats.GetCpu(); c.GetUsageCoreNanoSeconds() != nil {
		v, at := float64(c.GetUsageCoreNanoSeconds().GetValue())/1e9, time.Unix(0, c.GetTimestamp())
		pod.cpu, pod.cpuAt, pod.hasCPU = pod.cpu+v, at, true
		s.counter("container_cpu_usage_seconds_total", "Cumulative cpu time consumed by the container in core-seconds", v, at)
	}
	if c := u.stats.GetMemory(); c.GetWorkingSetBytes() != nil {
		v, at := float64(c.GetWorkingSetBytes().GetValue()), time.Unix(0, c.GetTimestamp())
		pod.memory, pod.memoryAt, pod.hasMemory = pod.memory+v, at, true
		s.gauge("container_memory_working_set_bytes", "Current working set of the container in bytes", v, at)
	}
	if c := u.stats.GetSwap(); c.GetSwapUsageBytes() != nil {
		v, at := float64(c.GetSwapUsageBytes().GetValue()), time.Unix(0, c.GetTimestamp())
		pod.swap, pod.swapAt, pod.hasSwap = pod.swap+v, at, true
		s.gauge("container_swap_usage_bytes", "Current amount of the container swap usage in bytes. Reported only on non-windows systems", v, at)
	}
	s.gauge("container_start_time_seconds", "Start time of the container since unix epoch in seconds", float64(u.started.UnixNano())/1e9, time.Time{})
}
