// Package proxy makes Services work on a node: it turns Services and their EndpointSlices into an nftables table that
// sends packets for a Service's addresses to its endpoints, masquerades what must be, and refuses what has no endpoint.
//
// The wanted table is a pure function of what was observed (plan.go, external.go, endpoints.go); table.go knows its frame
// and how one state becomes another, each as one transaction that holds only the difference. This file is the shell:
// it watches, applies, and starts afresh with a whole table when a transaction fails or someone else changed ours
// (drift.go). Beside nftables it drops stale UDP connections (conntrack.go) and answers load balancers' health checks
// (health.go).
package proxy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	corelisters "k8s.io/client-go/listers/core/v1"
	discoverylisters "k8s.io/client-go/listers/discovery/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/utils/clock"
	"sigs.k8s.io/knftables"
)

// DefaultTable is the name of our nftables table, in family ip.
const DefaultTable = "canopus"

// Config says what to serve. Zone, Except and Table may be left empty.
type Config struct {
	NodeName    string
	Zone        func() string // this node's topology.kubernetes.io/zone, for topology hints; nil: unknown
	ClusterCIDR netip.Prefix  // the pods of all nodes
	Except      []netip.Addr  // cluster IPs that something else on this node answers: the cluster DNS
	Informers   informers.SharedInformerFactory
	Table       string
	Log         *slog.Logger
	Clock       clock.WithTicker
}

// Proxy keeps one node's table.
type Proxy struct {
	Config
	services  corelisters.ServiceLister
	slices    discoverylisters.EndpointSliceLister
	informers []cache.SharedIndexInformer
	ready     chan struct{}
	kick      chan struct{} // holds one token when there may be something to do
	health    *healthServers

	// Owned by Run's goroutine.
	nft     knftables.Interface
	applied *table // what is in the kernel; nil: unknown
	udp     map[netip.AddrPort][]endpoint
	seen    uint32 // nftables generation after our last transaction or check
	doubted string // contradictions last logged
}

// New checks c and asks the factory for what the proxy reads. It starts nothing.
func New(c Config) (*Proxy, error) {
	if c.NodeName == "" || c.Informers == nil || c.Log == nil || c.Clock == nil {
		return nil, errors.New("proxy: NodeName, Informers, Log and Clock are required")
	}
	if !c.ClusterCIDR.IsValid() || !c.ClusterCIDR.Addr().Is4() {
		return nil, fmt.Errorf("proxy: ClusterCIDR must be an IPv4 network, it is %s", c.ClusterCIDR)
	}
	if c.Table == "" {
		c.Table = DefaultTable
	}
	if c.Zone == nil {
		c.Zone = func() string { return "" }
	}
	services, endpoints := c.Informers.Core().V1().Services(), c.Informers.Discovery().V1().EndpointSlices()
	return &Proxy{
		Config: c, services: services.Lister(), slices: endpoints.Lister(),
		informers: []cache.SharedIndexInformer{services.Informer(), endpoints.Informer()},
		ready:     make(chan struct{}), kick: make(chan struct{}, 1), health: newHealthServers(c.Log),
	}, nil
}

// Ready is closed once the table stands for the first time.
func (p *Proxy) Ready() <-chan struct{} { return p.ready }

const (
	pause      = 50 * time.Millisecond // between transactions: what changes together is applied together
	checkEvery = 15 * time.Second      // how soon a foreign change of our table is noticed
	firstRetry = 500 * time.Millisecond
	longRetry  = 30 * time.Second
)

// Run keeps the table until ctx ends, and leaves it in place then: pods go on being reached.
func (p *Proxy) Run(ctx context.Context) error {
	nft, err := knftables.New(knftables.IPv4Family, p.Table)
	if err != nil {
		return fmt.Errorf("proxy: nft (install the package nftables) does not work: %w", err)
	}
	p.nft, p.applied = nft, nil
	var synced []cache.InformerSynced
	for _, informer := range p.informers {
		handler, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
			AddFunc:    func(any) { p.ring() },
			UpdateFunc: func(any, any) { p.ring() },
			DeleteFunc: func(any) { p.ring() },
		})
		if err != nil {
			return fmt.Errorf("proxy: watch services: %w", err)
		}
		defer func() { _ = informer.RemoveEventHandler(handler) }()
		synced = append(synced, handler.HasSynced)
	}
	defer p.health.close()
	if !cache.WaitForCacheSync(ctx.Done(), synced...) {
		return nil
	}
	p.loop(ctx)
	return nil
}

func (p *Proxy) ring() {
	select {
	case p.kick <- struct{}{}:
	default:
	}
}

// loop syncs at once, then whenever something changed, and looks for drift in between.
func (p *Proxy) loop(ctx context.Context) {
	retry := firstRetry
	check := p.Clock.NewTicker(checkEvery)
	defer check.Stop()
	for {
		err := p.sync(ctx)
		if ctx.Err() != nil {
			return
		}
		again := (<-chan time.Time)(nil)
		if err != nil {
			p.Log.Error("services not up to date", "error", err, "retry", retry)
			again = p.Clock.After(retry)
			retry = min(2*retry, longRetry)
		} else {
			retry = firstRetry
		}
		for waiting := true; waiting; {
			select {
			case <-ctx.Done():
				return
			case <-p.kick:
				waiting = false
			case <-again:
				waiting = false
			case <-check.C():
				waiting = !p.drifted(ctx)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-p.Clock.After(pause):
		}
	}
}

// sync observes, plans and applies once.
func (p *Proxy) sync(ctx context.Context) error {
	o, err := p.observe()
	if err != nil {
		return err
	}
	w := plan(o)
	p.report(w.doubt)
	if err := p.apply(ctx, w.table); err != nil {
		return err
	}
	select {
	case <-p.ready:
	default:
		p.Log.Info("services are ready", "services", len(o.services))
		close(p.ready)
	}
	if err := p.dropStale(w.udp); err != nil {
		return err
	}
	return p.health.serve(w.health)
}

func (p *Proxy) observe() (observed, error) {
	o := observed{
		here: place{node: p.NodeName, zone: p.Zone()}, clusterCIDR: p.ClusterCIDR, except: p.Except,
		slices: map[types.NamespacedName][]*discoveryv1.EndpointSlice{},
	}
	var err error
	if o.services, err = p.services.List(labels.Everything()); err != nil {
		return o, err
	}
	all, err := p.slices.List(labels.Everything())
	if err != nil {
		return o, err
	}
	for _, s := range all {
		if _, headless := s.Labels[labelHeadless]; headless {
			continue
		}
		if name := s.Labels[discoveryv1.LabelServiceName]; name != "" {
			key := types.NamespacedName{Namespace: s.Namespace, Name: name}
			o.slices[key] = append(o.slices[key], s)
		}
	}
	return o, nil
}

// apply brings the kernel from what was applied to want: by the difference if that is known, else (and if the difference
// is refused, because something else changed our table) by a whole table in one transaction.
func (p *Proxy) apply(ctx context.Context, want *table) error {
	if p.applied != nil {
		ops := diff(p.applied, want)
		err := p.commit(ctx, ops)
		if err == nil {
			p.applied = want
			return nil
		}
		if ctx.Err() != nil {
			return err
		}
		p.Log.Warn("nftables refused a difference; writing the whole table", "error", err)
		p.applied = nil
	}
	if err := p.commit(ctx, full(want, p.ClusterCIDR)); err != nil {
		return fmt.Errorf("write the nftables table: %w", err)
	}
	p.applied = want
	return nil
}

func (p *Proxy) commit(ctx context.Context, ops []op) error {
	if len(ops) == 0 {
		return nil
	}
	tx := p.nft.NewTransaction()
	fill(tx, ops)
	if err := p.nft.Run(ctx, tx); err != nil {
		return err
	}
	seen, err := generation()
	p.seen = seen
	return err
}

// report logs contradictions between Services when they change.
func (p *Proxy) report(doubt []string) {
	now := fmt.Sprint(doubt)
	if now != p.doubted && len(doubt) > 0 {
		p.Log.Warn("services claim the same address and port", "claims", doubt)
	}
	p.doubted = now
}

// Reset removes the table.
func (p *Proxy) Reset(ctx context.Context) error {
	nft, err := knftables.New(knftables.IPv4Family, p.Table)
	if err != nil {
		return fmt.Errorf("proxy: nft (install the package nftables) does not work: %w", err)
	}
	tx := nft.NewTransaction()
	tx.Add(&knftables.Table{})
	tx.Delete(&knftables.Table{})
	if err := nft.Run(ctx, tx); err != nil {
		return fmt.Errorf("remove the nftables table %s: %w", p.Table, err)
	}
	return nil
}
