package why

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
)

// claimsOf explains the claims of a pod that are missing or not bound.
func (f *Facts) claimsOf(p *corev1.Pod) []Finding {
	var out []Finding
	for i := range p.Spec.Volumes {
		name := claimName(p, &p.Spec.Volumes[i])
		claim, looked := f.Claims[name]
		switch {
		case name == "" || !looked:
		case claim == nil:
			missing := Finding{Link: LinkVolume, Severity: Error, Reason: "ClaimNotFound", Object: "persistentvolumeclaim/" + name, key: "claim missing"}
			missing.Message = fmt.Sprintf("the claim %s, which pod %s mounts, does not exist", name, p.Name)
			missing.Do = fmt.Sprintf("make PersistentVolumeClaim %s, or take it out of the pod", name)
			out = append(out, missing)
		default:
			out = append(out, f.explainClaim(claim)...)
		}
	}
	return slices.DeleteFunc(out, func(x Finding) bool { return x.Severity == Note || x.Link == LinkDeletion })
}

// claimName is the claim behind a volume, or "".
func claimName(p *corev1.Pod, v *corev1.Volume) string {
	switch {
	case v.PersistentVolumeClaim != nil:
		return v.PersistentVolumeClaim.ClaimName
	case v.Ephemeral != nil:
		return p.Name + "-" + v.Name
	}
	return ""
}

// explainClaim follows a claim to its volume.
func (f *Facts) explainClaim(c *corev1.PersistentVolumeClaim) []Finding {
	var out []Finding
	if c.DeletionTimestamp != nil {
		f := Finding{Link: LinkDeletion, Severity: Waiting, Reason: "Terminating", Object: "persistentvolumeclaim/" + c.Name, key: "claim terminating"}
		f.Message = "it was deleted, and stays until no pod uses it"
		f.Do = "delete the pods that use it"
		out = append(out, f)
	}
	switch c.Status.Phase {
	case corev1.ClaimBound:
		return append(out, f.resizing(c)...)
	case corev1.ClaimLost:
		lost := Finding{Link: LinkVolume, Severity: Error, Reason: "ClaimLost", Object: "persistentvolumeclaim/" + c.Name, key: "claim lost"}
		lost.Message = fmt.Sprintf("its volume %s does not exist any more, and its data went with it", c.Spec.VolumeName)
		lost.Do = "restore the data from a backup into a new claim: this one cannot be bound again"
		return append(out, lost)
	}
	return append(out, f.unbound(c))
}

// unbound explains a claim that has no volume yet.
func (f *Facts) unbound(c *corev1.PersistentVolumeClaim) Finding {
	out := Finding{Link: LinkVolume, Severity: Error, Object: "persistentvolumeclaim/" + c.Name}
	name := deref(c.Spec.StorageClassName, "")
	class, looked := f.Classes[name]
	told := f.lastEvent(c.UID, "ProvisioningFailed", "FailedBinding", "VolumeMismatch", "WaitForFirstConsumer", "WaitForPodScheduled", "ExternalProvisioning", "Provisioning")
	if told != nil {
		out.Reason, out.Message = told.Reason, told.Message
	}
	out.key = "claim " + out.Reason + " " + name
	switch {
	case c.Spec.VolumeName != "":
		out.Reason = orElse(out.Reason, "VolumeNotBound")
		out.Message = fmt.Sprintf("claim %s wants volume %s and no other: %s", c.Name, c.Spec.VolumeName, orElse(out.Message, "it is not there, or not free"))
		out.Do = "make that PersistentVolume, or free it by taking the claimRef out of it"
	case name == "":
		out.Reason = orElse(out.Reason, "FailedBinding")
		out.Message = fmt.Sprintf("claim %s has no storage class, and no PersistentVolume fits it", c.Name)
		out.Do = "make a PersistentVolume that fits it, or make the claim again with a storageClassName: `kubectl get storageclass`"
	case looked && class == nil:
		out.Reason = orElse(out.Reason, "ProvisioningFailed")
		out.Message = fmt.Sprintf("claim %s wants storage class %s, which does not exist", c.Name, name)
		out.Do = fmt.Sprintf("make StorageClass %s, or make the claim again with one of `kubectl get storageclass`", name)
	case class != nil && class.Provisioner == "kubernetes.io/no-provisioner":
		out.Reason = orElse(out.Reason, "FailedBinding")
		out.Message = fmt.Sprintf("claim %s: no PersistentVolume of class %s fits it, and that class makes none", c.Name, name)
		out.Do = "make a PersistentVolume of that class, large enough and with its access modes"
		if late(class) && c.Annotations["volume.kubernetes.io/selected-node"] == "" {
			return f.waitsForPod(c, out)
		}
	case told != nil && told.Type == corev1.EventTypeWarning:
		out.Message = fmt.Sprintf("claim %s: %s", c.Name, told.Message)
		out.Do = "mend what the message says; it is tried again by itself"
	case class != nil && late(class) && c.Annotations["volume.kubernetes.io/selected-node"] == "":
		return f.waitsForPod(c, out)
	default:
		f.provisioning(c, class, &out)
	}
	return out
}

func late(class *storagev1.StorageClass) bool {
	return class.VolumeBindingMode != nil && *class.VolumeBindingMode == storagev1.VolumeBindingWaitForFirstConsumer
}

func (f *Facts) waitsForPod(c *corev1.PersistentVolumeClaim, out Finding) Finding {
	out.Severity, out.Reason = Waiting, orElse(out.Reason, "WaitForFirstConsumer")
	out.Message = fmt.Sprintf("claim %s gets its volume where the first pod that uses it is scheduled", c.Name)
	out.Do = "start a pod that uses it; nothing else is needed"
	out.key = "claim waits"
	return out
}

// provisioning explains a claim whose volume somebody is to make.
func (f *Facts) provisioning(c *corev1.PersistentVolumeClaim, class *storagev1.StorageClass, out *Finding) {
	who := c.Annotations["volume.kubernetes.io/storage-provisioner"]
	if who == "" && class != nil {
		who = class.Provisioner
	}
	out.Severity, out.Reason = Waiting, orElse(out.Reason, "ExternalProvisioning")
	out.Message = fmt.Sprintf("claim %s waits for its volume from provisioner %s, for %s", c.Name, orElse(who, "unknown"), f.since(c.CreationTimestamp.Time))
	if f.Now.Sub(c.CreationTimestamp.Time) > slowSetUp {
		out.Severity = Error
		out.Do = fmt.Sprintf("see whether provisioner %s is installed and runs, and what its log says", who)
	}
}

// resizing explains a bound claim whose size or attributes are not yet as asked.
func (f *Facts) resizing(c *corev1.PersistentVolumeClaim) []Finding {
	var out []Finding
	for _, cond := range c.Status.Conditions {
		if cond.Status != corev1.ConditionTrue {
			continue
		}
		r := Finding{Link: LinkVolume, Severity: Waiting, Reason: string(cond.Type), Object: "persistentvolumeclaim/" + c.Name, Message: orElse(cond.Message, string(cond.Type))}
		switch cond.Type {
		case corev1.PersistentVolumeClaimControllerResizeError, corev1.PersistentVolumeClaimNodeResizeError, corev1.PersistentVolumeClaimVolumeModifyVolumeError:
			r.Severity, r.Do = Error, "mend what the message says; it is tried again by itself"
		case corev1.PersistentVolumeClaimFileSystemResizePending:
			r.Do = "start a pod that uses it, or start the present one anew: its file system grows when it is mounted"
		}
		out = append(out, r)
	}
	return out
}

// claimSummary is the state of a claim in a line.
func claimSummary(c *corev1.PersistentVolumeClaim) string {
	if c.Status.Phase != corev1.ClaimBound {
		return string(c.Status.Phase)
	}
	size := c.Status.Capacity[corev1.ResourceStorage]
	return fmt.Sprintf("Bound to volume %s, %s, class %s", c.Spec.VolumeName, size.String(), orElse(deref(c.Spec.StorageClassName, ""), "none"))
}
