package endpointslice

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"canopus/internal/controllers/slicepack"
)

// Hints by zone, asked for by the annotation service.kubernetes.io/topology-mode: Auto (KEP-2433). Each zone is given endpoints
// by its part of the CPUs, its own as far as they go: zones that have too few get some of those that have most.

// overload is how far a zone's endpoints may be loaded beyond what an even spread would give them.
const overload = 0.2

// Why there are no hints, as upstream says it.
const (
	whyNodes     = "Insufficient Node information: allocatable CPU or zone not specified on one or more nodes"
	whyOneZone   = "Nodes only ready in one zone"
	whyNoZone    = "One or more endpoints do not have a zone specified"
	whyFew       = "Insufficient number of endpoints"
	whyOverload  = "Minimum allocation of required endpoints exceeds overload threshold"
	whyNotWanted = "Topology Aware Hints has been disabled"
)

const (
	enabledReason  = "TopologyAwareHintsEnabled"
	disabledReason = "TopologyAwareHintsDisabled"
	enabledText    = "Topology Aware Hints has been enabled"
)

// wantsZones tells whether svc asks for hints by zone.
func wantsZones(svc *corev1.Service) bool {
	mode, given := svc.Annotations[corev1.DeprecatedAnnotationTopologyAwareHints]
	if !given {
		mode = svc.Annotations[corev1.AnnotationTopologyMode]
	}
	return mode == "Auto" || mode == "auto"
}

// shares is each zone's part of the CPUs that pods can have; the parts add up to 1. Without zones, why says what is wrong.
type shares struct {
	of  map[string]float64
	why string
}

// sharesOf counts the ready nodes that are not set aside for the control plane.
func sharesOf(nodes []*corev1.Node) shares {
	of := map[string]float64{}
	var total float64
	for _, n := range nodes {
		if !counts(n) {
			continue
		}
		zone, cpus := n.Labels[corev1.LabelTopologyZone], n.Status.Allocatable.Cpu().AsApproximateFloat64()
		if zone == "" || cpus <= 0 {
			return shares{why: whyNodes}
		}
		of[zone] += cpus
		total += cpus
	}
	if len(of) < 2 {
		return shares{why: whyOneZone}
	}
	for zone := range of {
		of[zone] /= total
	}
	return shares{of: of}
}

func counts(n *corev1.Node) bool {
	for _, label := range []string{"node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/master"} {
		if _, set := n.Labels[label]; set {
			return false
		}
	}
	return slices.ContainsFunc(n.Status.Conditions, func(c corev1.NodeCondition) bool {
		return c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue
	})
}

// weight is what of a node the shares depend on.
func weight(n *corev1.Node) string {
	if n == nil || !counts(n) {
		return ""
	}
	return fmt.Sprint(n.Labels[corev1.LabelTopologyZone], " ", n.Status.Allocatable.Cpu().MilliValue())
}

// spread gives the ready endpoints of each family hints by s. It returns for each family why it has none, "" when it has.
func spread(groups []slicepack.Group, s shares) map[discoveryv1.AddressType]string {
	families := map[discoveryv1.AddressType][]*discoveryv1.Endpoint{}
	for g := range groups {
		family := groups[g].Family
		for i := range groups[g].Endpoints {
			if e := &groups[g].Endpoints[i]; *e.Conditions.Ready {
				families[family] = append(families[family], e)
			}
		}
	}
	out := map[discoveryv1.AddressType]string{}
	for family, endpoints := range families {
		zoneOf, why := allot(endpoints, s)
		for e, zone := range zoneOf {
			e.Hints = &discoveryv1.EndpointHints{ForZones: []discoveryv1.ForZone{{Name: zone}}}
		}
		out[family] = why
	}
	return out
}

// allot finds the zone that each endpoint is to serve. The result depends on nothing but what is handed in, and an endpoint that
// comes or goes moves few others.
func allot(endpoints []*discoveryv1.Endpoint, s shares) (map[*discoveryv1.Endpoint]string, string) {
	switch {
	case s.why != "":
		return nil, s.why
	case len(endpoints) < len(s.of):
		return nil, whyFew
	}
	z := zones{shares: s.of, total: float64(len(endpoints)), members: map[string][]*discoveryv1.Endpoint{}}
	for _, e := range endpoints {
		if e.Zone == nil {
			return nil, whyNoZone
		}
		z.members[*e.Zone] = append(z.members[*e.Zone], e)
	}
	needed := 0
	for zone := range s.of {
		needed += z.least(zone)
	}
	if needed > len(endpoints) {
		return nil, whyOverload
	}
	for _, m := range z.members {
		slices.SortFunc(m, slicepack.Compare)
	}
	z.balance()
	out := make(map[*discoveryv1.Endpoint]string, len(endpoints))
	for zone, m := range z.members {
		for _, e := range m {
			out[e] = zone
		}
	}
	return out, ""
}

// zones are endpoints by the zone that they are to serve.
type zones struct {
	shares  map[string]float64
	total   float64
	members map[string][]*discoveryv1.Endpoint
}

// least is how few endpoints zone may have: as many as carry its load, each with the overload that is bearable.
func (z *zones) least(zone string) int {
	return int(math.Ceil(z.shares[zone] * z.total / (1 + overload)))
}

// surplus is how many endpoints more than its share a zone has. Zones without nodes that count have no share.
func (z *zones) surplus(zone string) float64 {
	return float64(len(z.members[zone])) - z.shares[zone]*z.total
}

// balance moves endpoints until every zone has its least, and none is left to a zone without share.
func (z *zones) balance() {
	for {
		poorest, short := "", false
		for _, zone := range slices.Sorted(maps.Keys(z.shares)) {
			if len(z.members[zone]) < z.least(zone) && (!short || z.surplus(zone) < z.surplus(poorest)) {
				poorest, short = zone, true
			}
		}
		giver, found := z.giver()
		switch {
		case !found:
			return
		case !short && z.shares[giver] > 0:
			return
		case !short:
			poorest = slices.MinFunc(slices.Sorted(maps.Keys(z.shares)), func(a, b string) int { return cmp.Compare(z.surplus(a), z.surplus(b)) })
		}
		from := z.members[giver]
		z.members[poorest] = append(z.members[poorest], from[len(from)-1])
		z.members[giver] = from[:len(from)-1]
	}
}

// giver is the zone that can best do without one of its endpoints: one without share, else that with most too many.
func (z *zones) giver() (string, bool) {
	best, found := "", false
	for _, zone := range slices.Sorted(maps.Keys(z.members)) {
		switch n := len(z.members[zone]); {
		case n <= z.least(zone):
		case z.shares[zone] == 0:
			return zone, true
		case !found || z.surplus(zone) > z.surplus(best):
			best, found = zone, true
		}
	}
	return best, found
}
