package scheduler

import (
	"slices"

	"k8s.io/apimachinery/pkg/labels"
)

// Hints tell whether an event can turn a rule's refusal of a pod. One that says yes in vain costs an attempt; one that says no
// in error leaves a pod waiting for minutes. They therefore look at the node as it could become by evictions.

// admits is the hint of a rule that evictions cannot turn: the event helps when the rule lets p onto the node it is about.
func admits(filter func(*cluster, *podInfo) check) func(*cluster, *podInfo, *event) bool {
	return func(c *cluster, p *podInfo, e *event) bool {
		if e.node == nil || e.node.object == nil {
			return false
		}
		check := filter(c, p)
		return check == nil || !check(e.node).refuses()
	}
}

// hintPorts: a new node has all ports free, a pod that went those it had.
func hintPorts(_ *cluster, p *podInfo, e *event) bool {
	if e.what&nodeAdded != 0 {
		return true
	}
	freed := e.was
	if freed == nil {
		freed = e.pod
	}
	return freed != nil && slices.ContainsFunc(p.ports, func(want hostPort) bool { return slices.ContainsFunc(freed.ports, want.clashes) })
}

// hintResources: p would fit on the node if all less important pods left it. A class of devices may be for what it lacks.
func hintResources(c *cluster, p *podInfo, e *event) bool {
	if e.what&deviceClassChanged != 0 {
		return c.devices.backed(p)
	}
	n := e.node
	if n == nil || n.object == nil {
		return false
	}
	used := n.asked
	used.other = nil
	if n.lowest < p.priority {
		for _, q := range n.pods {
			if q.priority < p.priority {
				used.cpu, used.memory, used.storage, used.pods = used.cpu-q.asked.cpu, used.memory-q.asked.memory, used.storage-q.asked.storage, used.pods-q.asked.pods
			}
		}
	}
	fits := func(want, capacity, used int64) bool { return want == 0 || want <= capacity-used }
	if used.pods+1 > n.allocatable.pods || !fits(p.asked.cpu, n.allocatable.cpu, used.cpu) ||
		!fits(p.asked.memory, n.allocatable.memory, used.memory) || !fits(p.asked.storage, n.allocatable.storage, used.storage) {
		return false
	}
	for name, want := range p.asked.other { // what less important pods hold of these is not looked up
		if want > n.allocatable.other[name] && !c.devices.byDevices(n, name) {
			return false
		}
	}
	return true
}

// hintSpread: a node can open or close a domain; a pod counts when one of p's constraints counts it, before or after its change.
func hintSpread(_ *cluster, p *podInfo, e *event) bool {
	if e.pod == nil {
		return true
	}
	for _, q := range []*podInfo{e.pod, e.was} {
		if q == nil || q.pod.Namespace != p.pod.Namespace {
			continue
		}
		for i := range p.spread.hard {
			if p.spread.hard[i].selector.Matches(labels.Set(q.pod.Labels)) {
				return true
			}
		}
	}
	return false
}

// hintPodAffinity: a pod that p must be near may have come, one that p must be apart from gone, or one that kept p away.
func hintPodAffinity(c *cluster, p *podInfo, e *event) bool {
	if e.pod == nil {
		return true
	}
	for _, q := range []*podInfo{e.pod, e.was} {
		if q == nil {
			continue
		}
		means := func(t podTerm) bool { return t.matches(q.pod, c.affinity.namespaces) }
		if slices.ContainsFunc(p.terms.near, means) || slices.ContainsFunc(p.terms.apart, means) ||
			slices.ContainsFunc(q.terms.apart, func(t podTerm) bool { return t.matches(p.pod, c.affinity.namespaces) }) {
			return true
		}
	}
	return false
}
