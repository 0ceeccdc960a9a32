package storageprotection

import (
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const workers = 2

// The finalizers that storage is created with.
const (
	claimFinalizer  = "kubernetes.io/pvc-protection"
	volumeFinalizer = "kubernetes.io/pv-protection"
	classFinalizer  = "kubernetes.io/vac-protection"
)

// action is what an object's finalizer needs.
type action int

const (
	nothing action = iota
	add            // it is missing from a living object
	remove         // it is the last to hold an unused object
)

func decide(obj metav1.Object, finalizer string, used bool) action {
	held, deleted := has(obj, finalizer), obj.GetDeletionTimestamp() != nil
	switch {
	case deleted && held && !used:
		return remove
	case !deleted && !held:
		return add
	}
	return nothing
}

func has(obj metav1.Object, finalizer string) bool {
	return slices.Contains(obj.GetFinalizers(), finalizer)
}

// applied changes obj, a copy of the caller's, and says whether it is to be written.
func applied[T metav1.Object](obj T, finalizer string, a action) (T, bool) {
	switch a {
	case add:
		obj.SetFinalizers(append(obj.GetFinalizers(), finalizer))
	case remove:
		obj.SetFinalizers(slices.DeleteFunc(obj.GetFinalizers(), func(f string) bool { return f == finalizer }))
	}
	return obj, a != nothing
}
