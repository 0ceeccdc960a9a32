// Package volumeuse says which claims the volumes of a pod refer to, for the controllers that follow the use of storage.
package volumeuse

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"

	"canopus/internal/controllers/reconcile"
)

// ByClaim is the index of pods by the claims that their volumes use, as namespace/name.
const ByClaim = "canopus/claim"

// IndexByClaim gives the pod informer the index ByClaim.
func IndexByClaim(pods cache.SharedIndexInformer) error {
	return reconcile.Index(pods, ByClaim, func(obj any) ([]string, error) {
		pod, ok := obj.(*corev1.Pod)
		if !ok {
			return nil, nil
		}
		var out []string
		for _, key := range Claims(pod) {
			out = append(out, key.String())
		}
		return out, nil
	})
}

// Claims returns the keys of the claims that p's volumes use, those made for p alone included.
func Claims(p *corev1.Pod) []types.NamespacedName {
	var keys []types.NamespacedName
	for i := range p.Spec.Volumes {
		if name := ClaimName(p, &p.Spec.Volumes[i]); name != "" {
			keys = append(keys, types.NamespacedName{Namespace: p.Namespace, Name: name})
		}
	}
	return keys
}

// ClaimName is the name of the claim that volume v of p uses, "" if it uses none. The claim of an ephemeral volume is called
// after pod and volume.
func ClaimName(p *corev1.Pod, v *corev1.Volume) string {
	switch {
	case v.PersistentVolumeClaim != nil:
		return v.PersistentVolumeClaim.ClaimName
	case v.Ephemeral != nil:
		return p.Name + "-" + v.Name
	}
	return ""
}

// Foreign says whether v is ephemeral and the claim of its name was not made for p: then p must not use it.
func Foreign(p *corev1.Pod, v *corev1.Volume, claim *corev1.PersistentVolumeClaim) bool {
	return v.Ephemeral != nil && !metav1.IsControlledBy(claim, p)
}
