package scheduler

import (
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
)

const noCandidate = "no candidate node for preemption"

// arbiters are the extenders that have a say in what is evicted for pod.
func (s *Scheduler) arbiters(pod *corev1.Pod) []*extender {
	var out []*extender
	for _, e := range s.extenders {
		if e.PreemptVerb != "" && e.interested(pod) {
			out = append(out, e)
		}
	}
	return out
}

// settle goes on with a pod that fits nowhere. Where extenders have a say in what is evicted for it, they are asked first.
func (s *Scheduler) settle(w *queued, d *decision) {
	if len(d.plan.offers) == 0 {
		s.refuse(w, d)
		return
	}
	q := &consultation{w: w, d: *d}
	q.d.helpful = nil // good until the next decision only
	for _, to := range d.plan.offers {
		q.offers = append(q.offers, newOffer(to))
	}
	s.consulted[w.info.pod.UID] = q
	s.outbox.sendSlow(func(ctx context.Context) {
		q.bargain(ctx, s, s.arbiters(w.info.pod))
		s.inbox.send(func(s *Scheduler) { s.bargained(q) })
	})
}

// bargain calls the extenders, one after another: each is asked about what those before have left.
func (q *consultation) bargain(ctx context.Context, s *Scheduler, arbiters []*extender) {
	for _, e := range arbiters {
		if len(q.offers) == 0 {
			return
		}
		left, err := e.preempt(ctx, q.w.info, q.offers)
		if err != nil && e.Ignorable {
			s.Log.Warn("an extender that may be ignored failed", "extender", e.URLPrefix, "pod", q.w.info.key, "error", err)
			continue
		}
		if err != nil {
			q.err = fmt.Errorf("extender %s: %w", e.URLPrefix, err)
			return
		}
		q.offers = left
	}
}

// bargained carries out the least of the evictions that extenders left, as far as it would still help.
func (s *Scheduler) bargained(q *consultation) {
	if !s.heard(q) {
		return
	}
	if len(q.offers) == 0 {
		q.d.blockers.add(len(s.optionsOf(q.w.info.pod).rules) - 1) // the extenders'
		q.d.plan = plan{why: noCandidate, keep: true}
		s.conclude(q)
		return
	}
	var found *plan
	var trouble error
	for _, o := range q.offers {
		to, why := s.planOf(q.w.info, o)
		switch {
		case why.refuses() && o.altered:
			trouble = fmt.Errorf("evicting what extenders chose on node %s would not make room: %s", o.node, why.text)
		case why.refuses(): // things have changed meanwhile
		case found == nil || to.compare(found) < 0:
			found = to
		}
	}
	if found == nil {
		s.tryLater(q.w, trouble)
		return
	}
	q.d.plan = *found
	s.conclude(q)
}

// planOf is o as a plan, or what is in its way now. Who can be evicted only with others brings them along.
func (s *Scheduler) planOf(p *podInfo, o *offer) (*plan, reason) {
	n := s.cluster.nodes[o.node]
	if n == nil || n.object == nil {
		return nil, final("the node is gone")
	}
	var pods []*podInfo
	for _, v := range o.victims {
		if at := s.cluster.placed[v.pod.UID]; at != nil && !slices.Contains(pods, at.info) {
			pods = append(pods, at.info)
		}
	}
	units, _ := s.cluster.units(pods)
	out := newPlan(n, units)
	out.violations = o.violations
	if slices.ContainsFunc(units, func(u unit) bool { return u.priority >= p.priority }) {
		return nil, final("it belongs to a group that is no less important")
	}
	if len(out.victims) == 0 {
		return nil, final("the pods are gone")
	}
	return out, s.cluster.refusalWithout(p, out, s.optionsOf(p.pod).rules)
}

// refusalWithout tells why p may not go to a plan's node even when its victims have left.
func (c *cluster) refusalWithout(p *podInfo, to *plan, rules []rule) reason {
	gone := make([]*placed, len(to.victims))
	for i, v := range to.victims {
		gone[i] = c.lift(v.pod.UID)
	}
	why, _ := refusal(c, p, to.node, rules)
	for _, at := range slices.Backward(gone) {
		c.putBack(at)
	}
	return why
}
