package endpointslice

import (
	"sync"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"

	"canopus/internal/controllers/slicepack"

	"github.com/prometheus/client_golang/prometheus"
)

// otherDistribution stands for every trafficDistribution that the API does not define.
const otherDistribution = "ImplementationSpecific"

// figures counts slices and their endpoints under upstream's names. It is a prometheus.Collector.
type figures struct {
	added, dropped                    prometheus.Histogram
	endpoints, least, there, services *prometheus.Desc

	mu        sync.Mutex
	byService map[types.NamespacedName]share
}

// share is what one Service has to do with the sums.
type share struct {
	endpoints    int
	least, there int    // slices: as few as could hold the endpoints, and as there are
	distribution string // of traffic; "": none in particular
}

func newFigures() *figures {
	const subsystem = "endpoint_slice_controller"
	gauge := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(prometheus.BuildFQName("", subsystem, name), help, labels, nil)
	}
	histogram := func(name, help string) prometheus.Histogram {
		return prometheus.NewHistogram(prometheus.HistogramOpts{Subsystem: subsystem, Name: name, Help: help, Buckets: prometheus.ExponentialBuckets(2, 2, 15)})
	}
	return &figures{
		added:     histogram("endpoints_added_per_sync", "Endpoints that the slices of a Service gain at a look."),
		dropped:   histogram("endpoints_removed_per_sync", "Endpoints that the slices of a Service lose at a look."),
		endpoints: gauge("endpoints_desired", "Endpoints that the slices of all Services should hold."),
		least:     gauge("desired_endpoint_slices", "Slices that there would be if each held as many endpoints as it can."),
		there:     gauge("num_endpoint_slices", "Slices that there are."),
		services:  gauge("services_count_by_traffic_distribution", "Services that say how their traffic is to be distributed, by what they say.", "traffic_distribution"),
		byService: map[types.NamespacedName]share{},
	}
}

// Describe implements prometheus.Collector.
func (f *figures) Describe(ch chan<- *prometheus.Desc) {
	f.added.Describe(ch)
	f.dropped.Describe(ch)
	for _, d := range []*prometheus.Desc{f.endpoints, f.least, f.there, f.services} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (f *figures) Collect(ch chan<- prometheus.Metric) {
	f.added.Collect(ch)
	f.dropped.Collect(ch)
	var sum share
	services := map[string]int{}
	f.mu.Lock()
	for _, s := range f.byService {
		sum.endpoints, sum.least, sum.there = sum.endpoints+s.endpoints, sum.least+s.least, sum.there+s.there
		if s.distribution != "" {
			services[s.distribution]++
		}
	}
	f.mu.Unlock()
	for d, n := range map[*prometheus.Desc]int{f.endpoints: sum.endpoints, f.least: sum.least, f.there: sum.there} {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(n))
	}
	for distribution, n := range services {
		ch <- prometheus.MustNewConstMetric(f.services, prometheus.GaugeValue, float64(n), distribution)
	}
}

// synced notes what a look at a Service came to.
func (f *figures) synced(key types.NamespacedName, now share, a slicepack.Actions) {
	f.added.Observe(float64(a.Added))
	f.dropped.Observe(float64(a.Dropped))
	f.mu.Lock()
	defer f.mu.Unlock()
	f.byService[key] = now
}

// gone forgets a Service.
func (f *figures) gone(key types.NamespacedName) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.byService, key)
}

// rest forgets all Services: somebody else looks after them now.
func (f *figures) rest() {
	f.mu.Lock()
	defer f.mu.Unlock()
	clear(f.byService)
}

// shareOf is the share of a Service whose slices a changes. keep are the families that have a slice in any case.
func shareOf(svc *corev1.Service, existing int, groups []slicepack.Group, keep []discoveryv1.AddressType, a slicepack.Actions) share {
	s := share{there: existing + len(a.Create) - len(a.Remove), distribution: distributionOf(svc)}
	has := map[discoveryv1.AddressType]bool{}
	for _, g := range groups {
		has[g.Family] = true
		s.endpoints += len(g.Endpoints)
		s.least += (len(g.Endpoints) + slicepack.Full - 1) / slicepack.Full
	}
	for _, family := range keep {
		if !has[family] {
			s.least++
		}
	}
	return s
}

// distributionOf names what svc says about its traffic, unless the annotation for hints by zone overrides it.
func distributionOf(svc *corev1.Service) string {
	if svc.Spec.TrafficDistribution == nil || wantsZones(svc) {
		return ""
	}
	switch d := *svc.Spec.TrafficDistribution; d {
	case corev1.ServiceTrafficDistributionPreferClose, corev1.ServiceTrafficDistributionPreferSameZone, corev1.ServiceTrafficDistributionPreferSameNode:
		return d
	}
	return otherDistribution
}
