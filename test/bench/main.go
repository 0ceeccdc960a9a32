// Command bench measures Canopus and prints what it finds beside the project's targets. Each group of figures has a fresh
// server, a process of its own with its data on a disk and fsync on, in a temporary directory. Where the machine sets a limit
// that no server could beat, the limit is measured in the same run: absolute figures drift with the machine, ratios do not.
//
//	go run ./test/bench                         everything; figures of a node need root
//	go run ./test/bench -only api,watch         some groups
//	go run ./test/bench -only scale             5,000 nodes and 150,000 pods, over time: 20 minutes, 8 GiB
//	go run ./test/bench -only scheduler       pods scheduled per second: make bench-scheduler, some minutes
//	go run ./test/bench -o json -out figures.json
//	go run ./test/bench -o markdown -out docs/bench.md
//
// Two figures are gates: if either misses its target, the exit code is 1. They are the ones that noise cannot spoil.
//
// Reading order: this file, figures.go (what a figure is, and every target), server.go (a run and its servers),
// limits.go; then a file per group of figures. Scale has four: scale.go (what is done), probe.go, recorder.go, series.go. How Canopus is started and requests are sent is package plane.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
)

// options are the flags.
type options struct {
	binary    string
	objects   int
	clients   int
	watchers  int
	nodes     int
	pods      int
	many      int
	rows      string
	sizes     string
	idle      int
	only      string
	format    string
	out       string
	dir       string
	keepFiles bool
	scale     scaleOptions
}

func (o *options) register(f *flag.FlagSet) {
	f.StringVar(&o.binary, "binary", "bin/canopus", "the canopus to measure")
	f.IntVar(&o.objects, "n", 5000, "objects that are created, read and changed")
	f.IntVar(&o.clients, "c", 32, "requests at a time")
	f.IntVar(&o.watchers, "watchers", 200, "watchers of one object")
	f.IntVar(&o.nodes, "nodes", 1000, "nodes without a machine behind them")
	f.IntVar(&o.pods, "pods", 5000, "pods to schedule")
	f.StringVar(&o.rows, "rows", "", "rows of the group scheduler to measure, by comma (default: all)")
	f.StringVar(&o.sizes, "sizes", "1000,5000", "numbers of nodes that the group scheduler is measured with, by comma")
	f.IntVar(&o.many, "many", 100_000, "objects of 1 KB in the memory figure")
	f.IntVar(&o.idle, "idle", 30, "seconds of rest over which idle CPU is taken")
	f.StringVar(&o.only, "only", "", "groups to measure, by comma: "+strings.Join(groupNames(), ", ")+" (default: all but scheduler and scale)")
	f.StringVar(&o.format, "o", "table", "table, json or markdown")
	f.StringVar(&o.out, "out", "", "file to write to instead of the terminal")
	f.StringVar(&o.dir, "dir", "", "directory for data; on the disk to measure (default: the one for temporary files)")
	o.scale.register(f)
	f.BoolVar(&o.keepFiles, "keep", false, "leave data and logs")
}

// group is a set of figures that are measured together.
type group struct {
	name string
	root bool // needs root
	long bool // takes minutes: only when it is asked for
	run  func(ctx context.Context, b *bench) error
}

// groups are all of them, in the order in which they are measured.
func groups() []group {
	return []group{
		{name: "idle", run: measureIdle},
		{name: "api", run: measureAPI},
		{name: "list", run: measureLists},
		{name: "watch", run: measureFanout},
		{name: "nodewatch", run: measureNodeWatch},
		{name: "sched", run: measureScheduling},
		{name: "scheduler", long: true, run: measureScheduler},
		{name: "deploy", run: measureDeployment},
		{name: "controllers", run: measureControllers},
		{name: "many", run: measureMany},
		{name: "node", root: true, run: measureNode},
		{name: "scale", long: true, run: measureScale},
	}
}

func groupNames() []string {
	var names []string
	for _, g := range groups() {
		names = append(names, g.name)
	}
	return names
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	code, err := run(ctx)
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		code = 2
	}
	stop()
	os.Exit(code)
}

// run measures and returns the exit code.
func run(ctx context.Context) (int, error) {
	if done, err := asChild(ctx); done {
		return 0, err
	}
	var o options
	o.register(flag.CommandLine)
	flag.Parse()
	chosen, err := choose(o.only)
	if err != nil {
		return 2, err
	}
	if !slices.Contains([]string{"table", "json", "markdown"}, o.format) {
		return 2, fmt.Errorf("-o %q: table, json or markdown", o.format)
	}
	b, err := newBench(o)
	if err != nil {
		return 2, err
	}
	defer b.close()
	var failed error
	for _, g := range chosen {
		fmt.Fprintf(os.Stderr, "measuring %s\n", g.name)
		if err := g.run(ctx, b); err != nil {
			failed = errors.Join(failed, fmt.Errorf("%s: %w", g.name, err))
		}
		if ctx.Err() != nil {
			return 2, ctx.Err()
		}
	}
	if err := b.print(); err != nil {
		return 2, err
	}
	if failed != nil {
		return 1, failed
	}
	if missed := b.missedGates(); len(missed) > 0 {
		return 1, fmt.Errorf("these figures must meet their target: %s", strings.Join(missed, ", "))
	}
	return 0, nil
}

// choose returns the groups to measure: all that we may, unless some are named.
func choose(only string) ([]group, error) {
	var chosen []group
	if only == "" {
		for _, g := range groups() {
			if g.long {
				continue
			}
			if g.root && os.Geteuid() != 0 {
				fmt.Fprintf(os.Stderr, "skipped without root: %s (it runs containers in network namespaces)\n", g.name)
				continue
			}
			chosen = append(chosen, g)
		}
		return chosen, nil
	}
	for name := range strings.SplitSeq(only, ",") {
		i := slices.IndexFunc(groups(), func(g group) bool { return g.name == name })
		if i < 0 {
			return nil, fmt.Errorf("-only %q: known groups are %s", name, strings.Join(groupNames(), ", "))
		}
		g := groups()[i]
		if g.root && os.Geteuid() != 0 {
			return nil, fmt.Errorf("-only %s needs root: it runs containers in network namespaces", name)
		}
		chosen = append(chosen, g)
	}
	return chosen, nil
}
