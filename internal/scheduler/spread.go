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
const maxSpreadCounts = 512

// spreadIndex keeps, for every constraint asked about lately, how many matching pods each topology domain holds. Counts change
// with each placed pod and each node, so a cycle reads them instead of walking the pods.
type spreadIndex struct {
	counts map[string]*spreadCount // by spreadConstraint.key
	clock  int64                   // counts uses, for eviction
}

// spreadCount counts the pods of one namespace that match one selector, over the nodes one pod shape may use.
type spreadCount struct {
	namespace string
	topology  string // label key
	selector  labels.Selector
	eligible  func(n *node) bool
	domains   map[string]*domain // by label value
	used      int64
}

type domain struct {
	pods  int
	nodes int // eligible nodes; a domain without any is gone
}

func newSpreadIndex() *spreadIndex { return &spreadIndex{counts: map[string]*spreadCount{}} }

// get returns the up-to-date counts that constraint i of p reads.
func (x *spreadIndex) get(c *cluster, p *podInfo, i int) *spreadCount {
	constraint := &p.spread[i]
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
		s.countNode(n, 1)
	}
	x.counts[constraint.key] = s
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
	delete(x.counts, oldest)
}

// eligibility says which nodes a constraint looks at: those with its topology label that the pod's own node affinity allows, and,
// if asked, whose taints it tolerates.
func eligibility(p *podInfo, constraint *spreadConstraint) func(*node) bool {
	byAffinity := p.selects && honors(constraint.NodeAffinityPolicy, corev1.NodeInclusionPolicyHonor)
	byTaints := honors(constraint.NodeTaintsPolicy, corev1.NodeInclusionPolicyIgnore)
	required, tolerations, key := p.required, p.pod.Spec.Tolerations, constraint.TopologyKey
	return func(n *node) bool {
		if n.object == nil {
			return false
		}
		if _, ok := n.object.Labels[key]; !ok {
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

func (s *spreadCount) countNode(n *node, sign int) {
	if !s.eligible(n) {
		return
	}
	value := n.object.Labels[s.topology]
	d := s.domains[value]
	if d == nil {
		d = &domain{}
		s.domains[value] = d
	}
	d.nodes += sign
	for _, p := range n.pods {
		if s.matches(p.pod) {
			d.pods += sign
		}
	}
	if d.nodes == 0 {
		delete(s.domains, value)
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
	for _, s := range x.counts {
		if !s.matches(pod) || !s.eligible(n) {
			continue
		}
		if d := s.domains[n.object.Labels[s.topology]]; d != nil {
			d.pods += sign
		}
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
		counts *spreadCount
		limit  int // most matching pods the domain may hold before p
	}
	var bounds []bound
	for i := range p.spread {
		constraint := &p.spread[i]
		if constraint.WhenUnsatisfiable != corev1.DoNotSchedule {
			continue
		}
		counts := c.spread.get(c, p, i)
		self := 0
		if constraint.selector.Matches(labels.Set(p.pod.Labels)) {
			self = 1
		}
		bounds = append(bounds, bound{counts, counts.fewest(constraint.MinDomains) + int(constraint.MaxSkew) - self})
	}
	if bounds == nil {
		return nil
	}
	return func(n *node) reason {
		for _, b := range bounds {
			value, ok := n.object.Labels[b.counts.topology]
			if !ok {
				return final(spreadNoLabel)
			}
			if d := b.counts.domains[value]; d != nil && d.pods > b.limit {
				return passing(spreadSkew)
			}
		}
		return reason{}
	}
}

// scoreSpread adds up, over the soft constraints, how many matching pods a node's domain holds, each weighted so that many
// domains count more than few.
func scoreSpread(c *cluster, p *podInfo) scorer {
	type weighted struct {
		counts *spreadCount
		weight float64
		skew   int
	}
	var soft []weighted
	for i := range p.spread {
		if p.spread[i].WhenUnsatisfiable == corev1.ScheduleAnyway {
			counts := c.spread.get(c, p, i)
			soft = append(soft, weighted{counts, math.Log(float64(len(counts.domains) + 2)), int(p.spread[i].MaxSkew)})
		}
	}
	if soft == nil {
		return nil
	}
	return func(n *node) int64 {
		var sum float64
		for _, s := range soft {
			if d := s.counts.domains[n.object.Labels[s.counts.topology]]; d != nil {
				sum += float64(d.pods)*s.weight + float64(s.skew-1)
			}
		}
		return int64(math.Round(sum))
	}
}
