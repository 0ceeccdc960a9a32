package scheduler

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	schedulingv1beta1 "k8s.io/api/scheduling/v1beta1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// gangs are the pod groups there are, and who belongs to them. Groups are scheduled in one cycle, all their pods one after
// another, and what was placed is taken back when it is not enough: nothing is ever held for a gang that waits, so that no two
// of them can wait for each other. Owned by the scheduling goroutine.
type gangs struct {
	groups  map[types.NamespacedName]*schedulingv1beta1.PodGroup
	members map[types.NamespacedName]map[types.UID]*corev1.Pod // those that have ended or are about to end left out
	held    map[types.UID]bool                                 // members that wait for their group to be there, or to be enough
	unsaid  []unsaid                                           // held members that have not been told why, in the order in which they will be
	of      map[types.UID]types.NamespacedName
}

// unsaid is a pod that is held. The pods of a gang come one after another: what one of them lacks is said of those only that
// still lack it after a while.
type unsaid struct {
	pod *corev1.Pod
	at  time.Time
}

// tellAfter is how long a pod is held before that is said.
const tellAfter = time.Second

func newGangs() *gangs {
	return &gangs{
		groups:  map[types.NamespacedName]*schedulingv1beta1.PodGroup{},
		members: map[types.NamespacedName]map[types.UID]*corev1.Pod{},
		held:    map[types.UID]bool{},
		of:      map[types.UID]types.NamespacedName{},
	}
}

// groupSources are what tells of pod groups, where there are any.
func (s *Scheduler) groupSources() []source {
	if !s.PodGroups {
		return nil
	}
	return []source{{s.Informers.Scheduling().V1beta1().PodGroups().Informer(), handle(s.inbox, (*Scheduler).observeGroup, (*Scheduler).forgetGroup)}}
}

// groupOf names the group that pod belongs to.
func groupOf(pod *corev1.Pod) (types.NamespacedName, bool) {
	if g := pod.Spec.SchedulingGroup; g != nil && g.PodGroupName != nil {
		return types.NamespacedName{Namespace: pod.Namespace, Name: *g.PodGroupName}, true
	}
	return types.NamespacedName{}, false
}

// join counts pod in its group.
func (g *gangs) join(pod *corev1.Pod) {
	key, ok := groupOf(pod)
	if !ok || pod.DeletionTimestamp != nil {
		g.leave(pod.UID)
		return
	}
	if g.members[key] == nil {
		g.members[key] = map[types.UID]*corev1.Pod{}
	}
	g.members[key][pod.UID] = pod
	g.of[pod.UID] = key
}

func (g *gangs) leave(uid types.UID) {
	key, ok := g.of[uid]
	if !ok {
		return
	}
	delete(g.of, uid)
	delete(g.held, uid)
	delete(g.members[key], uid)
	if len(g.members[key]) == 0 {
		delete(g.members, key)
	}
}

// minCount is how many pods of a group must have nodes before any gets one; 0 for a group without such a wish.
func minCount(g *schedulingv1beta1.PodGroup) int {
	if g.Spec.SchedulingPolicy.Gang == nil {
		return 0
	}
	return int(g.Spec.SchedulingPolicy.Gang.MinCount)
}

// waiting says what a group lacks before it is worth trying; "" when nothing.
func (g *gangs) waiting(key types.NamespacedName) string {
	group := g.groups[key]
	switch {
	case group == nil:
		return fmt.Sprintf("waiting for pods's pod group %q to appear in scheduling queue", key.Name)
	case len(g.members[key]) < minCount(group):
		return "waiting for minCount pods from a gang to appear in scheduling queue"
	}
	return ""
}

// hold keeps a pod out of the queue until its group is worth trying, and says so once. It lets the others in with the one
// that makes the group complete.
func (s *Scheduler) hold(pod *corev1.Pod) bool {
	key, ok := groupOf(pod)
	if !ok || !s.PodGroups {
		return false
	}
	why := s.gangs.waiting(key)
	if why == "" {
		delete(s.gangs.held, pod.UID)
		s.letIn(key)
		return false
	}
	again := s.gangs.held[pod.UID]
	s.forgetWaiting(pod.UID)
	s.gangs.held[pod.UID] = true
	if !again {
		s.gangs.unsaid = append(s.gangs.unsaid, unsaid{pod, s.Clock.Now().Add(tellAfter)})
	}
	return true
}

// tellHeld says of the pods that have been held for a while what they wait for.
func (s *Scheduler) tellHeld(now time.Time) {
	g := s.gangs
	for len(g.unsaid) > 0 && !g.unsaid[0].at.After(now) {
		pod := g.unsaid[0].pod
		g.unsaid = g.unsaid[1:]
		if why := g.waiting(g.of[pod.UID]); g.held[pod.UID] && why != "" {
			v := refusalNote{pod: pod, reason: corev1.PodReasonUnschedulable, message: why}
			s.outbox.send(func(ctx context.Context) { s.explain(ctx, v) })
		}
	}
	if len(g.unsaid) == 0 {
		g.unsaid = nil
	}
}

// letIn puts the held members of a group into the queue, if it is worth trying.
func (s *Scheduler) letIn(key types.NamespacedName) {
	if s.gangs.waiting(key) != "" {
		return
	}
	for uid, pod := range s.gangs.members[key] {
		if s.gangs.held[uid] {
			delete(s.gangs.held, uid)
			s.observePod(pod)
		}
	}
}

func (s *Scheduler) observeGroup(g *schedulingv1beta1.PodGroup) {
	key := types.NamespacedName{Namespace: g.Namespace, Name: g.Name}
	old := s.gangs.groups[key]
	s.gangs.groups[key] = g
	s.cluster.setGroup(g)
	s.letIn(key)
	if old != nil && minCount(old) != minCount(g) {
		for uid := range s.gangs.members[key] {
			s.queue.rethink(uid, s.Clock.Now())
		}
	}
}

func (s *Scheduler) forgetGroup(g *schedulingv1beta1.PodGroup) {
	key := types.NamespacedName{Namespace: g.Namespace, Name: g.Name}
	delete(s.gangs.groups, key)
	s.cluster.removeGroup(key)
}

// gangOf is the group of a pod that can only be scheduled with others, or nil. A gang that has what it needs is no more than
// its pods.
func (s *Scheduler) gangOf(pod *corev1.Pod) *schedulingv1beta1.PodGroup {
	key, ok := groupOf(pod)
	if !ok || !s.PodGroups {
		return nil
	}
	if g := s.gangs.groups[key]; g != nil && s.seatedIn(key) < minCount(g) {
		return g
	}
	return nil
}

// seatedIn counts the members of a group that have nodes.
func (s *Scheduler) seatedIn(key types.NamespacedName) int {
	count := 0
	for uid := range s.gangs.members[key] {
		if s.cluster.placed[uid] != nil {
			count++
		}
	}
	return count
}

// seat is a member of a gang with what was decided about it.
type seat struct {
	w   *queued
	d   decision
	set reservations
}

// scheduleGang finds nodes for first and all members of its gang that wait, or for none of them.
func (s *Scheduler) scheduleGang(first *queued, g *schedulingv1beta1.PodGroup) {
	key := types.NamespacedName{Namespace: g.Namespace, Name: g.Name}
	waiting, bound := []*queued{first}, s.seatedIn(key)
	for uid := range s.gangs.members[key] {
		if w := s.queue.pull(uid); w != nil {
			waiting = append(waiting, w)
		}
	}
	slices.SortFunc(waiting, func(a, b *queued) int {
		return cmp.Or(cmp.Compare(b.info.priority, a.info.priority), cmp.Compare(a.seq, b.seq))
	})
	seated, standing := s.seat(waiting)
	if have := bound + len(seated); have < minCount(g) {
		all := slices.Concat(seated, standing)
		var by *siege
		if !s.vacates(all) { // else room is being made already
			by = s.besiege(g, seated, standing, minCount(g)-have)
		}
		s.dissolve(g, all, have, by)
		return
	}
	for _, one := range seated {
		s.commit(one)
	}
	for _, one := range standing { // more than the gang needs: each for itself from here
		s.refuse(one.w, &one.d)
	}
	if len(seated) > 0 {
		s.tellGroup(g, metav1.Condition{Status: metav1.ConditionTrue, Reason: "Scheduled",
			Message: fmt.Sprintf("%d pods have nodes, minCount is %d", bound+len(seated), minCount(g))})
	}
}

// seat places pods one after another, each beside those before. Nobody is evicted yet: that is for the gang as a whole.
func (s *Scheduler) seat(pods []*queued) (seated, standing []*seat) {
	for _, w := range pods {
		w.tried = s.Clock.Now()
		o := s.optionsOf(w.info.pod)
		o.preemption.off = true
		one := &seat{w: w, d: decide(s.cluster, w.info, o)}
		s.metrics.decided(&one.d, o.rules)
		one.d.helpful = nil // good until the next decision only
		if one.d.node != "" {
			one.set, _ = s.reserve(w, &one.d)
		}
		if one.d.node == "" {
			standing = append(standing, one)
			continue
		}
		s.cluster.place(w.info, one.d.node, true)
		seated = append(seated, one)
	}
	return seated, standing
}

// dissolve takes back the seats of a gang that is not complete, and begins what makes room for it, if there is something. All
// its members wait for what may help those that found none.
func (s *Scheduler) dissolve(g *schedulingv1beta1.PodGroup, seats []*seat, have int, by *siege) {
	var blockers ruleSet
	why := ""
	for _, one := range slices.Backward(seats) {
		if one.d.node != "" {
			one.set.undo(s.cluster)
			s.cluster.remove(one.w.info.pod.UID)
			continue
		}
		blockers |= one.d.blockers
		why = one.d.message()
		s.note(one.w, &one.d, s.optionsOf(one.w.info.pod).rules)
	}
	if why == "" {
		why = "its other pods are not waiting to be scheduled"
	}
	why = fmt.Sprintf("pod group %q needs nodes for %d pods, and there are for %d: %s", g.Name, minCount(g), have, why)
	if by != nil {
		by.begin()
	}
	awaiting := s.vacates(seats)
	for _, one := range seats {
		if !awaiting {
			s.release(one.w.info.pod.UID)
		}
		s.turnAway(one, blockers, awaiting, why)
	}
	s.tellGroup(g, metav1.Condition{Status: metav1.ConditionFalse, Reason: schedulingv1beta1.PodGroupReasonUnschedulable, Message: why})
}

// commit has a placed pod bound.
func (s *Scheduler) commit(one *seat) {
	s.release(one.w.info.pod.UID)
	s.note(one.w, &one.d, s.optionsOf(one.w.info.pod).rules)
	send := s.outbox.send
	if one.set.waits() {
		send = s.outbox.sendSlow
	}
	send(func(ctx context.Context) { s.bind(ctx, one.w, one.d.node, one.set) })
}

// tellGroup writes whether a group has been scheduled. Once it has, that stays.
func (s *Scheduler) tellGroup(g *schedulingv1beta1.PodGroup, c metav1.Condition) {
	c.Type = schedulingv1beta1.PodGroupInitiallyScheduled
	if !meta.IsStatusConditionTrue(g.Status.Conditions, c.Type) {
		s.writeGroup(g, c)
	}
}

// writeGroup writes a condition of a group, if it says something new.
func (s *Scheduler) writeGroup(g *schedulingv1beta1.PodGroup, c metav1.Condition) {
	c.ObservedGeneration, c.LastTransitionTime = g.Generation, metav1.NewTime(s.Clock.Now())
	updated := g.DeepCopy()
	if !meta.SetStatusCondition(&updated.Status.Conditions, c) {
		return
	}
	s.gangs.groups[types.NamespacedName{Namespace: g.Namespace, Name: g.Name}] = updated
	patch := statusConditions(updated.UID, updated.Status.Conditions)
	s.outbox.send(func(ctx context.Context) {
		_, err := s.Client.SchedulingV1beta1().PodGroups(g.Namespace).Patch(ctx, g.Name, types.MergePatchType, patch, metav1.PatchOptions{}, "status")
		if err != nil && !apierrors.IsNotFound(err) && ctx.Err() == nil {
			s.Log.Warn("writing the state of a pod group failed; the events of its pods have it", "podgroup", g.Namespace+"/"+g.Name, "error", err)
		}
	})
}

// pull takes a waiting pod out of the queue to be tried with another; nil when it does not wait.
func (q *queue) pull(uid types.UID) *queued {
	w := q.pods[uid]
	if w == nil {
		return nil
	}
	q.take(w)
	delete(q.pods, uid)
	w.attempts++
	w.awaiting = false
	return w
}

func statusConditions(uid types.UID, list []metav1.Condition) []byte {
	// A JSON object of strings, times and numbers: it cannot fail to encode.
	patch, _ := json.Marshal(map[string]any{"metadata": map[string]any{"uid": uid}, "status": map[string]any{"conditions": list}})
	return patch
}
