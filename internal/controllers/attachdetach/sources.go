package attachdetach

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"
	"k8s.io/utils/ptr"

	"canopus/internal/controllers/reconcile"
	"canopus/internal/controllers/volumeuse"
)

// byTarget is the index of attachments by their node and by their volume.
const byTarget = "canopus/attachment-target"

func onNode(node string) string     { return "node/" + node }
func ofVolume(volume string) string { return "volume/" + volume }

func indexAttachments(attachments cache.SharedIndexInformer) error {
	return reconcile.Index(attachments, byTarget, func(obj any) ([]string, error) {
		a, ok := obj.(*storagev1.VolumeAttachment)
		if !ok {
			return nil, nil
		}
		keys := []string{onNode(a.Spec.NodeName)}
		if pv := a.Spec.Source.PersistentVolumeName; pv != nil {
			keys = append(keys, ofVolume(*pv))
		}
		return keys, nil
	})
}

// nodeChanged: heartbeats do not concern us.
func nodeChanged(old, n *corev1.Node) []string {
	switch {
	case n == nil:
		return []string{old.Name}
	case old != nil && old.UID == n.UID && ready(old) == ready(n) && outOfService(old) == outOfService(n) &&
		slices.Equal(old.Status.VolumesInUse, n.Status.VolumesInUse) &&
		apiequality.Semantic.DeepEqual(old.Status.VolumesAttached, n.Status.VolumesAttached):
		return nil
	}
	return []string{n.Name}
}

// podChanged: what a pod wants attached changes when it gets a node, ends and goes.
func podChanged(old, p *corev1.Pod) []string {
	if old != nil && p != nil && old.UID == p.UID && old.Spec.NodeName == p.Spec.NodeName && terminated(old) == terminated(p) {
		return nil
	}
	var nodes []string
	for _, side := range []*corev1.Pod{old, p} {
		if side != nil && side.Spec.NodeName != "" && len(volumeuse.Claims(side)) > 0 && !slices.Contains(nodes, side.Spec.NodeName) {
			nodes = append(nodes, side.Spec.NodeName)
		}
	}
	return nodes
}

// users returns the nodes of the pods that use a claim.
func (c *Controller) users(claim types.NamespacedName) []string {
	pods, err := reconcile.Indexed[*corev1.Pod](c.pods, volumeuse.ByClaim, claim.String())
	if err != nil { // the index is made in New
		c.Log.Error("pods cannot be looked up", "controller", "attachdetach", "error", err)
	}
	var nodes []string
	for _, p := range pods {
		if p.Spec.NodeName != "" && !slices.Contains(nodes, p.Spec.NodeName) {
			nodes = append(nodes, p.Spec.NodeName)
		}
	}
	return nodes
}

func (c *Controller) claimChanged(old, claim *corev1.PersistentVolumeClaim) []string {
	if claim == nil || old != nil && old.UID == claim.UID && old.Spec.VolumeName == claim.Spec.VolumeName && old.Status.Phase == claim.Status.Phase {
		return nil
	}
	return c.users(reconcile.Key(claim))
}

func (c *Controller) volumeChanged(old, pv *corev1.PersistentVolume) []string {
	if pv == nil || pv.Spec.ClaimRef == nil || old != nil && apiequality.Semantic.DeepEqual(old.Spec.ClaimRef, pv.Spec.ClaimRef) {
		return nil
	}
	return c.users(types.NamespacedName{Namespace: pv.Spec.ClaimRef.Namespace, Name: pv.Spec.ClaimRef.Name})
}

// attachmentChanged: its node, and when it is gone the nodes that wait for its volume.
func (c *Controller) attachmentChanged(old, a *storagev1.VolumeAttachment) []string {
	if a != nil {
		c.keepPromise(ptr.Deref(a.Spec.Source.PersistentVolumeName, ""), a.Name)
		return []string{a.Spec.NodeName}
	}
	nodes := []string{old.Spec.NodeName}
	if name := old.Spec.Source.PersistentVolumeName; name != nil {
		if pv, err := c.volumes.Get(*name); err == nil && pv.Spec.ClaimRef != nil {
			nodes = append(nodes, c.users(types.NamespacedName{Namespace: pv.Spec.ClaimRef.Namespace, Name: pv.Spec.ClaimRef.Name})...)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.unwanted, old.Name)
	return nodes
}

// driverChanged: whether its volumes are attached may concern every node.
func (c *Controller) driverChanged(_, _ *storagev1.CSIDriver) []string {
	all, err := c.nodes.List(labels.Everything())
	if err != nil {
		c.Log.Error("nodes cannot be listed", "controller", "attachdetach", "error", err)
	}
	names := make([]string, 0, len(all))
	for _, n := range all {
		names = append(names, n.Name)
	}
	return names
}
