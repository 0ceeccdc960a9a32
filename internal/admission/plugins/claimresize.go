package plugins

import (
	"context"
	"fmt"

	"canopus/internal/admission"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	storagelisters "k8s.io/client-go/listers/storage/v1"
	storagehelpers "k8s.io/component-helpers/storage/volume"
)

// PersistentVolumeClaimResize lets only those claims grow whose volume can: bound ones of a class that allows it.
type PersistentVolumeClaimResize struct {
	classes storagelisters.StorageClassLister
}

// NewPersistentVolumeClaimResize makes the plugin.
func NewPersistentVolumeClaimResize(c Config) *PersistentVolumeClaimResize {
	i := c.Informers.Storage().V1().StorageClasses()
	i.Informer()
	return &PersistentVolumeClaimResize{classes: i.Lister()}
}

// Name implements admission.Plugin.
func (p *PersistentVolumeClaimResize) Name() string { return "PersistentVolumeClaimResize" }

// Handles implements admission.Plugin.
func (p *PersistentVolumeClaimResize) Handles(r *admission.Request) bool {
	return r.Operation == admission.Update && isClaim(r)
}

// Validate implements admission.Validator.
func (p *PersistentVolumeClaimResize) Validate(_ context.Context, r *admission.Request) error {
	claim, ok := r.Object.(*corev1.PersistentVolumeClaim)
	old, was := r.Old.(*corev1.PersistentVolumeClaim)
	if !ok || !was {
		return nil
	}
	before := old.Spec.Resources.Requests[corev1.ResourceStorage]
	now := claim.Spec.Resources.Requests[corev1.ResourceStorage]
	if now.Cmp(before) <= 0 {
		return nil
	}
	if old.Status.Phase != corev1.ClaimBound {
		return forbidden(r, "only bound persistent volume claims can be expanded")
	}
	grows, err := p.grows(claim)
	if err != nil {
		return err
	}
	if !grows {
		return forbidden(r, "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize")
	}
	return nil
}

// grows says whether volumes of the claim's class may grow.
func (p *PersistentVolumeClaimResize) grows(claim *corev1.PersistentVolumeClaim) (bool, error) {
	name := storagehelpers.GetPersistentVolumeClaimClass(claim)
	if name == "" {
		return false, nil
	}
	class, err := p.classes.Get(name)
	if apierrors.IsNotFound(err) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read storage class %s: %w", name, err)
	}
	return class.AllowVolumeExpansion != nil && *class.AllowVolumeExpansion, nil
}
