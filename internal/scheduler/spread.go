package scheduler

import (
	"maps"
	"math"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
)

const (
	spreadSkew    = "node(s) didn't match pod topology spread constraints"
	spreadNoLabel = "node(s) didn't match pod topology spread constraints (missing required label)"
)

// maxSpreadCounts bounds how many different constraints are kept counted; the least recently used goes first.
const maxSpreadCounts = 4096

// spreadIndex keeps, for every constraint asked about lately, how many matching pods each topology domain holds. Counts change
// with each placed pod and each node, so a cycle reads them instead of walking the pods.
type spreadIndex struct {
	counts      map[string]*spreadCount          // by spreadConstraint.key
	byNamespace map[string]map[*spreadCount]bool // the same
	domains     map[string]*domains              // by spreadConstraint.nodesKey: those that counts refer to
	clock       int64                            // counts uses, for eviction
}

// spreadCount counts the pods of one namespace that match one selector, by domain. Thousands of workloads have one each, over the
// same domains: of a domain they hold nothing but a number.
type spreadCount struct {
	namespace string
	selector  labels.Selector
	in        *domains
	pods      []int32 // by slot
	used      int64
}

// domains are the values of one topology label among the nodes that one shape of pod may use. Each has a slot.
type domains struct {
	topology string // label key
	eligible func(n *node) bool
	slots    map[string]int32 // by label value
	nodes    []int32          // by slot: how many eligible nodes; a domain without any is gone, and its slot free
	free     []int32
	counts   map[*spreadCount]bool // that refer to these domains
	touched  int32                 // the slot of the node that is being added or removed, below zero when it has none

	// located are the slots by node.at, for the order of that number. Made when they are read first after a node or the order has
	// changed.
	located []int32
	order   uint64 // 0: to be made
}

// Instead of a slot: the node has no value for the topology, or one that no eligible node has.
const (
	unlabelled int32 = -1 - iota
	uncounted
)

func newSpreadIndex() *spreadIndex {
	return &spreadIndex{counts: map[string]*spreadCount{}, byNamespace: map[string]map[*spreadCount]bool{}, domains: map[string]*domains{}}
}

// get returns the up-to-date counts that a constraint of p reads.
func (x *spreadIndex) get(c *cluster, p *podInfo, constraint *spreadConstraint) *spreadCount {
	x.clock++
	if s := x.counts[constraint.key]; s != nil {
		s.used = x.clock
		return s
	}
	x.evict()
	in := x.domains[constraint.nodesKey]
	if in == nil {
		in = &domains{
			topology: constraint.TopologyKey, eligible: eligibility(p, constraint), slots: map[string]int32{}, counts: map[*spreadCount]bool{},
		}
		for _, n := range c.nodes {
			in.add(n)
		}
		x.domains[constraint.nodesKey] = in
	}
	s := &spreadCount{namespace: p.pod.Namespace, selector: constraint.selector, in: in, pods: make([]int32, len(in.nodes)), used: x.clock}
	in.counts[s] = true
	for _, at := range c.inNamespace[s.namespace] { // most pods of a large cluster are elsewhere
		s.countPod(at.node, at.info.pod, 1)
	}
	x.counts[constraint.key] = s
	if x.byNamespace[s.namespace] == nil {
		x.byNamespace[s.namespace] = map[*spreadCount]bool{}
	}
	x.byNamespace[s.namespace][s] = true
	return s
}

func (x *spreadIndex) evict() {
	if len(x.counts) < maxSpreadCounts {
		return
	}
	oldest, at := "", int64(math.MaxInt64)
	for key, s := range x.counts {
		if s.used < at {
			oldest, at = key, s.used
		}
	}
	s := x.counts[oldest]
	delete(x.counts, oldest)
	delete(x.byNamespace[s.namespace], s)
	if len(x.byNamespace[s.namespace]) == 0 {
		delete(x.byNamespace, s.namespace)
	}
	delete(s.in.counts, s)
	if len(s.in.counts) == 0 {
		maps.DeleteFunc(x.domains, func(_ string, d *domains) bool { return d == s.in })
	}
}

// eligibility says which nodes a constraint looks at: those with its topology label and those of the constraints beside it, that the pod's own node affinity allows, and,
// if asked, whose taints it tolerates.
func eligibility(p *podInfo, constraint *spreadConstraint) func(*node) bool {
	byAffinity := p.selects && honors(constraint.NodeAffinityPolicy, corev1.NodeInclusionPolicyHonor)
	byTaints := honors(constraint.NodeTaintsPolicy, corev1.NodeInclusionPolicyIgnore)
	required, tolerations, key, others := p.required, p.pod.Spec.Tolerations, constraint.TopologyKey, constraint.labels
	return func(n *node) bool {
		if n.object == nil {
			return false
		}
		if _, ok := n.object.Labels[key]; !ok || !n.labelled(others) {
			return false
		}
		if byAffinity {
			if ok, err := required.Match(n.object); !ok || err != nil {
				return false
			}
		}
		return !byTaints || !repels(n, tolerations)
	}
}

// at returns the slot of each node, by node.at.
func (d *domains) at(c *cluster) []int32 {
	if d.order == c.ordered {
		return d.located
	}
	d.located, d.order = make([]int32, len(c.order)), c.ordered
	for i, n := range c.order {
		value, labelled := n.object.Labels[d.topology]
		slot, counted := d.slots[value]
		switch {
		case !labelled:
			slot = unlabelled
		case !counted:
			slot = uncounted
		}
		d.located[i] = slot
	}
	return d.located
}

// add counts n as a node of its domain and returns the slot of that, below zero when n is not eligible.
func (d *domains) add(n *node) int32 {
	d.order = 0
	if !d.eligible(n) {
		return uncounted
	}
	value := n.object.Labels[d.topology]
	slot, there := d.slots[value]
	if !there {
		slot = d.slot()
		d.slots[value] = slot
	}
	d.nodes[slot]++
	return slot
}

// slot returns one that is free: nothing is counted in it.
func (d *domains) slot() int32 {
	if last := len(d.free) - 1; last >= 0 {
		slot := d.free[last]
		d.free = d.free[:last]
		return slot
	}
	d.nodes = append(d.nodes, 0)
	for s := range d.counts {
		s.pods = append(s.pods, 0)
	}
	return int32(len(d.nodes) - 1)
}

// remove is the reverse of add. The pods of n must not be counted any more.
func (d *domains) remove(n *node) {
	d.order = 0
	slot := d.of(n)
	if slot < 0 {
		return
	}
	if d.nodes[slot]--; d.nodes[slot] == 0 {
		delete(d.slots, n.object.Labels[d.topology])
		d.free = append(d.free, slot)
	}
}

// of returns the slot that the pods of n count in, below zero when they do not.
func (d *domains) of(n *node) int32 {
	if !d.eligible(n) {
		return uncounted
	}
	return d.slots[n.object.Labels[d.topology]]
}

// matches reports whether pod is among those s counts. Pods on their way out are not.
func (s *spreadCount) matches(pod *corev1.Pod) bool {
	return pod.Namespace == s.namespace && pod.DeletionTimestamp == nil && s.selector.Matches(labels.Set(pod.Labels))
}

func (s *spreadCount) countPod(n *node, pod *corev1.Pod, sign int32) {
	if !s.matches(pod) {
		return
	}
	if slot := s.in.of(n); slot >= 0 {
		s.pods[slot] += sign
	}
}

func (x *spreadIndex) addNode(n *node) {
	for _, d := range x.domains {
		d.touched = d.add(n)
	}
	x.countPods(n, 1)
}

// removeNode uncounts n as it was last counted; call it before n changes.
func (x *spreadIndex) removeNode(n *node) {
	for _, d := range x.domains {
		d.touched = d.of(n)
	}
	x.countPods(n, -1)
	for _, d := range x.domains {
		d.remove(n)
	}
}

// countPods counts what is on n in the slots that were touched.
func (x *spreadIndex) countPods(n *node, sign int32) {
	for _, p := range n.pods {
		for s := range x.byNamespace[p.pod.Namespace] {
			if s.in.touched >= 0 && s.matches(p.pod) {
				s.pods[s.in.touched] += sign
			}
		}
	}
}

func (x *spreadIndex) addPod(n *node, pod *corev1.Pod, sign int32) {
	for s := range x.byNamespace[pod.Namespace] {
		s.countPod(n, pod, sign)
	}
}

// on returns how many pods s counts in the domain of a node, by the node's slot.
func (s *spreadCount) on(slot int32) int {
	if slot < 0 {
		return 0
	}
	return int(s.pods[slot])
}

// fewest returns the smallest count of any domain; 0 when there are fewer domains than minDomains asks for.
func (s *spreadCount) fewest(minDomains *int32) int {
	if len(s.in.slots) == 0 || minDomains != nil && len(s.in.slots) < int(*minDomains) {
		return 0
	}
	least := int32(math.MaxInt32)
	for slot, nodes := range s.in.nodes {
		if nodes > 0 {
			least = min(least, s.pods[slot])
		}
	}
	return int(least)
}

// filterSpread refuses nodes on which p would leave its domain more than maxSkew ahead of the emptiest one.
func filterSpread(c *cluster, p *podInfo) check {
	type bound struct {
		counts *spreadCount
		slots  []int32 // by node.at
		limit  int     // most matching pods the domain may hold before p
	}
	var bounds []bound
	for i := range p.spread.hard {
		constraint := &p.spread.hard[i]
		counts := c.spread.get(c, p, constraint)
		self := 0
		if constraint.selector.Matches(labels.Set(p.pod.Labels)) {
			self = 1
		}
		bounds = append(bounds, bound{counts, counts.in.at(c), counts.fewest(constraint.MinDomains) + int(constraint.MaxSkew) - self})
	}
	if bounds == nil {
		return nil
	}
	return func(n *node) reason {
		for _, b := range bounds {
			switch slot := b.slots[n.at]; {
			case slot == unlabelled:
				return final(spreadNoLabel)
			case b.counts.on(slot) > b.limit:
				return passing(spreadSkew)
			}
		}
		return reason{}
	}
}

// unspread marks a node that a pod's soft constraints do not look at.
const unspread = -1

// scoreSpread adds up, over the soft constraints, how many matching pods a node's domain holds, each weighted so that many
// domains count more than few. A node that lacks a label which the pod's own constraints name is left out; one that lacks a
// default constraint's just does not count there.
func scoreSpread(c *cluster, p *podInfo) scorer {
	constraints := c.softSpread(p)
	if constraints == nil {
		return nil
	}
	type weighted struct {
		counts *spreadCount
		slots  []int32 // by node.at
		weight float64
		skew   int32
	}
	soft := make([]weighted, 0, len(constraints))
	for i := range constraints {
		counts := c.spread.get(c, p, &constraints[i])
		soft = append(soft, weighted{counts, counts.in.at(c), math.Log(float64(len(counts.in.slots) + 2)), constraints[i].MaxSkew})
	}
	required := constraints[0].labels
	return func(n *node) int64 {
		if !n.labelled(required) {
			return unspread
		}
		var sum float64
		for _, s := range soft {
			if slot := s.slots[n.at]; slot != unlabelled {
				sum += float64(s.skew - 1)
				sum += float64(s.counts.on(slot)) * s.weight
			}
		}
		return int64(math.Round(sum))
	}
}

// normalSpread is fewerIsBetter among the nodes that take part; the others get nothing.
func normalSpread(points []int64) {
	part := make([]int64, 0, len(points))
	for _, p := range points {
		if p != unspread {
			part = append(part, p)
		}
	}
	fewerIsBetter(part)
	for i, next := 0, 0; i < len(points); i++ {
		if points[i] == unspread {
			points[i] = 0
			continue
		}
		points[i] = part[next]
		next++
	}
}

// labelled reports whether n has all of some labels.
func (n *node) labelled(keys []string) bool {
	for _, key := range keys {
		if _, ok := n.object.Labels[key]; !ok {
			return false
		}
	}
	return true
}
