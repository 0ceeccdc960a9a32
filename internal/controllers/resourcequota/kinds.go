package resourcequota

import (
	"context"
	"fmt"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/tools/cache"

	"canopus/internal/controllers/reconcile"
	"canopus/internal/quota"
)

const (
	rediscover = 30 * time.Second
	// impatient is how old what discovery said may be when a kind is not found in it.
	impatient = 3 * time.Second
)

// kinds watches, for deletions, the kinds whose number some quota limits. It keeps no object.
type kinds struct {
	c    *Controller
	wake chan struct{}

	mu     sync.Mutex
	served map[schema.GroupResource]schema.GroupVersionResource
	asked  time.Time
}

func newKinds(c *Controller) *kinds { return &kinds{c: c, wake: make(chan struct{}, 1)} }

// look makes follow look at the quotas again.
func (k *kinds) look() {
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

// find returns the version of a kind to ask for, empty if it is not served.
func (k *kinds) find(ctx context.Context, gr schema.GroupResource) (schema.GroupVersionResource, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if gvr, ok := k.served[gr]; ok {
		return gvr, nil
	}
	if k.served != nil && k.c.Clock.Since(k.asked) < impatient {
		return schema.GroupVersionResource{}, nil
	}
	if err := k.discover(ctx); err != nil {
		return schema.GroupVersionResource{}, err
	}
	return k.served[gr], nil
}

// discover asks which kinds are served. k.mu is held.
func (k *kinds) discover(ctx context.Context) error {
	lists, err := k.c.Client.Discovery().ServerPreferredNamespacedResourcesWithContext(ctx)
	if err != nil && !discovery.IsGroupDiscoveryFailedError(err) {
		return fmt.Errorf("ask which kinds are served: %w", err)
	}
	served := map[schema.GroupResource]schema.GroupVersionResource{}
	if err != nil { // the kinds of a group that does not answer are not gone
		served = k.served
	}
	for _, list := range lists {
		gv, err := schema.ParseGroupVersion(list.GroupVersion)
		if err != nil {
			continue // no server of ours says such a thing
		}
		for _, r := range list.APIResources {
			if served == nil {
				served = map[schema.GroupResource]schema.GroupVersionResource{}
			}
			served[schema.GroupResource{Group: gv.Group, Resource: r.Name}] = gv.WithResource(r.Name)
		}
	}
	k.served, k.asked = served, k.c.Clock.Now()
	return nil
}

// follow keeps one watch per kind that is limited, until ctx ends and all have stopped.
func (k *kinds) follow(ctx context.Context) {
	var running sync.WaitGroup
	defer running.Wait()
	stops := map[schema.GroupResource]context.CancelFunc{}
	ticker := k.c.Clock.NewTicker(rediscover)
	defer ticker.Stop()
	for {
		wanted := k.wanted()
		for gr, stop := range stops {
			if !wanted[gr] {
				stop()
				delete(stops, gr)
			}
		}
		for gr := range wanted {
			if stops[gr] != nil {
				continue
			}
			gvr, err := k.find(ctx, gr)
			if err != nil {
				k.c.Log.Warn("quotas on a kind are counted late until discovery answers", "kind", gr.String(), "error", err)
			}
			if gvr.Empty() {
				continue // looked for again with the next tick
			}
			watchCtx, stop := context.WithCancel(ctx)
			stops[gr] = stop
			running.Go(func() { k.watch(watchCtx, gvr) })
		}
		select {
		case <-ctx.Done():
			for _, stop := range stops {
				stop()
			}
			return
		case <-ticker.C():
		case <-k.wake:
		}
	}
}

// wanted are the kinds that quotas limit by number alone.
func (k *kinds) wanted() map[schema.GroupResource]bool {
	out := map[schema.GroupResource]bool{}
	quotas, err := k.c.quotas.List(labels.Everything())
	if err != nil {
		return out
	}
	for _, q := range quotas {
		for _, gr := range limitedKinds(q.Spec.Hard) {
			if quota.Plain(gr) {
				out[gr] = true
			}
		}
	}
	return out
}

func (k *kinds) watch(ctx context.Context, gvr schema.GroupVersionResource) {
	objects := k.c.Metadata.Resource(gvr)
	lw := cache.ToListWatcherWithWatchListSemantics(&cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) { return objects.List(ctx, o) },
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			return objects.Watch(ctx, o)
		},
	}, k.c.Metadata)
	cache.NewReflectorWithOptions(lw, &metav1.PartialObjectMetadata{}, deletions{k.c, gvr.GroupResource()}, cache.ReflectorOptions{
		Name: "resource quota " + gvr.String(), Clock: k.c.Clock,
	}).RunWithContext(ctx)
}

// deletions is a reflector's store that keeps nothing: only that something went matters.
type deletions struct {
	c  *Controller
	gr schema.GroupResource
}

// Add implements cache.ReflectorStore.
func (deletions) Add(any) error { return nil }

// Update implements cache.ReflectorStore.
func (deletions) Update(any) error { return nil }

// Delete implements cache.ReflectorStore.
func (d deletions) Delete(obj any) error {
	o, ok := obj.(*metav1.PartialObjectMetadata)
	if !ok {
		return fmt.Errorf("a watch of %s sent a %T", d.gr, obj)
	}
	for _, key := range d.c.released(d.gr, o.Namespace) {
		d.c.loop.Add(key)
	}
	return nil
}

// Replace implements cache.ReflectorStore: after a gap, every quota on the kind may have been released.
func (d deletions) Replace([]any, string) error {
	quotas, err := d.c.quotas.List(labels.Everything())
	if err != nil {
		return err
	}
	for _, q := range quotas {
		if len(quota.Names(d.gr, q.Spec.Hard)) > 0 {
			d.c.loop.Add(reconcile.Key(q))
		}
	}
	return nil
}

// Resync implements cache.ReflectorStore.
func (deletions) Resync() error { return nil }

// on is the source of keys for a measured kind, whose objects release by changing too.
func on[T interface {
	metav1.Object
	runtime.Object
}](c *Controller, gr schema.GroupResource, informer cache.SharedIndexInformer) reconcile.Source[types.NamespacedName] {
	return reconcile.Source[types.NamespacedName]{Informer: informer, Keys: func(old, obj any) []types.NamespacedName {
		was, ok := old.(T)
		if !ok {
			return nil
		}
		keys := c.released(gr, was.GetNamespace())
		if len(keys) == 0 {
			return nil
		}
		if is, ok := obj.(T); ok && !lessens(gr, was, is, c.Clock.Now()) {
			return nil
		}
		return keys
	}}
}
