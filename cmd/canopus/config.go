package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"canopus/internal/kinds"
	"canopus/internal/kinds/builtin"

	"github.com/spf13/pflag"
	"sigs.k8s.io/yaml"
)

// config is every setting of every command. Each has one name: the flag --data-dir is the key data-dir of the configuration
// file and the environment variable CANOPUS_DATA_DIR; a flag beats the variable, which beats the file.
type config struct {
	file string

	dataDir, runDir, kubeconfig string
	nodeName                    string
	advertiseAddress            string
	bindAddress                 string
	port                        int
	tlsSANs                     []string
	clusterCIDR, serviceCIDR    string
	clusterDNS, clusterDomain   string
	nodePortRange               string
	runtimeConfig               []string
	schedulerConfig             string
	logLevel, logFormat         string

	etcdCompaction time.Duration
	reserve        string
	leaderElect    bool

	schedulerPort, controllersPort int

	noAgent          bool
	noWorkers        bool
	agentPort        int
	kubeletDir       string
	podLogsDir       string
	containerLogsDir string
	cgroupRoot       string
	runtimeEndpoint  string
	imagesDir        string
	maxPods          int
}

const (
	defaultClusterCIDR = "10.244.0.0/16"
	defaultDataDir     = "/var/lib/canopus"
	defaultKubeconfig  = "/etc/canopus/kubeconfig"
)

// commonFlags are the settings of every part.
func (c *config) commonFlags(f *pflag.FlagSet) {
	f.StringVar(&c.file, "config", "/etc/canopus/config.yaml", "configuration file; need not exist")
	f.StringVar(&c.dataDir, "data-dir", defaultDataDir, "where all state is kept")
	f.StringVar(&c.runDir, "run-dir", "/run/canopus", "sockets and pid files")
	f.StringVar(&c.kubeconfig, "kubeconfig", defaultKubeconfig, "kubeconfig: written for the admin by a server, read by the other parts")
	f.StringVar(&c.logLevel, "log-level", "info", "debug, info, warn or error")
	f.StringVar(&c.logFormat, "log-format", "text", "text or json")
}

func (c *config) networkFlags(f *pflag.FlagSet) {
	f.StringVar(&c.clusterCIDR, "cluster-cidr", defaultClusterCIDR, "addresses of pods")
	f.StringVar(&c.serviceCIDR, "service-cidr", "10.96.0.0/12", "addresses of Services")
	f.StringVar(&c.clusterDNS, "cluster-dns", "10.96.0.10", "address of the cluster's name server, within service-cidr")
	f.StringVar(&c.clusterDomain, "cluster-domain", "cluster.local", "domain of Service names")
}

func (c *config) apiFlags(f *pflag.FlagSet) {
	c.bindFlag(f, "the API server listens")
	f.IntVar(&c.port, "port", 6443, "port of the API server; 0 picks a free one")
	f.StringVar(&c.advertiseAddress, "advertise-address", "", "address at which nodes and pods reach the API server (default: the one of the default route)")
	f.StringSliceVar(&c.tlsSANs, "tls-san", nil, "further names and addresses in the API server's certificate")
	f.StringVar(&c.nodePortRange, "service-node-port-range", "30000-32767", "ports for Services of type NodePort")
	f.DurationVar(&c.etcdCompaction, "etcd-compaction-interval", 5*time.Minute, "how much history watches can resume from")
	f.StringSliceVar(&c.runtimeConfig, "runtime-config", nil, "API versions that are off by default: group/version=true, api/beta=true, api/all=true, ...")
	f.StringVar(&c.reserve, "disk-reserve", "256Mi", "free space below which writes are refused")
}

func (c *config) electionFlags(f *pflag.FlagSet, byDefault bool) {
	f.BoolVar(&c.leaderElect, "leader-elect", byDefault, "work only while holding the Lease of this part")
}

// schedulerMonitor and controllersMonitor are the settings of processes that are asked how they do at a port of their own.
func (c *config) schedulerMonitor(f *pflag.FlagSet) {
	f.IntVar(&c.schedulerPort, "scheduler-port", 10259, "port for health and metrics of a scheduler of its own, over HTTPS; 0: none")
}

func (c *config) controllersMonitor(f *pflag.FlagSet) {
	f.IntVar(&c.controllersPort, "controllers-port", 10257, "port for health and metrics of controllers of their own, over HTTPS; 0: none")
}

func (c *config) bindFlag(f *pflag.FlagSet, what string) {
	f.StringVar(&c.bindAddress, "bind-address", "0.0.0.0", "address "+what+" on")
}

func (c *config) schedulerFlags(f *pflag.FlagSet) {
	f.StringVar(&c.schedulerConfig, "scheduler-config", "", "file of kind KubeSchedulerConfiguration: profiles, plugins, extenders")
}

func (c *config) agentFlags(f *pflag.FlagSet) {
	f.StringVar(&c.nodeName, "node-name", "", "name of this node (default: the host name)")
	f.IntVar(&c.agentPort, "agent-port", 10250, "port of the node agent's own server")
	f.StringVar(&c.kubeletDir, "kubelet-dir", "/var/lib/kubelet", "pod volumes and plugin sockets")
	f.StringVar(&c.podLogsDir, "pod-logs-dir", "/var/log/pods", "container logs")
	f.StringVar(&c.containerLogsDir, "container-logs-dir", "/var/log/containers", "links to container logs by container name")
	f.StringVar(&c.cgroupRoot, "cgroup-root", "/", "cgroup below which kubepods is made")
	f.StringVar(&c.runtimeEndpoint, "container-runtime-endpoint", "", "socket of a CRI runtime to use instead of the built-in containerd")
	f.StringVar(&c.imagesDir, "images-dir", "", "image archives loaded at start (default: DATA-DIR/images)")
	f.IntVar(&c.maxPods, "max-pods", 110, "pods this node takes")
}

// load fills every flag that was not given from the environment, then from the configuration file.
func (c *config) load(f *pflag.FlagSet) error {
	if v, ok := os.LookupEnv(envName("config")); ok && !f.Changed("config") {
		c.file = v
	}
	fromFile, err := readConfigFile(c.file, f.Changed("config"))
	if err != nil {
		return err
	}
	if fromFile["kind"] == schedulerKind && f.Lookup("scheduler-config") != nil {
		c.schedulerConfig, fromFile = c.file, nil // upstream's scheduler takes its file so
	}
	for key := range fromFile {
		if !slices.Contains(settingNames(), key) {
			return fmt.Errorf("%s: unknown key %q; known are %s", c.file, key, strings.Join(settingNames(), ", "))
		}
	}
	var errs []error
	f.VisitAll(func(flag *pflag.Flag) {
		if flag.Changed || flag.Name == "config" || flag.Name == "help" {
			return
		}
		value, from := os.Getenv(envName(flag.Name)), envName(flag.Name)
		if value == "" {
			v, ok := fromFile[flag.Name]
			if !ok {
				return
			}
			value, from = plain(v), c.file+": "+flag.Name
		}
		if err := f.Set(flag.Name, value); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", from, err))
		}
	})
	return errors.Join(errs...)
}

func envName(flag string) string {
	return "CANOPUS_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// settingNames are the keys a configuration file may have, whichever command reads it.
func settingNames() []string {
	var all config
	f := pflag.NewFlagSet("", pflag.ContinueOnError)
	all.commonFlags(f)
	all.networkFlags(f)
	all.apiFlags(f)
	all.electionFlags(f, false)
	all.schedulerFlags(f)
	all.schedulerMonitor(f)
	all.controllersMonitor(f)
	all.agentFlags(f)
	f.BoolVar(&all.noAgent, "no-agent", false, "")
	f.BoolVar(&all.noWorkers, "no-workers", false, "")
	var names []string
	f.VisitAll(func(flag *pflag.Flag) {
		if flag.Name != "config" {
			names = append(names, flag.Name)
		}
	})
	return names
}

func readConfigFile(path string, required bool) (map[string]any, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) && !required {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("configuration file: %w", err)
	}
	out := map[string]any{}
	if err := yaml.Unmarshal(data, &out); err != nil {
		return nil, fmt.Errorf("configuration file %s is not a YAML mapping: %w", path, err)
	}
	return out, nil
}

// plain writes a YAML scalar or list of scalars the way a flag is written.
func plain(v any) string {
	list, ok := v.([]any)
	if !ok {
		return fmt.Sprint(v)
	}
	parts := make([]string, len(list))
	for i, e := range list {
		parts[i] = fmt.Sprint(e)
	}
	return strings.Join(parts, ",")
}

// kinds are those that the API server serves, as --runtime-config says.
func (c *config) kinds() (*kinds.Set, error) {
	asked := map[string]string{}
	for _, word := range c.runtimeConfig {
		key, value, _ := strings.Cut(word, "=")
		if _, twice := asked[key]; twice {
			return nil, fmt.Errorf("runtime-config: %s is said twice", key)
		}
		asked[key] = value
	}
	return builtin.Choose(asked)
}

// checkNetworks returns everything that is wrong with the addresses of the cluster.
func (c *config) checkNetworks() error {
	var errs []error
	for _, n := range []struct{ name, value string }{{"cluster-cidr", c.clusterCIDR}, {"service-cidr", c.serviceCIDR}} {
		if _, err := netip.ParsePrefix(n.value); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", n.name, err))
		}
	}
	if _, err := netip.ParseAddr(c.clusterDNS); err != nil {
		errs = append(errs, fmt.Errorf("cluster-dns: %w", err))
	}
	return errors.Join(errs...)
}
