package job

import (
	"slices"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// count accounts for the pods that have ended, each exactly once, in three steps that survive a crash between any two:
//  1. the status lists the pod as uncounted (or, if it succeeded in an indexed Job, its index as completed)
//  2. the pod loses its finalizer
//  3. the status drops the pod from the list and adds it to the count, in one write
//
// It may be called again in one plan, after the outcome became known.
func (p *planner) count() {
	cached := map[types.UID]*corev1.Pod{}
	for _, x := range p.pods {
		cached[x.UID] = x
	}
	p.a.free, p.pending = nil, false
	p.uncountedOK, p.uncountedF = map[types.UID]bool{}, map[types.UID]bool{}
	u := batchv1.UncountedTerminatedPods{}
	if p.s.UncountedTerminatedPods != nil {
		u = *p.s.UncountedTerminatedPods.DeepCopy()
	}
	keep := func(uid types.UID) bool {
		x := cached[uid]
		return x != nil && hasFinalizer(x)
	}
	settle := func(list []types.UID, counted *int32, open map[types.UID]bool) []types.UID {
		var left []types.UID
		for _, uid := range list {
			if keep(uid) {
				left, open[uid] = append(left, uid), true
				continue
			}
			*counted++
		}
		return left
	}
	u.Succeeded = settle(u.Succeeded, &p.s.Succeeded, p.uncountedOK)
	u.Failed = settle(u.Failed, &p.s.Failed, p.uncountedF)
	p.ignored = map[types.UID]bool{}
	p.judgeAll()
	p.enlist(&u)
	p.s.UncountedTerminatedPods = &u
}

// judgeAll finds the failures that matter to the Job as a whole, to an index, or not at all.
func (p *planner) judgeAll() {
	p.held, p.fatal = map[types.UID]bool{}, ""
	p.rules = map[types.UID]batchv1.PodFailurePolicyAction{}
	last := map[int]*corev1.Pod{}
	for _, x := range p.pods {
		if !p.isFailed(x) || !hasFinalizer(x) {
			continue
		}
		v := verdict{action: batchv1.PodFailurePolicyActionCount}
		if x.Status.Phase == corev1.PodFailed {
			v = judge(&p.job.Spec, x)
		}
		if v.message != "" {
			p.rules[x.UID] = v.action
		}
		i := indexOf(x)
		switch v.action {
		case batchv1.PodFailurePolicyActionIgnore:
			p.ignored[x.UID] = true
		case batchv1.PodFailurePolicyActionFailJob:
			if p.fatal == "" {
				p.fatal = v.message
			}
		case batchv1.PodFailurePolicyActionFailIndex:
			p.failIndex(i)
		case batchv1.PodFailurePolicyActionCount:
		}
		if p.perIndex && i >= 0 && i < p.limit {
			if !p.ignored[x.UID] && annotatedCount(x, batchv1.JobIndexFailureCountAnnotation)+1 > *p.job.Spec.BackoffLimitPerIndex {
				p.failIndex(i)
			}
			if was := last[i]; was == nil || ended(x).After(ended(was)) {
				last[i] = x
			}
		}
	}
	if p.ending() || p.suspended() {
		return
	}
	replaced := map[int]bool{}
	for _, x := range p.active {
		replaced[indexOf(x)] = true
	}
	for i, x := range last {
		if !p.failed[i] && !p.done[i] && !replaced[i] && !p.uncountedF[x.UID] {
			p.held[x.UID] = true
		}
	}
}

func (p *planner) failIndex(i int) {
	if p.perIndex && i >= 0 && i < p.limit && !p.done[i] {
		p.failed[i] = true
	}
}

// enlist starts to account for pods that have ended since.
func (p *planner) enlist(u *batchv1.UncountedTerminatedPods) {
	for _, x := range p.pods {
		if !hasFinalizer(x) {
			continue
		}
		if p.uncountedOK[x.UID] || p.uncountedF[x.UID] {
			p.a.free = append(p.a.free, x)
			continue
		}
		i := indexOf(x)
		over := len(u.Succeeded)+len(u.Failed) >= maxUncounted
		switch {
		case x.Status.Phase == corev1.PodSucceeded && p.indexed:
			if i >= 0 && i < p.limit && !p.failed[i] {
				p.done[i] = true
			}
			p.free(x)
		case x.Status.Phase == corev1.PodSucceeded && !over:
			u.Succeeded = append(u.Succeeded, x.UID)
			p.uncountedOK[x.UID] = true
			p.free(x)
		case p.isFailed(x) && p.held[x.UID]:
		case p.isFailed(x) && p.ignored[x.UID]:
			p.judged(x)
			p.free(x)
		case p.isFailed(x) && !over:
			u.Failed = append(u.Failed, x.UID)
			p.uncountedF[x.UID] = true
			p.judged(x)
			p.free(x)
		case x.Status.Phase == corev1.PodSucceeded || p.isFailed(x):
			p.pending = true // more than one status holds: the next look goes on
		}
	}
}

// judged notes what a rule of the failure policy says of a pod.
func (p *planner) judged(x *corev1.Pod) {
	action, ruled := p.rules[x.UID]
	if !ruled {
		return
	}
	if p.a.judged == nil {
		p.a.judged = map[types.UID]batchv1.PodFailurePolicyAction{}
	}
	p.a.judged[x.UID] = action
}

func (p *planner) free(x *corev1.Pod) {
	p.a.free, p.pending = append(p.a.free, x), true
}

// succeeded is how many completions there are, those not yet counted included.
func (p *planner) succeeded() int {
	if p.indexed {
		return len(p.done)
	}
	return int(p.s.Succeeded) + len(p.uncountedOK)
}

// failures is how many pods have failed and count against the limit, those not yet counted included.
func (p *planner) failures() int {
	held := 0
	for uid := range p.held {
		if !p.ignored[uid] {
			held++
		}
	}
	return int(p.s.Failed) + len(p.uncountedF) + held
}

// run creates and removes pods so that as many run as should.
func (p *planner) run() {
	if p.suspended() {
		p.a.shrink = capped(p.active)
		return
	}
	parallelism := int(orZero(p.job.Spec.Parallelism))
	want := parallelism
	switch {
	case p.job.Spec.Completions == nil && p.succeeded() > 0:
		want = len(p.active) // the first success lets the others finish
	case p.job.Spec.Completions != nil:
		want = max(0, min(parallelism, p.limit-p.succeeded()-len(p.failed)))
	}
	p.a.shrink = p.surplus(len(p.active) - want)
	room := want - (len(p.active) - len(p.a.shrink))
	if p.onlyFailed() {
		room -= len(p.terminating)
	}
	if room <= 0 || len(p.a.shrink) > 0 {
		return
	}
	if !p.perIndex {
		if wait := backoff(p.pods, p.isFailed, p.now); wait > 0 {
			p.soon(wait)
			return
		}
	}
	p.add(min(room, burst))
}

func capped(pods []*corev1.Pod) []*corev1.Pod { return pods[:min(len(pods), burst)] }

// surplus picks n active pods to remove; in an indexed Job those of no index, of a finished one or of a twin go in any case.
func (p *planner) surplus(n int) []*corev1.Pod {
	order := slices.SortedFunc(slices.Values(p.active), leastUseful)
	var out []*corev1.Pod
	taken := map[types.UID]bool{}
	if p.indexed {
		has := indexSet{}
		for _, x := range slices.Backward(order) { // the most useful of twins stays
			i := indexOf(x)
			if i < 0 || i >= p.limit || has[i] || p.done[i] || p.failed[i] {
				out, taken[x.UID] = append(out, x), true
				continue
			}
			has[i] = true
		}
		// Of the others the highest indexes go first.
		slices.SortStableFunc(order, func(a, b *corev1.Pod) int { return indexOf(b) - indexOf(a) })
	}
	for _, x := range order {
		if len(out) >= n {
			break
		}
		if !taken[x.UID] {
			out = append(out, x)
		}
	}
	return capped(out)
}

// add names n pods to create: in an indexed Job for the lowest indexes that neither run nor have ended.
func (p *planner) add(n int) {
	if !p.indexed {
		for range n {
			p.a.create = append(p.a.create, newPod{index: -1})
		}
		return
	}
	busy := indexSet{}
	for _, x := range p.active {
		busy[indexOf(x)] = true
	}
	if p.onlyFailed() {
		for _, x := range p.terminating {
			busy[indexOf(x)] = true
		}
	}
	last := map[int]*corev1.Pod{}
	for _, x := range p.pods {
		if p.held[x.UID] {
			last[indexOf(x)] = x
		}
	}
	for i := 0; i < p.limit && len(p.a.create) < n; i++ {
		if busy[i] || p.done[i] || p.failed[i] {
			continue
		}
		pod := newPod{index: i}
		if was := last[i]; was != nil && p.perIndex {
			pod.failures = annotatedCount(was, batchv1.JobIndexFailureCountAnnotation)
			pod.spared = annotatedCount(was, batchv1.JobIndexIgnoredFailureCountAnnotation)
			if p.ignored[was.UID] {
				pod.spared++
			} else {
				pod.failures++
			}
			if wait := pauseAfter(int(pod.failures+pod.spared)) - p.now.Sub(ended(was)); wait > 0 {
				p.soon(wait)
				continue
			}
		}
		p.a.create = append(p.a.create, pod)
	}
}
