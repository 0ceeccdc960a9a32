package persistentvolume

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	storagehelpers "k8s.io/component-helpers/storage/volume"
)

// volumePlan is what a volume needs. The event tells of the change of phase: not again without one.
type volumePlan struct {
	phase    corev1.PersistentVolumePhase // "": as it is
	message  string
	event    event
	unbind   bool  // let go of the claim
	mismatch event // for the claim that the volume is reserved for
}

// planVolume decides about pv; claim is the one that its claimRef names, nil if there is none of that UID any more.
func planVolume(pv *corev1.PersistentVolume, claim *corev1.PersistentVolumeClaim) volumePlan {
	ref := pv.Spec.ClaimRef
	switch {
	case ref == nil, ref.UID == "": // free, or reserved for a claim that may come
		return volumePlan{phase: corev1.VolumeAvailable}
	case claim == nil, claim.UID != ref.UID:
		return planReleased(pv)
	case claim.Spec.VolumeName == pv.Name:
		return volumePlan{phase: corev1.VolumeBound}
	case claim.Spec.VolumeName == "": // the claim is the next to be written, unless it cannot
		if storagehelpers.CheckVolumeModeMismatches(&claim.Spec, &pv.Spec) {
			return volumePlan{
				event:    warning(reasonVolumeMismatch, "Cannot bind PersistentVolume to requested PersistentVolumeClaim %q due to incompatible volumeMode.", claim.Name),
				mismatch: warning(reasonVolumeMismatch, "Cannot bind PersistentVolume %q to requested PersistentVolumeClaim due to incompatible volumeMode.", pv.Name),
			}
		}
		return volumePlan{}
	case metav1.HasAnnotation(pv.ObjectMeta, storagehelpers.AnnDynamicallyProvisioned) &&
		pv.Spec.PersistentVolumeReclaimPolicy == corev1.PersistentVolumeReclaimDelete:
		return planReleased(pv) // made for this claim, which has found another
	default:
		return volumePlan{unbind: true, phase: corev1.VolumeAvailable}
	}
}

// planReleased: what becomes of a volume whose claim is gone.
func planReleased(pv *corev1.PersistentVolume) volumePlan {
	failed := func(reason, message string) volumePlan {
		return volumePlan{phase: corev1.VolumeFailed, message: message, event: warning(reason, "%s", message)}
	}
	switch policy := pv.Spec.PersistentVolumeReclaimPolicy; policy {
	case corev1.PersistentVolumeReclaimRetain:
	case corev1.PersistentVolumeReclaimDelete:
		if !externallyDeleted(pv) {
			return failed(reasonFailedDelete, "error getting deleter volume plugin for volume \""+pv.Name+"\": no deletable volume plugin matched")
		}
	case corev1.PersistentVolumeReclaimRecycle:
		return failed(reasonFailedRecycle, "No recycler plugin found for the volume!")
	default:
		return failed(reasonUnknownPolicy, "Volume has an unrecognized PersistentVolumeReclaimPolicy")
	}
	if pv.Status.Phase == corev1.VolumeFailed { // its deleter said so
		return volumePlan{}
	}
	return volumePlan{phase: corev1.VolumeReleased}
}

// externallyDeleted says whether a provisioner deletes pv once it is released.
func externallyDeleted(pv *corev1.PersistentVolume) bool {
	if metav1.HasAnnotation(pv.ObjectMeta, storagehelpers.AnnMigratedTo) {
		return true
	}
	by := pv.Annotations[storagehelpers.AnnDynamicallyProvisioned]
	return by != "" && (!strings.HasPrefix(by, inTree) || successor(by) != "")
}
