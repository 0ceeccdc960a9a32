package scheduler

import (
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
	clock       int64                            // counts uses, for eviction
}

// spreadCount counts the pods of one namespace that match one selector, over the nodes one pod shape may use.
type spreadCount struct {
	namespace string
	topology  string // label key
	selector  labels.Selector
	eligible  func(n *node) bool
	domains   map[string]*domain // by label value
	used      int64

	// located are the domains by node.at, for the order of that number; nil for a node without the label. Made when it is read
	// first after a node or the order has changed.
	located []*domain
	order   uint64 // 0: to be made
}

type domain struct {
	pods  int
	nodes int // eligible nodes; a domain without any is gone
}

func newSpreadIndex() *spreadIndex {
	return &spreadIndex{counts: map[string]*spreadCount{}, byNamespace: map[string]map[*spreadCount]bool{}}
}

// get returns the up-to-date counts that a constraint of p reads.
func (x *spreadIndex) get(c *cluster, p *podInfo, constraint *spreadConstraint) *spreadCount {
	x.clock++
	if s := x.counts[constraint.key]; s != nil {
		s.used = x.clock
		return s
	}
	x.evict()
	s := &spreadCount{
		namespace: p.pod.Namespace,
		topology:  constraint.TopologyKey,
		selector:  constraint.selector,
		eligible:  eligibility(p, constraint),
		domains:   map[string]*domain{},
		used:      x.clock,
	}
	for _, n := range c.nodes {
		s.countDomain(n, 1)
	}
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

// matches reports whether pod is among those s counts. Pods on their way out are not.
func (s *spreadCount) matches(pod *corev1.Pod) bool {
	return pod.Namespace == s.namespace && pod.DeletionTimestamp == nil && s.selector.Matches(labels.Set(pod.Labels))
}

// domainsOf returns the domain of each node, by node.at. One that s does not count holds no pods.
func (s *spreadCount) domainsOf(c *cluster) []*domain {
	if s.order == c.ordered {
		return s.located
	}
	nothing := &domain{}
	s.located, s.order = make([]*domain, len(c.order)), c.ordered
	for i, n := range c.order {
		value, ok := n.object.Labels[s.topology]
		if !ok {
			continue
		}
		if s.located[i] = s.domains[value]; s.located[i] == nil {
			s.located[i] = nothing
		}
	}
	return s.located
}

// countNode counts n and its pods.
func (s *spreadCount) countNode(n *node, sign int) {
	d := s.countDomain(n, sign)
	if d == nil {
		return
	}
	for _, p := range n.pods {
		if s.matches(p.pod) {
			d.pods += sign
		}
	}
}

// countDomain counts n without its pods and returns its domain, nil if n is not to be counted.
func (s *spreadCount) countDomain(n *node, sign int) *domain {
	s.order = 0
	if !s.eligible(n) {
		return nil
	}
	value := n.object.Labels[s.topology]
	d := s.domains[value]
	if d == nil {
		d = &domain{}
		s.domains[value] = d
	}
	if d.nodes += sign; d.nodes == 0 {
		delete(s.domains, value)
	}
	return d
}

func (s *spreadCount) countPod(n *node, pod *corev1.Pod, sign int) {
	if !s.matches(pod) || !s.eligible(n) {
		return
	}
	if d := s.domains[n.object.Labels[s.topology]]; d != nil {
		d.pods += sign
	}
}

func (x *spreadIndex) addNode(n *node) {
	for _, s := range x.counts {
		s.countNode(n, 1)
	}
}

// removeNode uncounts n as it was last counted; call it before n changes.
func (x *spreadIndex) removeNode(n *node) {
	for _, s := range x.counts {
		s.countNode(n, -1)
	}
}

func (x *spreadIndex) addPod(n *node, pod *corev1.Pod, sign int) {
	for s := range x.byNamespace[pod.Namespace] {
		s.countPod(n, pod, sign)
	}
}

// fewest returns the smallest count of any domain; 0 when there are fewer domains than minDomains asks for.
func (s *spreadCount) fewest(minDomains *int32) int {
	if minDomains != nil && len(s.domains) < int(*minDomains) {
		return 0
	}
	least := math.MaxInt
	for _, d := range s.domains {
		least = min(least, d.pods)
	}
	if least == math.MaxInt {
		return 0
	}
	return least
}

// filterSpread refuses nodes on which p would leave its domain more than maxSkew ahead of the emptiest one.
func filterSpread(c *cluster, p *podInfo) check {
	type bound struct {
		domains []*domain
		limit   int // most matching pods the domain may hold before p
	}
	var bounds []bound
	for i := range p.spread.hard {
		constraint := &p.spread.hard[i]
		counts := c.spread.get(c, p, constraint)
		self := 0
		if constraint.selector.Matches(labels.Set(p.pod.Labels)) {
			self = 1
		}
		bounds = append(bounds, bound{counts.domainsOf(c), counts.fewest(constraint.MinDomains) + int(constraint.MaxSkew) - self})
	}
	if bounds == nil {
		return nil
	}
	return func(n *node) reason {
		for _, b := range bounds {
			switch d := b.domains[n.at]; {
			case d == nil:
				return final(spreadNoLabel)
			case d.pods > b.limit:
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
		weight float64
		skew   int32
	}
	soft := make([]weighted, 0, len(constraints))
	for i := range constraints {
		counts := c.spread.get(c, p, &constraints[i])
		soft = append(soft, weighted{counts, math.Log(float64(len(counts.domains) + 2)), constraints[i].MaxSkew})
	}
	required := constraints[0].labels
	return func(n *node) int64 {
		if !n.labelled(required) {
			return unspread
		}
		var sum float64
		for _, s := range soft {
			value, ok := n.object.Labels[s.counts.topology]
			if !ok {
				continue
			}
			sum += float64(s.skew - 1)
			if d := s.counts.domains[value]; d != nil {
				sum += float64(d.pods) * s.weight
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
