package resourceclaim

import (
	"errors"
	"maps"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	resourcev1 "k8s.io/api/resource/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/utils/ptr"
)

func TestFigures(t *testing.T) {
	t.Parallel()
	client, err := kubernetes.NewForConfig(&rest.Config{Host: "https://127.0.0.1:1"}) // never asked
	if err != nil {
		t.Fatal(err)
	}
	factory := informers.NewSharedInformerFactory(client, 0)
	f := NewFigures(factory)
	known := factory.Resource().V1().ResourceClaims().Informer().GetStore()
	add := func(name, annotation, value string, allocated, admin bool) {
		c := &resourcev1.ResourceClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, Annotations: map[string]string{annotation: value}}, Spec: resourcev1.ResourceClaimSpec{
			Devices: resourcev1.DeviceClaim{Requests: []resourcev1.DeviceRequest{{Name: "either", FirstAvailable: make([]resourcev1.DeviceSubRequest, 2)}, {Name: "r", Exactly: &resourcev1.ExactDeviceRequest{AdminAccess: ptr.To(admin)}}}}}}
		if allocated {
			c.Status.Allocation = &resourcev1.AllocationResult{}
		}
		if err := known.Add(c); err != nil {
			t.Fatal(err)
		}
		f.created(c, map[bool]error{true: nil, false: errors.New("refused")}[allocated])
	}
	add("a", resourcev1.PodResourceClaimAnnotation, "gpu", true, false)
	add("b", resourcev1.PodResourceClaimAnnotation, "gpu", true, false)
	add("c", resourcev1.ExtendedResourceClaimAnnotation, "true", true, false)
	add("d", resourcev1.ExtendedResourceClaimAnnotation, "no", false, true)

	r := prometheus.NewRegistry()
	r.MustRegister(f)
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			name := family.GetName()
			for _, l := range m.GetLabel() {
				name += " " + l.GetValue()
			}
			got[name] = m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	want := map[string]float64{ // labels in the order of their names
		"dynamic_resource_allocation_resourceclaim_creates_total false  Pod success":     3,
		"dynamic_resource_allocation_resourceclaim_creates_total true  Pod failure":      1,
		"dynamic_resource_allocation_resource_claims false true resource_claim_template": 2,
		"dynamic_resource_allocation_resource_claims false true extended_resource":       1,
		"dynamic_resource_allocation_resource_claims true false ":                        1,
	}
	if !maps.Equal(got, want) {
		t.Errorf("got %v", got)
	}
}
