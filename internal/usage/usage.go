// Package usage knows what nodes and pods use. It reads /metrics/resource of every node's agent now and then, keeps the last
// two readings of each container, and answers for metrics.k8s.io out of them. Any agent that speaks as a kubelet will do.
//
// Read usage.go (who is read when), scrape.go (one reading over the network), parse.go (its text), sample.go (pure: from
// two readings to what is used), answer.go (what the API server asks).
package usage

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/informers"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/utils/clock"
)

const (
	// resolution is how often a node is read, and so the window over which use of CPU is averaged.
	resolution = 15 * time.Second
	// patience is how long an agent may take to answer; less than resolution, so that a node is never read twice at once for long.
	patience = 10 * time.Second
	// maxGap spreads the nodes over a round, so that a thousand of them make no burst.
	maxGap = 50 * time.Millisecond
	// maxSkip is how many rounds a node that does not answer is left alone at most.
	maxSkip = 4
	// stale is the age at which a reading no longer tells what is used now.
	stale = time.Minute
)

// Config is what a Meter works with. All fields are required.
type Config struct {
	Informers informers.SharedInformerFactory
	// Agents carries requests to https://NODE:10250, whatever the node's address.
	Agents http.RoundTripper
	Clock  clock.WithTicker
	Log    *slog.Logger
}

// Meter reads the nodes and answers what they and their pods use.
type Meter struct {
	c      Config
	nodes  corelisters.NodeLister
	pods   corelisters.PodLister
	synced []cache.InformerSynced

	mu    sync.RWMutex
	known map[string]*agent // by node
	lost  lost
}

// lost is what there is to warn about: nodes that have failed to answer twice, since the last round. Once is chance: a node that
// starts or ends.
type lost struct {
	nodes int
	node  string // one of them
	err   error  // and why
}

// agent is what is known of one node. Guarded by Meter.mu; use is immutable and replaced.
type agent struct {
	use      *nodeUse
	busy     bool // being read
	failures int  // in a row
	skip     int  // rounds to leave out
}

// New checks c. Nothing is read before Run.
func New(c Config) (*Meter, error) {
	if c.Informers == nil || c.Agents == nil || c.Clock == nil || c.Log == nil {
		return nil, errors.New("usage: informers, a way to the agents, a clock and a log are required")
	}
	nodes, pods := c.Informers.Core().V1().Nodes(), c.Informers.Core().V1().Pods()
	return &Meter{
		c: c, nodes: nodes.Lister(), pods: pods.Lister(), known: map[string]*agent{},
		synced: []cache.InformerSynced{nodes.Informer().HasSynced, pods.Informer().HasSynced},
	}, nil
}

// Run reads every node once per round until ctx ends.
func (m *Meter) Run(ctx context.Context) error {
	if !cache.WaitForCacheSync(ctx.Done(), m.synced...) {
		return nil
	}
	var readers sync.WaitGroup
	defer readers.Wait()
	ticker := m.c.Clock.NewTicker(resolution)
	defer ticker.Stop()
	for ctx.Err() == nil {
		m.round(ctx, &readers)
		select {
		case <-ctx.Done():
		case <-ticker.C():
		}
	}
	return nil
}

// round starts the reading of every node that is due.
func (m *Meter) round(ctx context.Context, readers *sync.WaitGroup) {
	m.warn()
	due := m.due()
	if len(due) == 0 {
		return
	}
	gap := min(maxGap, resolution/2/time.Duration(len(due)))
	for _, node := range due {
		readers.Go(func() { m.read(ctx, node) })
		select {
		case <-ctx.Done():
			return
		case <-m.c.Clock.After(gap):
		}
	}
}

// due names the nodes to read in this round, and forgets those that are gone.
func (m *Meter) due() []string {
	all, err := m.nodes.List(labels.Everything())
	if err != nil {
		return nil // a lister reads from memory: it has no errors
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []string
	next := make(map[string]*agent, len(all))
	for _, n := range all {
		a := m.known[n.Name]
		if a == nil {
			a = &agent{}
		}
		next[n.Name] = a
		switch {
		case a.busy:
		case a.skip > 0:
			a.skip--
		default:
			a.busy = true
			out = append(out, n.Name)
		}
	}
	m.known = next
	return out
}

// read takes one reading of a node and keeps it beside the one before.
func (m *Meter) read(ctx context.Context, node string) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	r, err := m.scrape(ctx, node)
	m.mu.Lock()
	defer m.mu.Unlock()
	a := m.known[node]
	if a == nil {
		return // the node has gone meanwhile
	}
	a.busy = false
	if err == nil {
		a.use, a.failures, a.skip = advance(a.use, r), 0, 0
		return
	}
	a.failures++
	a.skip = min(1<<min(a.failures-1, 8)-1, maxSkip)
	if a.failures == 2 {
		m.lost = lost{m.lost.nodes + 1, node, err}
	}
	m.c.Log.Debug("what a node uses cannot be read", "node", node, "failures", a.failures, "error", err)
}

// warn tells once a round of the nodes that were lost in it: a rack that goes is one line.
func (m *Meter) warn() {
	m.mu.Lock()
	l := m.lost
	m.lost = lost{}
	m.mu.Unlock()
	if l.nodes > 0 {
		m.c.Log.Warn("what nodes use cannot be read", "nodes", l.nodes, "one", l.node, "error", l.err)
	}
}

// use returns what is known of a node, or nil when that is nothing or too old.
func (m *Meter) use(node string) *nodeUse {
	m.mu.RLock()
	defer m.mu.RUnlock()
	a := m.known[node]
	if a == nil || a.use == nil || m.c.Clock.Since(a.use.read) > stale {
		return nil
	}
	return a.use
}
