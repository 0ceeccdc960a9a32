package proxy

import (
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// dropStale forgets connections of UDP Services that lead to an endpoint that is not there any more, or nowhere because
// there was none when they began. TCP notices by itself; a UDP client that keeps its port would talk to nobody for ever.
func (p *Proxy) dropStale(udp map[netip.AddrPort][]endpoint) error {
	if maps.EqualFunc(p.udp, udp, sameEndpoints) {
		return nil
	}
	local, err := localAddresses()
	if err != nil {
		return err
	}
	if _, err := netlink.ConntrackDeleteFilters(netlink.ConntrackTable, unix.AF_INET, staleFlows{udp, local}); err != nil {
		return fmt.Errorf("forget stale UDP connections: %w", err)
	}
	p.udp = udp
	return nil
}

func sameEndpoints(a, b []endpoint) bool {
	return slices.EqualFunc(a, b, func(a, b endpoint) bool { return a.ip == b.ip && a.port == b.port })
}

// staleFlows is the filter of connections to forget.
type staleFlows struct {
	udp   map[netip.AddrPort][]endpoint
	local map[netip.Addr]bool // this machine's addresses, where node ports are
}

// MatchConntrackFlow implements netlink.CustomConntrackFilter.
func (s staleFlows) MatchConntrackFlow(f *netlink.ConntrackFlow) bool {
	if f.Forward.Protocol != unix.IPPROTO_UDP {
		return false
	}
	return s.stale(addrPort(f.Forward.DstIP, f.Forward.DstPort), addrPort(f.Reverse.SrcIP, f.Reverse.SrcPort))
}

// stale says whether a connection to a Service's address whose answers come from server ought to be forgotten.
func (s staleFlows) stale(to, server netip.AddrPort) bool {
	endpoints, ok := s.udp[to]
	if !ok && s.local[to.Addr()] {
		endpoints, ok = s.udp[netip.AddrPortFrom(netip.IPv4Unspecified(), to.Port())]
	}
	if !ok {
		return false
	}
	return !slices.ContainsFunc(endpoints, func(e endpoint) bool { return netip.AddrPortFrom(e.ip, e.port) == server })
}

func addrPort(ip net.IP, port uint16) netip.AddrPort {
	addr, _ := netip.AddrFromSlice(ip)
	return netip.AddrPortFrom(addr.Unmap(), port)
}

func localAddresses() (map[netip.Addr]bool, error) {
	list, err := netlink.AddrList(nil, netlink.FAMILY_V4)
	if err != nil {
		return nil, fmt.Errorf("list our addresses: %w", err)
	}
	local := map[netip.Addr]bool{}
	for _, a := range list {
		local[addrPort(a.IP, 0).Addr()] = true
	}
	return local, nil
}
