// Package slicepack puts endpoints into EndpointSlices with few and small writes. Whatever the endpoints come from, a
// Service's pods or a hand-written Endpoints object, the packing is the same.
package slicepack

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/types"
)

// Full is how many endpoints a slice may hold.
const Full = 100

// Group is endpoints of one family that have the same ports: they can share slices.
type Group struct {
	Family    discoveryv1.AddressType
	Ports     []discoveryv1.EndpointPort
	Endpoints []discoveryv1.Endpoint
}

// Key is equal for groups whose endpoints can share slices.
func (g Group) Key() string { return groupKey(g.Family, g.Ports) }

func groupKey(family discoveryv1.AddressType, ports []discoveryv1.EndpointPort) string {
	texts := make([]string, 0, len(ports))
	for _, p := range ports {
		texts = append(texts, fmt.Sprintf("%s/%s/%d/%s", value(p.Name), value(p.Protocol), value(p.Port), value(p.AppProtocol)))
	}
	slices.Sort(texts)
	return string(family) + " " + strings.Join(texts, " ")
}

func value[T any](p *T) T {
	var zero T
	if p == nil {
		return zero
	}
	return *p
}

// ID tells endpoints apart: the same pod may come back with another address, and the reverse.
type ID struct {
	addresses string
	target    types.UID
}

// Identity is equal for endpoints that are the same.
func Identity(e *discoveryv1.Endpoint) ID {
	var id ID
	if len(e.Addresses) == 1 { // nearly always
		id.addresses = e.Addresses[0]
	} else {
		id.addresses = strings.Join(e.Addresses, ",")
	}
	if e.TargetRef != nil {
		id.target = e.TargetRef.UID
	}
	return id
}

// Compare is an order of endpoints.
func Compare(a, b *discoveryv1.Endpoint) int {
	x, y := Identity(a), Identity(b)
	return cmp.Or(cmp.Compare(x.addresses, y.addresses), cmp.Compare(x.target, y.target))
}

// Target says what the slices are for.
type Target struct {
	New    func(discoveryv1.AddressType) *discoveryv1.EndpointSlice // an empty one to be created
	Labels map[string]string                                        // of every slice
	// Annotations are all that every slice has; nil: whatever is there.
	Annotations map[string]string
	Keep        []discoveryv1.AddressType // families that keep an empty slice when they have no endpoints
}

// Actions is what the slices need. What is created and updated are the plan's own copies.
type Actions struct {
	Create, Update, Remove []*discoveryv1.EndpointSlice
	Added, Dropped         int // endpoints that the slices gain and lose; with other ports one is another
}

// Plan brings the existing slices to the wanted groups: an endpoint stays in the slice it
// is in, new ones go first into slices that are written anyway, and a slice that became empty is filled again before a
// new one is made. It changes nothing.
func Plan(target Target, existing []*discoveryv1.EndpointSlice, groups []Group) Actions {
	p := &packer{target: target, spare: map[discoveryv1.AddressType][]*slot{}}
	slots := map[string][]*slot{}
	wanted := map[string]bool{}
	for _, g := range groups {
		wanted[g.Key()] = true
	}
	ordered := slices.SortedFunc(slices.Values(existing), func(a, b *discoveryv1.EndpointSlice) int { return cmp.Compare(a.Name, b.Name) })
	for _, s := range ordered {
		now := *s // what changes of it is replaced, never written into
		sl := &slot{was: s, now: &now}
		if key := groupKey(s.AddressType, s.Ports); wanted[key] {
			slots[key] = append(slots[key], sl)
		} else {
			p.spare[s.AddressType] = append(p.spare[s.AddressType], sl)
			p.lost += len(s.Endpoints)
		}
	}
	for _, g := range groups {
		p.pack(g, slots[g.Key()])
	}
	p.placeholders(groups)
	return p.finish()
}

// slot is one slice in the making.
type slot struct {
	was, now *discoveryv1.EndpointSlice // was is nil: to be created
	changed  bool
}

func (s *slot) room() int { return Full - len(s.now.Endpoints) }

func (s *slot) fill(from []discoveryv1.Endpoint) []discoveryv1.Endpoint {
	n := min(len(from), s.room())
	s.now.Endpoints = append(s.now.Endpoints, from[:n]...)
	s.changed = s.changed || n > 0
	return from[n:]
}

type packer struct {
	target Target
	used   []*slot
	added  int
	lost   int
	spare  map[discoveryv1.AddressType][]*slot // slices that carry nothing wanted
}

func (p *packer) pack(g Group, slots []*slot) {
	want := make(map[ID]*discoveryv1.Endpoint, len(g.Endpoints))
	for i := range g.Endpoints {
		want[Identity(&g.Endpoints[i])] = &g.Endpoints[i]
	}
	var used []*slot
	for _, s := range slots {
		p.lost += s.keep(want)
		if len(s.now.Endpoints) == 0 {
			p.spare[g.Family] = append(p.spare[g.Family], s)
			continue
		}
		used = append(used, s)
	}
	p.added += len(want)
	rest := make([]discoveryv1.Endpoint, 0, len(want))
	for _, e := range want {
		rest = append(rest, *e)
	}
	slices.SortFunc(rest, func(a, b discoveryv1.Endpoint) int { return Compare(&a, &b) })
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

// keep drops from the slice what is not in want, updates what is, and takes from want what it holds. It returns how many it
// dropped.
func (s *slot) keep(want map[ID]*discoveryv1.Endpoint) int {
	kept := make([]discoveryv1.Endpoint, 0, len(s.now.Endpoints))
	for i := range s.now.Endpoints {
		e := &s.now.Endpoints[i]
		id := Identity(e)
		w, ok := want[id]
		if !ok {
			s.changed = true
			continue
		}
		delete(want, id)
		s.changed = s.changed || !same(e, w)
		kept = append(kept, *w)
	}
	dropped := len(s.now.Endpoints) - len(kept)
	s.now.Endpoints = kept
	return dropped
}

// same reports whether two endpoints say the same. Nearly all do, thousands at a time: reflection is for the few that have hints.
func same(a, b *discoveryv1.Endpoint) bool {
	return slices.Equal(a.Addresses, b.Addresses) &&
		equal(a.Conditions.Ready, b.Conditions.Ready) && equal(a.Conditions.Serving, b.Conditions.Serving) &&
		equal(a.Conditions.Terminating, b.Conditions.Terminating) &&
		equal(a.Hostname, b.Hostname) && equal(a.NodeName, b.NodeName) && equal(a.Zone, b.Zone) && equal(a.TargetRef, b.TargetRef) &&
		maps.Equal(a.DeprecatedTopology, b.DeprecatedTopology) && (a.Hints == nil && b.Hints == nil || equality.Semantic.DeepEqual(a.Hints, b.Hints))
}

func equal[T comparable](a, b *T) bool { return a == b || a != nil && b != nil && *a == *b }

// blank returns an empty slot for g: a spare slice if there is one.
func (p *packer) blank(g Group) *slot {
	spare := p.spare[g.Family]
	if len(spare) == 0 {
		s := &slot{now: p.target.New(g.Family), changed: true}
		s.now.Ports = g.Ports
		return s
	}
	p.spare[g.Family] = spare[1:]
	s := spare[0]
	s.now.Endpoints, s.now.Ports, s.changed = []discoveryv1.Endpoint{}, g.Ports, true
	return s
}

func (p *packer) placeholders(groups []Group) {
	for _, family := range p.target.Keep {
		if slices.ContainsFunc(groups, func(g Group) bool { return g.Family == family }) {
			continue
		}
		spare := p.spare[family]
		i := slices.IndexFunc(spare, func(s *slot) bool { return len(s.was.Endpoints) == 0 && len(s.was.Ports) == 0 })
		if i >= 0 {
			p.used = append(p.used, spare[i])
			p.spare[family] = slices.Delete(spare, i, i+1)
			continue
		}
		p.used = append(p.used, p.blank(Group{Family: family, Ports: []discoveryv1.EndpointPort{}}))
	}
}

func (p *packer) annotated(s *discoveryv1.EndpointSlice) bool {
	return p.target.Annotations == nil || maps.Equal(s.Annotations, p.target.Annotations)
}

func (p *packer) finish() Actions {
	a := Actions{Added: p.added, Dropped: p.lost}
	for _, s := range p.used {
		switch {
		case s.was == nil:
			a.Create = append(a.Create, s.now)
		case s.changed || !maps.Equal(s.was.Labels, p.target.Labels) || !p.annotated(s.was):
			s.now.Labels = maps.Clone(p.target.Labels)
			if p.target.Annotations != nil {
				s.now.Annotations = maps.Clone(p.target.Annotations)
			}
			a.Update = append(a.Update, s.now)
		}
	}
	for _, family := range slices.Sorted(maps.Keys(p.spare)) {
		for _, s := range p.spare[family] {
			a.Remove = append(a.Remove, s.was)
		}
	}
	return a
}
