package daemonset

import (
	"cmp"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"

	"canopus/internal/controllers/podstate"
)

// burst bounds the pods that one look creates or deletes.
const burst = 250

// observed is what a decision about one DaemonSet rests on. All of it is shared and read only.
type observed struct {
	ds    *appsv1.DaemonSet
	hash  string // of the present template
	pods  []*corev1.Pod
	nodes []*corev1.Node
}

// actions is what a DaemonSet needs now.
type actions struct {
	create []string // names of nodes
	remove []*corev1.Pod
	events []event
	status appsv1.DaemonSetStatus
	after  time.Duration // look again by then; 0: when something changes
}

type event struct{ kind, reason, message string }

// planner is one decision in the making.
type planner struct {
	observed
	now                time.Time
	a                  actions
	byNode             map[string][]*corev1.Pod // bound ones first, then the oldest; without deleted pods that have ended
	should             []string                 // nodes that should run a pod
	surge, unavailable int
}

// plan decides which nodes need a pod, which pods must go, and what the status says. It changes nothing.
func plan(o observed, now time.Time) actions {
	p := &planner{observed: o, now: now, byNode: map[string][]*corev1.Pod{}}
	for _, pod := range o.pods {
		if pod.DeletionTimestamp == nil || !podstate.Finished(pod) {
			p.byNode[target(pod)] = append(p.byNode[target(pod)], pod)
		}
	}
	for _, pods := range p.byNode {
		slices.SortFunc(pods, func(a, b *corev1.Pod) int {
			return cmp.Or(bound(b)-bound(a), a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name))
		})
	}
	p.survey()
	p.a.status = p.status()
	if o.ds.DeletionTimestamp != nil {
		p.a.create, p.a.remove, p.a.events = nil, nil, nil
		return p.a
	}
	if o.ds.Spec.UpdateStrategy.Type == appsv1.RollingUpdateDaemonSetStrategyType {
		p.roll()
	}
	p.a.create, p.a.remove = p.a.create[:min(len(p.a.create), burst)], p.a.remove[:min(len(p.a.remove), burst)]
	return p.a
}

// bound is 1 for a pod that has its node, else 0.
func bound(p *corev1.Pod) int {
	if p.Spec.NodeName != "" {
		return 1
	}
	return 0
}

// target is the node that a pod runs on or is meant for.
func target(p *corev1.Pod) string {
	if p.Spec.NodeName != "" {
		return p.Spec.NodeName
	}
	if p.Spec.Affinity == nil || p.Spec.Affinity.NodeAffinity == nil || p.Spec.Affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution == nil {
		return ""
	}
	for _, term := range p.Spec.Affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms {
		for _, f := range term.MatchFields {
			if f.Key == nodeNameField && f.Operator == corev1.NodeSelectorOpIn && len(f.Values) == 1 {
				return f.Values[0]
			}
		}
	}
	return ""
}

// fits reports whether node should run a pod of the set, and whether one that runs there may stay.
func (p *planner) fits(node *corev1.Node) (run, stay bool) {
	spec := &p.ds.Spec.Template.Spec
	if spec.NodeName != "" && spec.NodeName != node.Name {
		return false, false
	}
	pod := &corev1.Pod{Spec: corev1.PodSpec{NodeSelector: spec.NodeSelector, Affinity: spec.Affinity}}
	if ok, err := nodeaffinity.GetRequiredNodeAffinity(pod).Match(node); err != nil || !ok {
		return false, false
	}
	tolerations := tolerationsOf(spec)
	run, stay = true, true
	for _, t := range node.Spec.Taints {
		if t.Effect == corev1.TaintEffectPreferNoSchedule || tolerated(tolerations, t) {
			continue
		}
		run = false
		stay = stay && t.Effect != corev1.TaintEffectNoExecute
	}
	return run, stay
}

// survey looks at each node: what is missing, and what is too much.
func (p *planner) survey() {
	known := map[string]bool{}
	for _, node := range p.nodes {
		known[node.Name] = true
		run, stay := p.fits(node)
		pods := p.byNode[node.Name]
		if run {
			p.should = append(p.should, node.Name)
		}
		switch {
		case run && len(pods) == 0:
			p.a.create = append(p.a.create, node.Name)
		case stay:
			p.tidy(node.Name, pods)
		default:
			p.removeAll(pods)
		}
	}
	slices.Sort(p.should)
	slices.Sort(p.a.create)
	for name, pods := range p.byNode {
		if !known[name] {
			p.removeAll(slices.DeleteFunc(slices.Clone(pods), func(x *corev1.Pod) bool { return x.Spec.NodeName != "" })) // the others are podgc's
		}
	}
	scaled := func(v *intstr.IntOrString) int {
		if v == nil {
			return 0
		}
		n, err := intstr.GetScaledValueFromIntOrPercent(v, len(p.should), true)
		if err != nil {
			return 0
		}
		return n
	}
	if r := p.ds.Spec.UpdateStrategy.RollingUpdate; r != nil {
		p.surge, p.unavailable = scaled(r.MaxSurge), scaled(r.MaxUnavailable)
		if p.surge == 0 && p.unavailable == 0 { // percentages of few nodes
			p.unavailable = 1
		}
	}
}

func (p *planner) removeAll(pods []*corev1.Pod) {
	for _, x := range pods {
		if x.DeletionTimestamp == nil {
			p.a.remove = append(p.a.remove, x)
		}
	}
}

// The pause before a failed pod is deleted, so that one which fails at once does not keep the node busy.
const (
	firstPause   = time.Second
	longestPause = 15 * time.Minute
)

// tidy removes pods that have ended, and all but one of the others; while a node is being updated with surge, an old and a
// new one.
func (p *planner) tidy(node string, pods []*corev1.Pod) {
	var fresh, old *corev1.Pod
	for _, x := range pods {
		if x.DeletionTimestamp != nil {
			continue
		}
		if podstate.Finished(x) {
			p.replace(node, x)
			continue
		}
		updated := p.updated(x) || !p.surging()
		switch {
		case updated && fresh == nil:
			fresh = x
		case !updated && old == nil:
			old = x
		default:
			p.a.remove = append(p.a.remove, x)
		}
	}
	if fresh != nil && old != nil && (!podstate.Ready(old) || p.available(fresh)) {
		p.a.remove = append(p.a.remove, old)
	}
}

func (p *planner) surging() bool {
	r := p.ds.Spec.UpdateStrategy.RollingUpdate
	if r == nil || r.MaxSurge == nil || p.ds.Spec.UpdateStrategy.Type != appsv1.RollingUpdateDaemonSetStrategyType {
		return false
	}
	n, err := intstr.GetScaledValueFromIntOrPercent(r.MaxSurge, 100, true)
	return err == nil && n > 0
}

// replace deletes a pod that has ended. One that failed soon after its start waits as long as it has lived.
func (p *planner) replace(node string, x *corev1.Pod) {
	name := x.Namespace + "/" + x.Name + " on node " + node
	e := event{corev1.EventTypeWarning, "FailedDaemonPod", "Found failed daemon pod " + name + ", will try to kill it"}
	if x.Status.Phase == corev1.PodSucceeded {
		e = event{corev1.EventTypeNormal, "SucceededDaemonPod", "Found succeeded daemon pod " + name + ", will try to delete it"}
	} else if wait := p.pause(node) - p.now.Sub(x.CreationTimestamp.Time); wait > 0 {
		p.soon(wait)
		return
	}
	p.a.events = append(p.a.events, e)
	p.a.remove = append(p.a.remove, x)
}

// pause is longer the more pods of the set have failed on the node and are still there.
func (p *planner) pause(node string) time.Duration {
	pause := firstPause
	for _, x := range p.pods {
		if target(x) == node && x.Status.Phase == corev1.PodFailed && pause < longestPause {
			pause *= 2
		}
	}
	return min(pause, longestPause)
}

func (p *planner) soon(d time.Duration) {
	if d > 0 && (p.a.after == 0 || d < p.a.after) {
		p.a.after = d
	}
}

func (p *planner) updated(x *corev1.Pod) bool {
	return x.Labels[appsv1.ControllerRevisionHashLabelKey] == p.hash
}

func (p *planner) available(x *corev1.Pod) bool {
	ok, wait := podstate.Available(x, p.ds.Spec.MinReadySeconds, p.now)
	p.soon(wait)
	return ok
}

// roll replaces pods of an older template, as many at a time as may be unavailable, or surge.
func (p *planner) roll() {
	going := map[*corev1.Pod]bool{}
	for _, x := range p.a.remove {
		going[x] = true
	}
	var broken, candidates []*corev1.Pod
	down, surging := 0, 0
	for _, node := range p.should {
		var fresh, old *corev1.Pod
		leaving := false
		for _, x := range p.byNode[node] {
			switch {
			case x.DeletionTimestamp != nil || going[x]:
				leaving = true
			case p.updated(x):
				fresh = x
			default:
				old = x
			}
		}
		switch {
		case fresh != nil && old != nil:
			surging++
		case fresh != nil:
			if !p.available(fresh) {
				down++
			}
		case old == nil || leaving:
			down++
		case !p.available(old):
			broken = append(broken, old)
			down++
		default:
			candidates = append(candidates, old)
		}
	}
	if p.surging() {
		for _, x := range slices.Concat(broken, candidates[:max(0, min(len(candidates), p.surge-surging))]) {
			p.a.create = append(p.a.create, target(x))
		}
		return
	}
	p.a.remove = slices.Concat(p.a.remove, broken, candidates[:max(0, min(len(candidates), p.unavailable-down))])
}

// status counts nodes.
func (p *planner) status() appsv1.DaemonSetStatus {
	s := appsv1.DaemonSetStatus{
		ObservedGeneration: p.ds.Generation, CollisionCount: p.ds.Status.CollisionCount, Conditions: p.ds.Status.Conditions,
		DesiredNumberScheduled: int32(len(p.should)),
	}
	for _, node := range p.nodes {
		pods := p.byNode[node.Name]
		_, should := slices.BinarySearch(p.should, node.Name)
		if !should {
			if len(pods) > 0 {
				s.NumberMisscheduled++
			}
			continue
		}
		if len(pods) == 0 {
			continue
		}
		s.CurrentNumberScheduled++
		oldest := pods[0] // until it has left it speaks for its node: a rollout with surge is not over when the new pods are made
		if p.updated(oldest) {
			s.UpdatedNumberScheduled++
		}
		if podstate.Ready(oldest) {
			s.NumberReady++
			if p.available(oldest) {
				s.NumberAvailable++
			}
		}
	}
	s.NumberUnavailable = s.DesiredNumberScheduled - s.NumberAvailable
	return s
}
