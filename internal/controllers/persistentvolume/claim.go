package persistentvolume

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	storagehelpers "k8s.io/component-helpers/storage/volume"
)

// Reasons of events about claims and volumes, as clients know them.
const (
	reasonFailedBinding      = "FailedBinding"
	reasonVolumeMismatch     = "VolumeMismatch"
	reasonWaitForConsumer    = "WaitForFirstConsumer"
	reasonWaitForPod         = "WaitForPodScheduled"
	reasonExternal           = "ExternalProvisioning"
	reasonProvisioningFailed = "ProvisioningFailed"
	reasonClaimLost          = "ClaimLost"
	reasonClaimMisbound      = "ClaimMisbound"
	reasonFailedDelete       = "VolumeFailedDelete"
	reasonFailedRecycle      = "VolumeFailedRecycle"
	reasonUnknownPolicy      = "VolumeUnknownReclaimPolicy"
)

// inTree is the prefix of the names of provisioners that once were part of Kubernetes.
const inTree = "kubernetes.io/"

// event is one to record; the zero value is none.
type event struct{ kind, reason, message string }

func normal(reason, format string, args ...any) event {
	return event{corev1.EventTypeNormal, reason, fmt.Sprintf(format, args...)}
}

func warning(reason, format string, args ...any) event {
	return event{corev1.EventTypeWarning, reason, fmt.Sprintf(format, args...)}
}

// claimView is what a decision about a claim looks at.
type claimView struct {
	claim        *corev1.PersistentVolumeClaim
	volume       *corev1.PersistentVolume   // that claim.spec.volumeName names; nil if there is none
	candidates   []*corev1.PersistentVolume // where the claim names no volume: unclaimed ones of its class, and those reserved for it
	class        *storagev1.StorageClass    // that the claim names; nil if there is none
	defaultClass string                     // of the cluster; "" if there is none
	waiting      []string                   // pods that use the claim and have no node yet
}

// claimPlan is what a claim needs: one of a volume to bind to, a class, a provisioner, or a phase. The event goes with it.
type claimPlan struct {
	bind        *corev1.PersistentVolume
	class       string // to write into the claim, which names none
	provisioner string // to ask for a volume
	migratedTo  string // driver that took over the provisioner that the class names
	phase       corev1.PersistentVolumeClaimPhase
	onlyChange  bool // the event tells of a change of phase: not again without one
	event       event
}

func planClaim(v claimView) (claimPlan, error) {
	switch {
	case metav1.HasAnnotation(v.claim.ObjectMeta, storagehelpers.AnnBindCompleted):
		return planBound(v), nil
	case v.claim.DeletionTimestamp != nil: // asks for nothing any more
		return claimPlan{}, nil
	case v.claim.Spec.VolumeName != "":
		return planNamed(v)
	default:
		return planUnbound(v)
	}
}

// planBound: a claim that was bound is bound to the same volume for ever, or lost.
func planBound(v claimView) claimPlan {
	lost := func(reason, message string) claimPlan {
		return claimPlan{phase: corev1.ClaimLost, onlyChange: true, event: warning(reason, "%s", message)}
	}
	switch {
	case v.claim.Spec.VolumeName == "":
		return lost(reasonClaimLost, "Bound claim has lost reference to PersistentVolume. Data on the volume is lost!")
	case v.volume == nil:
		return lost(reasonClaimLost, "Bound claim has lost its PersistentVolume. Data on the volume is lost!")
	case v.volume.Spec.ClaimRef == nil, v.volume.Spec.ClaimRef.UID == v.claim.UID:
		return claimPlan{bind: v.volume}
	default:
		return lost(reasonClaimMisbound, "Two claims are bound to the same volume, this one is bound incorrectly")
	}
}

// planNamed: the claim names a volume, by its user's wish or because a binding was interrupted.
func planNamed(v claimView) (claimPlan, error) {
	pending := claimPlan{phase: corev1.ClaimPending}
	switch {
	case v.volume == nil: // may come yet
		return pending, nil
	case v.volume.Spec.ClaimRef == nil:
		if err := satisfies(v.claim, v.volume); err != nil {
			pending.event = warning(reasonVolumeMismatch, "Cannot bind to requested volume %q: %s", v.volume.Name, err)
			return pending, nil
		}
		return claimPlan{bind: v.volume}, nil
	case storagehelpers.IsVolumeBoundToClaim(v.volume, v.claim):
		return claimPlan{bind: v.volume}, nil
	case !metav1.HasAnnotation(v.claim.ObjectMeta, storagehelpers.AnnBoundByController):
		pending.event = warning(reasonFailedBinding, "volume %q already bound to a different claim.", v.volume.Name)
		return pending, nil
	}
	ref := v.volume.Spec.ClaimRef
	return claimPlan{}, fmt.Errorf("invalid binding of claim %s/%s to volume %q: volume already claimed by %s/%s",
		v.claim.Namespace, v.claim.Name, v.volume.Name, ref.Namespace, ref.Name)
}

// planUnbound finds a volume, or says who is to make one.
func planUnbound(v claimView) (claimPlan, error) {
	_, placed := v.claim.Annotations[storagehelpers.AnnSelectedNode]
	late := v.class != nil && v.class.VolumeBindingMode != nil && *v.class.VolumeBindingMode == storagev1.VolumeBindingWaitForFirstConsumer
	// Where a pod's node decides, the scheduler reserves the volume, which it can judge and this controller cannot.
	match, err := bestMatch(v.claim, v.candidates, late)
	class := storagehelpers.GetPersistentVolumeClaimClass(v.claim)
	pending := claimPlan{phase: corev1.ClaimPending}
	switch {
	case err != nil:
		return claimPlan{}, fmt.Errorf("match volumes with claim %s/%s: %w", v.claim.Namespace, v.claim.Name, err)
	case match != nil:
		return claimPlan{bind: match}, nil
	case v.defaultClass != "" && !storagehelpers.PersistentVolumeClaimHasClass(v.claim):
		return claimPlan{class: v.defaultClass}, nil
	case late && !placed:
		pending.event = waitEvent(v.waiting)
	case class != "":
		return planProvision(v, class), nil
	default:
		pending.event = normal(reasonFailedBinding, "no persistent volumes available for this claim and no storage class is set")
	}
	return pending, nil
}

func waitEvent(pods []string) event {
	switch len(pods) {
	case 0:
		return normal(reasonWaitForConsumer, "waiting for first consumer to be created before binding")
	case 1:
		return normal(reasonWaitForPod, "waiting for pod %s to be scheduled", pods[0])
	default:
		return normal(reasonWaitForPod, "waiting for pods %s to be scheduled", strings.Join(pods, ","))
	}
}

// planProvision asks the provisioner of the claim's class for a volume. Provisioners are programs of their own, whatever
// they are called; names that once were built in are taken over by drivers.
func planProvision(v claimView, class string) claimPlan {
	pending := claimPlan{phase: corev1.ClaimPending}
	if v.class == nil {
		pending.event = warning(reasonProvisioningFailed, "storageclass.storage.k8s.io %q not found", class)
		return pending
	}
	name, migratedTo := v.class.Provisioner, ""
	if driver := successor(name); driver != "" {
		name, migratedTo = driver, driver
	} else if strings.HasPrefix(name, inTree) {
		pending.event = warning(reasonProvisioningFailed, "no volume plugin matched name: %s", name)
		return pending
	}
	pending.provisioner, pending.migratedTo = name, migratedTo
	pending.event = normal(reasonExternal, "Waiting for a volume to be created either by the external provisioner '%s' or manually by the system administrator. "+
		"If volume creation is delayed, please verify that the provisioner is running and correctly registered.", name)
	return pending
}

// successor is the driver that does the work of a provisioner that once was built in; "" if there is none.
func successor(provisioner string) string {
	switch provisioner {
	case "kubernetes.io/aws-ebs":
		return "ebs.csi.aws.com"
	case "kubernetes.io/azure-disk":
		return "disk.csi.azure.com"
	case "kubernetes.io/azure-file":
		return "file.csi.azure.com"
	case "kubernetes.io/cinder":
		return "cinder.csi.openstack.org"
	case "kubernetes.io/gce-pd":
		return "pd.csi.storage.gke.io"
	case "kubernetes.io/portworx-volume":
		return "pxd.portworx.com"
	case "kubernetes.io/vsphere-volume":
		return "csi.vsphere.vmware.com"
	}
	return ""
}
