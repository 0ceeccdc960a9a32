package scheduler

import (
	"math/rand/v2"
)

// decision is the outcome of one cycle for one pod: a node, or why none and what could be evicted.
type decision struct {
	node    string
	total   int            // nodes there are
	looked  int            // nodes tried before enough fitted
	refused map[reason]int // how many nodes each reason refused
	rules   map[string]bool
	helpful []*node // nodes on which evictions may help
	turns   change  // what may turn the refusal
	plan    plan
}

// options bound a cycle.
type options struct {
	rules   []rule
	percent int // share of the nodes that must be found fitting before the search stops; 0: upstream's adaptive share
	rand    *rand.Rand
}

// decide picks a node for p, or plans what to evict for it. It changes nothing but c.start, the place where the next search begins.
func decide(c *cluster, p *podInfo, o options) decision {
	nodes := c.candidates()
	d := decision{total: len(nodes), refused: map[reason]int{}, rules: map[string]bool{}}
	if len(nodes) == 0 {
		d.turns = nodeAdded
		return d
	}
	if n := c.nodes[c.nominated(p.pod.UID)]; n != nil && n.object != nil {
		if why, _ := refusal(c, p, n, o.rules); !why.refuses() {
			d.node = n.name
			return d
		}
	}
	fitting := filter(c, p, o, &d)
	if len(fitting) == 0 {
		for _, r := range o.rules {
			if d.rules[r.name] {
				d.turns |= r.turns
			}
		}
		d.plan = preempt(c, p, o, &d)
		return d
	}
	d.node = best(c, p, o, fitting).name
	return d
}

// checks are the filters that have something to say about a pod, prepared for it.
type checks []struct {
	rule  string
	check check
}

func prepare(c *cluster, p *podInfo, rules []rule) checks {
	out := make(checks, 0, len(rules))
	for _, r := range rules {
		if r.filter == nil {
			continue
		}
		if ch := r.filter(c, p); ch != nil {
			out = append(out, struct {
				rule  string
				check check
			}{r.name, ch})
		}
	}
	return out
}

// refusal is what the first rule that refuses n says.
func (cs checks) refusal(n *node) (why reason, rule string) {
	for _, ch := range cs {
		if why := ch.check(n); why.refuses() {
			return why, ch.rule
		}
	}
	return reason{}, ""
}

// filter returns fitting nodes, enough of them to choose from, starting where the last search ended.
func filter(c *cluster, p *podInfo, o options, d *decision) []*node {
	ready := prepare(c, p, o.rules)
	enough := sample(len(c.order), o.percent)
	fitting := make([]*node, 0, min(enough, len(c.order)))
	for i := range c.order {
		n := c.order[(c.start+i)%len(c.order)]
		d.looked++
		why, rule := ready.refusal(n)
		if !why.refuses() && len(c.nominees) > 0 && c.nominees[n.name] != nil {
			why, rule = refusal(c, p, n, o.rules)
		}
		if why.refuses() {
			d.refused[why]++
			d.rules[rule] = true
			if !why.final {
				d.helpful = append(d.helpful, n)
			}
			continue
		}
		if fitting = append(fitting, n); len(fitting) == enough {
			break
		}
	}
	c.start = (c.start + d.looked) % len(c.order)
	return fitting
}

// sample is how many fitting nodes are enough: upstream's rule of at least 100 nodes, at least 5 %, and less the larger the cluster.
func sample(nodes, percent int) int {
	const few, leastPercent = 100, 5
	if percent == 0 {
		percent = max(50-nodes/125, leastPercent)
	}
	if nodes < few || percent >= 100 {
		return nodes
	}
	return max(nodes*percent/100, few)
}

// best returns the node with the most points, one of them at random when several have the same.
func best(c *cluster, p *podInfo, o options, nodes []*node) *node {
	if len(nodes) == 1 {
		return nodes[0]
	}
	total := make([]int64, len(nodes))
	points := make([]int64, len(nodes))
	for _, r := range o.rules {
		if r.score == nil {
			continue
		}
		score := r.score(c, p)
		if score == nil {
			continue
		}
		for i, n := range nodes {
			points[i] = score(n)
		}
		if r.normal != nil {
			r.normal(points)
		}
		for i := range nodes {
			total[i] += points[i] * r.weight
		}
	}
	top, ties := 0, 1
	for i := 1; i < len(nodes); i++ {
		switch {
		case total[i] > total[top]:
			top, ties = i, 1
		case total[i] == total[top]:
			if ties++; o.rand.IntN(ties) == 0 {
				top = i
			}
		}
	}
	return nodes[top]
}

// message says why no node fits, in upstream's words.
func (d decision) message() string {
	if d.total == 0 {
		return "no nodes available to schedule pods"
	}
	if d.plan.why == "" {
		return summary(d.total, d.refused)
	}
	return summary(d.total, d.refused) + " preemption: " + d.plan.why
}
