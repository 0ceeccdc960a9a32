package proxy

import (
	"fmt"
	"net/netip"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// external enters the addresses at which a Service is reached from outside the cluster: external IPs, load balancer
// addresses and the node port. They share one chain.
func (b builder) external(everywhere, here []endpoint) {
	local := b.svc.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal
	outside := everywhere
	if local {
		outside = here
	}
	to := target{b.name("ext"), outside, refusal(everywhere, outside)}
	if local && len(everywhere) > 0 {
		to.endpoints = everywhere // the chain itself drops what comes from outside: pods and this node may still use it
	}
	used := b.enterExternal(to)
	if local && b.svc.Spec.HealthCheckNodePort > 0 {
		b.health[uint16(b.svc.Spec.HealthCheckNodePort)] = health{
			service: types.NamespacedName{Namespace: b.svc.Namespace, Name: b.svc.Name},
			local:   len(filter(here, func(e endpoint) bool { return e.ready })),
		}
	}
	if !used || len(to.endpoints) == 0 {
		return
	}
	b.balance(b.name("svc"), everywhere)
	if !local {
		b.table.chains[to.chain] = []string{"jump " + chainMark, "goto " + b.name("svc")}
		return
	}
	rules := []string{
		fmt.Sprintf("ip saddr %s goto %s", b.clusterCIDR, b.name("svc")),
		"fib saddr type local jump " + chainMark,
		"fib saddr type local goto " + b.name("svc"),
	}
	if len(here) > 0 {
		b.balance(b.name("loc"), here)
		rules = append(rules, "goto "+b.name("loc"))
	} else {
		rules = append(rules, "drop")
	}
	b.table.chains[to.chain] = rules
}

// enterExternal enters every external address and says whether there is one.
func (b builder) enterExternal(to target) (used bool) {
	for _, s := range b.svc.Spec.ExternalIPs {
		if ip, ok := parse4(s); ok {
			b.serve(mapServices, mapRefused, b.key(ip), to)
			b.remember(ip, to.endpoints)
			used = true
		}
	}
	if b.svc.Spec.Type == corev1.ServiceTypeLoadBalancer {
		for _, ingress := range b.svc.Status.LoadBalancer.Ingress {
			ip, ok := parse4(ingress.IP)
			if !ok || ingress.IPMode != nil && *ingress.IPMode == corev1.LoadBalancerIPModeProxy {
				continue
			}
			b.serve(mapServices, mapRefused, b.key(ip), to)
			b.remember(ip, to.endpoints)
			b.firewall(ip)
			used = true
		}
	}
	if b.port.NodePort > 0 {
		b.serve(mapNodePorts, mapRefusedPort, fmt.Sprintf("%s . %d", b.proto, b.port.NodePort), to)
		if b.proto == "udp" {
			b.udp[netip.AddrPortFrom(netip.IPv4Unspecified(), uint16(b.port.NodePort))] = to.endpoints
		}
		used = true
	}
	return used
}

// firewall lets only loadBalancerSourceRanges reach a load balancer address: nobody if all of them are IPv6.
func (b builder) firewall(ip netip.Addr) {
	var ranges []string
	for _, s := range b.svc.Spec.LoadBalancerSourceRanges {
		if p, err := netip.ParsePrefix(strings.TrimSpace(s)); err == nil && p.Addr().Is4() {
			ranges = append(ranges, p.Masked().String())
		}
	}
	if len(b.svc.Spec.LoadBalancerSourceRanges) == 0 {
		return
	}
	name := b.name("fw")
	b.set(mapFirewall, b.key(ip), "jump "+name)
	var rules []string
	for _, r := range ranges {
		rules = append(rules, "ip saddr "+r+" return")
	}
	b.table.chains[name] = append(rules, "drop")
}

func parse4(s string) (netip.Addr, bool) {
	ip, err := netip.ParseAddr(s)
	return ip, err == nil && ip.Is4()
}
