package statefulset

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"canopus/internal/controllers/podstate"
)

// observed is what a decision about one StatefulSet rests on. All of it is shared and read only.
type observed struct {
	set     *appsv1.StatefulSet
	current string // name of the revision that the set comes from
	update  string // name of the revision of the present template
	pods    []*corev1.Pod
	claims  map[string]*corev1.PersistentVolumeClaim // by name: those of the set's ordinals that exist
	vacant  []vacancy                                // claims of ordinals that the set was scaled away from
}

// actions is what a StatefulSet needs now.
type actions struct {
	own     []*corev1.PersistentVolumeClaim // with the owners that they should have; before all else
	claim   []wanted                        // for pods that are there and wait
	discard []*corev1.PersistentVolumeClaim // of ordinals that were scaled away while they had no pod
	create  []birth
	remove  []*corev1.Pod // in this order
	relabel []*corev1.Pod // adopted under the right name, but without the labels of their ordinal
	events  []event
	status  appsv1.StatefulSetStatus
	after   time.Duration // look again by then; 0: when something changes
}

// birth is a pod to make, and the claims to make before it.
type birth struct {
	ordinal  int
	revision string
	claims   []*corev1.PersistentVolumeClaim
}

// wanted is a claim to make for a pod.
type wanted struct {
	pod   string
	claim *corev1.PersistentVolumeClaim
}

type event struct{ kind, reason, message string }

// planner is one decision in the making.
type planner struct {
	observed
	now         time.Time
	a           actions
	start, size int
	replicas    []*corev1.Pod // by ordinal - start; nil: missing
	condemned   []*corev1.Pod // beyond the wanted ordinals, highest first
}

// plan decides which ordinals need a pod, which pods must go, and what the status says. It changes nothing.
//
// In an ordered set each call asks for at most one step of scaling, and for none before what came earlier is available.
func plan(o observed, now time.Time) actions {
	p := &planner{observed: o, now: now}
	p.start, p.size = ordinals(o.set)
	p.sort()
	p.count()
	if o.set.DeletionTimestamp != nil {
		return p.a
	}
	p.ownClaims()
	p.discards()
	p.identify()
	if p.fill() && p.shrink() {
		p.roll()
	}
	return p.a
}

// ordinals returns the first ordinal of the set's pods and how many there shall be.
func ordinals(set *appsv1.StatefulSet) (start, size int) {
	size = 1
	if set.Spec.Replicas != nil {
		size = int(*set.Spec.Replicas)
	}
	if set.Spec.Ordinals != nil {
		start = int(set.Spec.Ordinals.Start)
	}
	return start, size
}

// sort tells wanted pods from condemned ones.
func (p *planner) sort() {
	p.replicas = make([]*corev1.Pod, p.size)
	for _, pod := range p.pods {
		n, ok := ordinalOf(p.set.Name, pod.Name)
		switch {
		case !ok:
		case n < p.start || n >= p.start+p.size:
			p.condemned = append(p.condemned, pod)
		case p.replicas[n-p.start] == nil || p.replicas[n-p.start].DeletionTimestamp != nil:
			// A cache that is behind may show a pod that has left beside the one that took its name.
			p.replicas[n-p.start] = pod
		}
	}
	slices.SortFunc(p.condemned, func(a, b *corev1.Pod) int {
		x, _ := ordinalOf(p.set.Name, a.Name)
		y, _ := ordinalOf(p.set.Name, b.Name)
		return cmp.Compare(y, x)
	})
}

// ordinalOf is the number in the name of a set's pod; ok is false for names that the set never gives.
func ordinalOf(set, pod string) (ordinal int, ok bool) {
	digits, found := strings.CutPrefix(pod, set+"-")
	if !found {
		return 0, false
	}
	n, err := strconv.ParseInt(digits, 10, 32)
	if err != nil || n < 0 || strconv.FormatInt(n, 10) != digits {
		return 0, false
	}
	return int(n), true
}

func (p *planner) ordered() bool {
	return p.set.Spec.PodManagementPolicy != appsv1.ParallelPodManagement
}

func ready(pod *corev1.Pod) bool { return pod.Status.Phase == corev1.PodRunning && podstate.Ready(pod) }

func revisionOf(pod *corev1.Pod) string { return pod.Labels[appsv1.ControllerRevisionHashLabelKey] }

// serves reports whether pod exists, stays and has been ready for long enough.
func (p *planner) serves(pod *corev1.Pod) bool {
	if pod == nil || pod.DeletionTimestamp != nil || !ready(pod) {
		return false
	}
	ok, _ := podstate.Available(pod, p.set.Spec.MinReadySeconds, p.now)
	return ok
}

// count makes the status, and asks for another look when a ready pod becomes available.
func (p *planner) count() {
	p.set.Status.DeepCopyInto(&p.a.status)
	s := &p.a.status
	s.ObservedGeneration, s.CurrentRevision, s.UpdateRevision = p.set.Generation, p.current, p.update
	s.Replicas, s.ReadyReplicas, s.AvailableReplicas, s.CurrentReplicas, s.UpdatedReplicas = 0, 0, 0, 0, 0
	for _, pod := range slices.Concat(p.replicas, p.condemned) {
		if pod == nil {
			continue
		}
		s.Replicas++
		if ready(pod) {
			s.ReadyReplicas++
			ok, wait := podstate.Available(pod, p.set.Spec.MinReadySeconds, p.now)
			if ok {
				s.AvailableReplicas++
			} else if wait > 0 && (p.a.after == 0 || wait < p.a.after) {
				p.a.after = wait
			}
		}
		if pod.DeletionTimestamp != nil {
			continue
		}
		if revisionOf(pod) == p.current {
			s.CurrentReplicas++
		}
		if revisionOf(pod) == p.update {
			s.UpdatedReplicas++
		}
	}
	// A rollout that has reached every pod makes its revision the set's own.
	n := int32(p.size)
	if p.set.Spec.UpdateStrategy.Type == appsv1.RollingUpdateStatefulSetStrategyType &&
		s.Replicas == n && s.UpdatedReplicas == n && s.ReadyReplicas == n {
		s.CurrentRevision, s.CurrentReplicas = p.update, s.UpdatedReplicas
	}
}

// identify finds pods whose labels do not say which they are.
func (p *planner) identify() {
	for i, pod := range p.replicas {
		if pod != nil && pod.DeletionTimestamp == nil && (pod.Labels[appsv1.StatefulSetPodNameLabel] != pod.Name ||
			pod.Labels[appsv1.PodIndexLabel] != strconv.Itoa(p.start+i)) {
			p.a.relabel = append(p.a.relabel, pod)
		}
	}
}

// fill asks for missing pods and replaces those that have ended. It reports whether scaling down may go on.
func (p *planner) fill() bool {
	for i, pod := range p.replicas {
		switch {
		case pod == nil:
			p.birth(i)
		case podstate.Finished(pod) && pod.DeletionTimestamp == nil:
			p.a.events = append(p.a.events, p.recreating(pod))
			p.a.remove = append(p.a.remove, pod)
		case p.serves(pod):
			continue
		}
		if p.ordered() {
			return false
		}
	}
	return true
}

func (p *planner) recreating(pod *corev1.Pod) event {
	of := "StatefulSet " + p.set.Namespace + "/" + p.set.Name + " is recreating "
	if pod.Status.Phase == corev1.PodFailed {
		return event{corev1.EventTypeWarning, "RecreatingFailedPod", of + "failed Pod " + pod.Name}
	}
	return event{corev1.EventTypeNormal, "RecreatingTerminatedPod", of + "terminated Pod " + pod.Name}
}

// revisionFor is what the i-th replica is made from.
func (p *planner) revisionFor(i int) string {
	strategy := p.set.Spec.UpdateStrategy
	if strategy.Type != appsv1.RollingUpdateStatefulSetStrategyType {
		return p.update
	}
	held := int(p.a.status.CurrentReplicas) // a rollout without parameters holds what it has not reached
	if strategy.RollingUpdate != nil {
		held = p.partition()
	}
	if i < held {
		return p.current
	}
	return p.update
}

func (p *planner) partition() int {
	if r := p.set.Spec.UpdateStrategy.RollingUpdate; r != nil && r.Partition != nil {
		return int(*r.Partition)
	}
	return 0
}

// shrink removes condemned pods, highest ordinal first. It reports whether a rollout may go on.
func (p *planner) shrink() bool {
	if !p.ordered() {
		for _, pod := range p.condemned {
			if pod.DeletionTimestamp == nil {
				p.a.remove = append(p.a.remove, pod)
			}
		}
		return true
	}
	if len(p.condemned) == 0 {
		return true
	}
	last := p.condemned[0]
	if last.DeletionTimestamp != nil {
		return false
	}
	// One that does not serve waits for those below it that do not serve either: they may come back and must not be passed.
	// A pod that has ended cannot come back: it neither waits nor is waited for.
	if p.ails(last) && slices.ContainsFunc(p.condemned[1:], p.ails) {
		return false
	}
	p.a.remove = append(p.a.remove, last)
	return false
}

// ails reports whether pod does not serve, but may yet.
func (p *planner) ails(pod *corev1.Pod) bool { return !p.serves(pod) && !podstate.Finished(pod) }

// roll removes pods of other revisions, highest ordinal first, so that they come back from the new one.
//
// Pods that serve go as far as maxUnavailable lets them. Old pods that serve nobody go first and make nothing worse, but
// no more of them at once than maxUnavailable: what replaces them may be no better.
func (p *planner) roll() {
	if p.set.Spec.UpdateStrategy.Type != appsv1.RollingUpdateStatefulSetStrategyType {
		return
	}
	var broken, serving []*corev1.Pod
	unavailable, moving := 0, 0
	for i, pod := range slices.Backward(p.replicas) {
		serves := p.serves(pod)
		if !serves {
			unavailable++
		}
		switch {
		case pod == nil || pod.DeletionTimestamp != nil || podstate.Finished(pod): // on its way already
			moving++
		case revisionOf(pod) == p.update:
			if !serves {
				moving++
			}
		case i < p.partition():
		case serves:
			serving = append(serving, pod)
		default:
			broken = append(broken, pod)
		}
	}
	limit := p.maxUnavailable()
	p.a.remove = append(p.a.remove, broken[:min(len(broken), max(0, limit-moving))]...)
	p.a.remove = append(p.a.remove, serving[:min(len(serving), max(0, limit-unavailable))]...)
}

// maxUnavailable is how many of the set's pods a rollout may take away, at least one.
func (p *planner) maxUnavailable() int {
	r := p.set.Spec.UpdateStrategy.RollingUpdate
	if r == nil || r.MaxUnavailable == nil {
		return 1
	}
	n, err := intstr.GetScaledValueFromIntOrPercent(r.MaxUnavailable, p.size, true)
	if err != nil {
		return 1
	}
	return max(n, 1)
}
