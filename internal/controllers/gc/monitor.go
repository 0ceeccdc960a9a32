package gc

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"
	"unique"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/tools/cache"
)

const (
	rediscover = 30 * time.Second
	// settle is how long after a CRD or APIService changed discovery is asked once more: serving it may take a moment.
	settle = 2 * time.Second
	// patience is how long a kind that cannot be listed holds back foreground deletion and orphaning.
	patience = 30 * time.Second
)

// mapping is where the objects of a kind are found.
type mapping struct {
	resource   schema.GroupVersionResource
	namespaced bool
}

// monitor watches one resource into the graph. It is the reflector's store: the graph is the only copy.
type monitor struct {
	c *Collector
	kind
	stop   context.CancelFunc
	since  time.Time
	synced bool // guarded by Collector.mu
}

// follow keeps the monitors in line with discovery until ctx ends, and returns when they have all stopped.
func (c *Collector) follow(ctx context.Context) {
	var running sync.WaitGroup
	defer running.Wait()
	ticker := c.Clock.NewTicker(rediscover)
	defer ticker.Stop()
	timer := c.Clock.NewTimer(settle)
	defer timer.Stop()
	for {
		if err := c.resync(ctx, &running); err != nil {
			c.Log.Warn("garbage collection misses some kinds until discovery answers for them", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C():
		case <-timer.C():
		case <-c.changed:
			timer.Reset(settle)
		}
	}
}

// resync asks discovery which kinds there are, starts monitors for new ones and stops those of kinds that went away. When
// some groups do not answer, nothing is stopped: their kinds are not gone.
func (c *Collector) resync(ctx context.Context, running *sync.WaitGroup) error {
	groups, all, err := c.Client.Discovery().ServerGroupsAndResources()
	if err != nil && !discovery.IsGroupDiscoveryFailedError(err) {
		return fmt.Errorf("ask which kinds are served: %w", err)
	}
	kinds, wanted := watchable(groups, all)
	c.mu.Lock()
	if err == nil {
		c.kinds = kinds
	} else {
		for k, v := range kinds {
			c.kinds[k] = v
		}
	}
	var stopped []*monitor
	for gvr, m := range c.monitors {
		if _, ok := wanted[gvr]; !ok && err == nil {
			stopped = append(stopped, m)
			delete(c.monitors, gvr)
		}
	}
	for gvr, gvk := range wanted {
		if c.monitors[gvr] != nil {
			continue
		}
		watchCtx, stop := context.WithCancel(ctx)
		m := &monitor{c: c, kind: kind{gvr, gvk}, stop: stop, since: c.Clock.Now()}
		c.monitors[gvr] = m
		running.Go(func() { m.run(watchCtx) })
	}
	c.mu.Unlock()
	for _, m := range stopped {
		m.stop()
		c.forget(false, m.held(nil)...)
	}
	return err
}

// watchable sorts what discovery says: all kinds by all their versions, and the one version of each resource to watch.
func watchable(groups []*metav1.APIGroup, all []*metav1.APIResourceList) (map[schema.GroupVersionKind]mapping, map[schema.GroupVersionResource]schema.GroupVersionKind) {
	preferred := map[string]string{}
	for _, g := range groups {
		preferred[g.Name] = g.PreferredVersion.Version
	}
	kinds := map[schema.GroupVersionKind]mapping{}
	wanted := map[schema.GroupResource]schema.GroupVersionKind{}
	for _, list := range all {
		gv, err := schema.ParseGroupVersion(list.GroupVersion)
		if err != nil {
			continue // no server of ours says such a thing; another's is left alone
		}
		for _, r := range list.APIResources {
			if slices.Contains(r.Verbs, "get") {
				kinds[gv.WithKind(r.Kind)] = mapping{gv.WithResource(r.Name), r.Namespaced}
			}
			gr := schema.GroupResource{Group: gv.Group, Resource: r.Name}
			if ignored(gr) || !slices.Contains(r.Verbs, "delete") || !slices.Contains(r.Verbs, "list") || !slices.Contains(r.Verbs, "watch") {
				continue
			}
			if _, known := wanted[gr]; !known || gv.Version == preferred[gv.Group] {
				wanted[gr] = gv.WithKind(r.Kind)
			}
		}
	}
	out := make(map[schema.GroupVersionResource]schema.GroupVersionKind, len(wanted))
	for gr, gvk := range wanted {
		out[gr.WithVersion(gvk.Version)] = gvk
	}
	return kinds, out
}

// ignored are objects that own nothing, are owned by nobody, and come by the thousand.
func ignored(r schema.GroupResource) bool {
	return r.Resource == "events" && (r.Group == "" || r.Group == "events.k8s.io")
}

// synced reports whether every kind has been listed once, apart from those that cannot be for too long.
func (c *Collector) synced() bool {
	now := c.Clock.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.monitors) == 0 {
		return false
	}
	for _, m := range c.monitors {
		if !m.synced && now.Sub(m.since) < patience {
			return false
		}
	}
	return true
}

func (m *monitor) run(ctx context.Context) {
	defer m.stop()
	objects := m.c.Metadata.Resource(m.resource)
	lw := cache.ToListWatcherWithWatchListSemantics(&cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) { return objects.List(ctx, o) },
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			return objects.Watch(ctx, o)
		},
	}, m.c.Metadata)
	cache.NewReflectorWithOptions(lw, &metav1.PartialObjectMetadata{}, m, cache.ReflectorOptions{
		Name: "garbage collector " + m.resource.String(), Clock: m.c.Clock,
	}).RunWithContext(ctx)
}

// held returns the objects of this resource that are in the graph, without those in except.
func (m *monitor) held(except map[types.UID]bool) []types.UID {
	m.c.mu.Lock()
	defer m.c.mu.Unlock()
	var out []types.UID
	for uid, n := range m.c.graph.byUID {
		if n.resource == m.resource && !except[uid] {
			out = append(out, uid)
		}
	}
	return out
}

// Add takes an object that appeared.
func (m *monitor) Add(obj any) error {
	o, ok := obj.(*metav1.PartialObjectMetadata)
	if !ok {
		return fmt.Errorf("a watch of %s sent a %T", m.resource, obj)
	}
	m.c.observe(m.node(o))
	if m.resource.Resource == "customresourcedefinitions" || m.resource.Resource == "apiservices" {
		select {
		case m.c.changed <- struct{}{}:
		default:
		}
	}
	return nil
}

// Update takes an object that changed.
func (m *monitor) Update(obj any) error { return m.Add(obj) }

// Delete takes an object that was deleted.
func (m *monitor) Delete(obj any) error {
	o, ok := obj.(*metav1.PartialObjectMetadata)
	if !ok {
		return fmt.Errorf("a watch of %s sent a %T", m.resource, obj)
	}
	m.c.forget(true, o.UID)
	return nil
}

// Replace takes all objects that there are.
func (m *monitor) Replace(all []any, _ string) error {
	there := make(map[types.UID]bool, len(all))
	for _, obj := range all {
		o, ok := obj.(*metav1.PartialObjectMetadata)
		if !ok {
			return fmt.Errorf("a list of %s has a %T", m.resource, obj)
		}
		there[o.UID] = true
		m.c.observe(m.node(o))
	}
	m.c.forget(true, m.held(there)...)
	m.c.mu.Lock()
	m.synced = true
	m.c.mu.Unlock()
	return nil
}

// Resync has nothing to do: the collector is told of all that matters when it happens.
func (m *monitor) Resync() error { return nil }

func (m *monitor) node(o *metav1.PartialObjectMetadata) *node {
	n := &node{
		kind: &m.kind, namespace: unique.Make(o.Namespace).Value(), name: o.Name, uid: o.UID,
		owners: slices.Clone(o.OwnerReferences), deleting: o.DeletionTimestamp != nil,
	}
	if n.deleting {
		n.foreground = slices.Contains(o.Finalizers, metav1.FinalizerDeleteDependents)
		n.orphaning = slices.Contains(o.Finalizers, metav1.FinalizerOrphanDependents)
	}
	return n
}
