package reconcile

import (
	"fmt"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"
)

// Source says which keys a change in an informer concerns.
type Source[K comparable] struct {
	Informer cache.SharedIndexInformer
	// Keys is pure. old is nil when obj appeared, obj is nil when old vanished.
	Keys func(old, obj any) []K
}

// On is a Source for objects of type T, a pointer type: nil stands for the side that does not exist.
func On[T any, K comparable](informer cache.SharedIndexInformer, keys func(old, obj T) []K) Source[K] {
	return Source[K]{Informer: informer, Keys: func(old, obj any) []K {
		was, _ := old.(T)
		now, _ := obj.(T)
		return keys(was, now)
	}}
}

// Self is a Source where every change of an object concerns the object itself.
func Self(informer cache.SharedIndexInformer) Source[types.NamespacedName] {
	return Source[types.NamespacedName]{Informer: informer, Keys: func(old, obj any) []types.NamespacedName {
		if obj == nil {
			obj = old
		}
		o, err := meta.Accessor(obj)
		if err != nil {
			return nil
		}
		return []types.NamespacedName{Key(o)}
	}}
}

// Key is the namespace and name of obj.
func Key(obj metav1.Object) types.NamespacedName {
	return types.NamespacedName{Namespace: obj.GetNamespace(), Name: obj.GetName()}
}

func (s Source[K]) handler(add func(K)) cache.ResourceEventHandler {
	tell := func(old, obj any) {
		for _, key := range s.Keys(old, obj) {
			add(key)
		}
	}
	return cache.ResourceEventHandlerFuncs{
		AddFunc:    func(obj any) { tell(nil, obj) },
		UpdateFunc: func(old, obj any) { tell(old, obj) },
		DeleteFunc: func(old any) {
			if gone, ok := old.(cache.DeletedFinalStateUnknown); ok {
				old = gone.Obj
			}
			tell(old, nil)
		},
	}
}

// Index gives informer an index unless it has one of that name already: informers are shared, and so are their indexes.
func Index(informer cache.SharedIndexInformer, name string, values cache.IndexFunc) error {
	if _, exists := informer.GetIndexer().GetIndexers()[name]; exists {
		return nil
	}
	if err := informer.AddIndexers(cache.Indexers{name: values}); err != nil {
		return fmt.Errorf("add index %s to an informer: %w", name, err)
	}
	return nil
}
