package endpointslice

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"canopus/internal/controllers/slicepack"
)

func nodeIn(zone, cpu string, status corev1.ConditionStatus) *corev1.Node {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{}}}
	if zone != "" {
		n.Labels[corev1.LabelTopologyZone] = zone
	}
	n.Status.Allocatable = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpu)}
	n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: status}}
	return n
}

func TestShares(t *testing.T) {
	t.Parallel()
	ready := func(zone, cpu string) *corev1.Node { return nodeIn(zone, cpu, corev1.ConditionTrue) }
	control := ready("c", "8")
	control.Labels["node-role.kubernetes.io/control-plane"] = ""
	for _, tc := range []struct {
		name  string
		nodes []*corev1.Node
		want  string
	}{
		{"by CPU", []*corev1.Node{ready("a", "2"), ready("a", "4"), ready("b", "2"), control, nodeIn("c", "8", corev1.ConditionFalse)}, "map[a:0.75 b:0.25]"},
		{"one zone", []*corev1.Node{ready("a", "2"), ready("a", "4"), control}, whyOneZone},
		{"none", nil, whyOneZone},
		{"no zone on one", []*corev1.Node{ready("a", "2"), ready("", "4"), ready("b", "2")}, whyNodes},
		{"no CPU on one", []*corev1.Node{ready("a", "2"), ready("b", "0")}, whyNodes},
	} {
		s := sharesOf(tc.nodes)
		got := s.why
		if got == "" {
			got = fmt.Sprint(s.of)
		}
		if got != tc.want {
			t.Errorf("%s: %s, want %s", tc.name, got, tc.want)
		}
	}
}

// at makes ready endpoints of one group, so many in each of the zones a, b, c and d.
func at(counts ...int) []slicepack.Group {
	g := slicepack.Group{Family: discoveryv1.AddressTypeIPv4}
	for i, n := range counts {
		for range n {
			e := discoveryv1.Endpoint{
				Addresses:  []string{fmt.Sprintf("10.0.%d.%d", i, len(g.Endpoints))},
				Conditions: discoveryv1.EndpointConditions{Ready: ptr.To(true)}, Zone: ptr.To(string(rune('a' + i))),
			}
			g.Endpoints = append(g.Endpoints, e)
		}
	}
	return []slicepack.Group{g}
}

// served counts endpoints by the zone of their hint.
func served(groups []slicepack.Group) map[string]int {
	out := map[string]int{}
	for _, g := range groups {
		for _, e := range g.Endpoints {
			if e.Hints != nil {
				out[e.Hints.ForZones[0].Name]++
			}
		}
	}
	return out
}

func TestSpread(t *testing.T) {
	t.Parallel()
	even := shares{of: map[string]float64{"a": .5, "b": .5}}
	third := shares{of: map[string]float64{"a": 1. / 3, "b": 1. / 3, "c": 1. / 3}}
	for _, tc := range []struct {
		name   string
		shares shares
		counts []int
		want   string
	}{
		{"as they are", even, []int{5, 5}, "map[a:5 b:5]"},
		{"within the overload", even, []int{7, 5}, "map[a:7 b:5]"},
		{"beyond it", even, []int{8, 4}, "map[a:7 b:5]"},
		{"all in one zone", third, []int{9}, "map[a:3 b:3 c:3]"},
		{"a zone without nodes that count", even, []int{2, 2, 2}, "map[a:3 b:3]"},
		{"too few", third, []int{1, 1}, whyFew},
		{"overload whatever one does", third, []int{2, 1, 1}, whyOverload},
		{"nodes say too little", shares{why: whyNodes}, []int{2, 2}, whyNodes},
	} {
		groups := at(tc.counts...)
		why := spread(groups, tc.shares)[discoveryv1.AddressTypeIPv4]
		got := why
		if why == "" {
			got = fmt.Sprint(served(groups))
		} else if n := len(served(groups)); n != 0 {
			t.Errorf("%s: hints in %d zones all the same", tc.name, n)
		}
		if got != tc.want {
			t.Errorf("%s: %s, want %s", tc.name, got, tc.want)
		}
	}
	groups := at(2, 2)
	groups[0].Endpoints[0].Zone = nil
	if why := spread(groups, even); why[discoveryv1.AddressTypeIPv4] != whyNoZone {
		t.Errorf("an endpoint without zone: %v", why)
	}
	groups = at(2, 2)
	groups[0].Endpoints[0].Conditions.Ready = ptr.To(false)
	if spread(groups, even); groups[0].Endpoints[0].Hints != nil {
		t.Error("an endpoint that is not ready has hints")
	}
}

// TestSpreadBears: whatever the zones are like, no zone's endpoints carry more than the overload that is bearable, and endpoints
// stay in their own zone unless another lacks them.
func TestSpreadBears(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(7, 7))
	spreads := 0
	for range 2000 {
		s := shares{of: map[string]float64{}}
		var total float64
		n := 2 + r.IntN(3)
		for i := range n {
			s.of[string(rune('a'+i))] = float64(1 + r.IntN(8))
			total += s.of[string(rune('a'+i))]
		}
		for z := range s.of {
			s.of[z] /= total
		}
		counts := make([]int, 4)
		sum := 0
		for i := range counts {
			counts[i] = r.IntN(12)
			sum += counts[i]
		}
		groups := at(counts...)
		if why := spread(groups, s)[discoveryv1.AddressTypeIPv4]; sum == 0 || why != "" {
			continue
		}
		spreads++
		got := served(groups)
		for zone, share := range s.of {
			if load := share * float64(sum) / float64(got[zone]); load > 1+overload+1e-9 {
				t.Fatalf("shares %v, endpoints %v: zone %s carries %.2f per endpoint with %v", s.of, counts, zone, load, got)
			}
			own := counts[zone[0]-'a']
			if least := int(math.Ceil(share * float64(sum) / (1 + overload))); own < least && got[zone] > least && counts[3] == 0 && n == 4 {
				t.Fatalf("shares %v, endpoints %v: zone %s was given %d, %d would do", s.of, counts, zone, got[zone], least)
			}
		}
		if len(got) != n {
			t.Fatalf("hints for %v, zones %v", got, s.of)
		}
	}
	if spreads < 500 {
		t.Errorf("only %d of the cases could be spread", spreads)
	}
}
