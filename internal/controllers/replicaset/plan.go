package replicaset

import (
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"

	"canopus/internal/controllers/podstate"
)

// burst bounds the pods that one look at a ReplicaSet creates or deletes, so that its status is written in between.
const burst = 500

// observed is what a decision about one ReplicaSet rests on. All of it is shared and read only.
type observed struct {
	rs       *appsv1.ReplicaSet
	selector labels.Selector
	pods     []*corev1.Pod // that it controls and selects
	// related counts, by node, the active pods of all ReplicaSets with the same controller. Needed only to scale down.
	related map[string]int
}

// actions is what a ReplicaSet needs now.
type actions struct {
	create int
	remove []*corev1.Pod
	more   bool // burst cut it short: look again at once
}

// plan decides how many pods to create, or which to remove. It changes nothing.
func plan(o observed, now time.Time) actions {
	if o.rs.DeletionTimestamp != nil {
		return actions{}
	}
	active := filter(o.pods, podstate.Active)
	switch diff := int(wanted(o.rs)) - len(active); {
	case diff > 0:
		return actions{create: min(diff, burst), more: diff > burst}
	case diff < 0:
		return actions{remove: cheapest(active, min(-diff, burst), ranking{o.related, now}), more: -diff > burst}
	}
	return actions{}
}

func wanted(rs *appsv1.ReplicaSet) int32 {
	if rs.Spec.Replicas == nil {
		return 1
	}
	return *rs.Spec.Replicas
}

func filter(pods []*corev1.Pod, keep func(*corev1.Pod) bool) []*corev1.Pod {
	out := make([]*corev1.Pod, 0, len(pods))
	for _, p := range pods {
		if keep(p) {
			out = append(out, p)
		}
	}
	return out
}

// failure is why the last attempt to change the number of pods did not succeed.
type failure struct {
	reason, message string
}

// status computes what rs's status should say of pods, and after how long a pod becomes available by time alone.
func status(o observed, failed *failure, now time.Time) (appsv1.ReplicaSetStatus, time.Duration) {
	s := appsv1.ReplicaSetStatus{ObservedGeneration: o.rs.Generation}
	template := labels.SelectorFromSet(o.rs.Spec.Template.Labels)
	var terminating int32
	var soonest time.Duration
	for _, p := range o.pods {
		if podstate.Terminating(p) {
			terminating++
		}
		if !podstate.Active(p) {
			continue
		}
		s.Replicas++
		if template.Matches(labels.Set(p.Labels)) {
			s.FullyLabeledReplicas++
		}
		if podstate.Ready(p) {
			s.ReadyReplicas++
		}
		available, wait := podstate.Available(p, o.rs.Spec.MinReadySeconds, now)
		if available {
			s.AvailableReplicas++
		}
		if wait > 0 && (soonest == 0 || wait < soonest) {
			soonest = wait
		}
	}
	s.TerminatingReplicas = &terminating
	s.Conditions = conditions(o.rs.Status.Conditions, failed, now)
	return s, soonest
}

// conditions returns old with ReplicaFailure set for failed, or without it if all went well.
func conditions(old []appsv1.ReplicaSetCondition, failed *failure, now time.Time) []appsv1.ReplicaSetCondition {
	var out []appsv1.ReplicaSetCondition
	for _, c := range old {
		if c.Type != appsv1.ReplicaSetReplicaFailure {
			out = append(out, c)
			continue
		}
		if failed != nil { // the first failure stays, with its time, until a success removes it
			out = append(out, c)
			failed = nil
		}
	}
	if failed == nil {
		return out
	}
	return append(out, appsv1.ReplicaSetCondition{
		Type: appsv1.ReplicaSetReplicaFailure, Status: corev1.ConditionTrue,
		Reason: failed.reason, Message: failed.message, LastTransitionTime: timestamp(now),
	})
}
