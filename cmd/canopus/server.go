package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"canopus/internal/auth"
	"canopus/internal/client"
	"canopus/internal/run"
	"canopus/internal/scheduler"

	"github.com/spf13/cobra"
)

func serverCommand() *cobra.Command {
	return command(&cobra.Command{
		Use:   "server",
		Short: "Run a control plane and, unless told otherwise, a node, in this process",
		Example: `  canopus server
  canopus server --no-agent              control plane only
  canopus server --data-dir /srv/canopus --tls-san cluster.example.org`,
	}, serverFlags, runServer)
}

// runServer is the whole of Canopus in one process, in the order in which it starts.
func runServer(ctx context.Context, cmd *cobra.Command, cfg *config) error {
	log, err := processLogger(cfg)
	if err != nil {
		return err
	}
	unlock, err := lockProcess(cfg, "server")
	if err != nil {
		return err
	}
	defer unlock()
	if err := checkMachine(ctx, needs(cfg, true, !cfg.noAgent), log); err != nil {
		return err
	}
	if err := remember(cmd, cfg); err != nil {
		return err
	}
	cp, err := newControlPlane(ctx, cfg, log)
	if err != nil {
		return err
	}
	parts := cp.parts()
	for _, more := range []struct {
		off  bool
		make func(context.Context) ([]run.Part, error)
	}{{cfg.noWorkers, cp.workers}, {cfg.noAgent, cp.localNode}} {
		if more.off {
			continue
		}
		made, err := more.make(ctx)
		if err != nil {
			cp.close()
			return err
		}
		parts = append(parts, made...)
	}
	return runParts(ctx, log, parts...)
}

// workers are the control loops of a server's own process.
func (c *controlPlane) workers(context.Context) ([]run.Part, error) {
	s, err := c.local.As(&auth.User{Name: schedulerUser, Groups: []string{"system:authenticated"}}, "kube-scheduler")
	if err != nil {
		return nil, err
	}
	conf, err := c.cfg.scheduling(c.log)
	if err != nil {
		return nil, err
	}
	_, groups := c.kinds.Resource(podGroups())
	schedule := func(ctx context.Context) error {
		return electedScheduler(ctx, elector{c.cfg, conf, s, c.log}, func(ctx context.Context) error {
			scheduler, err := newScheduler(s, scheduler.Config{Configuration: conf, PodGroups: groups, Metrics: c.metrics, Verdicts: c.verdicts, Log: c.log})
			if err != nil {
				return err
			}
			return scheduler.Run(ctx)
		})
	}
	m, err := c.local.As(&auth.User{Name: managerUser, Groups: []string{"system:authenticated"}}, "kube-controller-manager")
	if err != nil {
		return nil, err
	}
	keys := surroundings{metrics: c.metrics, roots: c.cluster.CA(), accountKey: c.cluster.ServiceAccountKey()}
	keys.authority, keys.authorityKey = c.cluster.Authority()
	set, err := newControllers(c.cfg, m, keys, c.localAccount, c.log)
	if err != nil {
		return nil, err
	}
	return []run.Part{
		{Name: "scheduler", Run: afterReady(c.boot.Ready, schedule)},
		{Name: "controllers", Run: afterReady(c.boot.Ready, set.Run)},
	}, nil
}

// localAccount returns access as a service account of kube-system.
func (c *controlPlane) localAccount(name string) (*client.Access, error) {
	return c.local.As(&auth.User{
		Name:   "system:serviceaccount:kube-system:" + name,
		Groups: []string{"system:serviceaccounts", "system:serviceaccounts:kube-system", "system:authenticated"},
	}, "kube-controller-manager")
}

const (
	schedulerUser = "system:kube-scheduler"
	managerUser   = "system:kube-controller-manager"
)

// lockProcess makes this the only process of its sort on the data directory, and leaves its process id for stop and status.
func lockProcess(cfg *config, name string) (unlock func(), err error) {
	path := pidFile(cfg, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		holder, _ := os.ReadFile(path) // for the message only
		_ = f.Close()
		return nil, fmt.Errorf("canopus %s is running already (process %s): `canopus status` tells how it is, `canopus stop` stops it", name, strings.TrimSpace(string(holder)))
	}
	if err := f.Truncate(0); err != nil {
		return nil, err
	}
	if _, err := fmt.Fprintln(f, os.Getpid()); err != nil {
		return nil, err
	}
	return func() {
		_ = os.Remove(path) // the lock goes with the descriptor
		_ = f.Close()
	}, nil
}

func pidFile(cfg *config, name string) string { return filepath.Join(cfg.runDir, name+".pid") }
