package main

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"canopus/internal/cli"
	"canopus/internal/client"
	"canopus/internal/cluster"
	"canopus/internal/proxy"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// Exit codes of status besides 0.
const (
	exitUnhealthy  = 1
	exitNotRunning = 3
)

func statusCommand() *cobra.Command {
	var output string
	return lifeCommand(&cobra.Command{
		Use:   "status",
		Short: "Tell how Canopus is on this machine, and what to do when it is not well",
		Long: `Tell how Canopus is on this machine, and what to do when it is not well. Exit code 0: it is well; 1: something is wrong;
3: it does not run.`,
		Example: "  canopus status\n  canopus status -o json",
	}, func(c *cobra.Command) {
		c.Flags().StringVarP(&output, "output", "o", "", "json")
	}, func(cmd *cobra.Command, cfg *config) error {
		if output != "" && output != "json" {
			return fmt.Errorf("--output %q: only json is known", output)
		}
		r, err := observe(cmd.Context(), cfg)
		if err != nil {
			return err
		}
		if err := printReport(cmd.OutOrStdout(), r, output); err != nil {
			return err
		}
		switch {
		case !r.Running():
			return &exitError{exitNotRunning}
		case !r.Healthy:
			return &exitError{exitUnhealthy}
		}
		return nil
	})
}

func printReport(out io.Writer, r *cli.Report, output string) error {
	if output == "json" {
		e := json.NewEncoder(out)
		e.SetIndent("", "  ")
		return e.Encode(r)
	}
	return cli.Print(out, r, time.Now())
}

// observe looks at processes, API and disk, and judges.
func observe(ctx context.Context, cfg *config) (*cli.Report, error) {
	r := &cli.Report{}
	found, err := findProcesses(cfg)
	if err != nil {
		return nil, err
	}
	defer found.close()
	for _, p := range found.all() {
		u := p.Use()
		r.Processes = append(r.Processes, cli.ProcessReport{Name: p.Name, Pid: p.Pid, Uptime: u.Uptime.Seconds(), RSS: u.RSS, RSSAnon: u.Anon})
	}
	switch {
	case found.keep != nil:
		r.Supervisor = "keep"
	case ourUnit(cfg):
		r.Supervisor = "systemd"
	}
	if cfg.runtimeEndpoint == "" && !cfg.noAgent {
		if err := observeRuntime(cfg, r); err != nil {
			return nil, err
		}
	}
	if found.main() != nil {
		observeAPI(ctx, cfg, r)
	}
	if found.main() != nil && !cfg.noAgent {
		r.Components = append(r.Components, dnsComponent(ctx, cfg), proxyComponent(ctx))
	}
	r.Certificates = certificates(cluster.Layout{Data: cfg.dataDir}.PKI())
	r.Data = cli.DataReport{Dir: cfg.dataDir, Size: cli.Size(cfg.dataDir)}
	var s unix.Statfs_t
	if err := unix.Statfs(cfg.dataDir, &s); err == nil {
		r.Data.Free = s.Bavail * uint64(s.Bsize)
	}
	reserve, err := resource.ParseQuantity(cfg.reserve)
	if err != nil {
		return nil, fmt.Errorf("disk-reserve: %w", err)
	}
	r.Troubles = cli.Judge(r, cli.Context{Now: time.Now(), Log: logFile(cfg), Reserve: uint64(reserve.Value())})
	r.Healthy = len(r.Troubles) == 0
	return r, nil
}

func observeRuntime(cfg *config, r *cli.Report) error {
	runtime, err := newRuntime(cfg, discard())
	if err != nil {
		return err
	}
	s, err := runtime.Status()
	if err != nil && !errors.Is(err, os.ErrPermission) {
		return err
	}
	if err == nil {
		r.Runtime = &cli.RuntimeReport{Running: s.Running, Pid: s.Pid, RSS: s.RSS, RSSAnon: s.RSSAnon, Shims: s.Shims, ShimsRSS: s.ShimsRSS}
	}
	return nil
}

// observeAPI asks the API server. What it does not answer is an observation too.
func observeAPI(ctx context.Context, cfg *config, r *cli.Report) {
	ctx, cancel := context.WithTimeout(ctx, oneTry)
	defer cancel()
	r.API = &cli.APIReport{}
	access, err := client.FromKubeconfig(cfg.kubeconfig, "canopus-status")
	if err != nil {
		r.API.Error = err.Error()
		return
	}
	r.API.Server = access.Config.Host
	r.API.Passing, r.API.Failing, err = readiness(ctx, access.Client)
	r.API.Ready = err == nil
	if err != nil && len(r.API.Failing) == 0 {
		r.API.Error = shortened(err)
		return
	}
	if v, err := access.Client.Discovery().ServerVersion(); err == nil {
		r.API.Version = v.GitVersion
	}
	if err := observeObjects(ctx, access.Client, r); err != nil {
		r.API.Ready, r.API.Error = false, shortened(err)
	}
}

func observeObjects(ctx context.Context, c kubernetes.Interface, r *cli.Report) error {
	pods, err := c.CoreV1().Pods("").List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	nodes, err := c.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	r.Pods = map[string]int{}
	running := map[string]int{}
	for i := range pods.Items {
		p := &pods.Items[i]
		r.Pods[string(p.Status.Phase)]++
		if p.Status.Phase == corev1.PodRunning {
			running[p.Spec.NodeName]++
		}
		if !well(p) {
			r.PodsNotReady = append(r.PodsNotReady, p.Namespace+"/"+p.Name)
		}
	}
	for i := range nodes.Items {
		n := &nodes.Items[i]
		report := cli.NodeReport{
			Name: n.Name, Version: n.Status.NodeInfo.KubeletVersion, Cordoned: n.Spec.Unschedulable,
			Pods: fmt.Sprintf("%d of %s", running[n.Name], n.Status.Allocatable.Pods()),
		}
		report.Ready, report.Reason = readyCondition(n)
		for _, condition := range n.Status.Conditions {
			if condition.Type != corev1.NodeReady && condition.Status == corev1.ConditionTrue {
				report.Conditions = append(report.Conditions, string(condition.Type))
			}
		}
		r.Nodes = append(r.Nodes, report)
	}
	return nil
}

// well says whether a pod does what it is there for: it is ready, done, or on its way out.
func well(p *corev1.Pod) bool {
	if p.DeletionTimestamp != nil || p.Status.Phase == corev1.PodSucceeded {
		return true
	}
	return slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}

func dnsComponent(ctx context.Context, cfg *config) cli.Component {
	began := time.Now()
	c := cli.Component{Name: "cluster DNS", Do: "look for \"dns\" in " + logFile(cfg)}
	if err := askDNS(ctx, cfg); err != nil {
		c.Detail = shortened(err)
		return c
	}
	c.Healthy, c.Detail = true, fmt.Sprintf("%s answers in %.1f ms", cfg.clusterDNS, float64(time.Since(began).Microseconds())/1000)
	return c
}

// proxyComponent looks whether the table of Services stands. Only root may look.
func proxyComponent(ctx context.Context) cli.Component {
	c := cli.Component{Name: "service proxy", Do: "it is written again within 15 s; if not, look for \"nftables\" in the log"}
	if os.Geteuid() != 0 {
		c.Healthy, c.Detail = true, "not seen: only root may list packet rules"
		return c
	}
	out, err := exec.CommandContext(ctx, "nft", "list", "chains", "ip").CombinedOutput()
	switch {
	case err != nil:
		c.Detail = "packet rules cannot be listed: " + strings.TrimSpace(string(out))
	case !strings.Contains(string(out), "table ip "+proxy.DefaultTable+" {"):
		c.Detail = "the nftables table " + proxy.DefaultTable + " is missing"
	default:
		c.Healthy, c.Detail = true, "nftables table "+proxy.DefaultTable+" stands"
	}
	return c
}

// certificates reads when those of the cluster expire. Who may not read them sees none.
func certificates(dir string) []cli.Certificate {
	files, err := filepath.Glob(filepath.Join(dir, "*.crt"))
	if err != nil {
		return nil
	}
	var found []cli.Certificate
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		block, _ := pem.Decode(data)
		if block == nil {
			continue
		}
		if c, err := x509.ParseCertificate(block.Bytes); err == nil {
			found = append(found, cli.Certificate{Name: strings.TrimSuffix(filepath.Base(file), ".crt"), Expires: c.NotAfter.UTC()})
		}
	}
	slices.SortFunc(found, func(a, b cli.Certificate) int { return a.Expires.Compare(b.Expires) })
	return found
}
