package proxy

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"sigs.k8s.io/knftables"
)

// Names of what every table has. A chain per service port is named "svc/NAMESPACE/NAME/PROTOCOL/PORT"; "ext/…" beside it
// takes what comes from outside, "loc/…" knows only endpoints on this node, "fw/…" checks who may come in, "ep/…" is one
// endpoint of a service with client affinity, and the set "aff/…" remembers that endpoint's clients.
const (
	mapServices    = "services"     // address . protocol . port → chain
	mapNodePorts   = "node-ports"   // protocol . port → chain
	mapFirewall    = "firewall"     // address . protocol . port → chain, for loadBalancerSourceRanges
	mapRefused     = "refused"      // address . protocol . port → reject or drop
	mapRefusedPort = "refused-port" // protocol . port → reject or drop
	setClusterIPs  = "cluster-ips"
	setHairpin     = "hairpin" // address . address: local endpoints that may reach themselves

	chainDispatch = "dispatch"
	chainGuard    = "guard"
	chainMark     = "mark-for-masquerade"
	chainPost     = "nat-postrouting"
	chainRefuse   = "refuse"
)

// mark is the bit of the packet mark that asks for masquerading.
const mark = "0x4000"

// table is the part of the nftables table that depends on Services and their endpoints. Two equal tables make the same
// ruleset; diff tells two apart.
type table struct {
	chains   map[string][]string          // rules by chain
	elements map[string]map[string]string // value by key by map or set; sets have empty values. Parts are joined by " . "
	affinity map[string]time.Duration     // timeout by set
}

func newTable() *table {
	t := &table{chains: map[string][]string{}, elements: map[string]map[string]string{}, affinity: map[string]time.Duration{}}
	for _, name := range containers() {
		t.elements[name] = map[string]string{}
	}
	return t
}

// containers are the maps and sets whose elements a table has, in the order in which they are written.
func containers() []string {
	return []string{mapServices, mapNodePorts, mapFirewall, mapRefused, mapRefusedPort, setClusterIPs, setHairpin}
}

func isSet(name string) bool { return name == setClusterIPs || name == setHairpin }

// op is one step of a transaction.
type op struct {
	verb   verb
	object knftables.Object
}

type verb int

const (
	add verb = iota
	flush
	remove
)

// fill puts ops into tx.
func fill(tx *knftables.Transaction, ops []op) {
	for _, o := range ops {
		switch o.verb {
		case add:
			tx.Add(o.object)
		case flush:
			tx.Flush(o.object)
		case remove:
			tx.Delete(o.object)
		}
	}
}

// full replaces whatever table there is by one with t's content.
func full(t *table, clusterCIDR netip.Prefix) []op {
	ops := []op{{add, &knftables.Table{}}, {remove, &knftables.Table{}}}
	ops = append(ops, frame(clusterCIDR)...)
	return append(ops, diff(newTable(), t)...)
}

// diff returns the steps that turn a table with old's content into one with new's, in an order that never refers to
// something that is not there (yet, or any more).
func diff(old, new *table) []op {
	var ops []op
	for _, name := range sortedKeys(new.affinity) {
		if _, ok := old.affinity[name]; !ok {
			ops = append(ops, op{add, affinitySet(name, new.affinity[name])})
		}
	}
	for _, name := range sortedKeys(new.chains) {
		if _, ok := old.chains[name]; !ok {
			ops = append(ops, op{add, &knftables.Chain{Name: name}})
		}
	}
	for _, name := range sortedKeys(new.chains) {
		had, ok := old.chains[name]
		if ok && slices.Equal(had, new.chains[name]) {
			continue
		}
		if ok {
			ops = append(ops, op{flush, &knftables.Chain{Name: name}})
		}
		for _, rule := range new.chains[name] {
			ops = append(ops, op{add, &knftables.Rule{Chain: name, Rule: rule}})
		}
	}
	for _, name := range containers() {
		ops = append(ops, diffElements(name, old.elements[name], new.elements[name])...)
	}
	return append(ops, diffGone(old, new)...)
}

func diffElements(container string, old, new map[string]string) []op {
	var ops []op
	for _, key := range sortedKeys(old) {
		if value, ok := new[key]; !ok || value != old[key] {
			ops = append(ops, op{remove, element(container, key, old[key])})
		}
	}
	for _, key := range sortedKeys(new) {
		if value, ok := old[key]; !ok || value != new[key] {
			ops = append(ops, op{add, element(container, key, new[key])})
		}
	}
	return ops
}

// diffGone removes chains and sets that are not wanted any more. Chains are emptied first: they may refer to each other.
func diffGone(old, new *table) []op {
	var ops, removals []op
	for _, name := range sortedKeys(old.chains) {
		if _, ok := new.chains[name]; !ok {
			ops = append(ops, op{flush, &knftables.Chain{Name: name}})
			removals = append(removals, op{remove, &knftables.Chain{Name: name}})
		}
	}
	for _, name := range sortedKeys(old.affinity) {
		if _, ok := new.affinity[name]; !ok {
			removals = append(removals, op{remove, affinitySet(name, old.affinity[name])})
		}
	}
	return append(ops, removals...)
}

func element(container, key, value string) *knftables.Element {
	e := &knftables.Element{Key: strings.Split(key, " . ")}
	if isSet(container) {
		e.Set = container
	} else {
		e.Map, e.Value = container, []string{value}
	}
	return e
}

// affinitySet remembers clients for as long as they keep coming. The timeout is part of the name (see affinityName), so
// that another timeout is another set.
func affinitySet(name string, timeout time.Duration) *knftables.Set {
	return &knftables.Set{Name: name, Type: "ipv4_addr", Flags: []knftables.SetFlag{knftables.DynamicFlag, knftables.TimeoutFlag}, Timeout: &timeout}
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// frame is what does not depend on Services. A packet to a service goes through it like this:
//
//	nat prerouting/output   firewall, then services or node ports: the destination becomes an endpoint
//	filter right after it   what still has a service's address has no endpoint or no such port: refused
//	nat postrouting         marked packets, pods that reach themselves and pods that leave the cluster are masqueraded
func frame(clusterCIDR netip.Prefix) []op {
	const addressKey, portKey = "ipv4_addr . inet_proto . inet_service", "inet_proto . inet_service"
	const service, port = "ip daddr . meta l4proto . th dport", "meta l4proto . th dport"
	const local = "fib daddr type local ip daddr != 127.0.0.0/8"
	ops := []op{{add, &knftables.Table{Comment: knftables.PtrTo("services of Canopus; rewritten at any time")}}}
	for _, name := range []string{mapServices, mapFirewall, mapRefused} {
		ops = append(ops, op{add, &knftables.Map{Name: name, Type: addressKey + " : verdict"}})
	}
	for _, name := range []string{mapNodePorts, mapRefusedPort} {
		ops = append(ops, op{add, &knftables.Map{Name: name, Type: portKey + " : verdict"}})
	}
	ops = append(ops,
		op{add, &knftables.Set{Name: setClusterIPs, Type: "ipv4_addr"}},
		op{add, &knftables.Set{Name: setHairpin, Type: "ipv4_addr . ipv4_addr"}},
	)
	chains := []*knftables.Chain{
		{Name: chainMark}, {Name: chainRefuse}, {Name: chainDispatch}, {Name: chainGuard},
		base("nat-prerouting", knftables.NATType, knftables.PreroutingHook, "-100"),
		base("nat-output", knftables.NATType, knftables.OutputHook, "-100"),
		base("filter-prerouting", knftables.FilterType, knftables.PreroutingHook, "-90"),
		base("filter-output", knftables.FilterType, knftables.OutputHook, "-90"),
		base(chainPost, knftables.NATType, knftables.PostroutingHook, "100"),
	}
	for _, c := range chains {
		ops = append(ops, op{add, c})
	}
	for _, r := range [][2]string{
		{chainMark, "meta mark set meta mark | " + mark},
		{chainRefuse, "reject"},
		{chainDispatch, service + " vmap @" + mapFirewall},
		{chainDispatch, fmt.Sprintf("ip daddr @%s ip saddr != %s jump %s", setClusterIPs, clusterCIDR, chainMark)},
		{chainDispatch, service + " vmap @" + mapServices},
		{chainDispatch, local + " " + port + " vmap @" + mapNodePorts},
		{chainGuard, service + " vmap @" + mapRefused},
		{chainGuard, local + " " + port + " vmap @" + mapRefusedPort},
		{chainGuard, "ip daddr @" + setClusterIPs + " reject"},
		{"nat-prerouting", "jump " + chainDispatch},
		{"nat-output", "jump " + chainDispatch},
		{"filter-prerouting", "ct state new jump " + chainGuard},
		{"filter-output", "ct state new jump " + chainGuard},
		{chainPost, fmt.Sprintf("meta mark & %[1]s == %[1]s meta mark set meta mark ^ %[1]s masquerade fully-random", mark)},
		{chainPost, "ct status dnat ip saddr . ip daddr @" + setHairpin + " masquerade fully-random"},
		{chainPost, fmt.Sprintf("ip saddr %[1]s ip daddr != %[1]s ip daddr != 224.0.0.0/4 masquerade fully-random", clusterCIDR)},
	} {
		ops = append(ops, op{add, &knftables.Rule{Chain: r[0], Rule: r[1]}})
	}
	return ops
}

func base(name string, typ knftables.BaseChainType, hook knftables.BaseChainHook, priority knftables.BaseChainPriority) *knftables.Chain {
	return &knftables.Chain{Name: name, Type: &typ, Hook: &hook, Priority: &priority}
}

// ruleOf returns the chain of o if o is a rule.
func ruleOf(o knftables.Object) (chain string, isRule bool) {
	r, ok := o.(*knftables.Rule)
	if !ok {
		return "", false
	}
	return r.Chain, true
}
