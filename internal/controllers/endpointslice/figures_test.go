package endpointslice

import (
	"fmt"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"canopus/internal/controllers/slicepack"

	"github.com/prometheus/client_golang/prometheus"
)

// shown returns every series, shortened, with its value; of histograms count and sum.
func shown(t *testing.T, f *figures) []string {
	t.Helper()
	r := prometheus.NewRegistry()
	if err := r.Register(f); err != nil {
		t.Fatal(err)
	}
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, family := range families {
		name := family.GetName()[len("endpoint_slice_controller_"):]
		for _, m := range family.GetMetric() {
			if h := m.GetHistogram(); h != nil {
				out = append(out, fmt.Sprint(name, " ", h.GetSampleCount(), " ", h.GetSampleSum()))
				continue
			}
			for _, l := range m.GetLabel() {
				name = "services " + l.GetValue()
			}
			out = append(out, fmt.Sprint(name, " ", m.GetGauge().GetValue()))
		}
	}
	return out
}

// TestFigures follows one Service from no pods to 150 and to 120, then to another port.
func TestFigures(t *testing.T) {
	t.Parallel()
	f, b, key := newFigures(), &book{}, types.NamespacedName{Namespace: "default", Name: "web"}
	look := func(pods int, port int32, distribution string) {
		svc := service()
		if distribution != "" {
			svc.Spec.TrafficDistribution = &distribution
		}
		var all []*corev1.Pod
		for i := range pods {
			all = append(all, pod(i, port, true))
		}
		groups, _ := desired(svc, all, nodes())
		aim := target(svc)
		a := slicepack.Plan(aim, b.slices, groups)
		now := shareOf(svc, len(b.slices), groups, aim.Keep, a)
		b.apply(a)
		if now.there != len(b.slices) {
			t.Errorf("%d pods: %d slices, counted %d", pods, len(b.slices), now.there)
		}
		f.synced(key, now, a)
	}
	expect := func(what string, want ...string) {
		t.Helper()
		if got := shown(t, f); !slices.Equal(got, want) {
			t.Errorf("%s:\n%q, want\n%q", what, got, want)
		}
	}
	look(0, 80, "")
	expect("no pods", "desired_endpoint_slices 1", "endpoints_added_per_sync 1 0", "endpoints_desired 0", "endpoints_removed_per_sync 1 0", "num_endpoint_slices 1")
	look(150, 80, corev1.ServiceTrafficDistributionPreferSameZone)
	expect("150 pods", "desired_endpoint_slices 2", "endpoints_added_per_sync 2 150", "endpoints_desired 150", "endpoints_removed_per_sync 2 0", "num_endpoint_slices 2",
		"services PreferSameZone 1")
	look(120, 80, "example.com/far")
	expect("120 pods", "desired_endpoint_slices 2", "endpoints_added_per_sync 3 150", "endpoints_desired 120", "endpoints_removed_per_sync 3 30", "num_endpoint_slices 2",
		"services ImplementationSpecific 1")
	look(20, 8080, "")
	expect("another port", "desired_endpoint_slices 1", "endpoints_added_per_sync 4 170", "endpoints_desired 20", "endpoints_removed_per_sync 4 150", "num_endpoint_slices 1")
	f.gone(key)
	expect("none", "desired_endpoint_slices 0", "endpoints_added_per_sync 4 170", "endpoints_desired 0", "endpoints_removed_per_sync 4 150", "num_endpoint_slices 0")
}
