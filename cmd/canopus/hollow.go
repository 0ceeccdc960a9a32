package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"canopus/internal/client"
	"canopus/internal/hollow"
	"canopus/internal/run"
	"canopus/internal/ui"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/utils/clock"
)

func hollowCommand() *cobra.Command {
	h := hollow.Config{Clock: clock.RealClock{}, Version: serverVersion().GitVersion}
	capacity := map[corev1.ResourceName]*string{}
	var output string
	return command(&cobra.Command{
		Use:   "hollow",
		Short: "Run nodes without machines, to try how large a cluster the control plane bears",
		Long: `Run nodes without machines. They register, renew their leases and report their pods as running without starting a
container; to the control plane they are as much work as real nodes. When the command ends their objects stay, and the
cluster sees them fall silent. The user of the kubeconfig must be allowed to impersonate nodes, as the admin is.

A node takes a /24 out of the cluster's pod addresses: start a server for many nodes with a larger --cluster-cidr.`,
		Example: `  canopus server --no-agent --cluster-cidr 10.0.0.0/11
  canopus hollow --nodes 1000 --zones 3
  canopus hollow --nodes 250 --first 1000 --zones 1    a rack to pull the plug of
  canopus kubectl delete nodes -l node.canopus.io/hollow=true`,
	}, func(_ *config, c *cobra.Command) {
		f := c.Flags()
		f.IntVar(&h.Nodes, "nodes", 100, "how many nodes")
		f.IntVar(&h.First, "first", 0, "number of the first, for several commands side by side")
		f.StringVar(&h.Prefix, "prefix", "hollow", "names are this and a number")
		f.IntVar(&h.Zones, "zones", 3, "spread the nodes over this many zones; 0: none")
		for name, size := range map[corev1.ResourceName]string{corev1.ResourceCPU: "32", corev1.ResourceMemory: "64Gi", corev1.ResourcePods: "110"} {
			capacity[name] = f.String(string(name), size, string(name)+" of a node")
		}
		f.DurationVar(&h.StartAfter, "start-after", time.Second, "time a pod takes to start")
		f.DurationVar(&h.StopAfter, "stop-after", time.Second, "time a pod takes to stop, within its grace period")
		f.DurationVar(&h.RunFor, "run-for", 10*time.Second, "time after which a pod that may end has succeeded")
		f.IntVar(&h.InFlight, "in-flight", 64, "requests under way at once, besides one watch for each node")
		f.StringVarP(&output, "output", "o", "", "json: a line of JSON each time")
	}, func(ctx context.Context, cmd *cobra.Command, cfg *config) error {
		if output != "" && output != "json" {
			return fmt.Errorf("--output %q: only json is known", output)
		}
		h.Capacity = corev1.ResourceList{}
		for name, text := range capacity {
			q, err := resource.ParseQuantity(*text)
			if err != nil || q.Sign() <= 0 {
				return fmt.Errorf("--%s %q: a quantity above 0, such as 16 or 64Gi", name, *text)
			}
			h.Capacity[name] = q
		}
		return runHollow(ctx, cmd.OutOrStdout(), cfg, h, output)
	})
}

func runHollow(ctx context.Context, out io.Writer, cfg *config, h hollow.Config, output string) error {
	log, err := processLogger(cfg)
	if err != nil {
		return err
	}
	access, err := client.FromKubeconfig(cfg.kubeconfig, "kubelet")
	if err != nil {
		return err
	}
	h.REST, h.Log = access.Config, log
	nodes, err := hollow.New(h)
	if err != nil {
		return err
	}
	return runParts(ctx, log, run.Part{Name: "hollow nodes", Run: nodes.Run}, run.Part{Name: "progress", Run: func(ctx context.Context) error {
		return showCounts(ctx, out, nodes, h.Nodes, output)
	}})
}

// showCounts prints how far the nodes are whenever that changed, at most every second.
func showCounts(ctx context.Context, out io.Writer, nodes *hollow.Nodes, total int, output string) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	var last hollow.Counts
	for {
		if now := nodes.Counts(); now != last {
			last = now
			if err := printCounts(out, now, total, output); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			if ui.IsTerminal(out) && output == "" {
				fmt.Fprintln(out)
			}
			return nil
		case <-tick.C:
		}
	}
}

func printCounts(out io.Writer, c hollow.Counts, total int, output string) error {
	if output == "json" {
		return json.NewEncoder(out).Encode(map[string]int{
			"nodes": total, "registered": c.Registered, "watching": c.Watching, "pods": c.Pods, "running": c.Running, "stopped": c.Stopped, "errors": c.Errors,
		})
	}
	line := fmt.Sprintf("nodes %d of %d   pods %d   running %d   stopped %d", c.Watching, total, c.Pods, c.Running, c.Stopped)
	if c.Errors > 0 {
		line += fmt.Sprintf("   requests tried again %d (why: --log-level debug)", c.Errors)
	}
	var err error
	if ui.IsTerminal(out) {
		_, err = fmt.Fprint(out, "\r"+line+strings.Repeat(" ", 10))
	} else {
		_, err = fmt.Fprintln(out, line)
	}
	return err
}
