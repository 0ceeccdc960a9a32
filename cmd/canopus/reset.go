package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"canopus/internal/cli"
	"canopus/internal/client"
	"canopus/internal/dns"
	"canopus/internal/network"
	"canopus/internal/node/cgroup"
	"canopus/internal/ui"

	"github.com/spf13/cobra"
	"github.com/vishvananda/netlink"
	"k8s.io/client-go/rest"
)

const resetGrace = 5 // seconds that containers get to end

func resetCommand() *cobra.Command {
	var yes bool
	return lifeCommand(&cobra.Command{
		Use:   "reset",
		Short: "Remove every trace of Canopus from this machine, the cluster's data included",
		Long: `Remove every trace of Canopus from this machine: processes, pods and containers, mounts, interfaces, packet rules, cgroups
and files. The cluster's data is lost, that of local persistent volumes included. Files that Canopus did not make, such as its configuration file, stay.`,
		Example: `  canopus reset                          asks first
  canopus reset --yes`,
	}, func(c *cobra.Command) {
		c.Flags().BoolVar(&yes, "yes", false, "do not ask")
	}, func(cmd *cobra.Command, cfg *config) error {
		if err := needRoot("removing a cluster"); err != nil {
			return err
		}
		if !anyTrace(cfg) {
			fmt.Fprintf(cmd.OutOrStdout(), "There is nothing of Canopus in %s and %s.\n", cfg.dataDir, cfg.runDir)
			return nil
		}
		if err := confirm(cmd.InOrStdin(), cmd.OutOrStdout(), cfg, yes); err != nil {
			return err
		}
		return (&reset{cfg: cfg, out: cmd.OutOrStdout(), steps: ui.NewSteps(cmd.OutOrStdout())}).run(cmd.Context())
	})
}

// anyTrace says whether a Canopus was ever started with these directories. Without that, interfaces and packet rules that look
// like ours are somebody else's.
func anyTrace(cfg *config) bool {
	for _, path := range []string{filepath.Join(cfg.dataDir, "bin"), filepath.Join(cfg.dataDir, "format"), filepath.Join(cfg.dataDir, "containerd"), cfg.runDir} {
		if _, err := os.Stat(path); err == nil {
			return true
		}
	}
	return ourUnit(cfg)
}

func confirm(in io.Reader, out io.Writer, cfg *config, yes bool) error {
	if yes {
		return nil
	}
	if f, ok := in.(*os.File); !ok || !ui.IsTerminal(f) {
		return errors.New("this removes the cluster and its data: give --yes to mean it")
	}
	fmt.Fprintf(out, "This stops all pods and removes the cluster in %s with its data and its pods' persistent volumes. Type yes to go on: ", cfg.dataDir)
	line, err := bufio.NewReader(in).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if strings.TrimSpace(line) != "yes" {
		return errors.New("nothing was removed")
	}
	return nil
}

// reset is one run of `canopus reset`. Each step goes as far as it can; what is left is named at the end.
type reset struct {
	cfg   *config
	out   io.Writer
	steps *ui.Steps

	pods          []string // UIDs
	logs          []string
	foreign       []string // files that are not ours
	network       *network.Network
	removeService func(context.Context) error
}

func (r *reset) run(ctx context.Context) error {
	var err error
	if r.pods, err = cli.Pods(r.cfg.kubeletDir); err != nil {
		return err
	}
	if r.logs, err = cli.PodLogs(r.cfg.podLogsDir, r.pods); err != nil {
		return err
	}
	if err := r.prepare(); err != nil {
		return err
	}
	if _, err := stopServer(ctx, r.out, r.steps, r.cfg); err != nil {
		return err // everything else would be made again
	}
	var errs []error
	for _, step := range []struct {
		name string
		do   func(context.Context) error
	}{
		{"remove the systemd unit", r.unit},
		{"remove pods and containerd", r.runtime},
		{"remove cgroups", r.cgroups},
		{"remove mounts", func(context.Context) error { return cli.Unmount(r.cfg.kubeletDir, r.cfg.dataDir, r.cfg.runDir) }},
		{"remove the pod network", r.network.Reset},
		{"remove packet rules of Services", r.removeService},
		{"remove the address of cluster DNS", r.dns},
		{"remove files", r.files},
	} {
		if step.name == "remove the systemd unit" && !ourUnit(r.cfg) {
			continue
		}
		errs = append(errs, r.steps.Do(step.name, func(func(string)) error { return step.do(ctx) }))
	}
	left, err := r.left()
	errs = append(errs, err)
	for _, f := range r.foreign {
		fmt.Fprintf(r.out, "  kept, because Canopus did not make it: %s\n", f)
	}
	if len(left) > 0 {
		errs = append(errs, fmt.Errorf("%d things are left: %s: run `canopus reset` again, or remove them by hand", len(left), strings.Join(left, ", ")))
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	fmt.Fprintln(r.out, "Nothing of Canopus is left on this machine.")
	return nil
}

// prepare makes the parts whose traces are removed. They want a client; this one is never used.
func (r *reset) prepare() error {
	log := discard()
	nobody, err := client.FromConfig(&rest.Config{Host: "https://127.0.0.1"}, "canopus-reset")
	if err != nil {
		return err
	}
	if r.network, err = newNetwork(r.cfg, "reset", nobody, log); err != nil {
		return err
	}
	n := &nodeParts{cfg: r.cfg, log: log, name: "reset", access: nobody, network: nobody}
	services, err := n.proxy()
	if err != nil {
		return err
	}
	r.removeService = services.Reset
	return nil
}

func (r *reset) unit(ctx context.Context) error { return removeUnit(ctx, r.cfg) }

// runtime ends pods the polite way where containerd can, and by force where it cannot.
func (r *reset) runtime(ctx context.Context) error {
	if r.cfg.runtimeEndpoint != "" {
		return nil
	}
	runtime, err := newRuntime(r.cfg, discard())
	if err != nil {
		return err
	}
	s, err := runtime.Status()
	if err != nil {
		return err
	}
	if s.Running || s.Shims > 0 {
		if err := runtime.Down(ctx, resetGrace); err != nil && ctx.Err() != nil {
			return err
		}
	}
	return runtime.Reset(ctx)
}

// cgroups removes those of our pods, with what still runs in them, and kubepods when nobody else's pod is there.
func (r *reset) cgroups(ctx context.Context) error {
	tree, err := cgroup.Open(cgroup.Config{Root: r.cfg.cgroupRoot})
	if err != nil {
		return err
	}
	var errs []error
	for _, uid := range r.pods {
		errs = append(errs, tree.RemoveUID(ctx, uid))
	}
	return errors.Join(append(errs, cli.RemoveEmptyClasses(r.cfg.cgroupRoot))...)
}

func (r *reset) dns(context.Context) error {
	ip, err := netip.ParseAddr(r.cfg.clusterDNS)
	if err != nil {
		return fmt.Errorf("cluster-dns: %w", err)
	}
	return dns.Reset(ip)
}

func (r *reset) files(context.Context) error {
	var errs []error
	mounts, err := cli.MountsBelow(r.cfg.kubeletDir)
	if err == nil && len(mounts) > 0 {
		err = fmt.Errorf("%s is still mounted, so no files were removed: what is mounted there may not be ours", mounts[0])
	}
	if err != nil {
		return err
	}
	links, err := cli.LogLinks(r.cfg.containerLogsDir, r.logs)
	errs = append(errs, err)
	for _, path := range slices.Concat(links, r.logs, []string{filepath.Join(r.cfg.kubeletDir, "pods"), r.cfg.runDir, r.cfg.kubeconfig}) {
		errs = append(errs, os.RemoveAll(path))
	}
	errs = append(errs, cli.RemoveIfEmpty(r.cfg.podLogsDir, r.cfg.containerLogsDir, r.cfg.kubeletDir))
	if r.foreign, err = cli.RemoveData(r.cfg.dataDir); err != nil {
		errs = append(errs, err)
	}
	return errors.Join(append(errs, cli.RemoveIfEmpty(filepath.Dir(r.cfg.kubeconfig), r.cfg.dataDir))...)
}

// left looks for everything that could have stayed.
func (r *reset) left() ([]string, error) {
	cfg := r.cfg
	var left []string
	mounts, err := cli.MountsBelow(cfg.kubeletDir, cfg.dataDir, cfg.runDir)
	if err != nil {
		return nil, err
	}
	for _, m := range mounts {
		left = append(left, "mount "+m)
	}
	groups, err := cli.Cgroups(cfg.cgroupRoot, r.pods)
	if err != nil {
		return nil, err
	}
	for _, g := range groups {
		left = append(left, "cgroup "+g)
	}
	found, err := findProcesses(cfg)
	if err != nil {
		return nil, err
	}
	defer found.close()
	for _, p := range found.all() {
		left = append(left, fmt.Sprintf("%s (process %d)", p.Name, p.Pid))
	}
	if _, err := netlink.LinkByName(network.DefaultBridge); err == nil {
		left = append(left, "interface "+network.DefaultBridge)
	}
	files := slices.Concat(r.logs, []string{cfg.runDir, cfg.kubeconfig, filepath.Join(cfg.kubeletDir, "pods")})
	if len(r.foreign) == 0 {
		files = append(files, cfg.dataDir)
	}
	for _, f := range files {
		if _, err := os.Lstat(f); err == nil && !emptyMount(f) {
			left = append(left, f)
		}
	}
	return left, nil
}

// emptyMount says whether a directory stays only because a file system is mounted on it.
func emptyMount(dir string) bool {
	entries, err := os.ReadDir(dir)
	return err == nil && len(entries) == 0
}
