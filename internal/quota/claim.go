package quota

import (
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/sets"
)

// ofClass stands between a storage class and what is limited of it: gold.storageclass.storage.k8s.io/requests.storage.
const ofClass = ".storageclass.storage.k8s.io/"

func claimName(name corev1.ResourceName) bool {
	if _, rest, ok := strings.Cut(string(name), ofClass); ok {
		name = corev1.ResourceName(rest)
	}
	return name == corev1.ResourcePersistentVolumeClaims || name == corev1.ResourceRequestsStorage
}

// claimUsage counts a claim and its storage, each once more under its storage class.
func claimUsage(obj runtime.Object, _ time.Time) corev1.ResourceList {
	c, ok := obj.(*corev1.PersistentVolumeClaim)
	if !ok {
		return nil
	}
	out := corev1.ResourceList{corev1.ResourcePersistentVolumeClaims: *resource.NewQuantity(1, resource.DecimalSI)}
	if size, ok := c.Spec.Resources.Requests[corev1.ResourceStorage]; ok {
		// A claim that asks for less again still has what was allocated.
		if had, ok := c.Status.AllocatedResources[corev1.ResourceStorage]; ok && had.Cmp(size) > 0 {
			size = had
		}
		rounded := size.DeepCopy()
		rounded.RoundUp(0)
		out[corev1.ResourceRequestsStorage] = rounded
	}
	if class := storageClass(c); class != "" {
		for _, name := range []corev1.ResourceName{corev1.ResourcePersistentVolumeClaims, corev1.ResourceRequestsStorage} {
			if q, ok := out[name]; ok {
				out[corev1.ResourceName(class+ofClass+string(name))] = q
			}
		}
	}
	return out
}

func storageClass(c *corev1.PersistentVolumeClaim) string {
	if class, ok := c.Annotations[corev1.BetaStorageClassAnnotation]; ok {
		return class
	}
	if c.Spec.StorageClassName != nil {
		return *c.Spec.StorageClassName
	}
	return ""
}

// claimInScope looks at every attributes class that a claim has, wants, or is on its way to.
func claimInScope(obj runtime.Object, r corev1.ScopedResourceSelectorRequirement) (bool, error) {
	c, ok := obj.(*corev1.PersistentVolumeClaim)
	if !ok {
		return false, fmt.Errorf("a %T is no claim", obj)
	}
	if r.ScopeName != corev1.ResourceQuotaScopeVolumeAttributesClass {
		return false, nil
	}
	names := sets.New[string]()
	add := func(name *string) {
		if name != nil && *name != "" {
			names.Insert(*name)
		}
	}
	add(c.Spec.VolumeAttributesClassName)
	add(c.Status.CurrentVolumeAttributesClassName)
	if m := c.Status.ModifyVolumeStatus; m != nil {
		add(&m.TargetVolumeAttributesClassName)
	}
	if names.Len() == 0 {
		names.Insert("")
	}
	for name := range names {
		if ok, err := selects(r, name); ok || err != nil {
			return ok, err
		}
	}
	return false, nil
}
