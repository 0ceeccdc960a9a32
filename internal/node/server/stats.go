package server

import (
	"context"
	"fmt"
	"net/http"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	statsapi "k8s.io/kubelet/pkg/apis/stats/v1alpha1"

	"canopus/internal/node/cri"
	"canopus/internal/node/nodestatus"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// metrics serves the agent's own metrics.
func metrics() http.Handler {
	reg := prometheus.NewRegistry()
	reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return promhttp.HandlerFor(reg, promhttp.HandlerOpts{})
}

// usage is what a container uses now.
type usage struct {
	pod       *corev1.Pod
	container string
	started   time.Time
	stats     *runtimeapi.ContainerStats
}

// usages asks the runtime about all running containers of the node's pods.
func (s *Server) usages(ctx context.Context) ([]usage, error) {
	resp, err := s.cfg.Runtime.ListContainerStats(ctx, &runtimeapi.ListContainerStatsRequest{})
	if err != nil {
		return nil, fmt.Errorf("container statistics: %w", err)
	}
	var out []usage
	for _, st := range resp.GetStats() {
		l := st.GetAttributes().GetLabels()
		obj, found, err := s.cfg.Pods.GetByKey(l[cri.LabelPodNamespace] + "/" + l[cri.LabelPodName])
		pod, ok := obj.(*corev1.Pod)
		if err != nil || !found || !ok || string(pod.UID) != l[cri.LabelPodUID] {
			continue
		}
		c := s.cfg.Cache.Get(pod.UID).ByID(st.GetAttributes().GetId())
		if c == nil || !c.Running() {
			continue
		}
		out = append(out, usage{pod, c.Name(), time.Unix(0, c.GetStartedAt()), st})
	}
	return out, nil
}

// summary is /stats/summary.
func (s *Server) summary(w http.ResponseWriter, r *http.Request) {
	us, err := s.usages(r.Context())
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	out := statsapi.Summary{Node: s.nodeStats(), Pods: []statsapi.PodStats{}}
	index := map[*corev1.Pod]int{}
	for _, u := range us {
		i, ok := index[u.pod]
		if !ok {
			i = len(out.Pods)
			index[u.pod] = i
			p := statsapi.PodStats{PodRef: statsapi.PodReference{Name: u.pod.Name, Namespace: u.pod.Namespace, UID: string(u.pod.UID)}}
			if u.pod.Status.StartTime != nil {
				p.StartTime = *u.pod.Status.StartTime
			}
			out.Pods = append(out.Pods, p)
		}
		out.Pods[i].Containers = append(out.Pods[i].Containers, statsapi.ContainerStats{
			Name: u.container, StartTime: metav1.NewTime(u.started), CPU: cpuStats(u.stats.GetCpu()), Memory: memoryStats(u.stats.GetMemory())})
	}
	for i := range out.Pods {
		sumUp(&out.Pods[i])
	}
	writeJSON(w, out)
}

func (s *Server) nodeStats() statsapi.NodeStats {
	out := statsapi.NodeStats{NodeName: s.cfg.NodeName}
	u, err := nodestatus.Use(s.cfg.Clock.Now())
	if err != nil {
		return out
	}
	now := metav1.NewTime(u.At)
	out.StartTime = metav1.NewTime(u.Boot)
	out.CPU = &statsapi.CPUStats{Time: now, UsageCoreNanoSeconds: &u.CPUNanos}
	out.Memory = &statsapi.MemoryStats{Time: now, AvailableBytes: &u.MemoryAvailable, WorkingSetBytes: &u.MemoryWorkingSet}
	return out
}

func cpuStats(in *runtimeapi.CpuUsage) *statsapi.CPUStats {
	if in == nil {
		return nil
	}
	out := &statsapi.CPUStats{Time: metav1.NewTime(time.Unix(0, in.GetTimestamp()))}
	out.UsageCoreNanoSeconds, out.UsageNanoCores = value(in.GetUsageCoreNanoSeconds()), value(in.GetUsageNanoCores())
	return out
}

func memoryStats(in *runtimeapi.MemoryUsage) *statsapi.MemoryStats {
	if in == nil {
		return nil
	}
	return &statsapi.MemoryStats{
		Time: metav1.NewTime(time.Unix(0, in.GetTimestamp())), AvailableBytes: value(in.GetAvailableBytes()), UsageBytes: value(in.GetUsageBytes()),
		WorkingSetBytes: value(in.GetWorkingSetBytes()), RSSBytes: value(in.GetRssBytes()), PageFaults: value(in.GetPageFaults()),
		MajorPageFaults: value(in.GetMajorPageFaults()),
	}
}

func value(v *runtimeapi.UInt64Value) *uint64 {
	if v == nil {
		return nil
	}
	n := v.GetValue()
	return &n
}

// sumUp gives a pod the sums of its containers.
func sumUp(p *statsapi.PodStats) {
	var cpu, nano, mem uint64
	var at metav1.Time
	for _, c := range p.Containers {
		if c.CPU != nil && c.CPU.UsageCoreNanoSeconds != nil {
			cpu += *c.CPU.UsageCoreNanoSeconds
			at = c.CPU.Time
		}
		if c.CPU != nil && c.CPU.UsageNanoCores != nil {
			nano += *c.CPU.UsageNanoCores
		}
		if c.Memory != nil && c.Memory.WorkingSetBytes != nil {
			mem += *c.Memory.WorkingSetBytes
		}
	}
	p.CPU = &statsapi.CPUStats{Time: at, UsageCoreNanoSeconds: &cpu, UsageNanoCores: &nano}
	p.Memory = &statsapi.MemoryStats{Time: at, WorkingSetBytes: &mem}
}

// resourceMetrics is /metrics/resource, what a metrics server reads.
func (s *Server) resourceMetrics(w http.ResponseWriter, r *http.Request) {
	us, err := s.usages(r.Context())
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	reg := prometheus.NewRegistry()
	reg.MustRegister(resources{us, s.nodeStats()})
	promhttp.HandlerFor(reg, promhttp.HandlerOpts{}).ServeHTTP(w, r)
}

// resources collects one reading.
type resources struct {
	containers []usage
	node       statsapi.NodeStats
}

// Describe describes nothing: the series follow the containers.
func (resources) Describe(chan<- *prometheus.Desc) {}

// Collect sends the readings.
func (m resources) Collect(ch chan<- prometheus.Metric) {
	send := func(name, help string, typ prometheus.ValueType, v float64, at time.Time, labels, values []string) {
		metric := prometheus.MustNewConstMetric(prometheus.NewDesc(name, help, labels, nil), typ, v, values...)
		if !at.IsZero() {
			metric = prometheus.NewMetricWithTimestamp(at, metric)
		}
		ch <- metric
	}
	if m.node.CPU != nil {
		send("node_cpu_usage_seconds_total", "Cumulative cpu time consumed by the node in core-seconds", prometheus.CounterValue,
			float64(*m.node.CPU.UsageCoreNanoSeconds)/1e9, m.node.CPU.Time.Time, nil, nil)
		send("node_memory_working_set_bytes", "Current working set of the node in bytes", prometheus.GaugeValue,
			float64(*m.node.Memory.WorkingSetBytes), m.node.Memory.Time.Time, nil, nil)
	}
	type sum struct {
		cpu, mem float64
		at       time.Time
	}
	podLabels := []string{"namespace", "pod"}
	labels := []string{"container", "namespace", "pod"}
	sums := map[*corev1.Pod]*sum{}
	for _, u := range m.containers {
		values := []string{u.container, u.pod.Namespace, u.pod.Name}
		if sums[u.pod] == nil {
			sums[u.pod] = &sum{}
		}
		t := sums[u.pod]
		if c := u.stats.GetCpu(); c != nil {
			v := float64(c.GetUsageCoreNanoSeconds().GetValue()) / 1e9
			t.cpu, t.at = t.cpu+v, time.Unix(0, c.GetTimestamp())
			send("container_cpu_usage_seconds_total", "Cumulative cpu time consumed by the container in core-seconds", prometheus.CounterValue, v, t.at, labels, values)
		}
		if c := u.stats.GetMemory(); c != nil {
			v := float64(c.GetWorkingSetBytes().GetValue())
			t.mem += v
			send("container_memory_working_set_bytes", "Current working set of the container in bytes", prometheus.GaugeValue, v, time.Unix(0, c.GetTimestamp()), labels, values)
		}
		send("container_start_time_seconds", "Start time of the container since unix epoch in seconds", prometheus.GaugeValue,
			float64(u.started.UnixNano())/1e9, time.Time{}, labels, values)
	}
	for pod, t := range sums {
		values := []string{pod.Namespace, pod.Name}
		send("pod_cpu_usage_seconds_total", "Cumulative cpu time consumed by the pod in core-seconds", prometheus.CounterValue, t.cpu, t.at, podLabels, values)
		send("pod_memory_working_set_bytes", "Current working set of the pod in bytes", prometheus.GaugeValue, t.mem, t.at, podLabels, values)
	}
	send("scrape_error", "1 if there was an error while getting container metrics, 0 otherwise", prometheus.GaugeValue, 0, time.Time{}, nil, nil)
}
