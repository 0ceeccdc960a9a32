package endpointslice

import (
	"cmp"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/equality"

	"canopus/internal/controllers/backends"
)

// fullSlice is how many endpoints a slice may hold.
const fullSlice = 100

// actions is what the slices of a Service need. All slices in it are the plan's own copies.
type actions struct {
	create, update, remove []*discoveryv1.EndpointSlice
}

// plan brings the existing slices of svc to the wanted groups with few and small writes: an endpoint stays in the slice it
// is in, new ones go first into slices that are written anyway, and a slice that became empty is filled again before a
// new one is made. A family without endpoints keeps one empty slice, so that consumers know it is served.
func plan(svc *corev1.Service, existing []*discoveryv1.EndpointSlice, groups []group) actions {
	p := &packer{svc: svc, spare: map[discoveryv1.AddressType][]*slot{}}
	slots := map[string][]*slot{}
	wanted := map[string]bool{}
	for _, g := range groups {
		wanted[g.key()] = true
	}
	ordered := slices.SortedFunc(slices.Values(existing), func(a, b *discoveryv1.EndpointSlice) int { return cmp.Compare(a.Name, b.Name) })
	for _, s := range ordered {
		sl := &slot{was: s, now: s.DeepCopy()}
		if key := groupKey(s.AddressType, s.Ports); wanted[key] {
			slots[key] = append(slots[key], sl)
		} else {
			p.spare[s.AddressType] = append(p.spare[s.AddressType], sl)
		}
	}
	for _, g := range groups {
		p.pack(g, slots[g.key()])
	}
	p.placeholders(groups)
	return p.finish()
}

// slot is one slice in the making.
type slot struct {
	was, now *discoveryv1.EndpointSlice // was is nil: to be created
	changed  bool
}

func (s *slot) room() int { return fullSlice - len(s.now.Endpoints) }

func (s *slot) fill(from []discoveryv1.Endpoint) []discoveryv1.Endpoint {
	n := min(len(from), s.room())
	s.now.Endpoints = append(s.now.Endpoints, from[:n]...)
	s.changed = s.changed || n > 0
	return from[n:]
}

type packer struct {
	svc   *corev1.Service
	used  []*slot
	spare map[discoveryv1.AddressType][]*slot // slices that carry nothing wanted
}

func (p *packer) pack(g group, slots []*slot) {
	want := make(map[string]discoveryv1.Endpoint, len(g.endpoints))
	for _, e := range g.endpoints {
		want[identity(e)] = e
	}
	var used []*slot
	for _, s := range slots {
		s.keep(want)
		if len(s.now.Endpoints) == 0 {
			p.spare[g.family] = append(p.spare[g.family], s)
			continue
		}
		used = append(used, s)
	}
	var rest []discoveryv1.Endpoint
	for _, e := range g.endpoints {
		if _, ok := want[identity(e)]; ok {
			rest = append(rest, e)
		}
	}
	fullest := func(a, b *slot) int { return cmp.Compare(a.room(), b.room()) }
	slices.SortStableFunc(used, fullest)
	for _, s := range used {
		if s.changed {
			rest = s.fill(rest)
		}
	}
	for len(rest) > 0 {
		// The fullest untouched slice that takes all that is left; failing that, a spare or new one.
		fits := slices.IndexFunc(used, func(s *slot) bool { return !s.changed && s.room() >= len(rest) })
		if fits >= 0 {
			rest = used[fits].fill(rest)
			continue
		}
		s := p.blank(g)
		rest = s.fill(rest)
		used = append(used, s)
	}
	p.used = append(p.used, used...)
}

// keep drops from the slice what is not in want, updates what is, and takes from want what it holds.
func (s *slot) keep(want map[string]discoveryv1.Endpoint) {
	kept := make([]discoveryv1.Endpoint, 0, len(s.now.Endpoints))
	for _, e := range s.now.Endpoints {
		w, ok := want[identity(e)]
		if !ok {
			s.changed = true
			continue
		}
		delete(want, identity(e))
		if !equality.Semantic.DeepEqual(e, w) {
			s.changed = true
		}
		kept = append(kept, w)
	}
	s.now.Endpoints = kept
}

// blank returns an empty slot for g: a spare slice if there is one.
func (p *packer) blank(g group) *slot {
	spare := p.spare[g.family]
	if len(spare) == 0 {
		s := &slot{now: newSlice(p.svc, g.family), changed: true}
		s.now.Ports = g.ports
		return s
	}
	p.spare[g.family] = spare[1:]
	s := spare[0]
	s.now.Endpoints, s.now.Ports, s.changed = []discoveryv1.Endpoint{}, g.ports, true
	return s
}

func (p *packer) placeholders(groups []group) {
	if p.svc.Spec.Type == corev1.ServiceTypeExternalName {
		return
	}
	for _, family := range backends.Families(p.svc) {
		address := discoveryv1.AddressType(family)
		if slices.ContainsFunc(groups, func(g group) bool { return g.family == address }) {
			continue
		}
		empty := group{family: address, ports: []discoveryv1.EndpointPort{}}
		spare := p.spare[address]
		i := slices.IndexFunc(spare, func(s *slot) bool { return len(s.was.Endpoints) == 0 && len(s.was.Ports) == 0 })
		if i >= 0 {
			p.used = append(p.used, spare[i])
			p.spare[address] = slices.Delete(spare, i, i+1)
			continue
		}
		p.used = append(p.used, p.blank(empty))
	}
}

func (p *packer) finish() actions {
	var a actions
	labels := sliceLabels(p.svc)
	for _, s := range p.used {
		switch {
		case s.was == nil:
			a.create = append(a.create, s.now)
		case s.changed || !maps.Equal(s.was.Labels, labels):
			s.now.Labels = labels
			a.update = append(a.update, s.now)
		}
	}
	for _, family := range slices.Sorted(maps.Keys(p.spare)) {
		for _, s := range p.spare[family] {
			a.remove = append(a.remove, s.was)
		}
	}
	return a
}
