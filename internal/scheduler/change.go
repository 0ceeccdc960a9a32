package scheduler

import (
	"maps"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
)

// change says what happened to the cluster, as a set of bits: a rule names those that can turn its refusal.
type change uint

const (
	nodeAdded change = 1 << iota
	nodeAllocatable
	nodeLabels
	nodeTaints // spec.taints or spec.unschedulable
	podGone    // a placed pod left, finished or asks for less
	podPlaced  // a pod was placed, or a placed pod changed its labels
	podChanged // the waiting pod itself changed
	namespaceLabels
)

// nodeChange compares two states of a node; old is nil for a new one.
func nodeChange(old, now *corev1.Node) change {
	if old == nil {
		return nodeAdded
	}
	var c change
	if !equality.Semantic.DeepEqual(old.Status.Allocatable, now.Status.Allocatable) {
		c |= nodeAllocatable
	}
	if !maps.Equal(old.Labels, now.Labels) {
		c |= nodeLabels
	}
	if old.Spec.Unschedulable != now.Spec.Unschedulable || !equality.Semantic.DeepEqual(old.Spec.Taints, now.Spec.Taints) {
		c |= nodeTaints
	}
	return c
}
