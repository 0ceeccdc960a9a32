package main

import (
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"canopus/internal/auth/token"
	"canopus/internal/client"
	"canopus/internal/cluster"
	"canopus/internal/controllers"
	"canopus/internal/leader"
	"canopus/internal/run"
	"canopus/internal/scheduler"
	"canopus/internal/verdict"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/util/uuid"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/metadata"
	"k8s.io/utils/clock"
)

const (
	schedulerLease  = "kube-scheduler"
	controllerLease = "kube-controller-manager"
)

func apiserverCommand() *cobra.Command {
	return command(&cobra.Command{
		Use:   "apiserver",
		Short: "Run the API server and its store alone",
		Long: `Run the API server and its store alone. Scheduler and controllers then run as processes of their own, with the kubeconfigs
that the API server writes to kubeconfig/ in its data directory.`,
		Example: `  canopus apiserver
  canopus scheduler --kubeconfig /var/lib/canopus/kubeconfig/scheduler.conf
  canopus controllers --kubeconfig /var/lib/canopus/kubeconfig/controller-manager.conf`,
	}, func(cfg *config, c *cobra.Command) {
		cfg.networkFlags(c.Flags())
		cfg.apiFlags(c.Flags())
		c.Flags().StringVar(&cfg.nodeName, "node-name", "", "name of this machine (default: the host name)")
	}, func(ctx context.Context, cmd *cobra.Command, cfg *config) error {
		cfg.noAgent, cfg.noWorkers = true, true
		return runServer(ctx, cmd, cfg)
	})
}

func schedulerCommand() *cobra.Command {
	return command(&cobra.Command{
		Use:   "scheduler",
		Short: "Run the scheduler alone",
		Long: `Run the scheduler alone. --scheduler-config, or --config, names a file of kind KubeSchedulerConfiguration
(kubescheduler.config.k8s.io/v1): profiles, plugins and their weights and arguments, extenders.`,
		Example: `  canopus scheduler --kubeconfig /var/lib/canopus/kubeconfig/scheduler.conf
  canopus scheduler --kubeconfig /var/lib/canopus/kubeconfig/scheduler.conf --scheduler-config profiles.yaml`,
	}, func(cfg *config, c *cobra.Command) {
		cfg.electionFlags(c.Flags(), true)
		cfg.schedulerFlags(c.Flags())
		cfg.schedulerMonitor(c.Flags())
		cfg.bindFlag(c.Flags(), "health and metrics are served")
	}, func(ctx context.Context, _ *cobra.Command, cfg *config) error {
		log, err := processLogger(cfg)
		if err != nil {
			return err
		}
		conf, err := cfg.scheduling(log)
		if err != nil {
			return err
		}
		if conf.Kubeconfig != "" {
			cfg.kubeconfig = conf.Kubeconfig
		}
		m, demands := newMonitor(cfg.bindAddress, cfg.schedulerPort, log), &demandPage{}
		m.pages[scheduler.ResourcesPath] = demands
		// Each term reads everything anew: an old leader's caches are of no use to it.
		schedule := func(ctx context.Context, access *client.Access) error {
			verdicts := verdict.NewBook()
			groups, err := servesPodGroups(access.Client)
			if err != nil {
				return err
			}
			s, err := newScheduler(access, scheduler.Config{Configuration: conf, PodGroups: groups, Metrics: m.registry, Verdicts: verdicts, Log: log})
			if err != nil {
				return err
			}
			demands.see(access.Informers)
			g, ctx := errgroup.WithContext(ctx)
			g.Go(func() error { return s.Run(ctx) })
			g.Go(func() error { return verdicts.Push(ctx, access.Client.CoreV1().RESTClient(), clock.RealClock{}, log) })
			return g.Wait()
		}
		access, err := client.FromKubeconfig(cfg.kubeconfig, "kube-scheduler")
		if err != nil {
			return err
		}
		return runParts(ctx, log, run.Part{Name: "metrics", Run: func(ctx context.Context) error { return m.run(ctx, access) }},
			run.Part{Name: "scheduler", Run: func(ctx context.Context) error {
				return electedScheduler(ctx, elector{cfg, conf, access, log}, func(ctx context.Context) error {
					access, err := client.FromKubeconfig(cfg.kubeconfig, "kube-scheduler")
					if err != nil {
						return err
					}
					return schedule(ctx, access)
				})
			}})
	})
}

// controllerKeys names what controllers sign with. A process without these files leaves signing to others.
type controllerKeys struct{ certFile, keyFile, accountFile string }

// read takes what the flags name, else what lies in the data directory of a server of this machine.
func (k controllerKeys) read(cfg *config) (surroundings, error) {
	var s surroundings
	layout := cluster.Layout{Data: cfg.dataDir, Config: filepath.Dir(cfg.kubeconfig)}
	if k.certFile == "" && k.keyFile == "" && canOpen(layout.Key("ca")) {
		k.certFile, k.keyFile = layout.Certificate("ca"), layout.Key("ca")
	}
	if k.accountFile == "" && canOpen(layout.ServiceAccountKey()) {
		k.accountFile = layout.ServiceAccountKey()
	}
	var err error
	if k.certFile != "" || k.keyFile != "" {
		if s.authority, s.authorityKey, err = cluster.LoadPair(k.certFile, k.keyFile); err != nil {
			return s, fmt.Errorf("--cluster-signing-cert-file and --cluster-signing-key-file: %w", err)
		}
	}
	if k.accountFile != "" {
		if s.accountKey, err = cluster.LoadKey(k.accountFile); err != nil {
			return s, fmt.Errorf("--service-account-private-key-file: %w", err)
		}
	}
	return s, nil
}

func canOpen(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	return f.Close() == nil
}

// surroundings are what controllers have beyond the API. Missing keys are nil.
type surroundings struct {
	metrics      prometheus.Registerer
	roots        []byte // PEM
	authority    *x509.Certificate
	authorityKey crypto.Signer
	accountKey   crypto.Signer
}

// certificateLife is that of certificates that requests do not want shorter: upstream's --cluster-signing-duration.
const certificateLife = 365 * 24 * time.Hour

func controllersCommand() *cobra.Command {
	var keys controllerKeys
	return command(&cobra.Command{
		Use:     "controllers",
		Short:   "Run the controllers alone",
		Example: "  canopus controllers --kubeconfig /var/lib/canopus/kubeconfig/controller-manager.conf",
	}, func(cfg *config, c *cobra.Command) {
		cfg.electionFlags(c.Flags(), true)
		cfg.controllersMonitor(c.Flags())
		cfg.bindFlag(c.Flags(), "health and metrics are served")
		c.Flags().StringVar(&cfg.clusterCIDR, "cluster-cidr", defaultClusterCIDR, "addresses of pods")
		c.Flags().StringVar(&keys.certFile, "cluster-signing-cert-file", "", "authority that certificate requests are signed with (default: the one in DATA-DIR/pki, if it is there)")
		c.Flags().StringVar(&keys.keyFile, "cluster-signing-key-file", "", "its key")
		c.Flags().StringVar(&keys.accountFile, "service-account-private-key-file", "", "key for tokens in Secrets (default: the one in DATA-DIR/pki, if it is there)")
	}, func(ctx context.Context, _ *cobra.Command, cfg *config) error {
		log, err := processLogger(cfg)
		if err != nil {
			return err
		}
		access, err := client.FromKubeconfig(cfg.kubeconfig, "kube-controller-manager")
		if err != nil {
			return err
		}
		if len(access.Config.CAData) == 0 {
			return fmt.Errorf("%s does not hold the cluster's certificate authority (certificate-authority-data), which every namespace is given a copy of", cfg.kubeconfig)
		}
		account := func(name string) (*client.Access, error) { return access.AsAccount(ctx, "kube-system", name) }
		secrets, err := keys.read(cfg)
		if err != nil {
			return err
		}
		m := newMonitor(cfg.bindAddress, cfg.controllersPort, log)
		secrets.roots, secrets.metrics = access.Config.CAData, m.registry
		set, err := newControllers(cfg, access, secrets, account, log)
		if err != nil {
			return err
		}
		return runParts(ctx, log, run.Part{Name: "metrics", Run: func(ctx context.Context) error { return m.run(ctx, access) }},
			run.Part{Name: "controllers", Run: set.Run})
	})
}

// lead runs work in every term of e.
func lead(ctx context.Context, e *leader.Election, log *slog.Logger, work func(context.Context) error) error {
	return e.Run(ctx, func(ctx context.Context) {
		if err := work(ctx); err != nil && ctx.Err() == nil {
			log.Error("stopped working while leading", "lease", e.Name, "error", err)
		}
	})
}

func newElection(c kubernetes.Interface, lease string, log *slog.Logger) (*leader.Election, error) {
	host, err := nodeName("")
	if err != nil {
		return nil, err
	}
	return &leader.Election{Client: c, Identity: host + "_" + string(uuid.NewUUID()), Name: lease, Clock: clock.RealClock{}, Log: log}, nil
}

// newControllers makes all controllers. account gives each its own identity; they read as access.
func newControllers(cfg *config, access *client.Access, keys surroundings, account func(string) (*client.Access, error), log *slog.Logger) (*controllers.Set, error) {
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
			return a.Client, a.Metadata, nil
		},
		Informers: access.Informers, Reader: access.Client, Clock: clock.RealClock{}, Log: log, Metrics: keys.metrics, RootCA: keys.roots, ClusterCIDRs: []netip.Prefix{pods},
	}
	if keys.accountKey != nil {
		if c.AccountKeys, err = token.NewKeys(keys.accountKey); err != nil {
			return nil, err
		}
	}
	if keys.authorityKey != nil {
		c.Authority = &controllers.Authority{Certificate: keys.authority, Key: keys.authorityKey, Life: certificateLife}
	}
	if cfg.leaderElect {
		if c.Election, err = newElection(access.Client, controllerLease, log); err != nil {
			return nil, err
		}
	}
	return controllers.New(c)
}

func issueNodeCommand() *cobra.Command {
	var out, server string
	var addresses []string
	c := command(&cobra.Command{
		Use:   "issue-node NAME",
		Short: "Write the credentials with which another machine joins as a node",
		Long: `Write the credentials with which another machine joins as a node: a kubeconfig, the cluster's authority and the agent's
serving certificate. Run it on a server and copy the directory to the machine; who has it can act as that node.`,
		Example: `  canopus issue-node worker-1 --address 192.168.7.21 --out worker-1
  scp -r worker-1 worker-1:/etc/canopus/node
  ssh worker-1 canopus agent --node-name worker-1 --kubeconfig /etc/canopus/node/kubelet.conf`,
		Args: cobra.ExactArgs(1),
	}, func(cfg *config, c *cobra.Command) {
		c.Flags().StringVar(&server, "server", "", "URL of the API server as the node reaches it (default: of --advertise-address and --port)")
		c.Flags().StringVar(&cfg.advertiseAddress, "advertise-address", "", "address at which nodes reach this machine's API server (default: the one of the default route)")
		c.Flags().IntVar(&cfg.port, "port", 6443, "port of this machine's API server")
		c.Flags().StringVar(&out, "out", "", "directory to write to (default: the node's name)")
		c.Flags().StringSliceVar(&addresses, "address", nil, "address at which the node's agent is reached")
	}, func(_ context.Context, cmd *cobra.Command, cfg *config) error {
		return issueNode(cmd, cfg, out, server, addresses)
	})
	return c
}

func issueNode(cmd *cobra.Command, cfg *config, out, server string, addresses []string) error {
	name := cmd.Flags().Arg(0)
	if out == "" {
		out = name
	}
	if len(addresses) == 0 {
		return errors.New("at least one --address of the node is required: its certificate is for that address")
	}
	node := cluster.Node{Name: name}
	for _, s := range addresses {
		a, err := netip.ParseAddr(s)
		if err != nil {
			return fmt.Errorf("--address: %w", err)
		}
		node.Addresses = append(node.Addresses, a)
	}
	if server == "" {
		address, err := hostAddress(cfg.advertiseAddress)
		if err != nil {
			return fmt.Errorf("%w: or name the API server with --server", err)
		}
		server = "https://" + net.JoinHostPort(address.String(), strconv.Itoa(cfg.port))
	}
	node.Server = server
	layout := cluster.Layout{Data: cfg.dataDir, Config: filepath.Dir(cfg.kubeconfig)}
	files, err := cluster.IssueNode(layout, clock.RealClock{}, out, node)
	if err != nil {
		return err
	}
	fmt.Fprintf(cmd.OutOrStdout(), "credentials of node %s are in %s\nOn that machine:\n  canopus agent --node-name %s --kubeconfig %s\n",
		name, out, name, filepath.Join("/etc/canopus/node", filepath.Base(files.Kubeconfig)))
	return nil
}
