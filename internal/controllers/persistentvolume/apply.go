package persistentvolume

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	storagehelpers "k8s.io/component-helpers/storage/volume"
)

func (c *Controller) record(obj runtime.Object, e event) {
	if e.reason != "" {
		c.Events.Event(obj, e.kind, e.reason, e.message)
	}
}

func (c *Controller) applyVolume(ctx context.Context, pv *corev1.PersistentVolume, claim *corev1.PersistentVolumeClaim, p volumePlan) error {
	if claim != nil {
		c.record(claim, p.mismatch)
	}
	if p.phase == "" {
		c.record(pv, p.event)
		return nil
	}
	if p.unbind {
		var err error
		if pv, err = c.updateVolume(ctx, unbound(pv)); err != nil {
			return err
		}
	}
	before := pv.Status.Phase
	pv, err := c.setVolumePhase(ctx, pv, p.phase, p.message)
	if err == nil && before != p.phase {
		c.record(pv, p.event)
	}
	return err
}

// unbound returns pv without the claim that this controller gave it; one that its user chose stays reserved.
func unbound(pv *corev1.PersistentVolume) *corev1.PersistentVolume {
	pv = pv.DeepCopy()
	if !metav1.HasAnnotation(pv.ObjectMeta, storagehelpers.AnnBoundByController) {
		pv.Spec.ClaimRef.UID = ""
		return pv
	}
	pv.Spec.ClaimRef = nil
	delete(pv.Annotations, storagehelpers.AnnBoundByController)
	return pv
}

func (c *Controller) updateVolume(ctx context.Context, pv *corev1.PersistentVolume) (*corev1.PersistentVolume, error) {
	out, err := c.Client.CoreV1().PersistentVolumes().Update(ctx, pv, metav1.UpdateOptions{})
	if err != nil {
		return nil, fmt.Errorf("update volume %s: %w", pv.Name, err)
	}
	c.ownVolumes.put(out.Name, out)
	return out, nil
}

func (c *Controller) setVolumePhase(ctx context.Context, pv *corev1.PersistentVolume, phase corev1.PersistentVolumePhase, message string) (*corev1.PersistentVolume, error) {
	if pv.Status.Phase == phase && pv.Status.Message == message {
		return pv, nil
	}
	pv = pv.DeepCopy()
	pv.Status.Phase, pv.Status.Message = phase, message
	out, err := c.Client.CoreV1().PersistentVolumes().UpdateStatus(ctx, pv, metav1.UpdateOptions{})
	if err != nil {
		return nil, fmt.Errorf("set phase %s of volume %s: %w", phase, pv.Name, err)
	}
	c.ownVolumes.put(out.Name, out)
	return out, nil
}

func (c *Controller) applyClaim(ctx context.Context, claim *corev1.PersistentVolumeClaim, p claimPlan) error {
	switch {
	case p.bind != nil:
		return c.bind(ctx, p.bind, claim)
	case p.class != "":
		next := claim.DeepCopy()
		next.Spec.StorageClassName = &p.class
		_, err := c.updateClaim(ctx, next)
		return err
	case p.provisioner != "":
		if next := asked(claim, p); next != nil {
			var err error
			if claim, err = c.updateClaim(ctx, next); err != nil {
				return err
			}
		}
	}
	changed := p.phase != "" && claim.Status.Phase != p.phase
	if p.phase != "" {
		var err error
		if claim, err = c.setClaimPhase(ctx, claim, p.phase, nil); err != nil {
			return err
		}
	}
	if changed || !p.onlyChange {
		c.record(claim, p.event)
	}
	return nil
}

// asked returns claim with the annotations that its provisioner looks for, nil if it has them.
func asked(claim *corev1.PersistentVolumeClaim, p claimPlan) *corev1.PersistentVolumeClaim {
	next := claim.DeepCopy()
	metav1.SetMetaDataAnnotation(&next.ObjectMeta, storagehelpers.AnnBetaStorageProvisioner, p.provisioner)
	metav1.SetMetaDataAnnotation(&next.ObjectMeta, storagehelpers.AnnStorageProvisioner, p.provisioner)
	if p.migratedTo != "" {
		metav1.SetMetaDataAnnotation(&next.ObjectMeta, storagehelpers.AnnMigratedTo, p.migratedTo)
	}
	if apiequality.Semantic.DeepEqual(next.Annotations, claim.Annotations) {
		return nil
	}
	return next
}

// bind makes, or completes, the binding of pv and claim.
func (c *Controller) bind(ctx context.Context, pv *corev1.PersistentVolume, claim *corev1.PersistentVolumeClaim) error {
	reserved, dirty, err := storagehelpers.GetBindVolumeToClaim(pv, claim)
	if err != nil {
		return fmt.Errorf("bind volume %s to claim %s: %w", pv.Name, claimKey(claim), err)
	}
	if dirty {
		if pv, err = c.updateVolume(ctx, reserved); err != nil {
			return err
		}
	}
	if pv, err = c.setVolumePhase(ctx, pv, corev1.VolumeBound, ""); err != nil {
		return err
	}
	if next := bound(claim, pv); next != nil {
		if claim, err = c.updateClaim(ctx, next); err != nil {
			return err
		}
	}
	_, err = c.setClaimPhase(ctx, claim, corev1.ClaimBound, pv)
	return err
}

// bound returns claim with pv as its volume for good, nil if it is so already.
func bound(claim *corev1.PersistentVolumeClaim, pv *corev1.PersistentVolume) *corev1.PersistentVolumeClaim {
	next := claim.DeepCopy()
	if next.Spec.VolumeName != pv.Name {
		next.Spec.VolumeName = pv.Name
		metav1.SetMetaDataAnnotation(&next.ObjectMeta, storagehelpers.AnnBoundByController, "yes")
	}
	if !metav1.HasAnnotation(next.ObjectMeta, storagehelpers.AnnBindCompleted) {
		metav1.SetMetaDataAnnotation(&next.ObjectMeta, storagehelpers.AnnBindCompleted, "yes")
	}
	if apiequality.Semantic.DeepEqual(next, claim) {
		return nil
	}
	return next
}

func (c *Controller) updateClaim(ctx context.Context, claim *corev1.PersistentVolumeClaim) (*corev1.PersistentVolumeClaim, error) {
	out, err := c.Client.CoreV1().PersistentVolumeClaims(claim.Namespace).Update(ctx, claim, metav1.UpdateOptions{})
	if err != nil {
		return nil, fmt.Errorf("update claim %s: %w", claimKey(claim), err)
	}
	c.ownClaims.put(claimKey(out), out)
	return out, nil
}

// setClaimPhase writes phase, and what follows from the volume it is bound to.
func (c *Controller) setClaimPhase(ctx context.Context, claim *corev1.PersistentVolumeClaim, phase corev1.PersistentVolumeClaimPhase, pv *corev1.PersistentVolume) (*corev1.PersistentVolumeClaim, error) {
	next := claim.DeepCopy()
	next.Status.Phase = phase
	if pv == nil {
		next.Status.AccessModes, next.Status.Capacity, next.Status.CurrentVolumeAttributesClassName = nil, nil, nil
	} else {
		next.Status.AccessModes = pv.Spec.AccessModes
		// Later they may differ: a file system is smaller than its volume until the node has made it grow.
		if claim.Status.Phase != phase {
			next.Status.Capacity = pv.Spec.Capacity.DeepCopy()
			next.Status.CurrentVolumeAttributesClassName = pv.Spec.VolumeAttributesClassName
		}
	}
	if apiequality.Semantic.DeepEqual(next.Status, claim.Status) {
		return claim, nil
	}
	out, err := c.Client.CoreV1().PersistentVolumeClaims(claim.Namespace).UpdateStatus(ctx, next, metav1.UpdateOptions{})
	if err != nil {
		return nil, fmt.Errorf("set phase %s of claim %s: %w", phase, claimKey(claim), err)
	}
	c.ownClaims.put(claimKey(out), out)
	return out, nil
}
