package network

import (
	"encoding/json"
	"net/netip"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func node(name, cidr string, addresses ...string) *corev1.Node {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}
	if cidr != "" {
		n.Spec.PodCIDR, n.Spec.PodCIDRs = cidr, []string{cidr}
	}
	for _, a := range addresses {
		n.Status.Addresses = append(n.Status.Addresses, corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: a})
	}
	return n
}

func TestPeers(t *testing.T) {
	t.Parallel()
	nodes := []*corev1.Node{node("a", "10.244.0.0/24", "fd00::1", "192.168.0.1"), node("b", "10.244.1.0/24", "192.168.0.2"), node("young", "", "192.168.0.3"), node("odd", "x", "192.168.0.4")}
	own, others, err := peers("a", nodes)
	if err != nil || own.address.String() != "192.168.0.1" || own.podCIDR.String() != "10.244.0.0/24" {
		t.Errorf("own %v, %v", own, err)
	}
	if len(others) != 1 || others[0].name != "b" {
		t.Errorf("others %v", others)
	}
	if _, _, err := peers("young", nodes); err == nil || !strings.Contains(err.Error(), "no IPv4 pod CIDR") {
		t.Errorf("a node without CIDR: %v", err)
	}
	if _, _, err := peers("none", nodes); err == nil || !strings.Contains(err.Error(), "not registered") {
		t.Errorf("an unknown node: %v", err)
	}
}

func TestPlanRoutes(t *testing.T) {
	t.Parallel()
	links := []link{{index: 2, network: netip.MustParsePrefix("192.168.0.1/24")}, {index: 3, network: netip.MustParsePrefix("192.168.0.129/25")}}
	b := peer{name: "b", podCIDR: netip.MustParsePrefix("10.244.1.0/24"), address: netip.MustParseAddr("192.168.0.2")}
	c := peer{name: "c", podCIDR: netip.MustParsePrefix("10.244.2.0/24"), address: netip.MustParseAddr("192.168.0.200")}
	far := peer{name: "far", podCIDR: netip.MustParsePrefix("10.244.3.0/24"), address: netip.MustParseAddr("172.16.0.1")}
	toB := route{to: b.podCIDR, via: b.address, link: 2}
	toC := route{to: c.podCIDR, via: c.address, link: 3}
	moved := route{to: b.podCIDR, via: netip.MustParseAddr("192.168.0.9"), link: 2}
	gone := route{to: netip.MustParsePrefix("10.244.9.0/24"), via: b.address, link: 2}
	for _, test := range []struct {
		name   string
		peers  []peer
		have   []route
		want   change
		broken bool
	}{
		{name: "nothing there", peers: []peer{c, b}, want: change{add: []route{toB, toC}}},
		{name: "all there", peers: []peer{b, c}, have: []route{toB, toC}},
		{name: "a node left", peers: []peer{b}, have: []route{toB, gone}, want: change{remove: []route{gone}}},
		{name: "a node has another address: replaced, never without", peers: []peer{b}, have: []route{moved}, want: change{add: []route{toB}}},
		{name: "one out of reach does not harm the rest", peers: []peer{far, b}, want: change{add: []route{toB}}, broken: true},
	} {
		got, err := planRoutes(test.peers, links, test.have)
		if !slices.Equal(got.add, test.want.add) || !slices.Equal(got.remove, test.want.remove) {
			t.Errorf("%s: got %+v, want %+v", test.name, got, test.want)
		}
		if (err != nil) != test.broken {
			t.Errorf("%s: error %v", test.name, err)
		}
	}
}

func TestMTU(t *testing.T) {
	t.Parallel()
	links := []link{{mtu: 9000, network: netip.MustParsePrefix("192.168.0.1/24")}}
	if got := mtuOf(netip.MustParseAddr("192.168.0.1"), links); got != 9000 {
		t.Errorf("got %d", got)
	}
	if got := mtuOf(netip.MustParseAddr("192.168.0.2"), links); got != defaultMTU {
		t.Errorf("for a foreign address got %d", got)
	}
}

func TestConflist(t *testing.T) {
	t.Parallel()
	data, err := conflist("cni0", netip.MustParsePrefix("10.244.1.0/24"), 1450, "/state/ipam")
	if err != nil || !json.Valid(data) {
		t.Fatal(err)
	}
	for _, want := range []string{`"subnet": "10.244.1.0/24"`, `"mtu": 1450`, `"dataDir": "/state/ipam"`, `"bridge": "cni0"`} {
		if !strings.Contains(string(data), want) {
			t.Errorf("%s is missing in\n%s", want, data)
		}
	}
}
