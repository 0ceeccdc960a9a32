package resourceclaim

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/informers"
	resourcelisters "k8s.io/client-go/listers/resource/v1"
)

// subsystem begins the names of figures about devices.
const subsystem = "dynamic_resource_allocation"

// Where a claim comes from; a claim that a user made has no source.
const (
	fromTemplate         = "resource_claim_template"
	fromExtendedResource = "extended_resource"
)

// Figures counts claims under upstream's names. It is a prometheus.Collector.
type Figures struct {
	claims  resourcelisters.ResourceClaimLister
	creates *prometheus.CounterVec
	present *prometheus.Desc
}

// NewFigures counts the claims that the factory's informer knows.
func NewFigures(f informers.SharedInformerFactory) *Figures {
	return &Figures{
		claims: f.Resource().V1().ResourceClaims().Lister(),
		creates: prometheus.NewCounterVec(prometheus.CounterOpts{Subsystem: subsystem, Name: "resourceclaim_creates_total",
			Help: "Requests to create a ResourceClaim, by how they ended, by whether the claim is for administrators, and by what it is made for."},
			[]string{"status", "admin_access", "owner_api_group", "owner_api_kind"}),
		present: prometheus.NewDesc(prometheus.BuildFQName("", subsystem, "resource_claims"),
			"ResourceClaims, by whether they have devices, whether they are for administrators, and where they come from: a template, an extended resource, or (empty) a user.",
			[]string{"allocated", "admin_access", "source"}, nil),
	}
}

// Describe implements prometheus.Collector.
func (f *Figures) Describe(ch chan<- *prometheus.Desc) {
	f.creates.Describe(ch)
	ch <- f.present
}

// Collect implements prometheus.Collector.
func (f *Figures) Collect(ch chan<- prometheus.Metric) {
	f.creates.Collect(ch)
	list, err := f.claims.List(labels.Everything())
	if err != nil {
		ch <- prometheus.NewInvalidMetric(f.present, err)
		return
	}
	type kind struct {
		allocated, admin bool
		source           string
	}
	count := map[kind]int{}
	for _, c := range list {
		count[kind{c.Status.Allocation != nil, forAdmin(&c.Spec), sourceOf(c)}]++
	}
	for k, n := range count {
		ch <- prometheus.MustNewConstMetric(f.present, prometheus.GaugeValue, float64(n), strconv.FormatBool(k.allocated), strconv.FormatBool(k.admin), k.source)
	}
}

// created counts a request to create a claim for a pod.
func (f *Figures) created(claim *resourcev1.ResourceClaim, err error) {
	result := "success"
	if err != nil {
		result = "failure"
	}
	f.creates.WithLabelValues(result, strconv.FormatBool(forAdmin(&claim.Spec)), "", "Pod").Inc()
}

// forAdmin reports whether a claim is for looking after devices that others use.
func forAdmin(spec *resourcev1.ResourceClaimSpec) bool {
	for i := range spec.Devices.Requests {
		if x := spec.Devices.Requests[i].Exactly; x != nil && x.AdminAccess != nil && *x.AdminAccess {
			return true
		}
	}
	return false
}

func sourceOf(c *resourcev1.ResourceClaim) string {
	switch {
	case c.Annotations[resourcev1.PodResourceClaimAnnotation] != "":
		return fromTemplate
	case c.Annotations[resourcev1.ExtendedResourceClaimAnnotation] == "true":
		return fromExtendedResource
	}
	return ""
}
