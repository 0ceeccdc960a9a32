package network

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// protocol marks the routes that are ours (shown by `ip route` as "proto 186"). Numbers below 192 and unknown to
// iproute2 are free for this.
const protocol = 186

// localNetworks lists the IPv4 networks that this machine is directly attached to.
func localNetworks() ([]link, error) {
	interfaces, err := netlink.LinkList()
	if err != nil {
		return nil, fmt.Errorf("list network interfaces: %w", err)
	}
	var found []link
	for _, i := range interfaces {
		attrs := i.Attrs()
		if attrs.Flags&net.FlagUp == 0 || attrs.Flags&net.FlagLoopback != 0 {
			continue
		}
		addrs, err := netlink.AddrList(i, netlink.FAMILY_V4)
		if err != nil {
			return nil, fmt.Errorf("list the addresses of %s: %w", attrs.Name, err)
		}
		for _, a := range addrs {
			if p, ok := prefixOf(a.IPNet); ok {
				found = append(found, link{index: attrs.Index, mtu: attrs.MTU, network: p})
			}
		}
	}
	return found, nil
}

func prefixOf(n *net.IPNet) (netip.Prefix, bool) {
	if n == nil {
		return netip.Prefix{}, false
	}
	ip, ok := netip.AddrFromSlice(n.IP.To4())
	bits, _ := n.Mask.Size()
	return netip.PrefixFrom(ip, bits), ok
}

// ourRoutes lists the routes that carry our mark.
func ourRoutes() ([]route, error) {
	list, err := netlink.RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{Protocol: protocol}, netlink.RT_FILTER_PROTOCOL)
	if err != nil {
		return nil, fmt.Errorf("list routes: %w", err)
	}
	var found []route
	for _, r := range list {
		to, ok := prefixOf(r.Dst)
		via, _ := netip.AddrFromSlice(r.Gw.To4())
		if ok {
			found = append(found, route{to: to, via: via, link: r.LinkIndex})
		}
	}
	return found, nil
}

func applyRoutes(c change) error {
	var errs []error
	for _, r := range c.remove {
		if err := netlink.RouteDel(r.netlink()); err != nil && !errors.Is(err, unix.ESRCH) {
			errs = append(errs, fmt.Errorf("remove the route to %s: %w", r.to, err))
		}
	}
	for _, r := range c.add {
		if err := netlink.RouteReplace(r.netlink()); err != nil {
			errs = append(errs, fmt.Errorf("set the route to %s via %s: %w", r.to, r.via, err))
		}
	}
	return errors.Join(errs...)
}

func (r route) netlink() *netlink.Route {
	return &netlink.Route{
		Dst: &net.IPNet{IP: r.to.Addr().AsSlice(), Mask: net.CIDRMask(r.to.Bits(), 32)},
		Gw:  r.via.AsSlice(), LinkIndex: r.link, Protocol: protocol,
	}
}

// sysctl is one kernel setting.
type sysctl struct{ path, value, module string }

// sysctls are what the pod network needs of the kernel. Without the second a pod that reaches another pod of its node
// through a Service would get the answer from an address it did not ask, because the bridge would not show it to nftables.
func sysctls() []sysctl {
	return []sysctl{
		{path: "/proc/sys/net/ipv4/ip_forward", value: "1"},
		{path: "/proc/sys/net/bridge/bridge-nf-call-iptables", value: "1", module: "br_netfilter"},
	}
}

func setSysctls() error {
	var errs []error
	for _, s := range sysctls() {
		if err := s.set(); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// set writes the setting unless it has the value, loading the kernel module that brings it if there is one.
func (s sysctl) set() error {
	have, err := os.ReadFile(s.path)
	if errors.Is(err, os.ErrNotExist) && s.module != "" {
		if out, err := exec.Command("modprobe", s.module).CombinedOutput(); err != nil {
			return fmt.Errorf("the kernel module %s is missing and could not be loaded (install it, or a kernel that has it): %w: %s", s.module, err, strings.TrimSpace(string(out)))
		}
		have, err = os.ReadFile(s.path)
	}
	if err != nil {
		return fmt.Errorf("read kernel setting: %w", err)
	}
	if strings.TrimSpace(string(have)) == s.value {
		return nil
	}
	if err := os.WriteFile(s.path, []byte(s.value), 0); err != nil {
		return fmt.Errorf("set kernel setting %s to %s: %w", s.path, s.value, err)
	}
	return nil
}
