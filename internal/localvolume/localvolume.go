// Package localvolume is what the provisioner of local volumes, the node agents and the API server agree on: the names by
// which they know such a volume, and where its directory is. It does nothing itself.
//
// A local volume is a directory of one node. The controller localvolume makes the PersistentVolume once the scheduler has
// chosen a node, and asks for its deletion when its claim is gone; the agent of that node makes the directory at the first
// mount, and removes it, then the finalizer, when the PersistentVolume is to be deleted.
package localvolume

import (
	"path/filepath"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/component-helpers/storage/volume"
)

const (
	// Provisioner is the provisioner of StorageClasses for local volumes.
	Provisioner = "canopus.io/local"
	// Class is the StorageClass that every cluster begins with.
	Class = "local"
	// NodeLabel is on every local volume and names the node that has the directory: agents watch those of their own.
	NodeLabel = "canopus.io/node"
	// RootAnnotation is on every Node that offers local volumes and says below which directory.
	RootAnnotation = "canopus.io/volume-root"
	// Finalizer keeps a local volume in the API until its node has dealt with the directory.
	Finalizer = "canopus.io/local-volume"
)

// Dir returns the directory of a volume below a node's root.
func Dir(root, volume string) string { return filepath.Join(root, volume) }

// IsLocal says whether pv was made by the provisioner of local volumes.
func IsLocal(pv *corev1.PersistentVolume) bool {
	return pv.Spec.Local != nil && pv.Annotations[volume.AnnDynamicallyProvisioned] == Provisioner
}

// BelongsTo says whether the directory of pv is the one that node keeps for it below root. Only such a directory may be made
// and removed: a PersistentVolume can claim to be anything, so it is not believed about where its directory is.
func BelongsTo(pv *corev1.PersistentVolume, node, root string) bool {
	return IsLocal(pv) && root != "" && pv.Labels[NodeLabel] == node && GoodName(pv.Name) && pv.Spec.Local.Path == Dir(root, pv.Name)
}

// GoodName says whether a volume of this name can have a directory of the same name.
func GoodName(name string) bool {
	return len(validation.IsDNS1123Subdomain(name)) == 0 && !strings.ContainsRune(name, filepath.Separator)
}
