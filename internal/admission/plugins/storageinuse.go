package plugins

import (
	"context"
	"slices"

	"canopus/internal/admission"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// StorageObjectInUseProtection puts a finalizer on volumes, claims and attributes classes, which a controller takes away when
// nothing uses them any more.
type StorageObjectInUseProtection struct{}

// Name implements admission.Plugin.
func (StorageObjectInUseProtection) Name() string { return "StorageObjectInUseProtection" }

// Handles implements admission.Plugin.
func (StorageObjectInUseProtection) Handles(r *admission.Request) bool {
	return r.Operation == admission.Create && r.Subresource == "" && protector(r) != ""
}

// protector returns the finalizer of r's kind, "" if it has none.
func protector(r *admission.Request) string {
	switch r.Resource.GroupResource() {
	case corev1.Resource("persistentvolumes"):
		return "kubernetes.io/pv-protection"
	case corev1.Resource("persistentvolumeclaims"):
		return "kubernetes.io/pvc-protection"
	case storagev1.Resource("volumeattributesclasses"):
		return "kubernetes.io/vac-protection"
	}
	return ""
}

// Admit implements admission.Mutator.
func (StorageObjectInUseProtection) Admit(_ context.Context, r *admission.Request) error {
	obj, ok := r.Object.(metav1.Object)
	if f := protector(r); ok && !slices.Contains(obj.GetFinalizers(), f) {
		obj.SetFinalizers(append(slices.Clone(obj.GetFinalizers()), f))
	}
	return nil
}
