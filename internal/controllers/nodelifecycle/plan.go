package nodelifecycle

import (
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// watched are the conditions that a kubelet posts and that nobody vouches for once it is silent.
func watched() []corev1.NodeConditionType {
	return []corev1.NodeConditionType{corev1.NodeReady, corev1.NodeMemoryPressure, corev1.NodeDiskPressure, corev1.NodePIDPressure}
}

// observed is what a decision about one node rests on.
type observed struct {
	node *corev1.Node
	// heard is when this process last noticed a sign of life, by its own clock: the nodes' clocks may differ.
	heard time.Time
	grace time.Duration // silence that is taken for death
	// disrupted: no node of the cluster is ready. Then the fault is rather ours than theirs, and no pod is evicted.
	disrupted bool
}

// actions is what a node needs now.
type actions struct {
	conditions []corev1.NodeCondition // nil: right as they are
	notReady   bool                   // the conditions take the node from ready to not ready
	taints     []corev1.Taint         // all that the node should have, but for those that evict
	evict      *corev1.Taint          // to be added when its zone's turn has come
	relieve    bool                   // evicting taints that no longer hold are to be removed
	after      time.Duration
}

func condition(node *corev1.Node, t corev1.NodeConditionType) *corev1.NodeCondition {
	for i := range node.Status.Conditions {
		if node.Status.Conditions[i].Type == t {
			return &node.Status.Conditions[i]
		}
	}
	return nil
}

func readiness(node *corev1.Node) corev1.ConditionStatus {
	if c := condition(node, corev1.NodeReady); c != nil {
		return c.Status
	}
	return corev1.ConditionUnknown
}

// plan decides the conditions and taints of a node. It changes nothing.
func plan(o observed, now time.Time) actions {
	var a actions
	ready := readiness(o.node)
	if silent := now.Sub(o.heard); silent < o.grace {
		a.after = o.grace - silent
	} else if changed := unknown(o.node, metav1.NewTime(now)); changed != nil {
		a.conditions, a.notReady = changed, ready == corev1.ConditionTrue
		ready = corev1.ConditionUnknown
	}
	a.taints = schedulingTaints(o.node, ready)
	switch {
	case o.disrupted || ready == corev1.ConditionTrue:
		a.relieve = true
	case ready == corev1.ConditionFalse:
		a.evict = &corev1.Taint{Key: corev1.TaintNodeNotReady, Effect: corev1.TaintEffectNoExecute}
	default:
		a.evict = &corev1.Taint{Key: corev1.TaintNodeUnreachable, Effect: corev1.TaintEffectNoExecute}
	}
	return a
}

// unknown returns node's conditions with those of a silent kubelet set to Unknown; nil if they are already.
func unknown(node *corev1.Node, now metav1.Time) []corev1.NodeCondition {
	out := slices.Clone(node.Status.Conditions)
	changed := false
	for _, t := range watched() {
		i := slices.IndexFunc(out, func(c corev1.NodeCondition) bool { return c.Type == t })
		switch {
		case i < 0:
			out = append(out, corev1.NodeCondition{
				Type: t, Status: corev1.ConditionUnknown, Reason: "NodeStatusNeverUpdated",
				Message: "Kubelet never posted node status.", LastHeartbeatTime: node.CreationTimestamp, LastTransitionTime: now,
			})
		case out[i].Status != corev1.ConditionUnknown:
			out[i].Status, out[i].Reason, out[i].Message = corev1.ConditionUnknown, "NodeStatusUnknown", "Kubelet stopped posting node status."
			out[i].LastTransitionTime = now
		default:
			continue
		}
		changed = true
	}
	if !changed {
		return nil
	}
	return out
}

// schedulingTaints are the NoSchedule taints that node's conditions and spec.unschedulable call for.
func schedulingTaints(node *corev1.Node, ready corev1.ConditionStatus) []corev1.Taint {
	var out []corev1.Taint
	add := func(key string, holds bool) {
		if holds {
			out = append(out, corev1.Taint{Key: key, Effect: corev1.TaintEffectNoSchedule})
		}
	}
	is := func(t corev1.NodeConditionType) bool {
		c := condition(node, t)
		return c != nil && c.Status == corev1.ConditionTrue
	}
	add(corev1.TaintNodeNotReady, ready == corev1.ConditionFalse)
	add(corev1.TaintNodeUnreachable, ready == corev1.ConditionUnknown && condition(node, corev1.NodeReady) != nil)
	add(corev1.TaintNodeMemoryPressure, is(corev1.NodeMemoryPressure))
	add(corev1.TaintNodeDiskPressure, is(corev1.NodeDiskPressure))
	add(corev1.TaintNodePIDPressure, is(corev1.NodePIDPressure))
	add(corev1.TaintNodeNetworkUnavailable, is(corev1.NodeNetworkUnavailable))
	add(corev1.TaintNodeUnschedulable, node.Spec.Unschedulable)
	return out
}

// ours reports whether this controller alone sets and removes taints like t.
func ours(t corev1.Taint) bool {
	switch t.Effect {
	case corev1.TaintEffectNoSchedule:
		switch t.Key {
		case corev1.TaintNodeNotReady, corev1.TaintNodeUnreachable, corev1.TaintNodeMemoryPressure, corev1.TaintNodeDiskPressure,
			corev1.TaintNodePIDPressure, corev1.TaintNodeNetworkUnavailable, corev1.TaintNodeUnschedulable:
			return true
		}
	case corev1.TaintEffectNoExecute:
		return t.Key == corev1.TaintNodeNotReady || t.Key == corev1.TaintNodeUnreachable
	}
	return false
}

func same(a, b corev1.Taint) bool { return a.Key == b.Key && a.Effect == b.Effect }

func has(taints []corev1.Taint, t corev1.Taint) bool {
	return slices.ContainsFunc(taints, func(x corev1.Taint) bool { return same(x, t) })
}

// merge returns the taints that node should have; mayEvict says that a new evicting taint may be set now. Taints of others
// and the times of ours stay.
func merge(node *corev1.Node, a actions, mayEvict bool, now time.Time) (taints []corev1.Taint, changed bool) {
	var out []corev1.Taint
	for _, t := range node.Spec.Taints {
		keep := !ours(t) || has(a.taints, t)
		if ours(t) && t.Effect == corev1.TaintEffectNoExecute {
			// An evicting taint stays until the node is well, or until the other one takes its place.
			keep = a.evict != nil && (same(*a.evict, t) || !mayEvict && !has(node.Spec.Taints, *a.evict))
		}
		if keep {
			out = append(out, t)
		}
	}
	added := metav1.NewTime(now)
	want := a.taints
	if a.evict != nil && mayEvict {
		want = append(slices.Clone(want), *a.evict)
	}
	for _, t := range want {
		if !has(out, t) {
			t.TimeAdded = &added
			out = append(out, t)
		}
	}
	return out, !slices.EqualFunc(out, node.Spec.Taints, same)
}
