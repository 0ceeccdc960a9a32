package proxy

import (
	"cmp"
	"net/netip"
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

// endpoint is one address and port behind one port of a Service.
type endpoint struct {
	ip                          netip.Addr
	port                        uint16
	node                        string
	ready, serving, terminating bool
	zones, nodes                []string // topology hints
}

func (e endpoint) String() string { return e.ip.String() + " . " + strconv.Itoa(int(e.port)) }

// endpointsOf returns the endpoints that slices have for port, sorted, each address once. An address that moves between
// slices is for a moment in two of them; the better state counts.
func endpointsOf(slicesOf []*discoveryv1.EndpointSlice, port corev1.ServicePort) []endpoint {
	var all []endpoint
	for _, s := range slicesOf {
		if s.AddressType != discoveryv1.AddressTypeIPv4 {
			continue
		}
		number, ok := portNumber(s, port)
		if !ok {
			continue
		}
		for _, e := range s.Endpoints {
			if len(e.Addresses) == 0 {
				continue
			}
			ip, err := netip.ParseAddr(e.Addresses[0])
			if err != nil || !ip.Is4() {
				continue
			}
			all = append(all, newEndpoint(e, ip, number))
		}
	}
	slices.SortFunc(all, func(a, b endpoint) int {
		return cmp.Or(a.ip.Compare(b.ip), cmp.Compare(a.port, b.port), rank(b)-rank(a))
	})
	return slices.CompactFunc(all, func(a, b endpoint) bool { return a.ip == b.ip && a.port == b.port })
}

func rank(e endpoint) int {
	switch {
	case e.ready:
		return 2
	case e.serving:
		return 1
	}
	return 0
}

// portNumber finds the slice's port of the same name and protocol.
func portNumber(s *discoveryv1.EndpointSlice, want corev1.ServicePort) (uint16, bool) {
	for _, p := range s.Ports {
		name, protocol := "", corev1.ProtocolTCP
		if p.Name != nil {
			name = *p.Name
		}
		if p.Protocol != nil {
			protocol = *p.Protocol
		}
		if name == want.Name && protocol == protocolOf(want) && p.Port != nil && *p.Port > 0 && *p.Port < 1<<16 {
			return uint16(*p.Port), true
		}
	}
	return 0, false
}

func protocolOf(p corev1.ServicePort) corev1.Protocol {
	if p.Protocol == "" {
		return corev1.ProtocolTCP
	}
	return p.Protocol
}

// newEndpoint reads the conditions with the meaning of the API: ready and serving unless said otherwise.
func newEndpoint(e discoveryv1.Endpoint, ip netip.Addr, port uint16) endpoint {
	n := endpoint{ip: ip, port: port, ready: isTrue(e.Conditions.Ready, true), terminating: isTrue(e.Conditions.Terminating, false)}
	n.serving = isTrue(e.Conditions.Serving, n.ready)
	if e.NodeName != nil {
		n.node = *e.NodeName
	}
	if e.Hints != nil {
		for _, z := range e.Hints.ForZones {
			n.zones = append(n.zones, z.Name)
		}
		for _, h := range e.Hints.ForNodes {
			n.nodes = append(n.nodes, h.Name)
		}
	}
	return n
}

func isTrue(b *bool, unset bool) bool {
	if b == nil {
		return unset
	}
	return *b
}

// place is where this node is.
type place struct{ node, zone string }

// usable returns the endpoints that traffic may go to from anywhere: the ready ones, near ones if there are hints for all;
// without any ready one those that end but still serve.
func usable(all []endpoint, here place) []endpoint {
	if ready := filter(all, func(e endpoint) bool { return e.ready }); len(ready) > 0 {
		return nearest(ready, here)
	}
	return filter(all, func(e endpoint) bool { return e.serving && e.terminating })
}

// usableHere is the same among the endpoints on this node. Hints do not matter there.
func usableHere(all []endpoint, here place) []endpoint {
	return usable(filter(all, func(e endpoint) bool { return e.node == here.node }), place{})
}

// nearest follows topology hints, for this node first, then for its zone. Hints count only if every endpoint has them (else
// their controller has not finished) and one of them is for us.
func nearest(ready []endpoint, here place) []endpoint {
	for _, h := range []struct {
		at   string
		hint func(endpoint) []string
	}{
		{here.node, func(e endpoint) []string { return e.nodes }},
		{here.zone, func(e endpoint) []string { return e.zones }},
	} {
		if h.at == "" || slices.ContainsFunc(ready, func(e endpoint) bool { return len(h.hint(e)) == 0 }) {
			continue
		}
		if near := filter(ready, func(e endpoint) bool { return slices.Contains(h.hint(e), h.at) }); len(near) > 0 {
			return near
		}
	}
	return ready
}

func filter(all []endpoint, keep func(endpoint) bool) []endpoint {
	var kept []endpoint
	for _, e := range all {
		if keep(e) {
			kept = append(kept, e)
		}
	}
	return kept
}
