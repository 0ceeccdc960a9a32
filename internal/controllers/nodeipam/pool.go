package nodeipam

import (
	"fmt"
	"net/netip"
	"slices"
	"sync"

	"k8s.io/apimachinery/pkg/types"
)

// pool counts which parts of the cluster's ranges are in use, and by whom. Safe for concurrent use.
type pool struct {
	ranges []Range

	mu      sync.Mutex
	users   [][]int                      // by range and part, how many nodes have it: by hand it may be several
	next    []int                        // by range, no part before this one is free
	held    map[types.UID][]netip.Prefix // what each node has or was given
	waiting []string                     // nodes that found nothing, in the order in which they asked
}

func newPool(ranges []Range) *pool {
	p := &pool{ranges: ranges, next: make([]int, len(ranges)), held: map[types.UID][]netip.Prefix{}}
	for _, r := range ranges {
		p.users = append(p.users, make([]int, 1<<(r.Node-r.Cluster.Bits())))
	}
	return p
}

// observe notes what a node has, in place of what it was thought to have, and returns the nodes for which that made room.
func (p *pool) observe(node types.UID, cidrs []netip.Prefix) []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if slices.Equal(p.held[node], cidrs) {
		return nil
	}
	var woken []string
	if len(p.held[node]) > 0 {
		woken = p.release(node)
	}
	p.hold(node, cidrs)
	return woken
}

// take gives node the first free part of every range; nil if it has been given some already.
func (p *pool) take(node types.UID, name string) ([]netip.Prefix, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.held[node]) > 0 {
		return nil, nil
	}
	parts := make([]netip.Prefix, 0, len(p.ranges))
	for i, r := range p.ranges {
		for p.next[i] < len(p.users[i]) && p.users[i][p.next[i]] > 0 {
			p.next[i]++
		}
		if p.next[i] == len(p.users[i]) {
			if !slices.Contains(p.waiting, name) {
				p.waiting = append(p.waiting, name)
			}
			return nil, fmt.Errorf("cluster CIDR %s has no free /%d left: remove nodes, or use a larger range", r.Cluster, r.Node)
		}
		parts = append(parts, part(r, p.next[i]))
	}
	p.hold(node, parts)
	return parts, nil
}

// giveBack frees what node has, and returns the nodes that waited for it.
func (p *pool) giveBack(node types.UID) []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.release(node)
}

func (p *pool) hold(node types.UID, cidrs []netip.Prefix) {
	p.held[node] = cidrs
	p.each(cidrs, func(r, i int) { p.users[r][i]++ })
}

func (p *pool) release(node types.UID) []string {
	p.each(p.held[node], func(r, i int) {
		p.users[r][i]--
		p.next[r] = min(p.next[r], i)
	})
	delete(p.held, node)
	woken := p.waiting
	p.waiting = nil
	return woken
}

// each calls f for every part that one of cidrs touches.
func (p *pool) each(cidrs []netip.Prefix, f func(r, i int)) {
	for _, cidr := range cidrs {
		for r, of := range p.ranges {
			if !cidr.Overlaps(of.Cluster) {
				continue
			}
			first, last := 0, len(p.users[r])-1
			if cidr.Bits() > of.Cluster.Bits() {
				first = partOf(of, cidr.Addr())
				last = first
				if cidr.Bits() < of.Node {
					last = first + 1<<(of.Node-cidr.Bits()) - 1
				}
			}
			for i := first; i <= last; i++ {
				f(r, i)
			}
		}
	}
}
