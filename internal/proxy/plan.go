package proxy

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Labels that take a Service or a slice out of this proxy's hands.
const (
	labelOtherProxy = "service.kubernetes.io/service-proxy-name"
	labelHeadless   = corev1.IsHeadlessService
)

// observed is everything that plan looks at.
type observed struct {
	here        place
	clusterCIDR netip.Prefix
	except      []netip.Addr // cluster IPs that something else on this node serves
	services    []*corev1.Service
	slices      map[types.NamespacedName][]*discoveryv1.EndpointSlice // by Service
}

// wanted is what plan decides.
type wanted struct {
	table  *table
	health map[uint16]health             // by healthCheckNodePort
	udp    map[netip.AddrPort][]endpoint // the endpoints of each UDP service address; a zero address stands for any node address
	doubt  []string                      // claims that contradict each other, for the log
}

// health is what the health check port of a Service with externalTrafficPolicy Local answers.
type health struct {
	service types.NamespacedName
	local   int // ready endpoints on this node
}

// plan returns the ruleset for what was observed. It reads and changes nothing outside its arguments. If two Services
// claim the same address and port the first by namespace and name gets it.
func plan(o observed) wanted {
	w := wanted{table: newTable(), health: map[uint16]health{}, udp: map[netip.AddrPort][]endpoint{}}
	services := slices.Clone(o.services)
	slices.SortFunc(services, func(a, b *corev1.Service) int {
		return cmp.Or(strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Name, b.Name))
	})
	for _, svc := range services {
		ip, ok := clusterIP(svc)
		if !ok || slices.Contains(o.except, ip) {
			continue
		}
		w.set(setClusterIPs, ip.String(), "")
		for _, p := range svc.Spec.Ports {
			all := endpointsOf(o.slices[types.NamespacedName{Namespace: svc.Namespace, Name: svc.Name}], p)
			b := builder{wanted: &w, observed: &o, svc: svc, port: p, ip: ip, all: all, proto: strings.ToLower(string(protocolOf(p)))}
			b.build()
		}
	}
	return w
}

// clusterIP returns the IPv4 address of svc; false for Services that this proxy does not serve.
func clusterIP(svc *corev1.Service) (netip.Addr, bool) {
	if svc.Spec.Type == corev1.ServiceTypeExternalName || svc.Labels[labelOtherProxy] != "" {
		return netip.Addr{}, false
	}
	for _, s := range append([]string{svc.Spec.ClusterIP}, svc.Spec.ClusterIPs...) {
		if ip, err := netip.ParseAddr(s); err == nil && ip.Is4() {
			return ip, true
		}
	}
	return netip.Addr{}, false
}

// set puts an element in unless another Service has it; then it is noted and false returned.
func (w *wanted) set(container, key, value string) bool {
	if had, taken := w.table.elements[container][key]; taken && had != value {
		w.doubt = append(w.doubt, fmt.Sprintf("%s %q: %s stays, %s is left out", container, key, had, value))
		return false
	}
	w.table.elements[container][key] = value
	return true
}

// builder makes the chains and elements for one port of one Service.
type builder struct {
	*wanted
	*observed
	svc   *corev1.Service
	port  corev1.ServicePort
	proto string
	ip    netip.Addr
	all   []endpoint
}

func (b builder) build() {
	switch b.proto {
	case "tcp", "udp", "sctp":
	default:
		return
	}
	everywhere, here := usable(b.all, b.here), usableHere(b.all, b.here)
	b.hairpin()

	inside, chain := everywhere, b.name("svc")
	if p := b.svc.Spec.InternalTrafficPolicy; p != nil && *p == corev1.ServiceInternalTrafficPolicyLocal {
		inside, chain = here, b.name("loc")
	}
	// The answer without endpoints: a refusal, unless other nodes have some: then silence, so that clients try again.
	b.serve(mapServices, mapRefused, b.key(b.ip), target{chain, inside, refusal(everywhere, inside)})
	b.balance(chain, inside)
	b.remember(b.ip, inside)
	b.external(everywhere, here)
}

// target is where packets for an address go: to chain if there are endpoints, else to the refusal.
type target struct {
	chain     string
	endpoints []endpoint
	refusal   string
}

// serve enters one address: served if there are endpoints, else refused.
func (b builder) serve(served, refused, key string, to target) {
	if len(to.endpoints) > 0 {
		b.set(served, key, "goto "+to.chain)
	} else {
		b.set(refused, key, to.refusal)
	}
}

func refusal(everywhere, allowed []endpoint) string {
	if len(everywhere) > 0 && len(allowed) == 0 {
		return "drop"
	}
	return "goto " + chainRefuse
}

func (b builder) name(kind string) string {
	return fmt.Sprintf("%s/%s/%s/%s/%d", kind, b.svc.Namespace, b.svc.Name, b.proto, b.port.Port)
}

func (b builder) key(ip netip.Addr) string {
	return fmt.Sprintf("%s . %s . %d", ip, b.proto, b.port.Port)
}

// hairpin lets local endpoints reach themselves through the Service.
func (b builder) hairpin() {
	for _, e := range b.all {
		if e.node == b.here.node {
			b.set(setHairpin, e.ip.String()+" . "+e.ip.String(), "")
		}
	}
}

// remember notes for conntrack's sake which endpoints serve a UDP address.
func (b builder) remember(ip netip.Addr, endpoints []endpoint) {
	if b.proto == "udp" {
		b.udp[netip.AddrPortFrom(ip, uint16(b.port.Port))] = endpoints
	}
}

// balance writes the chain that spreads packets over endpoints.
func (b builder) balance(chain string, endpoints []endpoint) {
	if len(endpoints) == 0 {
		return
	}
	if b.svc.Spec.SessionAffinity == corev1.ServiceAffinityClientIP {
		b.balanceSticky(chain, endpoints)
		return
	}
	b.table.chains[chain] = []string{fmt.Sprintf("meta l4proto %s dnat ip addr . port to numgen random mod %d map { %s }", b.proto, len(endpoints),
		numbered(endpoints, func(e endpoint) string { return e.String() }))}
}

// balanceSticky first looks for an endpoint that knows the client, then picks one, which remembers the client.
func (b builder) balanceSticky(chain string, endpoints []endpoint) {
	timeout := time.Duration(corev1.DefaultClientIPServiceAffinitySeconds) * time.Second
	if c := b.svc.Spec.SessionAffinityConfig; c != nil && c.ClientIP != nil && c.ClientIP.TimeoutSeconds != nil {
		timeout = time.Duration(*c.ClientIP.TimeoutSeconds) * time.Second
	}
	var rules []string
	for _, e := range endpoints {
		name, clients := b.endpointName("ep", e), b.affinityName(e, timeout)
		b.table.affinity[clients] = timeout
		b.table.chains[name] = []string{
			fmt.Sprintf("update @%s { ip saddr }", clients),
			fmt.Sprintf("meta l4proto %s dnat to %s:%d", b.proto, e.ip, e.port),
		}
		rules = append(rules, fmt.Sprintf("ip saddr @%s goto %s", clients, name))
	}
	b.table.chains[chain] = append(rules, fmt.Sprintf("numgen random mod %d vmap { %s }", len(endpoints),
		numbered(endpoints, func(e endpoint) string { return "goto " + b.endpointName("ep", e) })))
}

func (b builder) endpointName(kind string, e endpoint) string {
	return fmt.Sprintf("%s/%s/%d", b.name(kind), e.ip, e.port)
}

// affinityName holds the timeout, which nft cannot change in a set that is in use.
func (b builder) affinityName(e endpoint, timeout time.Duration) string {
	return fmt.Sprintf("%s/%d", b.endpointName("aff", e), int(timeout.Seconds()))
}

func numbered(endpoints []endpoint, value func(endpoint) string) string {
	var parts []string
	for i, e := range endpoints {
		parts = append(parts, strconv.Itoa(i)+" : "+value(e))
	}
	return strings.Join(parts, " , ") // blanks on both sides, as knftables wants them
}
