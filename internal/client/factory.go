package client

import (
	"context"
	"errors"
	"maps"
	"reflect"
	"sync"
	"time"

	"canopus/internal/auth"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/informers/admissionregistration"
	"k8s.io/client-go/informers/apiserverinternal"
	"k8s.io/client-go/informers/apps"
	"k8s.io/client-go/informers/autoscaling"
	"k8s.io/client-go/informers/batch"
	"k8s.io/client-go/informers/certificates"
	"k8s.io/client-go/informers/coordination"
	"k8s.io/client-go/informers/core"
	"k8s.io/client-go/informers/discovery"
	"k8s.io/client-go/informers/events"
	"k8s.io/client-go/informers/extensions"
	"k8s.io/client-go/informers/flowcontrol"
	"k8s.io/client-go/informers/internalinterfaces"
	"k8s.io/client-go/informers/lifecycle"
	"k8s.io/client-go/informers/networking"
	"k8s.io/client-go/informers/node"
	"k8s.io/client-go/informers/policy"
	"k8s.io/client-go/informers/rbac"
	"k8s.io/client-go/informers/resource"
	"k8s.io/client-go/informers/scheduling"
	"k8s.io/client-go/informers/storage"
	"k8s.io/client-go/informers/storagemigration"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
)

// view is one identity's sight of the process's informers. All views share the informers, so that each type is held once;
// a view knows who asked, and cannot stop what others use.
type view struct {
	local *Local
	user  *auth.User

	mu    sync.Mutex
	asked map[reflect.Type]cache.SharedIndexInformer // through this view
}

var _ informers.SharedInformerFactory = (*view)(nil)

// InformerFor implements internalinterfaces.SharedInformerFactory. How the caller would make the informer does not matter:
// ours reads the store.
func (v *view) InformerFor(object runtime.Object, _ internalinterfaces.NewInformerFunc) cache.SharedIndexInformer {
	v.local.note(v.user, object)
	informer := v.local.informers.InformerFor(object, func(kubernetes.Interface, time.Duration) cache.SharedIndexInformer {
		indexers := cache.Indexers{cache.NamespaceIndex: cache.MetaNamespaceIndexFunc}
		return plain{cache.NewSharedIndexInformer(&source{local: v.local, object: object}, object, 0, indexers)}
	})
	v.mu.Lock()
	defer v.mu.Unlock()
	v.asked[reflect.TypeOf(object)] = informer
	return informer
}

// plain refuses transforms: objects are shared with the store.
type plain struct{ cache.SharedIndexInformer }

// SetTransform implements cache.SharedInformer.
func (plain) SetTransform(cache.TransformFunc) error {
	return errors.New("informers of the server's own process share their objects with the store: a transform would change these")
}

// Start implements informers.SharedInformerFactory. Informers run until the process's Local ends, not until stop closes.
func (v *view) Start(<-chan struct{}) { v.local.start() }

// StartWithContext is Start.
func (v *view) StartWithContext(context.Context) { v.local.start() }

// Shutdown does nothing: other parts use the same informers.
func (v *view) Shutdown() {}

// WaitForCacheSync implements informers.SharedInformerFactory.
func (v *view) WaitForCacheSync(stop <-chan struct{}) map[reflect.Type]bool {
	return v.WaitForCacheSyncWithContext(wait.ContextForChannel(stop)).Synced
}

// WaitForCacheSyncWithContext implements informers.SharedInformerFactory: it waits for the informers that were asked for through
// this view, and for the process to run them at all.
func (v *view) WaitForCacheSyncWithContext(ctx context.Context) cache.SyncResult {
	select {
	case <-v.local.running:
		v.local.start()
	case <-ctx.Done():
	}
	v.mu.Lock()
	asked := maps.Clone(v.asked)
	v.mu.Unlock()
	checks := make([]cache.DoneChecker, 0, len(asked))
	for _, informer := range asked {
		checks = append(checks, informer.HasSyncedChecker())
	}
	cache.WaitFor(ctx, "", checks...)
	result := cache.SyncResult{Synced: make(map[reflect.Type]bool, len(asked))}
	for t, informer := range asked {
		if result.Synced[t] = informer.HasSynced(); !result.Synced[t] {
			result.Err = context.Cause(ctx)
		}
	}
	return result
}

// ForResource implements informers.SharedInformerFactory for the types that this process has asked for by type.
func (v *view) ForResource(resource schema.GroupVersionResource) (informers.GenericInformer, error) {
	return nil, errors.New("informers of the server's own process are asked for by type, not as " + resource.String())
}

// Admissionregistration implements informers.SharedInformerFactory.
func (v *view) Admissionregistration() admissionregistration.Interface {
	return admissionregistration.New(v, "", nil)
}

// Internal implements informers.SharedInformerFactory.
func (v *view) Internal() apiserverinternal.Interface { return apiserverinternal.New(v, "", nil) }

// Apps implements informers.SharedInformerFactory.
func (v *view) Apps() apps.Interface { return apps.New(v, "", nil) }

// Autoscaling implements informers.SharedInformerFactory.
func (v *view) Autoscaling() autoscaling.Interface { return autoscaling.New(v, "", nil) }

// Batch implements informers.SharedInformerFactory.
func (v *view) Batch() batch.Interface { return batch.New(v, "", nil) }

// Certificates implements informers.SharedInformerFactory.
func (v *view) Certificates() certificates.Interface { return certificates.New(v, "", nil) }

// Coordination implements informers.SharedInformerFactory.
func (v *view) Coordination() coordination.Interface { return coordination.New(v, "", nil) }

// Core implements informers.SharedInformerFactory.
func (v *view) Core() core.Interface { return core.New(v, "", nil) }

// Discovery implements informers.SharedInformerFactory.
func (v *view) Discovery() discovery.Interface { return discovery.New(v, "", nil) }

// Events implements informers.SharedInformerFactory.
func (v *view) Events() events.Interface { return events.New(v, "", nil) }

// Extensions implements informers.SharedInformerFactory.
func (v *view) Extensions() extensions.Interface { return extensions.New(v, "", nil) }

// Flowcontrol implements informers.SharedInformerFactory.
func (v *view) Flowcontrol() flowcontrol.Interface { return flowcontrol.New(v, "", nil) }

// Networking implements informers.SharedInformerFactory.
func (v *view) Networking() networking.Interface { return networking.New(v, "", nil) }

// Node implements informers.SharedInformerFactory.
func (v *view) Node() node.Interface { return node.New(v, "", nil) }

// Policy implements informers.SharedInformerFactory.
func (v *view) Policy() policy.Interface { return policy.New(v, "", nil) }

// Rbac implements informers.SharedInformerFactory.
func (v *view) Rbac() rbac.Interface { return rbac.New(v, "", nil) }

// Resource implements informers.SharedInformerFactory.
func (v *view) Resource() resource.Interface { return resource.New(v, "", nil) }

// Scheduling implements informers.SharedInformerFactory.
func (v *view) Scheduling() scheduling.Interface { return scheduling.New(v, "", nil) }

// Storage implements informers.SharedInformerFactory.
func (v *view) Storage() storage.Interface { return storage.New(v, "", nil) }

// Storagemigration implements informers.SharedInformerFactory.
func (v *view) Storagemigration() storagemigration.Interface { return storagemigration.New(v, "", nil) }

// Lifecycle implements informers.SharedInformerFactory.
func (v *view) Lifecycle() lifecycle.Interface { return lifecycle.New(v, "", nil) }

// InformerName implements informers.SharedInformerFactory.
func (v *view) InformerName() *cache.InformerName { return v.local.informers.InformerName() }
