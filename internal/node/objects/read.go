package objects

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// pollSynced is how often a waiting reader looks whether the first list has arrived; it happens once per object.
const pollSynced = 5 * time.Millisecond

// Reader reads through the watches; reads wait, within ctx, for an object's first list.
type Reader struct {
	ctx context.Context
	w   *Watches
}

// Reader returns a Reader for the duration of ctx.
func (w *Watches) Reader(ctx context.Context) Reader { return Reader{ctx, w} }

// ConfigMap returns a ConfigMap that a pod refers to.
func (r Reader) ConfigMap(namespace, name string) (*corev1.ConfigMap, bool, error) {
	obj, found, err := r.get(Key{Namespace: namespace, Name: name})
	cm, _ := obj.(*corev1.ConfigMap)
	return cm, found, err
}

// Secret returns a Secret that a pod refers to.
func (r Reader) Secret(namespace, name string) (*corev1.Secret, bool, error) {
	obj, found, err := r.get(Key{Secret: true, Namespace: namespace, Name: name})
	s, _ := obj.(*corev1.Secret)
	return s, found, err
}

func (r Reader) get(k Key) (any, bool, error) {
	r.w.mu.Lock()
	it := r.w.items[k]
	r.w.mu.Unlock()
	if it == nil {
		return nil, false, fmt.Errorf("%s is not watched: no pod on this node refers to it", k)
	}
	if err := r.wait(k, it); err != nil {
		return nil, false, err
	}
	obj, found, err := it.store.GetByKey(k.Namespace + "/" + k.Name)
	if err != nil {
		return nil, false, fmt.Errorf("%s: %w", k, err)
	}
	return obj, found, nil
}

func (r Reader) wait(k Key, it *item) error {
	if it.synced() {
		return nil
	}
	ctx, cancel := context.WithTimeout(r.ctx, syncWait)
	defer cancel()
	t := time.NewTicker(pollSynced)
	defer t.Stop()
	for !it.synced() {
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: no answer from the API server yet: %w", k, ctx.Err())
		case <-t.C:
		}
	}
	return nil
}
