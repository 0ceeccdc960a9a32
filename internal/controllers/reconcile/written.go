package reconcile

import (
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/resourceversion"
)

// Written remembers what we created and deleted for an owner until the cache shows it, so that a controller whose
// children have random names never creates for the same want twice, and never deletes a second victim for the first.
// Safe for concurrent use by different owners; one owner is reconciled by one worker at a time.
type Written[T metav1.Object] struct {
	mu     sync.Mutex
	owners map[types.UID]*ownWrites[T]
}

type ownWrites[T metav1.Object] struct {
	created map[types.UID]T
	deleted map[types.UID]bool
}

// NewWritten remembers nothing yet.
func NewWritten[T metav1.Object]() *Written[T] {
	return &Written[T]{owners: map[types.UID]*ownWrites[T]{}}
}

func (w *Written[T]) of(owner types.UID) *ownWrites[T] {
	o := w.owners[owner]
	if o == nil {
		o = &ownWrites[T]{created: map[types.UID]T{}, deleted: map[types.UID]bool{}}
		w.owners[owner] = o
	}
	return o
}

// Created records the server's answer to a create.
func (w *Written[T]) Created(owner types.UID, obj T) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.of(owner).created[obj.GetUID()] = obj
}

// Deleted records a delete that the server accepted.
func (w *Written[T]) Deleted(owner, uid types.UID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.of(owner).deleted[uid] = true
}

// Forget drops all about an owner that is gone.
func (w *Written[T]) Forget(owner types.UID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.owners, owner)
}

// View is cached as it will look once the cache has caught up with us: with what we created, without what we deleted.
// seen is the resourceVersion that the cache had reached before cached was read from it: a creation at or before it that is
// not in cached has been deleted again.
func (w *Written[T]) View(owner types.UID, cached []T, seen string) []T {
	w.mu.Lock()
	defer w.mu.Unlock()
	o := w.owners[owner]
	if o == nil {
		return cached
	}
	out := make([]T, 0, len(cached)+len(o.created))
	still := make(map[types.UID]bool, len(o.deleted))
	for _, obj := range cached {
		uid := obj.GetUID()
		delete(o.created, uid)
		if o.deleted[uid] && obj.GetDeletionTimestamp() == nil {
			still[uid] = true
			continue
		}
		out = append(out, obj)
	}
	for uid, obj := range o.created {
		if Reached(seen, obj.GetResourceVersion()) {
			delete(o.created, uid)
			continue
		}
		if o.deleted[uid] {
			still[uid] = true
			continue
		}
		out = append(out, obj)
	}
	o.deleted = still
	if len(o.created) == 0 && len(o.deleted) == 0 {
		delete(w.owners, owner)
	}
	return out
}

// Reached reports whether a cache at resourceVersion seen has gone past version. An unknown version counts as not reached.
func Reached(seen, version string) bool {
	if seen == "" || version == "" {
		return false
	}
	order, err := resourceversion.CompareResourceVersion(seen, version)
	return err == nil && order >= 0
}
