// Package scale is a cluster of hollow nodes and what is done to one to see whether its control plane is large enough: a load
// of Deployments, a rolling update of them, a rack of nodes that fails, a namespace that goes. While that happens a Ledger
// watches that nothing is overbooked or lost.
//
// The package's test asserts behaviour; `bench -only scale` measures the same with more nodes. Neither needs root.
//
// Reading order: this file (the cluster), load.go and steady.go (what is done to it), ledger.go (what must hold), watch.go (how it knows).
package scale

import (
	"context"
	"errors"
	"fmt"
	"time"

	"canopus/test/plane"

	"golang.org/x/sync/errgroup"
)

// Config is the size of a cluster. All fields are required.
type Config struct {
	Binary      string // canopus
	Dir         string // for its data
	Nodes       int    // of these Rack are in a rack of their own
	Rack        int
	Pods        int
	Deployments int // at most; one for each pod otherwise
	Slack       int // percent of room that nodes have beyond Pods
	Backlog     int // pods on their way at a time while the load is made; Pods: all at once
}

// Cluster is a control plane with hollow nodes. Make it with New, then call Run.
type Cluster struct {
	Config
	Server   *plane.Server // set by Run
	Ledger   *Ledger
	NodesCPU plane.Meter // of the processes of all nodes
	// Hall has all nodes but those in Rack. A node of the hall has room for few pods, one of the rack has little CPU.
	Hall, Rack *plane.Rack
	Load       []Deployment
}

// New plans a cluster and starts nothing.
func New(c Config) (*Cluster, error) {
	switch {
	case c.Binary == "" || c.Dir == "":
		return nil, errors.New("a cluster needs a canopus and a directory")
	case c.Rack < 1 || c.Nodes <= c.Rack:
		return nil, fmt.Errorf("%d nodes with %d in the rack: at least one in the rack and one outside", c.Nodes, c.Rack)
	case c.Pods < 1 || c.Deployments < 1 || c.Slack < 1 || c.Backlog < 1:
		return nil, fmt.Errorf("%d pods in %d Deployments, %d %% slack, a backlog of %d: at least one of each", c.Pods, c.Deployments, c.Slack, c.Backlog)
	}
	each := (c.Pods*(100+c.Slack)/100 + c.Nodes - 1) / c.Nodes // pods that a node needs room for
	cores := (each*milliCPU + 999) / 1000
	return &Cluster{
		Config: c, Ledger: NewLedger(), Load: layout(c.Pods, c.Deployments),
		Hall: &plane.Rack{Prefix: "hall", Nodes: c.Nodes - c.Rack, Zones: 3, CPU: 2*cores + 1, Pods: each},
		Rack: &plane.Rack{Prefix: "rack", First: c.Nodes - c.Rack, Nodes: c.Rack, Zones: 1, CPU: cores, Pods: 2*each + 10},
	}, nil
}

// Run starts the control plane and the ledger, calls do, and ends all when do returns.
func (c *Cluster) Run(ctx context.Context, do func(context.Context) error) error {
	server, err := plane.Start(ctx, c.Binary, c.Dir, "--no-agent")
	if err != nil {
		return err
	}
	c.Server = server
	defer server.Down()
	defer func() { c.Hall.Down(); c.Rack.Down() }() // the processes of that time: a rack may have been plugged in again
	watching, end := context.WithCancel(ctx)
	defer end()
	g, ctx := errgroup.WithContext(watching)
	for _, f := range c.Ledger.feeds(server.Proto) {
		g.Go(func() error { return f.follow(ctx) })
	}
	g.Go(func() error {
		defer end()
		return do(ctx)
	})
	if err = g.Wait(); err != nil {
		return fmt.Errorf("%w\nthe server's log ends with:\n%s", err, server.LastWords())
	}
	return nil
}

// Populate starts all nodes and returns when they are open.
func (c *Cluster) Populate(ctx context.Context) error {
	for _, r := range []*plane.Rack{c.Hall, c.Rack} {
		if err := c.plug(r); err != nil {
			return err
		}
	}
	return c.Await(ctx, "nodes", func() error {
		if n := c.Ledger.Counts(); n.Open < c.Nodes {
			return fmt.Errorf("%d of %d nodes are ready for pods: %+v", n.Open, c.Nodes, n)
		}
		return nil
	})
}

func (c *Cluster) plug(r *plane.Rack) error {
	err := r.Plug(c.Server)
	if err == nil {
		c.NodesCPU.Add(r.PID())
	}
	return err
}

// Await waits until check returns nil. It is patient: how fast a cluster must be is for others to say.
func (c *Cluster) Await(ctx context.Context, what string, check func() error) error {
	patience := 5*time.Minute + time.Duration(c.Pods)*15*time.Millisecond
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := check()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: %w; last: %w", what, ctx.Err(), err)
		case <-c.Server.Ended():
			return fmt.Errorf("%s: the server has ended", what)
		case <-c.Hall.Ended():
			return fmt.Errorf("%s: the process of the nodes has ended:\n%s", what, c.Hall.LastWords())
		case <-deadline.C:
			return fmt.Errorf("waited %v in vain for %s: %w", patience, what, err)
		case <-tick.C:
		}
	}
}

// Faults returns what the ledger found wrong, as an error.
func (c *Cluster) Faults() error {
	first, n := c.Ledger.Faults()
	if n == 0 {
		return nil
	}
	var all error
	for _, f := range first {
		all = errors.Join(all, errors.New(f))
	}
	return fmt.Errorf("%d faults, the first of them:\n%w", n, all)
}
