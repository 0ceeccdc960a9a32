package scheduler

import (
	"math/rand/v2"
	"time"
)

// decision is the outcome of one cycle for one pod: a node, or why none and what could be evicted.
type decision struct {
	node     string
	total    int     // nodes there are
	looked   int     // nodes tried before enough fitted
	whole    reason  // why the pod is refused whatever the node
	tally    tally   // how many nodes each reason refused
	blockers ruleSet // the rules that refused
	helpful  []*node // nodes on which evictions may help; good until the next decision
	plan     plan
	trace    trace
	ran      ran
}

// ran tells which rules had something to say, and how long the parts of a decision took when a clock was given.
type ran struct {
	filtered, scored ruleSet
	laps             []lap
	at               time.Time
}

// lap is the time of one part, by upstream's name for it.
type lap struct {
	name    string
	success bool
	took    time.Duration
}

// lap notes that the part that began at the last lap ended now.
func (d *decision) lap(o *options, name string, success bool) {
	if o.now == nil {
		return
	}
	now := o.now()
	if name != "" {
		d.ran.laps = append(d.ran.laps, lap{name, success, now.Sub(d.ran.at)})
	}
	d.ran.at = now
}

// ruleSet is a set of rules by their index.
type ruleSet uint64

func (s *ruleSet) add(rule int)     { *s |= 1 << rule }
func (s ruleSet) has(rule int) bool { return s&(1<<rule) != 0 }

// options bound a cycle.
type options struct {
	rules   []rule // at most 64
	percent int    // share of the nodes that must be found fitting before the search stops; 0: upstream's adaptive share
	rand    *rand.Rand
	preemption
	now func() time.Time // measures the parts; optional
}

// decide picks a node for p, or plans what to evict for it. Of c it changes only where the next search begins and what it
// keeps to be faster.
func decide(c *cluster, p *podInfo, o options) decision {
	nodes := c.candidates()
	d := decision{total: len(nodes)}
	if len(nodes) == 0 {
		return d
	}
	if d.whole = d.refused(c, p, o.rules); d.whole.refuses() {
		d.plan = preempt(c, p, o, &d)
		return d
	}
	if n := c.nodes[c.nominated(p.pod.UID)]; n != nil && n.object != nil {
		if why, _ := refusal(c, p, n, o.rules); !why.refuses() {
			d.node = n.name
			return d
		}
	}
	d.lap(&o, "", true)
	fitting := filter(c, p, o, &d)
	d.lap(&o, "Filter", len(fitting) > 0)
	if len(fitting) == 0 {
		d.plan = preempt(c, p, o, &d)
		d.lap(&o, "PostFilter", d.plan.node != nil)
		return d
	}
	d.node = best(c, p, o, fitting, &d).name
	d.lap(&o, "Score", true)
	return d
}

// refused asks the rules that may turn p down whatever the node.
func (d *decision) refused(c *cluster, p *podInfo, rules []rule) reason {
	for i := range rules {
		if rules[i].refuse == nil {
			continue
		}
		if why := rules[i].refuse(c, p); why.refuses() {
			d.blockers.add(i)
			return why
		}
	}
	return reason{}
}

// checks are the filters that have something to say about a pod, prepared for it.
type checks []struct {
	rule  int
	check check
}

// prepare makes the checks of the local rules for p, or those of the others.
func prepare(c *cluster, p *podInfo, rules []rule, local bool) checks {
	var out checks
	for i := range rules {
		r := &rules[i]
		if r.filter == nil || r.local != local {
			continue
		}
		if ch := r.filter(c, p); ch != nil {
			out = append(out, struct {
				rule  int
				check check
			}{i, ch})
		}
	}
	return out
}

// refusal is what the first rule that refuses n says.
func (cs checks) refusal(n *node) (why reason, rule int) {
	for i := range cs {
		if why := cs[i].check(n); why.refuses() {
			return why, cs[i].rule
		}
	}
	return reason{}, 0
}

// judge asks the rules about nodes for one pod. Local rules are asked first, and only about nodes that have changed since they
// were asked for a pod of the same class.
type judge struct {
	c     *cluster
	p     *podInfo
	rules []rule
	table *table
	other checks
}

func newJudge(c *cluster, p *podInfo, rules []rule) *judge {
	return &judge{c, p, rules, c.table(p, rules), prepare(c, p, rules, false)}
}

// of is what the rules say of n, beside the pods that n is reserved for as well as without them.
func (j *judge) of(n *node) (why reason, rule int) {
	at := j.cell(n)
	if at.why.refuses() {
		return at.why, at.rule
	}
	if len(j.other) > 0 {
		if why, rule := j.other.refusal(n); why.refuses() {
			return why, rule
		}
	}
	if at.rivals {
		return j.beside(at, n)
	}
	return reason{}, 0
}

func (j *judge) cell(n *node) *cell {
	at := &j.table.cells[n.at]
	if at.gen != n.gen {
		*at = cell{gen: n.gen, rivals: j.c.nominees[n.name] != nil}
		at.why, at.rule = j.table.local.refusal(n)
	}
	return at
}

// beside is what the rules say of n next to the pods that it is reserved for.
func (j *judge) beside(at *cell, n *node) (reason, int) {
	if at.beside.known && j.c.nominated(j.p.pod.UID) != n.name {
		return at.beside.why, at.beside.rule
	}
	rivals := j.c.rivals(j.p, n)
	if !j.alone(rivals) {
		gen := n.gen
		why, rule := refusal(j.c, j.p, n, j.rules)
		n.gen = gen // nothing has changed after all
		return why, rule
	}
	for _, q := range rivals {
		n.count(q, 1)
	}
	why, rule := j.table.local.refusal(n)
	for _, q := range rivals {
		n.count(q, -1)
	}
	if j.c.nominated(j.p.pod.UID) != n.name {
		at.beside = beside{true, why, rule}
	}
	return why, rule
}

// alone reports whether local rules are all there is to ask, with and without some pods.
func (j *judge) alone(pods []*podInfo) bool {
	if len(j.other) > 0 {
		return false
	}
	for _, q := range pods {
		if len(q.terms.apart) > 0 {
			return false
		}
	}
	return true
}

// filter returns fitting nodes, enough of them to choose from, starting where the last search ended. They are good until the
// next decision.
func filter(c *cluster, p *podInfo, o options, d *decision) []*node {
	j := newJudge(c, p, o.rules)
	d.filtering(j)
	enough := sample(len(c.order), o.percent)
	fitting, helpful := c.scratch.fitting[:0], c.scratch.helpful[:0]
	for i := range c.order {
		n := c.order[(c.start+i)%len(c.order)]
		d.looked++
		why, rule := j.of(n)
		if why.refuses() {
			d.trace.refused(n, d.tally.add(why, rule))
			d.blockers.add(rule)
			if !why.final {
				helpful = append(helpful, n)
			}
			continue
		}
		if fitting = append(fitting, n); len(fitting) == enough {
			break
		}
	}
	c.start = (c.start + d.looked) % len(c.order)
	c.scratch.fitting, c.scratch.helpful = fitting, helpful
	d.helpful = helpful
	return fitting
}

// filtering notes which rules filter.
func (d *decision) filtering(j *judge) {
	for _, cs := range []checks{j.table.local, j.other} {
		for i := range cs {
			d.ran.filtered.add(cs[i].rule)
		}
	}
	d.trace.begin(j.c)
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

// message says why no node fits, in upstream's words.
func (d *decision) message() string {
	if d.total == 0 {
		return "no nodes available to schedule pods"
	}
	text := d.tally.summary(d.total)
	if d.whole.refuses() {
		text = summaryOf(d.total, d.whole.text)
	}
	if d.plan.why == "" {
		return text
	}
	return text + " preemption: " + d.plan.why
}
