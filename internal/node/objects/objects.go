// Package objects reads the ConfigMaps and Secrets that the node's pods refer to. The node authorizer lets a node get,
// list and watch them one by one, by name; so there is one small watch per object, shared by all pods that refer to it and
// ended with the last of them.
package objects

import (
	"context"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
)

// syncWait bounds how long a reader waits for the first answer about an object.
const syncWait = 10 * time.Second

// Key names a ConfigMap or Secret.
type Key struct {
	Secret          bool
	Namespace, Name string
}

func (k Key) String() string {
	kind := "configmap"
	if k.Secret {
		kind = "secret"
	}
	return fmt.Sprintf("%s %s/%s", kind, k.Namespace, k.Name)
}

// Watches holds the watches. Run owns their goroutines.
type Watches struct {
	client  kubernetes.Interface
	changed func(types.UID)

	mu     sync.Mutex
	items  map[Key]*item
	pods   map[types.UID]map[Key]bool
	ctx    context.Context // of Run; nil before
	starts []func(context.Context)
	wg     sync.WaitGroup
}

type item struct {
	store  cache.Store
	synced func() bool
	users  map[types.UID]bool
	cancel context.CancelFunc
}

// New returns Watches that call changed for every pod that refers to an object that changed.
func New(client kubernetes.Interface, changed func(types.UID)) *Watches {
	return &Watches{client: client, changed: changed, items: map[Key]*item{}, pods: map[types.UID]map[Key]bool{}}
}

// Run serves until ctx ends.
func (w *Watches) Run(ctx context.Context) error {
	w.mu.Lock()
	w.ctx = ctx
	for _, start := range w.starts {
		start(ctx)
	}
	w.starts = nil
	w.mu.Unlock()
	<-ctx.Done()
	w.wg.Wait()
	return nil
}

// Use makes the given objects, and no others, those that pod uid refers to.
func (w *Watches) Use(uid types.UID, keys []Key) {
	w.mu.Lock()
	defer w.mu.Unlock()
	want := map[Key]bool{}
	for _, k := range keys {
		want[k] = true
		w.add(k, uid)
	}
	for k := range w.pods[uid] {
		if !want[k] {
			w.drop(k, uid)
		}
	}
	if len(want) == 0 {
		delete(w.pods, uid)
		return
	}
	w.pods[uid] = want
}

// add is called with mu held.
func (w *Watches) add(k Key, uid types.UID) {
	it := w.items[k]
	if it == nil {
		it = w.open(k)
		w.items[k] = it
	}
	it.users[uid] = true
}

// drop is called with mu held.
func (w *Watches) drop(k Key, uid types.UID) {
	it := w.items[k]
	if it == nil {
		return
	}
	delete(it.users, uid)
	if len(it.users) == 0 {
		it.cancel()
		delete(w.items, k)
	}
}

// open is called with mu held.
func (w *Watches) open(k Key) *item {
	it := &item{users: map[types.UID]bool{}, cancel: func() {}}
	ring := func() { w.notify(k) }
	var typ runtime.Object = &corev1.ConfigMap{}
	if k.Secret {
		typ = &corev1.Secret{}
	}
	store, ctl := cache.NewInformerWithOptions(cache.InformerOptions{
		ListerWatcher: w.listerWatcher(k),
		ObjectType:    typ,
		Handler: cache.ResourceEventHandlerFuncs{
			AddFunc:    func(any) { ring() },
			UpdateFunc: func(any, any) { ring() },
			DeleteFunc: func(any) { ring() },
		},
	})
	it.store, it.synced = store, ctl.HasSynced
	start := func(ctx context.Context) {
		ctx, it.cancel = context.WithCancel(ctx)
		w.wg.Add(1)
		go func() {
			defer w.wg.Done()
			ctl.RunWithContext(ctx)
		}()
	}
	if w.ctx != nil {
		start(w.ctx)
	} else {
		w.starts = append(w.starts, start)
	}
	return it
}

func (w *Watches) notify(k Key) {
	w.mu.Lock()
	var uids []types.UID
	if it := w.items[k]; it != nil {
		for uid := range it.users {
			uids = append(uids, uid)
		}
	}
	w.mu.Unlock()
	for _, uid := range uids {
		w.changed(uid)
	}
}

func (w *Watches) listerWatcher(k Key) cache.ListerWatcher {
	sel := fields.OneTermEqualSelector("metadata.name", k.Name).String()
	if k.Secret {
		c := w.client.CoreV1().Secrets(k.Namespace)
		return cache.ToListWatcherWithWatchListSemantics(&cache.ListWatch{
			ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
				o.FieldSelector = sel
				return c.List(ctx, o)
			},
			WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
				o.FieldSelector = sel
				return c.Watch(ctx, o)
			},
		}, w.client)
	}
	c := w.client.CoreV1().ConfigMaps(k.Namespace)
	return cache.ToListWatcherWithWatchListSemantics(&cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			o.FieldSelector = sel
			return c.List(ctx, o)
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			o.FieldSelector = sel
			return c.Watch(ctx, o)
		},
	}, w.client)
}
