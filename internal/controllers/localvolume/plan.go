package localvolume

import (
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/component-helpers/storage/volume"

	"canopus/internal/localvolume"
)

// request is a claim with what a decision about it rests on. All of it is shared and read only.
type request struct {
	claim *corev1.PersistentVolumeClaim
	class *storagev1.StorageClass // nil: there is none
	node  *corev1.Node            // the one that the scheduler chose; nil: there is none of that name
}

// provision is what a claim needs now; at most one field is set.
type provision struct {
	volume *corev1.PersistentVolume // to make
	refuse string                   // why none can be made, until the claim or its class is another
	move   string                   // why none can be made on this node: the scheduler has to choose again
}

// selected returns the node that the scheduler chose for a claim that waits for a volume of ours, or "".
func selected(claim *corev1.PersistentVolumeClaim) string {
	switch {
	case claim.Spec.VolumeName != "" || claim.DeletionTimestamp != nil:
		return ""
	case claim.Annotations[volume.AnnStorageProvisioner] != localvolume.Provisioner && claim.Annotations[volume.AnnBetaStorageProvisioner] != localvolume.Provisioner:
		return "" // the binder says so when it wants a volume
	}
	return claim.Annotations[volume.AnnSelectedNode]
}

// volumeName is where a claim's volume is looked for: a second attempt finds the first one's.
func volumeName(claim *corev1.PersistentVolumeClaim) string { return "pvc-" + string(claim.UID) }

// plan decides about a claim that selected names a node for.
func plan(r request) provision {
	if r.class == nil || r.class.Provisioner != localvolume.Provisioner {
		return provision{}
	}
	if why := unsupported(r.claim, r.class); why != "" {
		return provision{refuse: why}
	}
	if r.node == nil {
		return provision{move: fmt.Sprintf("node %q is not there", r.claim.Annotations[volume.AnnSelectedNode])}
	}
	if r.node.Annotations[localvolume.RootAnnotation] == "" || r.node.Labels[corev1.LabelHostname] == "" {
		return provision{move: fmt.Sprintf("node %q offers no local volumes: its agent does not say where they are (annotation %s)", r.node.Name, localvolume.RootAnnotation)}
	}
	return provision{volume: newVolume(r)}
}

// unsupported says what about a claim or its class local volumes cannot do.
func unsupported(claim *corev1.PersistentVolumeClaim, class *storagev1.StorageClass) string {
	for _, m := range claim.Spec.AccessModes {
		if m != corev1.ReadWriteOnce && m != corev1.ReadWriteOncePod {
			return fmt.Sprintf("access mode %s is not possible for a directory of one node: use ReadWriteOnce or ReadWriteOncePod", m)
		}
	}
	switch {
	case claim.Spec.VolumeMode != nil && *claim.Spec.VolumeMode == corev1.PersistentVolumeBlock:
		return "volume mode Block is not possible for a directory: use Filesystem"
	case claim.Spec.Selector != nil:
		return "claim Selector is not supported"
	case claim.Spec.DataSource != nil || claim.Spec.DataSourceRef != nil:
		return "data sources are not supported: fill the volume from a pod"
	case claim.Spec.VolumeAttributesClassName != nil && *claim.Spec.VolumeAttributesClassName != "":
		return "volume attributes classes are not supported"
	case len(class.MountOptions) > 0:
		return "mount options are not possible for a directory: remove them from the StorageClass"
	}
	for _, name := range slices.Sorted(maps.Keys(class.Parameters)) {
		return fmt.Sprintf("unknown parameter %q of the StorageClass: local volumes have none", name)
	}
	return ""
}

func newVolume(r request) *corev1.PersistentVolume {
	name := volumeName(r.claim)
	policy, mode := corev1.PersistentVolumeReclaimDelete, corev1.PersistentVolumeFilesystem
	if r.class.ReclaimPolicy != nil {
		policy = *r.class.ReclaimPolicy
	}
	return &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{
			Name:        name,
			Labels:      map[string]string{localvolume.NodeLabel: r.node.Name},
			Annotations: map[string]string{volume.AnnDynamicallyProvisioned: localvolume.Provisioner},
			Finalizers:  []string{localvolume.Finalizer},
		},
		Spec: corev1.PersistentVolumeSpec{
			Capacity:    corev1.ResourceList{corev1.ResourceStorage: r.claim.Spec.Resources.Requests[corev1.ResourceStorage]},
			AccessModes: r.claim.Spec.AccessModes, PersistentVolumeReclaimPolicy: policy, StorageClassName: r.class.Name, VolumeMode: &mode,
			ClaimRef: &corev1.ObjectReference{
				Kind: "PersistentVolumeClaim", APIVersion: "v1", Namespace: r.claim.Namespace, Name: r.claim.Name, UID: r.claim.UID, ResourceVersion: r.claim.ResourceVersion,
			},
			PersistentVolumeSource: corev1.PersistentVolumeSource{
				Local: &corev1.LocalVolumeSource{Path: localvolume.Dir(r.node.Annotations[localvolume.RootAnnotation], name)},
			},
			NodeAffinity: &corev1.VolumeNodeAffinity{Required: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{
				MatchExpressions: []corev1.NodeSelectorRequirement{{
					Key: corev1.LabelHostname, Operator: corev1.NodeSelectorOpIn, Values: []string{r.node.Labels[corev1.LabelHostname]},
				}},
			}}}},
		},
	}
}

// ending is what a volume that is no longer wanted needs now.
type ending int

const (
	keep    ending = iota
	remove         // delete the object; its node sees to the directory
	release        // take the finalizer off: the node that had the directory is gone
)

// end decides about a volume. nodeGone says that the API has no node of the volume's label.
func end(pv *corev1.PersistentVolume, nodeGone bool) ending {
	switch {
	case !localvolume.IsLocal(pv):
		return keep
	case pv.DeletionTimestamp != nil:
		if nodeGone && slices.Contains(pv.Finalizers, localvolume.Finalizer) && pv.Status.Phase != corev1.VolumeBound {
			return release
		}
	case pv.Status.Phase == corev1.VolumeReleased && pv.Spec.PersistentVolumeReclaimPolicy == corev1.PersistentVolumeReclaimDelete:
		return remove
	}
	return keep
}
