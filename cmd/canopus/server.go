package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"canopus/internal/auth"
	"canopus/internal/client"
	"canopus/internal/controllers"
	"canopus/internal/run"
	"canopus/internal/scheduler"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/util/uuid"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/metadata"
	"k8s.io/utils/clock"
)

func serverCommand() *cobra.Command {
	return command(&cobra.Command{
		Use:   "server",
		Short: "Run a control plane and, unless told otherwise, a node, in this process",
		Example: `  canopus server
  canopus server --no-agent              control plane only
  canopus server --data-dir /srv/canopus --tls-san cluster.example.org`,
	}, func(cfg *config, c *cobra.Command) {
		cfg.networkFlags(c.Flags())
		cfg.apiFlags(c.Flags())
		cfg.agentFlags(c.Flags())
		cfg.electionFlags(c.Flags(), false)
		c.Flags().BoolVar(&cfg.noAgent, "no-agent", false, "do not run a node here")
	}, runServer)
}

// runServer is the whole of Canopus in one process, in the order in which it starts.
func runServer(ctx context.Context, _ *cobra.Command, cfg *config) error {
	log, err := processLogger(cfg)
	if err != nil {
		return err
	}
	unlock, err := lockProcess(cfg, "server")
	if err != nil {
		return err
	}
	defer unlock()
	cp, err := newControlPlane(ctx, cfg, log)
	if err != nil {
		return err
	}
	parts := cp.parts()
	more, err := cp.workers()
	if err != nil {
		cp.close()
		return err
	}
	parts = append(parts, more...)
	if !cfg.noAgent {
		if more, err = cp.localNode(ctx); err != nil {
			cp.close()
			return err
		}
		parts = append(parts, more...)
	}
	return run.All(ctx, log, parts...)
}

// workers are the control loops of a server's own process.
func (c *controlPlane) workers() ([]run.Part, error) {
	s, err := c.local.As(&auth.User{Name: schedulerUser, Groups: []string{"system:authenticated"}}, "kube-scheduler")
	if err != nil {
		return nil, err
	}
	scheduler, err := newScheduler(s, c.log)
	if err != nil {
		return nil, err
	}
	m, err := c.local.As(&auth.User{Name: managerUser, Groups: []string{"system:authenticated"}}, "kube-controller-manager")
	if err != nil {
		return nil, err
	}
	set, err := newControllers(c.cfg, m, c.cluster.CA(), c.localAccount, c.log)
	if err != nil {
		return nil, err
	}
	return []run.Part{
		{Name: "scheduler", Run: afterReady(c.boot.Ready, scheduler.Run)},
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

// newControllers makes all controllers. account gives each its own identity; they read as access.
func newControllers(cfg *config, access *client.Access, ca []byte, account func(string) (*client.Access, error), log *slog.Logger) (*controllers.Set, error) {
	pods, err := netip.ParsePrefix(cfg.clusterCIDR)
	if err != nil {
		return nil, fmt.Errorf("cluster-cidr: %w", err)
	}
	c := controllers.Config{
		Client: func(name string) (kubernetes.Interface, metadata.Interface, error) {
			a, err := account(name)
			if err != nil {
				return nil, nil, err
			}
			m, err := metadata.NewForConfig(metadata.ConfigFor(a.Config))
			return a.Client, m, err
		},
		Informers: access.Informers, Clock: clock.RealClock{}, Log: log, RootCA: ca, ClusterCIDRs: []netip.Prefix{pods},
	}
	if cfg.leaderElect {
		host, err := nodeName("")
		if err != nil {
			return nil, err
		}
		c.Election = &controllers.Election{Client: access.Client, Identity: host + "_" + string(uuid.NewUUID())}
	}
	return controllers.New(c)
}

func newScheduler(access *client.Access, log *slog.Logger) (*scheduler.Scheduler, error) {
	return scheduler.New(scheduler.Config{Client: access.Client, Informers: access.Informers, Clock: clock.RealClock{}, Log: log})
}

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
