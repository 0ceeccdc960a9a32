package scheduler

import (
	"net/http"
	"strconv"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	corelisters "k8s.io/client-go/listers/core/v1"
	resourcehelper "k8s.io/component-helpers/resource"
)

// ResourcesPath is where upstream's schedulers serve ResourceMetrics.
const ResourcesPath = "/metrics/resources"

// ResourceMetrics is the page that tells what the pods in a lister ask for and may use. Nothing is kept or counted
// between two readings.
func ResourceMetrics(pods corelisters.PodLister) http.Handler {
	registry := prometheus.NewRegistry()
	registry.MustRegister(newDemands(pods)) // it is the only one, and describes two names that differ
	return promhttp.HandlerFor(registry, promhttp.HandlerOpts{})
}

// demands collects what pods that have not ended ask for.
type demands struct {
	pods             corelisters.PodLister
	requests, limits *prometheus.Desc
}

func newDemands(pods corelisters.PodLister) *demands {
	names := []string{"namespace", "pod", "node", "scheduler", "priority", "resource", "unit"}
	return &demands{
		pods:     pods,
		requests: prometheus.NewDesc("kube_pod_resource_request", "What the containers of a pod ask for together, as scheduler and nodes count it.", names, nil),
		limits:   prometheus.NewDesc("kube_pod_resource_limit", "What the containers of a pod may use together, as scheduler and nodes count it.", names, nil),
	}
}

// Describe implements prometheus.Collector.
func (d *demands) Describe(ch chan<- *prometheus.Desc) {
	ch <- d.requests
	ch <- d.limits
}

// Collect implements prometheus.Collector.
func (d *demands) Collect(ch chan<- prometheus.Metric) {
	pods, err := d.pods.List(labels.Everything())
	if err != nil {
		ch <- prometheus.NewInvalidMetric(d.requests, err)
		return
	}
	options := resourcehelper.PodResourcesOptions{UseStatusResources: true} // a resized pod counts with what its node has granted
	for _, p := range pods {
		if p.Spec.NodeName != "" && (p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed) {
			continue
		}
		collectDemand(ch, d.requests, p, resourcehelper.PodRequests(p, options))
		collectDemand(ch, d.limits, p, resourcehelper.PodLimits(p, options))
	}
}

func collectDemand(ch chan<- prometheus.Metric, desc *prometheus.Desc, p *corev1.Pod, amounts corev1.ResourceList) {
	priority := ""
	if p.Spec.Priority != nil {
		priority = strconv.Itoa(int(*p.Spec.Priority))
	}
	for name, amount := range amounts {
		if amount.IsZero() {
			continue
		}
		ch <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, amount.AsApproximateFloat64(),
			p.Namespace, p.Name, p.Spec.NodeName, p.Spec.SchedulerName, priority, string(name), unitOf(name))
	}
}

// unitOf is what a resource is counted in; "" for extended resources, whose makers alone know.
func unitOf(name corev1.ResourceName) string {
	switch {
	case name == corev1.ResourceCPU:
		return "cores"
	case name == corev1.ResourceMemory, name == corev1.ResourceStorage, name == corev1.ResourceEphemeralStorage,
		strings.HasPrefix(string(name), corev1.ResourceHugePagesPrefix):
		return "bytes"
	case strings.HasPrefix(string(name), corev1.ResourceAttachableVolumesPrefix):
		return "integer"
	}
	return ""
}
