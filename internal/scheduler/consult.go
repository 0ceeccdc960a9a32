package scheduler

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// consultation is a pod about which extenders are being asked. Meanwhile other pods are scheduled: an answer is taken only as
// far as it still holds when it comes, so that a slow extender delays nobody but the pods it has a say about.
type consultation struct {
	w      *queued
	d      decision
	nodes  []*corev1.Node
	points map[string]int64
	now    *corev1.Pod // the pod has changed since
	turned bool        // something has happened since
	// The answer:
	refused []reason
	offers  []*offer // of evictions, where nodes are not what is asked about
	err     error
}

// advisers are the extenders that filter or rate nodes for pod.
func (s *Scheduler) advisers(pod *corev1.Pod) []*extender {
	var out []*extender
	for _, e := range s.extenders {
		if (e.FilterVerb != "" || e.PrioritizeVerb != "") && e.interested(pod) {
			out = append(out, e)
		}
	}
	return out
}

// binderOf is the extender that binds pod, or nil.
func (s *Scheduler) binderOf(pod *corev1.Pod) *extender {
	for _, e := range s.extenders {
		if e.BindVerb != "" && e.interested(pod) {
			return e
		}
	}
	return nil
}

// consult finds out which nodes fit w, and asks extenders about them.
func (s *Scheduler) consult(w *queued, advisers []*extender) {
	w.tried = s.Clock.Now()
	o := s.optionsFor(w.info.pod)
	q := &consultation{w: w, points: map[string]int64{}}
	fitting := q.survey(s.cluster, o)
	s.metrics.decided(&q.d, o.rules)
	if len(fitting) == 0 {
		s.settle(w, &q.d)
		return
	}
	q.d.helpful = nil // good until the next decision only
	s.consulted[w.info.pod.UID] = q
	s.outbox.sendSlow(func(ctx context.Context) {
		q.ask(ctx, s, advisers)
		s.inbox.send(func(s *Scheduler) { s.answered(q) })
	})
}

// survey finds the fitting nodes with their points, as decide does.
func (q *consultation) survey(c *cluster, o options) []*node {
	p, d := q.w.info, &q.d
	if d.total = len(c.candidates()); d.total == 0 {
		return nil
	}
	if d.whole = d.refused(c, p, o.rules); d.whole.refuses() {
		d.plan = preempt(c, p, o, d)
		return nil
	}
	fitting := filter(c, p, o, d)
	if len(fitting) == 0 {
		d.plan = preempt(c, p, o, d)
		return nil
	}
	best(c, p, o, fitting, d)
	for i, n := range fitting {
		q.nodes = append(q.nodes, n.object)
		q.points[n.name] = 0
		if len(fitting) > 1 { // the points of an only node do not matter
			q.points[n.name] = c.scratch.total[i]
		}
	}
	return fitting
}

// ask calls the extenders, one after another: each sees what those before have left.
func (q *consultation) ask(ctx context.Context, s *Scheduler, advisers []*extender) {
	pod := q.w.info.pod
	for _, e := range advisers {
		if e.FilterVerb == "" || len(q.nodes) == 0 {
			continue
		}
		kept, refused, err := e.filter(ctx, pod, q.nodes)
		if err != nil && e.Ignorable {
			s.Log.Warn("an extender that may be ignored failed", "extender", e.URLPrefix, "pod", q.w.info.key, "error", err)
			continue
		}
		if err != nil {
			q.err = fmt.Errorf("extender %s: %w", e.URLPrefix, err)
			return
		}
		q.nodes, q.refused = kept, append(q.refused, refused...)
	}
	for _, e := range advisers {
		if e.PrioritizeVerb == "" || len(q.nodes) < 2 {
			continue
		}
		if err := e.prioritize(ctx, pod, q.nodes, q.points); err != nil {
			s.Log.Warn("an extender did not rate nodes; its points are left out", "extender", e.URLPrefix, "pod", q.w.info.key, "error", err)
		}
	}
}

// heard reports whether an answer is still wanted, and is one. It sees to the pod if not.
func (s *Scheduler) heard(q *consultation) bool {
	uid := q.w.info.pod.UID
	if s.consulted[uid] != q {
		return false // deleted, or placed by another
	}
	delete(s.consulted, uid)
	switch {
	case q.now != nil:
		s.observePod(q.now)
		return false
	case q.err != nil:
		s.tryLater(q.w, q.err)
		return false
	}
	return true
}

// conclude refuses a pod after its extenders have answered. It is tried again if something has happened since they were asked, unless
// pods are leaving for its sake: the last of them will wake it.
func (s *Scheduler) conclude(q *consultation) {
	s.refuse(q.w, &q.d)
	if q.turned && !q.w.awaiting {
		s.queue.rethink(q.w.info.pod.UID, s.Clock.Now())
	}
}

// tryLater has a pod tried again after its back-off, and says what went wrong, if anything did.
func (s *Scheduler) tryLater(w *queued, err error) {
	now := s.Clock.Now()
	s.queue.retry(w, now)
	if err == nil {
		return
	}
	s.metrics.attempt(resultError, now.Sub(w.tried))
	note := refusalNote{pod: w.info.pod, reason: corev1.PodReasonSchedulerError, message: err.Error()}
	s.outbox.send(func(ctx context.Context) { s.explain(ctx, note) })
}

// answered goes on with a pod after its extenders have answered.
func (s *Scheduler) answered(q *consultation) {
	w := q.w
	if !s.heard(q) {
		return
	}
	rules := s.optionsOf(w.info.pod).rules
	if len(q.nodes) == 0 {
		for _, why := range q.refused {
			q.d.tally.add(why, len(rules)-1)
		}
		q.d.blockers.add(len(rules) - 1)
		q.d.plan = plan{why: summaryOf(q.d.total, fmt.Sprintf("%d %s", q.d.total, notHelpful))}
		s.conclude(q)
		return
	}
	s.take(q, rules)
}

// take gives the pod the best of the nodes that extenders left and that still fit. When all have been taken, it tries anew.
func (s *Scheduler) take(q *consultation, rules []rule) {
	slices.SortStableFunc(q.nodes, func(a, b *corev1.Node) int { return cmp.Compare(q.points[b.Name], q.points[a.Name]) })
	for _, object := range q.nodes {
		n := s.cluster.nodes[object.Name]
		if n == nil || n.object == nil {
			continue
		}
		if why, _ := refusal(s.cluster, q.w.info, n, rules); why.refuses() {
			continue
		}
		one := &seat{w: q.w, d: q.d}
		one.d.node = n.name
		var why reason
		if one.set, why = s.reserve(q.w, &one.d); why.refuses() {
			continue
		}
		s.cluster.place(q.w.info, n.name, true)
		s.commit(one)
		return
	}
	s.tryLater(q.w, nil)
}
