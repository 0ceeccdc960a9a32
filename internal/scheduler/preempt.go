package scheduler

import (
	"cmp"
	"math"
	"slices"

	corev1 "k8s.io/api/core/v1"
)

const (
	noVictims  = "No preemption victims found for incoming pod"
	notHelpful = "Preemption is not helpful for scheduling"

	neverPreempts      = "not eligible due to preemptionPolicy=Never."
	victimsTerminating = "not eligible due to a terminating pod on the nominated node."
)

// plan is what must go so that a refused pod can have a node; or why nothing can.
type plan struct {
	node       *node
	victims    []*podInfo // the most important first
	violations int        // victims that their disruption budgets would keep
	highest    int64      // priority among the victims
	sum        int64      // of the victims' priorities, moved so that all are positive: many of negative priority are not better than one
	earliest   int64      // when the first of the most important victims began to run
	why        string     // no plan: the reason, in upstream's words
	keep       bool       // no plan, but what was planned before goes on
	offers     []*plan    // all that were found, for others to choose from
}

// preempt plans evictions for p, which d says fits nowhere. It leaves c as it found it.
func preempt(c *cluster, p *podInfo, o options, d *decision) plan {
	if o.preemption.off {
		return plan{}
	}
	if policy := p.pod.Spec.PreemptionPolicy; policy != nil && *policy == corev1.PreemptNever {
		return plan{why: neverPreempts, keep: true}
	}
	if idleClaim(c, p, d) != nil {
		return plan{} // giving its devices back may do, and harms nobody
	}
	if awaitsVictims(c, p, d) {
		return plan{why: victimsTerminating, keep: true}
	}
	var refused tally
	if rest := d.total - len(d.helpful); rest > 0 {
		refused.count(final(notHelpful), 0, rest)
	}
	found, refusals := search(c, p, o, d)
	if len(found) > 0 {
		best := *slices.MinFunc(found, (*plan).compare)
		if o.preemption.ask {
			best.offers = found
		}
		return best
	}
	for _, row := range refusals.rows {
		refused.count(row.why, 0, row.nodes)
	}
	return plan{why: refused.summary(d.total)}
}

// search looks for plans on as many nodes as upstream does, beginning anywhere. Unless all are asked for, only the one of least
// harm is kept.
func search(c *cluster, p *podInfo, o options, d *decision) ([]*plan, tally) {
	var refused tally
	var found []*plan
	if len(d.helpful) == 0 {
		return nil, refused
	}
	j := newJudge(c, p, o.rules)
	enough, seen, harmless := o.preemption.enough(d.total), 0, false
	first := o.rand.IntN(len(d.helpful))
	for i := range d.helpful {
		n := d.helpful[(first+i)%len(d.helpful)]
		if n.lowest >= p.priority {
			refused.add(final(noVictims), 0)
			continue
		}
		one, why := j.plan(n)
		if why.refuses() {
			refused.add(why, 0)
			continue
		}
		switch {
		case o.preemption.ask || len(found) == 0:
			found = append(found, one)
		case one.compare(found[0]) < 0:
			found[0] = one
		}
		harmless = harmless || one.violations == 0
		if seen++; seen >= enough && harmless {
			break
		}
	}
	return found, refused
}

// awaitsVictims reports whether pods that were evicted for p are still leaving its nominated node.
func awaitsVictims(c *cluster, p *podInfo, d *decision) bool {
	nominee := c.nominations[p.pod.UID]
	if nominee == nil || !slices.Contains(d.helpful, c.nodes[nominee.node]) {
		return false
	}
	return c.vacates(nominee)
}

// vacates reports whether pods are leaving a node for the sake of one that it is reserved for.
func (c *cluster) vacates(nominee *nomination) bool {
	n := c.nodes[nominee.node]
	if n == nil {
		return false
	}
	for uid, q := range n.pods {
		if q.priority < nominee.info.priority && (c.placed[uid].evicting || preempted(q.pod)) {
			return true
		}
	}
	return false
}

// preempted reports whether pod is on its way out because a scheduler evicted it.
func preempted(pod *corev1.Pod) bool {
	return pod.DeletionTimestamp != nil && slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.DisruptionTarget && c.Status == corev1.ConditionTrue && c.Reason == corev1.PodReasonPreemptionByScheduler
	})
}

// plan finds the pods to evict from n: all that are less important than p, save those that can stay. Pods whose budgets are
// used up are the first to stay, then the more important ones. What was found stays good for p's class until n changes.
func (j *judge) plan(n *node) (*plan, reason) {
	at := j.cell(n)
	ofClass := j.c.nominated(j.p.pod.UID) != n.name && j.p.pod.Spec.SchedulingGroup == nil
	if ofClass && at.planned && at.plannedAt == j.c.evictable {
		return at.plan, at.noPlan
	}
	lower, wide := j.c.below(j.p, n)
	ofClass = ofClass && !wide // it depends on other nodes, too
	rivals := j.c.rivals(j.p, n)
	if !j.alone(rivals) {
		return j.planWithAll(n, lower)
	}
	for _, q := range rivals {
		n.count(q, 1)
	}
	// Without the rivals there is only more room.
	out, why := selectVictims(j.c, n, lower, victimSearch{
		fits: func() reason { why, _ := j.table.local.refusal(n); return why },
		lift: func(u *unit) { j.c.countOn(n, u, -1) },
		back: func(u *unit) { j.c.countOn(n, u, 1) },
	})
	for _, q := range rivals {
		n.count(q, -1)
	}
	if ofClass {
		at.planned, at.plannedAt, at.plan, at.noPlan = true, j.c.evictable, out, why
	}
	return out, why
}

// mates reports whether two pods belong to one group.
func mates(p, q *corev1.Pod) bool {
	group, ok := groupOf(p)
	if !ok {
		return false
	}
	other, ok := groupOf(q)
	return ok && group == other
}

// planWithAll is plan for a pod on which rules have a say that look beyond the node.
func (j *judge) planWithAll(n *node, lower []unit) (*plan, reason) {
	defer func(gen uint64) { n.gen = gen }(n.gen) // in the end nothing has changed
	taken := make(map[*podInfo]*placed, len(lower))
	return selectVictims(j.c, n, lower, victimSearch{
		fits: func() reason { why, _ := refusal(j.c, j.p, n, j.rules); return why },
		lift: func(u *unit) {
			for _, q := range u.pods {
				taken[q] = j.c.lift(q.pod.UID)
			}
		},
		back: func(u *unit) {
			for _, q := range u.pods {
				j.c.putBack(taken[q])
			}
		},
	})
}

// countOn counts those pods of u that are on n there, or no more.
func (c *cluster) countOn(n *node, u *unit, sign int64) {
	for _, q := range u.pods {
		if !u.whole || c.placed[q.pod.UID].node == n {
			n.count(q, sign)
		}
	}
}

// victimSearch is how selectVictims tries out what would be.
type victimSearch struct {
	fits       func() reason
	lift, back func(*unit)
}

// selectVictims chooses among the units lower, which come in the order of importance. It leaves all of them where they were.
func selectVictims(c *cluster, n *node, lower []unit, try victimSearch) (*plan, reason) {
	for i := range lower {
		try.lift(&lower[i])
	}
	if why := try.fits(); why.refuses() {
		for i := range lower {
			try.back(&lower[i])
		}
		return nil, why
	}
	var gone []unit
	protected, free := byBudget(c, lower)
	for _, group := range [][]unit{protected, free} {
		for i := range group {
			u := &group[i]
			try.back(u)
			if why := try.fits(); why.refuses() {
				try.lift(u)
				gone = append(gone, *u)
			}
		}
	}
	for i := range gone {
		try.back(&gone[i])
	}
	return newPlan(n, gone), reason{}
}

// newPlan is to evict units from n.
func newPlan(n *node, units []unit) *plan {
	slices.SortFunc(units, func(a, b unit) int { return a.compare(&b) })
	out := &plan{node: n, highest: math.MinInt64, earliest: math.MaxInt64}
	for i := range units {
		u := &units[i]
		out.victims = append(out.victims, u.pods...)
		out.violations += u.breaks
		out.sum += int64(len(u.pods)) * (int64(u.priority) - math.MinInt32)
		if i == 0 {
			out.highest = int64(u.priority)
		}
		if int64(u.priority) == out.highest {
			out.earliest = min(out.earliest, u.started)
		}
	}
	return out
}

// byImportance orders the more important pod first: by priority, then the one that has run longer.
func byImportance(a, b *podInfo) int {
	return cmp.Or(
		cmp.Compare(b.priority, a.priority),
		cmp.Compare(a.started(), b.started()),
		cmp.Compare(a.pod.UID, b.pod.UID),
	)
}

// started is when p began to run, in nanoseconds; one that has not yet counts as the newest.
func (p *podInfo) started() int64 {
	if p.pod.Status.StartTime == nil {
		return math.MaxInt64
	}
	return p.pod.Status.StartTime.UnixNano()
}

// compare is negative when a is the lesser evil: fewer broken budgets, a less important first victim, less importance in
// sum, fewer victims, and then the one whose most important victims have run for the shorter time.
func (a *plan) compare(b *plan) int {
	return cmp.Or(
		cmp.Compare(a.violations, b.violations),
		cmp.Compare(a.highest, b.highest),
		cmp.Compare(a.sum, b.sum),
		cmp.Compare(len(a.victims), len(b.victims)),
		cmp.Compare(b.earliest, a.earliest),
	)
}
