package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"

	"canopus/test/plane"
	"canopus/test/scale"
)

// scaleOptions are the flags of the group scale.
type scaleOptions struct {
	nodes, pods, roll, rack int
	series, note            string
	fill, limit             time.Duration
}

func (o *scaleOptions) register(f *flag.FlagSet) {
	f.IntVar(&o.nodes, "scale-nodes", 5000, "scale: hollow nodes")
	f.IntVar(&o.pods, "scale-pods", 150_000, "scale: pods on them")
	f.IntVar(&o.roll, "scale-roll", 1000, "scale: Deployments that are updated")
	f.IntVar(&o.rack, "scale-rack", 250, "scale: nodes that fail together")
	f.StringVar(&o.series, "scale-series", filepath.Join("bin", "scale.json"), "scale: file for the series over time")
	f.StringVar(&o.note, "scale-note", "", "scale: what else a reader must know, such as what other work the machine had")
	f.DurationVar(&o.fill, "scale-fill", 12*time.Minute, "scale: longest time to make pods; if it is not enough, the run goes on with those there are")
	f.DurationVar(&o.limit, "scale-limit", 30*time.Minute, "scale: longest time of the whole run; what was measured until then is kept")
}

const (
	perDeployment = 30 // pods
	slack         = 30 // percent of room on nodes beyond the pods
	restFor       = 30 * time.Second
	trickleRate   = 10 // pods a second
	trickleMost   = 600
)

// scaleStep is a part of the run before it has run. If a needed one fails the rest means nothing.
type scaleStep struct {
	name, what string
	count      int
	unit       string
	needed     bool
	limit      time.Duration
	do         func(context.Context) error
}

// build are the steps that make the cluster.
func (o *scaleOptions) build(c *scale.Cluster) []scaleStep {
	fill := fmt.Sprintf("%d Deployments with %d pods, and a Service each, are made; at most %d pods are on their way at a time", len(c.Load), c.Pods, c.Backlog)
	return []scaleStep{
		{"nodes", fmt.Sprintf("%d nodes register", c.Nodes), c.Nodes, "nodes", true, 5 * time.Minute, c.Populate},
		{"fill", fill, c.Pods, "pods", true, o.fill + 5*time.Minute, func(ctx context.Context) error { return c.Apply(ctx, o.fill) }},
	}
}

// trials are what is done to it then.
func (o *scaleOptions) trials(c *scale.Cluster) []scaleStep {
	roll, rolled, first, doomed := min(o.roll, len(c.Load)), 0, c.Load[0].Namespace, 0
	for i, d := range c.Load {
		if i < roll {
			rolled += int(d.Replicas)
		}
		if d.Namespace == first {
			doomed += int(d.Replicas)
		}
	}
	trickle := max(1, min(trickleMost, c.Pods/10))
	return []scaleStep{
		{"rest", "nothing happens but heartbeats", 0, "", false, 2 * restFor, func(ctx context.Context) error { return plane.Pause(ctx, restFor) }},
		{"steady", fmt.Sprintf("%d pods are created, %d a second", trickle, trickleRate), trickle, "pods", false, 5 * time.Minute,
			func(ctx context.Context) error { return c.Trickle(ctx, trickle, trickleRate) }},
		{"clear", fmt.Sprintf("the namespace of those %d pods is deleted", trickle), trickle, "pods", false, 5 * time.Minute, c.Clear},
		{"roll", fmt.Sprintf("%d Deployments with %d pods are updated at once", roll, rolled), rolled, "pods", false, 10 * time.Minute,
			func(ctx context.Context) error { return c.Roll(ctx, roll, "2") }},
		{"rack-lost", fmt.Sprintf("the process of %d nodes is killed; until all are unreachable and none of their pods counts as Ready", c.Config.Rack),
			c.Config.Rack, "nodes", false, 5 * time.Minute, c.Unplug},
		{"rack-back", "it is started again; until all is as before", c.Config.Rack, "nodes", false, 5 * time.Minute, c.Replug},
		{"delete", fmt.Sprintf("a namespace with %d pods is deleted", doomed), doomed, "pods", false, 5 * time.Minute,
			func(ctx context.Context) error { return c.Delete(ctx, first) }},
	}
}

// measureScale takes a large cluster of hollow nodes through its life and records what the control plane does meanwhile.
func measureScale(ctx context.Context, b *bench) error {
	o := b.scale
	c, err := scale.New(scale.Config{
		Binary: b.binary, Dir: filepath.Join(b.work, "scale"), Nodes: o.nodes, Rack: min(o.rack, max(1, o.nodes/4)), Pods: o.pods,
		Deployments: max(1, o.pods/perDeployment), Slack: slack, Backlog: max(1000, o.pods/50),
	})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, o.limit)
	defer cancel()
	r := &recorder{cluster: c, file: o.series, began: time.Now(), window: map[string]*counts{}}
	r.series.Conditions.Note = o.note
	err = c.Run(ctx, func(ctx context.Context) error { return r.live(ctx, &o) })
	if faults := c.Faults(); faults != nil {
		r.series.Faults = strings.Split(faults.Error(), "\n")
		err = errors.Join(err, faults)
	}
	b.sayPhases(r.series.Phases)
	err = errors.Join(err, r.series.write(o.series))
	fmt.Fprintln(os.Stderr, "  the series is in", o.series)
	return err
}

// live goes through all steps while the probe and the samples run.
func (r *recorder) live(ctx context.Context, o *scaleOptions) error {
	if err := r.describe(); err != nil {
		return err
	}
	p, err := newProbe(ctx, r.cluster.Server, r.note)
	if err != nil {
		return fmt.Errorf("probe: %w", err)
	}
	var beside sync.WaitGroup
	defer beside.Wait()
	probing, end := context.WithCancel(ctx)
	defer end()
	beside.Go(func() { p.run(probing) })
	beside.Go(func() { r.sample(probing) })
	if err := r.walk(ctx, o.build(r.cluster)); err != nil {
		return err
	}
	if err := r.filled(o.fill); err != nil {
		return err
	}
	return r.walk(ctx, o.trials(r.cluster))
}

// walk takes the steps one after the other.
func (r *recorder) walk(ctx context.Context, steps []scaleStep) error {
	var failed error
	for _, s := range steps {
		if err := r.phase(ctx, s); err != nil {
			fmt.Fprintf(os.Stderr, "  %-10s failed: %v\n", s.name, err)
			failed = errors.Join(failed, fmt.Errorf("%s: %w", s.name, err))
			if s.needed || ctx.Err() != nil {
				break
			}
		}
	}
	return failed
}

// filled corrects what was planned to what has been made in time.
func (r *recorder) filled(enough time.Duration) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	c, planned := r.cluster, &r.series.Conditions
	if c.Pods == 0 {
		return fmt.Errorf("no pod was made within %v", enough)
	}
	if c.Pods < planned.Pods {
		last := r.series.Phases[len(r.series.Phases)-1]
		last.What += fmt.Sprintf("; after %v it ended with %d Deployments and %d pods", enough, len(c.Load), c.Pods)
		last.Count, planned.Pods, planned.Deployments = c.Pods, c.Pods, len(c.Load)
		fmt.Fprintf(os.Stderr, "  %-10s %s\n", last.Name, last.What)
	}
	return r.series.write(r.file)
}

// describe notes the conditions of the run.
func (r *recorder) describe() error {
	v, err := r.cluster.Server.Proto.Discovery().ServerVersion()
	if err != nil {
		return err
	}
	info, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return err
	}
	kernel, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		return err
	}
	var kib float64
	if f := strings.Fields(string(info)); len(f) > 1 && f[0] == "MemTotal:" {
		kib, _ = strconv.ParseFloat(f[1], 64) // 0 for what is no number
	}
	c := r.cluster
	r.series.Conditions = conditions{
		Date: time.Now().Format(time.DateOnly), Version: v.GitVersion, CPUs: runtime.NumCPU(), MemoryGiB: short(kib / (1 << 20)), Kernel: strings.TrimSpace(string(kernel)),
		Nodes: c.Nodes, Rack: c.Config.Rack, Pods: c.Pods, Deployments: len(c.Load), Backlog: c.Backlog,
		ProbeRate: float64(time.Second / probePeriod), PageSize: pageSize, Note: r.series.Conditions.Note,
	}
	return nil
}

// sayPhases records the figures of all phases.
func (b *bench) sayPhases(phases []*phase) {
	for _, p := range phases {
		name := "scale." + p.Name
		if p.Error != "" {
			continue // what it took until it failed is no figure
		}
		b.say(name+".time", p.Seconds, "s", 0)
		if p.Count > 0 && p.Seconds > 0 {
			b.say(name+".rate", float64(p.Count)/p.Seconds, p.Unit+"/s", 0)
		}
		if p.Starts != nil {
			b.say(name+".start.p50", p.Starts.P50, "ms", 0)
			b.say(name+".start.p99", p.Starts.P99, "ms", 0)
		}
		for _, verb := range []string{"create", "get", "list", "patch", "delete"} {
			if s, ok := p.API[verb]; ok {
				b.say(name+"."+verb+".p99", s.P99, "ms", 0)
			}
		}
		b.say(name+".cpu", p.CPU.Server, "s", 0)
		b.say(name+".rss", p.Memory.RSS, "MiB", 0)
		b.say(name+".rss.anon", p.Memory.Anon, "MiB", 0)
	}
}
