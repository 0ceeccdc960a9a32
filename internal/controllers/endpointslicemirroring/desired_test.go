package endpointslicemirroring

import (
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"canopus/internal/controllers/slicepack"
)

func TestMirrored(t *testing.T) {
	t.Parallel()
	plain, selecting := &corev1.Service{}, &corev1.Service{Spec: corev1.ServiceSpec{Selector: map[string]string{"a": "b"}}}
	for _, tc := range []struct {
		name string
		ep   corev1.Endpoints
		svc  *corev1.Service
		want bool
	}{
		{"by hand", corev1.Endpoints{}, plain, true},
		{"no service", corev1.Endpoints{}, nil, false},
		{"a service that selects", corev1.Endpoints{}, selecting, false},
		{"asked not to", corev1.Endpoints{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{discoveryv1.LabelSkipMirror: "true"}}}, plain, false},
		{"an election's lock", corev1.Endpoints{ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{"control-plane.alpha.kubernetes.io/leader": "x"}}}, plain, false},
	} {
		if got := mirrored(&tc.ep, tc.svc); got != tc.want {
			t.Errorf("%s: %v", tc.name, got)
		}
	}
}

func TestDesired(t *testing.T) {
	t.Parallel()
	node := "n1"
	ep := &corev1.Endpoints{Subsets: []corev1.EndpointSubset{
		{
			Addresses:         []corev1.EndpointAddress{{IP: "192.0.2.2", Hostname: "db", NodeName: &node}, {IP: "2001:db8::1"}, {IP: "192.0.2.1"}},
			NotReadyAddresses: []corev1.EndpointAddress{{IP: "192.0.2.3"}, {IP: "192.0.2.1"}},
			Ports:             []corev1.EndpointPort{{Name: "sql", Port: 5432, Protocol: corev1.ProtocolTCP}},
		},
		{Addresses: []corev1.EndpointAddress{{IP: "192.0.2.9"}}, Ports: []corev1.EndpointPort{{Name: "sql", Port: 5433, Protocol: corev1.ProtocolTCP}}},
	}}
	var got []string
	groups, skipped := desired(ep)
	if skipped != 0 {
		t.Errorf("%d of a handful of addresses are too many", skipped)
	}
	for _, g := range groups {
		for _, e := range g.Endpoints {
			host := ""
			if e.Hostname != nil {
				host = *e.Hostname
			}
			got = append(got, fmt.Sprint(g.Family, " ", *g.Ports[0].Port, " ", e.Addresses[0], " ", *e.Conditions.Ready, host))
		}
	}
	want := "[IPv4 5432 192.0.2.1 true IPv4 5432 192.0.2.2 truedb IPv4 5432 192.0.2.3 false IPv4 5433 192.0.2.9 true IPv6 5432 2001:db8::1 true]"
	if fmt.Sprint(got) != want {
		t.Errorf("got  %v\nwant %s", got, want)
	}
}

func TestNoMoreThanAThousandPerSubset(t *testing.T) {
	t.Parallel()
	ep := &corev1.Endpoints{Subsets: []corev1.EndpointSubset{{}, {Addresses: []corev1.EndpointAddress{{IP: "192.0.2.1"}}}}}
	for i := range mostPerSubset + 7 {
		ep.Subsets[0].Addresses = append(ep.Subsets[0].Addresses, corev1.EndpointAddress{IP: fmt.Sprintf("10.0.%d.%d", i/250, i%250)})
	}
	groups, skipped := desired(ep)
	n := 0
	for _, g := range groups {
		n += len(g.Endpoints)
	}
	if n != mostPerSubset+1 || skipped != 7 {
		t.Errorf("%d mirrored, %d skipped", n, skipped)
	}
}

func TestAnnotationsAreMirrored(t *testing.T) {
	t.Parallel()
	ep := &corev1.Endpoints{
		ObjectMeta: metav1.ObjectMeta{Name: "db", Annotations: map[string]string{
			"a": "1", corev1.LastAppliedConfigAnnotation: "{}", corev1.EndpointsLastChangeTriggerTime: "2026-01-01T00:00:00Z",
		}},
		Subsets: []corev1.EndpointSubset{{Addresses: []corev1.EndpointAddress{{IP: "192.0.2.1"}}}},
	}
	groups, _ := desired(ep)
	made := slicepack.Plan(target(ep), nil, groups).Create
	if len(made) != 1 || fmt.Sprint(made[0].Annotations) != "map[a:1]" {
		t.Fatalf("%+v", made)
	}
	made[0].Name = "db-x"
	if again := slicepack.Plan(target(ep), made, groups); len(again.Create)+len(again.Update)+len(again.Remove) > 0 {
		t.Errorf("written again: %+v", again)
	}
	ep.Annotations = nil
	again := slicepack.Plan(target(ep), made, groups)
	if len(again.Update) != 1 || len(again.Update[0].Annotations) > 0 {
		t.Errorf("annotations stay: %+v", again)
	}
}
