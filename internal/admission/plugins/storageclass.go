package plugins

import (
	"context"
	"fmt"

	"canopus/internal/admission"
	"canopus/internal/kinds/storage"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	storagelisters "k8s.io/client-go/listers/storage/v1"
	storagehelpers "k8s.io/component-helpers/storage/volume"
)

// DefaultStorageClass gives new claims that say nothing about their class the cluster's default one.
type DefaultStorageClass struct {
	classes storagelisters.StorageClassLister
}

// NewDefaultStorageClass makes the plugin.
func NewDefaultStorageClass(c Config) *DefaultStorageClass {
	i := c.Informers.Storage().V1().StorageClasses()
	i.Informer()
	return &DefaultStorageClass{classes: i.Lister()}
}

// Name implements admission.Plugin.
func (p *DefaultStorageClass) Name() string { return "DefaultStorageClass" }

// Handles implements admission.Plugin.
func (p *DefaultStorageClass) Handles(r *admission.Request) bool {
	return r.Operation == admission.Create && isClaim(r)
}

func isClaim(r *admission.Request) bool {
	return r.Resource.Resource == "persistentvolumeclaims" && r.Resource.Group == "" && r.Subresource == ""
}

// Admit implements admission.Mutator.
func (p *DefaultStorageClass) Admit(_ context.Context, r *admission.Request) error {
	claim, ok := r.Object.(*corev1.PersistentVolumeClaim)
	if !ok || storagehelpers.PersistentVolumeClaimHasClass(claim) {
		return nil
	}
	all, err := p.classes.List(labels.Everything())
	if err != nil {
		return fmt.Errorf("list storage classes: %w", err)
	}
	if c := storage.DefaultClass(all); c != nil {
		claim.Spec.StorageClassName = &c.Name
	}
	return nil
}
