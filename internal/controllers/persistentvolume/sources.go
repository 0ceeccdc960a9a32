package persistentvolume

import (
	"k8s.io/apimachinery/pkg/types"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	storagehelpers "k8s.io/component-helpers/storage/volume"

	"canopus/internal/controllers/reconcile"
	"canopus/internal/controllers/volumeuse"
)

// byNeed is an index of volumes and of claims by what could bring the two together: the class of the unbound, the other's name
// for those that know each other.
const byNeed = "canopus/storage-need"

// noClass stands for claims that do not say whether they want a class. It is no possible class.
const noClass = "!"

func classNeed(class string) string               { return "class/" + class }
func claimNeed(claim types.NamespacedName) string { return "claim/" + claim.String() }
func volumeNeed(volume string) string             { return "volume/" + volume }

// volumeNeeds is the index function of volumes.
func volumeNeeds(obj any) ([]string, error) {
	pv, ok := obj.(*corev1.PersistentVolume)
	if !ok {
		return nil, nil
	}
	if ref := pv.Spec.ClaimRef; ref != nil {
		return []string{claimNeed(types.NamespacedName{Namespace: ref.Namespace, Name: ref.Name})}, nil
	}
	return []string{classNeed(storagehelpers.GetPersistentVolumeClass(pv))}, nil
}

// claimNeeds is the index function of claims.
func claimNeeds(obj any) ([]string, error) {
	claim, ok := obj.(*corev1.PersistentVolumeClaim)
	switch {
	case !ok:
		return nil, nil
	case claim.Spec.VolumeName != "":
		return []string{volumeNeed(claim.Spec.VolumeName)}, nil
	case !storagehelpers.PersistentVolumeClaimHasClass(claim):
		return []string{classNeed(noClass), classNeed("")}, nil // a volume without a class will do as well
	}
	return []string{classNeed(storagehelpers.GetPersistentVolumeClaimClass(claim))}, nil
}

func claimKey(claim *corev1.PersistentVolumeClaim) string { return reconcile.Key(claim).String() }

// claimChanged: the claim itself, and the volumes that it names or that name it.
func (c *Controller) claimChanged(old, claim *corev1.PersistentVolumeClaim) []key {
	keys := map[key]bool{}
	for _, side := range []*corev1.PersistentVolumeClaim{old, claim} {
		if side == nil {
			continue
		}
		keys[key(reconcile.Key(side))] = true
		if side.Spec.VolumeName != "" {
			keys[key{Name: side.Spec.VolumeName}] = true
		}
		c.addVolumes(keys, claimNeed(reconcile.Key(side)))
	}
	return list(keys)
}

// volumeChanged: the volume itself, the claims that it names or that name it, and those that might take it.
func (c *Controller) volumeChanged(old, pv *corev1.PersistentVolume) []key {
	keys := map[key]bool{}
	for _, side := range []*corev1.PersistentVolume{old, pv} {
		if side == nil {
			continue
		}
		keys[key{Name: side.Name}] = true
		if ref := side.Spec.ClaimRef; ref != nil {
			keys[key{Namespace: ref.Namespace, Name: ref.Name}] = true
		}
		c.addClaims(keys, volumeNeed(side.Name), nil)
	}
	if pv != nil && pv.Spec.ClaimRef == nil && pv.Status.Phase == corev1.VolumeAvailable {
		c.addClaims(keys, classNeed(storagehelpers.GetPersistentVolumeClass(pv)), func(claim *corev1.PersistentVolumeClaim) bool {
			return satisfies(claim, pv) == nil
		})
	}
	return list(keys)
}

// classChanged: the claims that wait for the class, or for a default one.
func (c *Controller) classChanged(_, class *storagev1.StorageClass) []key {
	if class == nil {
		return nil
	}
	keys := map[key]bool{}
	c.addClaims(keys, classNeed(class.Name), nil)
	c.addClaims(keys, classNeed(noClass), nil)
	return list(keys)
}

// podWaits: the claims of a pod that has no node yet tell what they wait for.
func podWaits(old, pod *corev1.Pod) []key {
	if old != nil || pod == nil || !unplaced(pod) {
		return nil
	}
	var keys []key
	for _, k := range volumeuse.Claims(pod) {
		keys = append(keys, key(k))
	}
	return keys
}

func unplaced(p *corev1.Pod) bool {
	return p.Spec.NodeName == "" && p.DeletionTimestamp == nil && p.Status.Phase != corev1.PodSucceeded && p.Status.Phase != corev1.PodFailed
}

func (c *Controller) addVolumes(keys map[key]bool, need string) {
	found, err := reconcile.Indexed[*corev1.PersistentVolume](c.volumeCache, byNeed, need)
	if err != nil { // the index is made in New
		c.Log.Error("volumes cannot be looked up", "controller", "persistentvolume-binder", "error", err)
	}
	for _, pv := range found {
		keys[key{Name: pv.Name}] = true
	}
}

func (c *Controller) addClaims(keys map[key]bool, need string, want func(*corev1.PersistentVolumeClaim) bool) {
	found, err := reconcile.Indexed[*corev1.PersistentVolumeClaim](c.claimCache, byNeed, need)
	if err != nil { // the index is made in New
		c.Log.Error("claims cannot be looked up", "controller", "persistentvolume-binder", "error", err)
	}
	for _, claim := range found {
		if want == nil || want(claim) {
			keys[key(reconcile.Key(claim))] = true
		}
	}
}

func list(keys map[key]bool) []key {
	out := make([]key, 0, len(keys))
	for k := range keys {
		out = append(out, k)
	}
	return out
}

// written holds our last writes of objects that the cache may not show yet, by name. Used by one worker only.
type written[T metav1.Object] map[string]T

func (w written[T]) put(name string, obj T) { w[name] = obj }
func (w written[T]) forget(name string)     { delete(w, name) }

// newest returns our own write of the object if the cache is behind it.
func (w written[T]) newest(name string, cached T) T {
	own, ok := w[name]
	if !ok {
		return cached
	}
	if own.GetUID() != cached.GetUID() || reconcile.Reached(cached.GetResourceVersion(), own.GetResourceVersion()) {
		delete(w, name)
		return cached
	}
	return own
}
