package dns

import (
	"context"
	"fmt"
	"sync"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
)

// watcher keeps records as the informers say, one service at a time.
type watcher struct {
	records  *records
	services corelisters.ServiceLister
	slices   cache.Indexer
	svcs     cache.SharedIndexInformer
	eps      cache.SharedIndexInformer

	mu    sync.Mutex
	dirty map[types.NamespacedName]bool
	kick  chan struct{} // holds one token while dirty may hold something
}

const byService = "canopus.dns/service"

func newWatcher(f informers.SharedInformerFactory, r *records) (*watcher, error) {
	services, eps := f.Core().V1().Services(), f.Discovery().V1().EndpointSlices().Informer()
	if _, ok := eps.GetIndexer().GetIndexers()[byService]; !ok {
		if err := eps.AddIndexers(cache.Indexers{byService: sliceIndex}); err != nil {
			return nil, fmt.Errorf("dns: index endpoint slices: %w", err)
		}
	}
	return &watcher{
		records: r, services: services.Lister(), svcs: services.Informer(), eps: eps, slices: eps.GetIndexer(),
		dirty: map[types.NamespacedName]bool{}, kick: make(chan struct{}, 1),
	}, nil
}

// run follows the informers until ctx ends; synced is closed once records hold the cluster's present state.
func (w *watcher) run(ctx context.Context, synced chan<- struct{}) error {
	var ready []cache.InformerSynced
	for _, informer := range []cache.SharedIndexInformer{w.svcs, w.eps} {
		handler, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
			AddFunc:    w.note,
			UpdateFunc: func(old, now any) { w.note(old); w.note(now) },
			DeleteFunc: w.note,
		})
		if err != nil {
			return fmt.Errorf("dns: watch services: %w", err)
		}
		defer func() { _ = informer.RemoveEventHandler(handler) }()
		ready = append(ready, handler.HasSynced)
	}
	if !cache.WaitForCacheSync(ctx.Done(), ready...) {
		return nil
	}
	present, err := w.services.List(labels.Everything())
	if err != nil {
		return err
	}
	keep := map[types.NamespacedName]bool{}
	for _, svc := range present {
		keep[types.NamespacedName{Namespace: svc.Namespace, Name: svc.Name}] = true
	}
	w.records.keepOnly(keep)
	for first := true; ; first = false {
		if err := w.refresh(); err != nil {
			return err
		}
		if first {
			close(synced)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-w.kick:
		}
	}
}

func sliceIndex(obj any) ([]string, error) {
	slice, ok := obj.(*discoveryv1.EndpointSlice)
	if !ok || slice.Labels[discoveryv1.LabelServiceName] == "" {
		return nil, nil
	}
	return []string{slice.Namespace + "/" + slice.Labels[discoveryv1.LabelServiceName]}, nil
}

// note marks the service that obj belongs to.
func (w *watcher) note(obj any) {
	if gone, ok := obj.(cache.DeletedFinalStateUnknown); ok {
		obj = gone.Obj
	}
	var key types.NamespacedName
	switch o := obj.(type) {
	case *corev1.Service:
		key = types.NamespacedName{Namespace: o.Namespace, Name: o.Name}
	case *discoveryv1.EndpointSlice:
		key = types.NamespacedName{Namespace: o.Namespace, Name: o.Labels[discoveryv1.LabelServiceName]}
	}
	w.mu.Lock()
	w.dirty[key] = true
	w.mu.Unlock()
	select {
	case w.kick <- struct{}{}:
	default:
	}
}

// refresh makes the records of all marked services anew.
func (w *watcher) refresh() error {
	w.mu.Lock()
	dirty := w.dirty
	w.dirty = map[types.NamespacedName]bool{}
	w.mu.Unlock()
	for key := range dirty {
		svc, err := w.services.Services(key.Namespace).Get(key.Name)
		if apierrors.IsNotFound(err) {
			w.records.delete(key)
			continue
		}
		if err != nil {
			return err
		}
		objs, err := w.slices.ByIndex(byService, key.String())
		if err != nil {
			return err
		}
		var slicesOf []*discoveryv1.EndpointSlice
		for _, obj := range objs {
			if slice, ok := obj.(*discoveryv1.EndpointSlice); ok {
				slicesOf = append(slicesOf, slice)
			}
		}
		if s := toRecord(svc, slicesOf); s != nil {
			w.records.put(s)
		} else {
			w.records.delete(key)
		}
	}
	return nil
}
