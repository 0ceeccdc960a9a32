// Package gc is the garbage collector: it deletes objects whose owners are gone, carries out foreground deletion and
// orphaning, and removes references to owners that do not exist.
//
// graph.go holds who owns whom, fed by metadata watches of every kind that can be deleted (monitor.go follows discovery);
// plan.go decides about one object; apply.go acts. The graph may be behind the server, so before anything is deleted the
// object is read again, and an owner that the graph does not hold is asked for.
package gc

import (
	"context"
	"errors"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/metadata"
	"k8s.io/utils/lru"

	"canopus/internal/controllers/reconcile"
)

const (
	workers = 20
	// rememberAbsent is how many owners known not to exist are remembered, so that a thousand orphans ask once.
	rememberAbsent = 500
	// untilSynced is how long to wait before asking again whether all kinds have been listed.
	untilSynced = 100 * time.Millisecond
)

// Config is what the collector works with.
type Config struct {
	reconcile.Deps
	Metadata metadata.Interface
}

// Collector is the garbage collector.
type Collector struct {
	Config
	loop    *reconcile.Loop[types.UID]
	absent  *lru.Cache    // of ownerKey and of types.UID; safe for concurrent use
	changed chan struct{} // a CRD or APIService changed: discovery has news

	mu       sync.Mutex // guards what follows
	graph    *graph
	kinds    map[schema.GroupVersionKind]mapping
	monitors map[schema.GroupVersionResource]*monitor
}

// New makes a collector that does nothing before Run.
func New(config Config) (*Collector, error) {
	if err := config.Check(); err != nil {
		return nil, err
	}
	if config.Metadata == nil {
		return nil, errors.New("the garbage collector needs a metadata client")
	}
	c := &Collector{
		Config: config, absent: lru.New(rememberAbsent), changed: make(chan struct{}, 1),
		graph: newGraph(), kinds: map[schema.GroupVersionKind]mapping{}, monitors: map[schema.GroupVersionResource]*monitor{},
	}
	var err error
	c.loop, err = reconcile.New(reconcile.Config[types.UID]{
		Name: "garbage_collector_attempt_to_delete", Workers: workers, Reconcile: c.reconcile, Clock: config.Clock, Log: config.Log, Queues: config.Queues,
	})
	return c, err
}

// Run works until ctx ends.
func (c *Collector) Run(ctx context.Context) error {
	var parts sync.WaitGroup
	defer parts.Wait()
	parts.Go(func() { c.follow(ctx) })
	return c.loop.Run(ctx)
}

func (c *Collector) look(uids []types.UID) {
	for _, uid := range uids {
		c.loop.Add(uid)
	}
}

func (c *Collector) observe(n *node) {
	c.mu.Lock()
	uids := c.graph.observe(n)
	c.mu.Unlock()
	c.look(uids)
}

// forget drops objects; deleted says that they have been deleted, not only that we watch them no longer.
func (c *Collector) forget(deleted bool, gone ...types.UID) {
	var uids []types.UID
	c.mu.Lock()
	for _, uid := range gone {
		if deleted {
			c.absent.Add(uid, true)
		}
		uids = append(uids, c.graph.forget(uid)...)
	}
	c.mu.Unlock()
	c.look(uids)
}

// snapshot is a copy of what the graph says of one object, and of its dependents.
type snapshot struct {
	node
	dependents []node
}

func (c *Collector) snapshot(uid types.UID) (snapshot, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := c.graph.byUID[uid]
	if n == nil {
		return snapshot{}, false
	}
	s := snapshot{node: *n}
	for _, d := range n.dependents {
		if d.mayBeOwnedBy(n) {
			s.dependents = append(s.dependents, *d)
		}
	}
	s.node.dependents = nil // the graph's own; not to be read without its lock
	return s, true
}

func (c *Collector) reconcile(ctx context.Context, uid types.UID) (time.Duration, error) {
	s, ok := c.snapshot(uid)
	if !ok || s.deleting && !s.foreground && !s.orphaning {
		return 0, nil
	}
	if !c.synced() {
		return untilSynced, nil // owners and dependents may not be known yet
	}
	if s.foreground || s.orphaning {
		return 0, c.apply(ctx, s, plan(observedOf(s, nil, nil)), nil)
	}
	// A cheap look first: as long as all owners are known and stay, there is nothing to ask the server.
	if c.allSolid(s.node) {
		return 0, nil
	}
	fresh, err := c.get(ctx, s.node)
	if err != nil || fresh == nil {
		if err == nil {
			c.forget(true, uid)
		}
		return 0, err
	}
	fates, err := c.fates(ctx, s.node, fresh.OwnerReferences)
	if err != nil {
		return 0, err
	}
	return 0, c.apply(ctx, s, plan(observedOf(s, fresh, fates)), fresh)
}

func observedOf(s snapshot, fresh *metav1.PartialObjectMetadata, fates map[types.UID]fate) observed {
	o := observed{
		uid: s.uid, deleting: s.deleting, foreground: s.foreground, orphaning: s.orphaning, owners: s.owners, fates: fates,
		dependents: len(s.dependents),
	}
	if fresh != nil {
		o.deleting, o.owners = fresh.DeletionTimestamp != nil, fresh.OwnerReferences
	}
	for i := range s.dependents {
		if s.dependents[i].blocks(s.uid) {
			o.blocking++
		}
		o.cycle = o.cycle || s.dependents[i].foreground
	}
	return o
}

func (c *Collector) allSolid(n node) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, ref := range n.owners {
		owner := c.graph.byUID[ref.UID]
		if owner == nil || owner.foreground || !n.mayBeOwnedBy(owner) {
			return false
		}
	}
	return true
}
