// Package hollow is nodes without machines: they register, renew their leases, watch for their pods and report them as
// running, starting no containers. To the control plane they are as much work as real ones, so that its size can be tried on
// one machine.
//
// Each node acts with its own identity (by impersonation, which the user of Config.REST must be allowed), has a watch of its
// own, and writes what a node agent writes. In reading order: hollow.go (the nodes and their work), node.go (the Node and
// its Lease), pods.go (what becomes of a pod), watch.go (how a node learns of them), objects.go (what is written).
package hollow

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/utils/clock"
)

// Config says how many nodes there are and how their pods fare. REST, Nodes, Capacity, Clock and Log are required.
type Config struct {
	REST     *rest.Config
	Prefix   string // of the nodes' names: "hollow" makes hollow-0, hollow-1, …; "hollow" unless set
	First    int    // number of the first node
	Nodes    int    // how many
	Zones    int    // they are spread over this many zones, zone-0, zone-1, …; 0: none
	Capacity corev1.ResourceList
	Version  string // of the agent, in the nodes' status

	StartAfter time.Duration // from a pod's arrival to its being ready
	StopAfter  time.Duration // from a pod's deletion to its end; its grace period if that is shorter
	RunFor     time.Duration // after which a pod that need not run for ever has succeeded
	InFlight   int           // writes under way at once; 64 unless set

	Clock clock.WithTicker
	Log   *slog.Logger
}

// Counts are what all nodes together have.
type Counts struct {
	Registered, Watching   int // nodes
	Pods, Running, Stopped int // pods assigned, reported as running, and gone
	Errors                 int // writes that failed and were tried again
}

// Nodes is a number of hollow nodes. Make it with New.
type Nodes struct {
	Config
	core, leases rest.Interface
	nodes        []*node
	// Nodes and pods wait in queues of their own: a storm of pods must not make a node look dead.
	upkeep, work workqueue.TypedDelayingInterface[job]

	mu     sync.Mutex
	counts Counts
}

// job is something that is due for one node: a part of its own upkeep, or the next step of a pod.
type job struct {
	node int
	what work
	pod  types.UID
}

type work uint8

const (
	register work = iota
	heartbeat
	renew
	advance
)

// New checks the configuration. Nothing is sent before Run.
func New(c Config) (*Nodes, error) {
	switch {
	case c.REST == nil || c.Clock == nil || c.Log == nil || len(c.Capacity) == 0:
		return nil, errors.New("hollow nodes need a client configuration, a capacity, a clock and a log")
	case c.Nodes < 1:
		return nil, fmt.Errorf("%d hollow nodes: at least one", c.Nodes)
	case c.First < 0 || c.First+c.Nodes > 1<<14:
		return nil, fmt.Errorf("hollow nodes %d to %d: their numbers go from 0 to %d", c.First, c.First+c.Nodes-1, 1<<14-1)
	case c.Zones < 0:
		return nil, fmt.Errorf("%d zones: 0 or more", c.Zones)
	}
	if c.Prefix == "" {
		c.Prefix = "hollow"
	}
	if c.InFlight == 0 {
		c.InFlight = 64
	}
	c.Capacity = maps.Clone(c.Capacity)
	n := &Nodes{Config: c}
	var err error
	if n.core, err = restClient(c.REST, "/api", corev1.SchemeGroupVersion); err != nil {
		return nil, err
	}
	if n.leases, err = restClient(c.REST, "/apis", coordinationv1.SchemeGroupVersion); err != nil {
		return nil, err
	}
	for i := range c.Nodes {
		n.nodes = append(n.nodes, &node{index: c.First + i, name: fmt.Sprintf("%s-%d", c.Prefix, c.First+i), pods: map[types.UID]*pod{}})
	}
	return n, nil
}

func restClient(base *rest.Config, path string, gv schema.GroupVersion) (rest.Interface, error) {
	c := rest.CopyConfig(base)
	c.QPS, c.Burst = -1, -1
	c.APIPath, c.GroupVersion, c.NegotiatedSerializer = path, &gv, scheme.Codecs.WithoutConversion()
	c.ContentType, c.AcceptContentTypes = "application/vnd.kubernetes.protobuf", "application/vnd.kubernetes.protobuf,application/json"
	return rest.RESTClientFor(c)
}

// Run registers the nodes and keeps them until ctx ends. Their objects stay: a control plane sees them fall silent.
func (n *Nodes) Run(ctx context.Context) error {
	var running sync.WaitGroup
	defer running.Wait()
	// Real nodes do not wait for each other: even if each answer takes a second or two, every lease is renewed in time.
	upkeep := max(16, len(n.nodes)/16)
	for queue, workers := range map[*workqueue.TypedDelayingInterface[job]]int{&n.upkeep: upkeep, &n.work: n.InFlight} {
		q := workqueue.NewTypedDelayingQueueWithConfig(workqueue.TypedDelayingQueueConfig[job]{Clock: n.Clock})
		*queue = q
		defer q.ShutDown()
		for range workers {
			running.Go(func() {
				for n.next(ctx, q, &running) {
				}
			})
		}
	}
	for i := range n.nodes {
		n.upkeep.Add(job{node: i, what: register})
	}
	<-ctx.Done()
	return nil
}

// Counts tells how far the nodes are.
func (n *Nodes) Counts() Counts {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.counts
}

func (n *Nodes) count(change func(*Counts)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	change(&n.counts)
}

// again is the pause after a request that failed.
const again = time.Second

// next does one job and reports whether there may be another.
func (n *Nodes) next(ctx context.Context, queue workqueue.TypedDelayingInterface[job], running *sync.WaitGroup) bool {
	j, down := queue.Get()
	if down || ctx.Err() != nil {
		return false
	}
	defer queue.Done(j)
	after, err := n.do(ctx, j, running)
	if err != nil {
		if ctx.Err() != nil {
			return false
		}
		n.count(func(c *Counts) { c.Errors++ })
		n.Log.Debug("will be tried again", "node", n.nodes[j.node].name, "error", err)
		after = again
	}
	if after > 0 {
		queue.AddAfter(j, after)
	}
	return true
}

func (n *Nodes) do(ctx context.Context, j job, running *sync.WaitGroup) (time.Duration, error) {
	node := n.nodes[j.node]
	switch j.what {
	case register:
		if err := n.register(ctx, node); err != nil {
			return 0, err
		}
		n.count(func(c *Counts) { c.Registered++ })
		n.upkeep.Add(job{node: j.node, what: renew})
		n.upkeep.AddAfter(job{node: j.node, what: heartbeat}, spread(node.index, statusPeriod))
		running.Go(func() { n.watch(ctx, j.node) })
		return 0, nil
	case heartbeat:
		return statusPeriod, n.heartbeat(ctx, node)
	case renew:
		return leaseRenewal, n.renew(ctx, node)
	default:
		return n.advance(ctx, node, j.pod)
	}
}

// spread gives each node its own point in a period, so that they do not all speak at once.
func spread(index int, period time.Duration) time.Duration {
	const steps = 997 // a prime: neighbours come to lie far apart
	return period * time.Duration(index*389%steps+1) / steps
}
