package network

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// peer is a node as routes see it.
type peer struct {
	name    string
	podCIDR netip.Prefix
	address netip.Addr
}

// link is one address of an interface of ours: the network that it makes directly reachable.
type link struct {
	index   int
	mtu     int
	network netip.Prefix // with the host's own address
}

// route leads to the pods of another node.
type route struct {
	to   netip.Prefix
	via  netip.Addr
	link int // interface index
}

// change is what has to happen to the routes we own.
type change struct {
	add, remove []route
}

// planRoutes returns the difference between the routes there should be and those that we have set before. A node without
// a directly reachable address gets no route; the error names all of them.
func planRoutes(others []peer, links []link, have []route) (change, error) {
	var want []route
	var far []string
	for _, p := range others {
		if l, ok := directLink(p.address, links); ok {
			want = append(want, route{to: p.podCIDR, via: p.address, link: l.index})
		} else {
			far = append(far, fmt.Sprintf("%s (%s)", p.name, p.address))
		}
	}
	var c change
	for _, r := range want {
		if !slices.Contains(have, r) && !slices.Contains(c.add, r) {
			c.add = append(c.add, r)
		}
	}
	for _, r := range have {
		// A route with another next hop for a wanted destination is replaced by the addition, not removed first.
		if !slices.ContainsFunc(want, func(w route) bool { return w.to == r.to }) {
			c.remove = append(c.remove, r)
		}
	}
	slices.SortFunc(c.add, func(a, b route) int { return a.to.Addr().Compare(b.to.Addr()) })
	if len(far) == 0 {
		return c, nil
	}
	slices.Sort(far)
	return c, errors.New("pods on these nodes are out of reach, because their addresses are in no network of this node: " + strings.Join(far, ", "))
}

// directLink returns the link whose network holds ip; the most specific one if there are several.
func directLink(ip netip.Addr, links []link) (link, bool) {
	best, found := link{}, false
	for _, l := range links {
		if l.network.Masked().Contains(ip) && l.network.Addr() != ip && (!found || l.network.Bits() > best.network.Bits()) {
			best, found = l, true
		}
	}
	return best, found
}

// defaultMTU is Ethernet's.
const defaultMTU = 1500

// mtuOf returns the MTU of the interface that has ip.
func mtuOf(ip netip.Addr, links []link) int {
	for _, l := range links {
		if l.network.Addr() == ip {
			return min(l.mtu, 65535)
		}
	}
	return defaultMTU
}

// conflist returns the CNI configuration: pods hang on a bridge that is their default gateway, host ports are forwarded.
func conflist(bridge string, podCIDR netip.Prefix, mtu int, ipam string) ([]byte, error) {
	type object = map[string]any
	return json.MarshalIndent(object{
		"cniVersion": "1.0.0",
		"name":       "canopus",
		"plugins": []object{
			{
				"type":             "bridge",
				"bridge":           bridge,
				"isDefaultGateway": true,
				"forceAddress":     true, // a bridge left from another pod CIDR gets the new address
				"hairpinMode":      true, // a pod reaches itself through its Service
				"mtu":              mtu,
				"ipam": object{
					"type":    "host-local",
					"dataDir": ipam,
					"ranges":  [][]object{{{"subnet": podCIDR.String()}}},
				},
			},
			{
				"type":         "portmap",
				"backend":      "nftables",
				"capabilities": object{"portMappings": true},
			},
		},
	}, "", "  ")
}
