package scheduler

import (
	"maps"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/types"
)

// change says what happened to the cluster, as a set of bits: a rule names those that can turn its refusal.
type change uint

const (
	nodeAdded change = 1 << iota
	nodeAllocatable
	nodeLabels
	nodeTaints // spec.taints or spec.unschedulable
	nodeGone
	podGone    // a placed pod left, finished or asks for less
	podPlaced  // a pod was placed, or a placed pod changed its labels
	podChanged // the waiting pod itself changed
	namespaceLabels
	claimChanged
	volumeChanged
	classChanged // a storage class
	roomChanged  // how much room there is for volumes
	limitChanged // how many volumes a node can have
	deviceClaimChanged
	devicesFreed // a claim gave its devices back
	deviceSliceChanged
	deviceClassChanged
)

// event is one thing that happened, with what a rule needs to tell whether it helps a pod that waits.
type event struct {
	what  change
	node  *node    // the node that came or changed, or that pod is or was on, in its present state; nil when there is none
	pod   *podInfo // the placed pod that came, changed or went
	was   *podInfo // the same before it changed
	claim types.NamespacedName
}

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

// label is upstream's name of the event, as a metric's label.
func (e *event) label() string {
	for _, l := range []struct {
		what change
		text string
	}{
		{nodeAdded, "NodeAdd"}, {nodeGone, "NodeDelete"}, {nodeAllocatable, "NodeUpdateNodeAllocatable"}, {nodeLabels, "NodeUpdateNodeLabel"},
		{nodeTaints, "NodeUpdateNodeTaint"}, {podGone, "AssignedPodDelete"}, {podPlaced, "AssignedPodAdd"}, {namespaceLabels, "NamespaceUpdate"},
		{claimChanged, "PersistentVolumeClaimUpdate"}, {volumeChanged, "PersistentVolumeUpdate"}, {classChanged, "StorageClassUpdate"},
		{roomChanged, "CSIStorageCapacityUpdate"}, {limitChanged, "CSINodeUpdate"},
		{deviceClaimChanged, "ResourceClaimUpdate"}, {deviceSliceChanged, "ResourceSliceUpdate"}, {deviceClassChanged, "DeviceClassUpdate"},
	} {
		if e.what&l.what != 0 {
			return l.text
		}
	}
	return "Unknown"
}
