package deployment

import (
	"fmt"
	"math"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Reasons of conditions: kubectl rollout status and CI systems match on them.
const (
	reasonNewSet        = "NewReplicaSetCreated"
	reasonFoundSet      = "FoundNewReplicaSet"
	reasonSetFailed     = "ReplicaSetCreateError"
	reasonUpdated       = "ReplicaSetUpdated"
	reasonComplete      = "NewReplicaSetAvailable"
	reasonTimedOut      = "ProgressDeadlineExceeded"
	reasonPaused        = "DeploymentPaused"
	reasonResumed       = "DeploymentResumed"
	reasonAvailable     = "MinimumReplicasAvailable"
	reasonNotAvailable  = "MinimumReplicasUnavailable"
	messageAvailable    = "Deployment has minimum availability."
	messageNotAvailable = "Deployment does not have minimum availability."
	deadlineCheckMargin = time.Second
	noProgressDeadline  = math.MaxInt32
)

// conditionSet is a Deployment's conditions in the making.
type conditionSet struct {
	list []appsv1.DeploymentCondition
	now  metav1.Time
}

func (c *conditionSet) get(t appsv1.DeploymentConditionType) *appsv1.DeploymentCondition {
	for i := range c.list {
		if c.list[i].Type == t {
			return &c.list[i]
		}
	}
	return nil
}

func (c *conditionSet) drop(t appsv1.DeploymentConditionType) {
	c.list = slices.DeleteFunc(c.list, func(x appsv1.DeploymentCondition) bool { return x.Type == t })
}

// set leaves a condition of the same status and reason alone, and keeps the transition time while the status stays.
func (c *conditionSet) set(n appsv1.DeploymentCondition) {
	n.LastUpdateTime, n.LastTransitionTime = c.now, c.now
	if old := c.get(n.Type); old != nil {
		if old.Status == n.Status && old.Reason == n.Reason {
			return
		}
		if old.Status == n.Status {
			n.LastTransitionTime = old.LastTransitionTime
		}
	}
	c.drop(n.Type)
	c.list = append(c.list, n)
}

func (c *conditionSet) progressing(status corev1.ConditionStatus, reason, message string) {
	c.set(appsv1.DeploymentCondition{Type: appsv1.DeploymentProgressing, Status: status, Reason: reason, Message: message})
}

// touch is progressing with a new update time even when nothing else changes: the deadline runs from the last progress.
func (c *conditionSet) touch(reason, message string) {
	old := c.get(appsv1.DeploymentProgressing)
	since := c.now
	if old != nil && old.Status == corev1.ConditionTrue {
		since = old.LastTransitionTime
	}
	c.drop(appsv1.DeploymentProgressing)
	c.progressing(corev1.ConditionTrue, reason, message)
	c.get(appsv1.DeploymentProgressing).LastTransitionTime = since
}

func hasDeadline(d *appsv1.Deployment) bool {
	return d.Spec.ProgressDeadlineSeconds != nil && *d.Spec.ProgressDeadlineSeconds != noProgressDeadline
}

// complete reports whether s says that all wanted pods, and only they, run d's present template and are available.
func complete(d *appsv1.Deployment, s appsv1.DeploymentStatus) bool {
	n := boundsOf(d).replicas
	return s.UpdatedReplicas == n && s.Replicas == n && s.AvailableReplicas == n && s.ObservedGeneration >= d.Generation
}

func progressed(old, s appsv1.DeploymentStatus) bool {
	return s.UpdatedReplicas > old.UpdatedReplicas || s.Replicas-s.UpdatedReplicas < old.Replicas-old.UpdatedReplicas ||
		s.ReadyReplicas > old.ReadyReplicas || s.AvailableReplicas > old.AvailableReplicas
}

// status computes what the Deployment's status should say, and when to look again for the progress deadline.
func (r *rollout) status() (appsv1.DeploymentStatus, time.Duration) {
	c := &conditionSet{list: slices.Clone(r.d.Status.Conditions), now: metav1.NewTime(r.now)}
	s := r.counts()
	enough := s.AvailableReplicas >= r.replicas-r.unavailable
	availability := appsv1.DeploymentCondition{
		Type: appsv1.DeploymentAvailable, Status: corev1.ConditionFalse, Reason: reasonNotAvailable, Message: messageNotAvailable,
	}
	if enough {
		availability.Status, availability.Reason, availability.Message = corev1.ConditionTrue, reasonAvailable, messageAvailable
	}
	c.set(availability)
	switch {
	case !hasDeadline(r.d):
		c.drop(appsv1.DeploymentProgressing)
	case r.d.DeletionTimestamp == nil:
		r.progress(c, s)
	}
	c.drop(appsv1.DeploymentReplicaFailure)
	if f := r.replicaFailure(); f != nil {
		c.list = append(c.list, *f)
	}
	s.Conditions = c.list
	return s, r.untilDeadline(c, s)
}

func (r *rollout) counts() appsv1.DeploymentStatus {
	s := appsv1.DeploymentStatus{ObservedGeneration: r.d.Generation, CollisionCount: r.d.Status.CollisionCount}
	var terminating int32
	for _, x := range r.all() {
		s.Replicas += x.Status.Replicas
		s.ReadyReplicas += x.Status.ReadyReplicas
		s.AvailableReplicas += x.Status.AvailableReplicas
		if x.Status.TerminatingReplicas != nil {
			terminating += *x.Status.TerminatingReplicas
		}
	}
	s.TerminatingReplicas = &terminating
	s.UnavailableReplicas = max(0, r.total()-s.AvailableReplicas)
	if r.current != nil {
		s.UpdatedReplicas = r.current.Status.Replicas
	}
	return s
}

// progress sets the Progressing condition.
func (r *rollout) progress(c *conditionSet, s appsv1.DeploymentStatus) {
	cond := c.get(appsv1.DeploymentProgressing)
	timedOut := cond != nil && cond.Reason == reasonTimedOut
	if r.d.Spec.Paused {
		if !timedOut {
			c.progressing(corev1.ConditionUnknown, reasonPaused, "Deployment is paused")
		}
		return
	}
	if cond != nil && cond.Reason == reasonPaused {
		c.progressing(corev1.ConditionUnknown, reasonResumed, "Deployment is resumed")
	}
	switch {
	case r.current == nil:
	case r.current.was == nil:
		c.progressing(corev1.ConditionTrue, reasonNewSet, fmt.Sprintf("Created new replica set %q", r.current.Name))
		return
	case cond == nil:
		c.progressing(corev1.ConditionTrue, reasonFoundSet, fmt.Sprintf("Found new replica set %q", r.current.Name))
	}
	cond = c.get(appsv1.DeploymentProgressing)
	if cond != nil && cond.Reason == reasonComplete && s.Replicas == s.UpdatedReplicas {
		return // a finished rollout stays finished while pods come and go, and while it is scaled
	}
	who := fmt.Sprintf("Deployment %q", r.d.Name)
	if r.current != nil {
		who = fmt.Sprintf("ReplicaSet %q", r.current.Name)
	}
	switch {
	case complete(r.d, s):
		c.progressing(corev1.ConditionTrue, reasonComplete, who+" has successfully progressed.")
	case progressed(r.d.Status, s):
		c.touch(reasonUpdated, who+" is progressing.")
	case cond != nil && overdue(r.d, *cond, r.now):
		c.progressing(corev1.ConditionFalse, reasonTimedOut, who+" has timed out progressing.")
	}
}

// overdue reports whether no progress was made for longer than the deadline.
func overdue(d *appsv1.Deployment, c appsv1.DeploymentCondition, now time.Time) bool {
	switch c.Reason {
	case reasonComplete:
		return false
	case reasonTimedOut:
		return true
	}
	return deadline(d, c).Before(now)
}

func deadline(d *appsv1.Deployment, c appsv1.DeploymentCondition) time.Time {
	return c.LastUpdateTime.Add(time.Duration(*d.Spec.ProgressDeadlineSeconds) * time.Second)
}

func (r *rollout) untilDeadline(c *conditionSet, s appsv1.DeploymentStatus) time.Duration {
	cond := c.get(appsv1.DeploymentProgressing)
	if cond == nil || !hasDeadline(r.d) || r.d.Spec.Paused || r.d.DeletionTimestamp != nil || complete(r.d, s) ||
		cond.Reason == reasonTimedOut || cond.Reason == reasonComplete {
		return 0
	}
	return max(0, deadline(r.d, *cond).Sub(r.now)) + deadlineCheckMargin
}

// replicaFailure is the ReplicaFailure condition of the current set, else of an old one, as the Deployment's own.
func (r *rollout) replicaFailure() *appsv1.DeploymentCondition {
	sets := r.old
	if r.current != nil {
		sets = append([]*set{r.current}, r.old...)
	}
	for _, s := range sets {
		for _, c := range s.Status.Conditions {
			if c.Type == appsv1.ReplicaSetReplicaFailure {
				return &appsv1.DeploymentCondition{
					Type: appsv1.DeploymentReplicaFailure, Status: c.Status, Reason: c.Reason, Message: c.Message,
					LastTransitionTime: c.LastTransitionTime, LastUpdateTime: c.LastTransitionTime,
				}
			}
		}
	}
	return nil
}
