package scheduler

import (
	"context"
	"slices"

	corev1 "k8s.io/api/core/v1"
	schedulingv1beta1 "k8s.io/api/scheduling/v1beta1"
)

// siege is what must go so that a gang can have its nodes. It is tried out on the cluster itself and taken back.
type siege struct {
	s     *Scheduler
	seats []*besieged
	gone  []*evicted
}

// besieged is a member of the gang and the node it is to have.
type besieged struct {
	*seat
	info *podInfo // with the gang's priority
	node string
}

// evicted is a pod that is to go for the sake of a member.
type evicted struct {
	at   *placed
	sake *besieged
}

// prioritized is p with the gang's priority. What is known of its class holds for the pod's own priority only.
func prioritized(p *podInfo, priority *int32) *podInfo {
	if priority == nil || *priority == p.priority {
		return p
	}
	q := *p
	q.priority = *priority
	q.class = &class{info: &q}
	return &q
}

// besiege looks for pods to evict so that missing more members find nodes beside those that are seated. nil: even then they
// would not all fit, and nobody is evicted. The cluster is left as it was found.
func (s *Scheduler) besiege(g *schedulingv1beta1.PodGroup, seated, standing []*seat, missing int) *siege {
	if missing > len(standing) {
		return nil
	}
	x := &siege{s: s}
	for _, one := range seated {
		b := &besieged{seat: one, info: prioritized(one.w.info, g.Spec.Priority), node: one.d.node}
		s.cluster.place(b.info, b.node, true)
		x.seats = append(x.seats, b)
	}
	own := len(x.seats)
	for _, one := range standing {
		if len(x.seats)-own == missing {
			break
		}
		x.add(&besieged{seat: one, info: prioritized(one.w.info, g.Spec.Priority)})
	}
	complete := len(x.seats)-own == missing
	if complete {
		x.spare()
	}
	for _, b := range slices.Backward(x.seats[own:]) {
		b.set.undo(s.cluster)
		b.set = nil
		s.cluster.remove(b.info.pod.UID)
	}
	for _, e := range slices.Backward(x.gone) {
		s.cluster.putBack(e.at)
	}
	if !complete {
		return nil
	}
	return x
}

// add gives b a node, if evictions of its own can.
func (x *siege) add(b *besieged) {
	c := x.s.cluster
	d := decide(c, b.info, x.s.optionsOf(b.info.pod))
	switch {
	case d.node != "":
	case d.plan.node != nil:
		d.node = d.plan.node.name
	default:
		return
	}
	before := len(x.gone)
	for _, v := range d.plan.victims {
		x.gone = append(x.gone, &evicted{c.lift(v.pod.UID), b})
	}
	b.node = d.node
	set, why := x.s.reserve(b.w, &d)
	if why.refuses() {
		for _, e := range slices.Backward(x.gone[before:]) {
			c.putBack(e.at)
		}
		x.gone = x.gone[:before]
		return
	}
	b.set = set
	c.place(b.info, b.node, true)
	x.seats = append(x.seats, b)
}

// spare lets those victims stay beside whom the whole gang fits, the more important first. Who is evicted as a whole stays so.
func (x *siege) spare() {
	c := x.s.cluster
	of := make(map[*podInfo]*evicted, len(x.gone))
	pods := make([]*podInfo, len(x.gone))
	for i, e := range x.gone {
		pods[i], of[e.at.info] = e.at.info, e
	}
	units, _ := c.units(pods)
	slices.SortStableFunc(units, func(a, b unit) int { return a.compare(&b) })
	x.gone = nil
	for _, u := range units {
		for _, q := range u.pods {
			c.putBack(of[q].at)
		}
		if x.fits() {
			continue
		}
		for _, q := range u.pods {
			c.lift(q.pod.UID)
			x.gone = append(x.gone, of[q])
		}
	}
}

// fits reports whether each member may be where it is, beside the others.
func (x *siege) fits() bool {
	c := x.s.cluster
	for _, b := range x.seats {
		at := c.lift(b.info.pod.UID)
		why, _ := refusal(c, b.info, at.node, x.s.optionsOf(b.info.pod).rules)
		c.putBack(at)
		if why.refuses() {
			return false
		}
	}
	return true
}

// begin reserves the nodes for all members and has the victims evicted. The gang tries again when they are gone.
func (x *siege) begin() {
	s := x.s
	s.metrics.preempted(len(x.gone))
	for _, b := range x.seats {
		to := plan{node: s.cluster.nodes[b.node]}
		for _, e := range x.gone {
			if e.sake == b {
				to.victims = append(to.victims, e.at.info)
			}
		}
		s.preempt(b.info, to)
		s.evict(b.w.info.pod, to)
	}
}

// vacates reports whether pods are leaving their nodes for the sake of a gang.
func (s *Scheduler) vacates(seats []*seat) bool {
	return slices.ContainsFunc(seats, func(one *seat) bool {
		nominee := s.cluster.nominations[one.w.info.pod.UID]
		return nominee != nil && s.cluster.vacates(nominee)
	})
}

// turnAway puts a member of an incomplete gang back to wait.
func (s *Scheduler) turnAway(one *seat, blockers ruleSet, awaiting bool, why string) {
	w := one.w
	s.metrics.attempt(resultUnschedulable, s.Clock.Since(w.tried))
	w.awaiting = awaiting
	s.queue.refuse(w, s.optionsOf(w.info.pod).rules, blockers, s.Clock.Now())
	v := refusalNote{pod: w.info.pod, reason: corev1.PodReasonUnschedulable, message: why, nominated: s.cluster.nominated(w.info.pod.UID)}
	s.outbox.send(func(ctx context.Context) { s.explain(ctx, v) })
}
