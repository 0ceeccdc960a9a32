package reconcile

import (
	"encoding/json"
	"fmt"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"
)

// ByController is the index of objects by the UID of their controller; those without one are under OrphansIn their namespace.
const ByController = "canopus/controller"

// OrphansIn is the value of the index ByController for objects in namespace that nobody controls. It is no possible UID.
func OrphansIn(namespace string) string { return "orphan/" + namespace }

// IndexByController gives informer the index ByController.
func IndexByController(informer cache.SharedIndexInformer) error {
	return Index(informer, ByController, func(obj any) ([]string, error) {
		o, err := meta.Accessor(obj)
		if err != nil {
			return nil, err
		}
		if ref := metav1.GetControllerOfNoCopy(o); ref != nil {
			return []string{string(ref.UID)}, nil
		}
		return []string{OrphansIn(o.GetNamespace())}, nil
	})
}

// Indexed returns the objects under value in one of informer's indexes. They are shared: read only.
func Indexed[T any](informer cache.SharedIndexInformer, index, value string) ([]T, error) {
	found, err := informer.GetIndexer().ByIndex(index, value)
	if err != nil {
		return nil, fmt.Errorf("look up %s in index %s: %w", value, index, err)
	}
	out := make([]T, 0, len(found))
	for _, obj := range found {
		if t, ok := obj.(T); ok {
			out = append(out, t)
		}
	}
	return out, nil
}

// ControlledBy returns the key of obj's controller if that is of the given kind.
func ControlledBy(obj metav1.Object, kind string) (types.NamespacedName, bool) {
	ref := metav1.GetControllerOfNoCopy(obj)
	if ref == nil || ref.Kind != kind {
		return types.NamespacedName{}, false
	}
	return types.NamespacedName{Namespace: obj.GetNamespace(), Name: ref.Name}, true
}

// Controllers returns the keys of the controllers of the given kind that an object had and has: none, one, or two after a change
// of hands. Either state may be nil.
func Controllers[T any, P interface {
	*T
	metav1.Object
}](kind string, old, now P) []types.NamespacedName {
	var keys []types.NamespacedName
	for _, obj := range []P{old, now} {
		if obj == nil {
			continue
		}
		if key, ok := ControlledBy(obj, kind); ok && (len(keys) == 0 || keys[0] != key) {
			keys = append(keys, key)
		}
	}
	return keys
}

// Claim is what an owner must do about an object that may be its own.
type Claim int

// The four answers of ClaimOf.
const (
	Foreign Claim = iota // somebody else's, or nobody's business
	Owned                // already ours
	Adopt                // matches our selector and has no controller
	Release              // ours, but matches no longer
)

// ClaimOf decides about obj for owner. An owner that is being deleted neither adopts nor releases; an object that is being
// deleted is not adopted.
func ClaimOf(owner metav1.Object, selector labels.Selector, obj metav1.Object) Claim {
	matches := selector.Matches(labels.Set(obj.GetLabels()))
	if ref := metav1.GetControllerOfNoCopy(obj); ref != nil {
		switch {
		case ref.UID != owner.GetUID():
			return Foreign
		case matches:
			return Owned
		case owner.GetDeletionTimestamp() != nil:
			return Foreign
		}
		return Release
	}
	if !matches || owner.GetDeletionTimestamp() != nil || obj.GetDeletionTimestamp() != nil ||
		obj.GetNamespace() != owner.GetNamespace() {
		return Foreign
	}
	return Adopt
}

// AdoptPatch is the strategic merge patch that makes ref the controller of the object with this uid, and of no other that
// may have taken its name.
func AdoptPatch(uid types.UID, ref metav1.OwnerReference) ([]byte, error) {
	return json.Marshal(map[string]any{"metadata": map[string]any{"uid": uid, "ownerReferences": []metav1.OwnerReference{ref}}})
}

// ReleasePatch is the strategic merge patch that takes the owner away from the object with this uid.
func ReleasePatch(uid, owner types.UID) ([]byte, error) {
	gone := map[string]any{"$patch": "delete", "uid": owner}
	return json.Marshal(map[string]any{"metadata": map[string]any{"uid": uid, "ownerReferences": []any{gone}}})
}
