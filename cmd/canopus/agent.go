package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"

	"canopus/internal/auth"
	"canopus/internal/bundle"
	"canopus/internal/client"
	"canopus/internal/containerd"
	"canopus/internal/dns"
	"canopus/internal/network"
	"canopus/internal/node"
	"canopus/internal/node/rotation"
	"canopus/internal/proxy"
	"canopus/internal/run"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/utils/clock"
)

// nodeParts is a node: container runtime, pod network, Services, DNS and the agent that runs pods.
type nodeParts struct {
	cfg     *config
	log     *slog.Logger
	clock   clock.RealClock
	name    string
	address netip.Addr

	access  *client.Access // as the node
	network *client.Access // as the node's proxy; the same as access outside the server's process
	tls     *tls.Config
	roots   *x509.CertPool
}

func agentCommand() *cobra.Command {
	return command(&cobra.Command{
		Use:   "agent",
		Short: "Run a node of a cluster whose control plane is elsewhere",
		Long: `Run a node. The kubeconfig names the API server and holds the node's credentials; beside it lie
the agent's own serving certificate and the cluster's authority, as ` + "`canopus issue-node`" + ` writes them.`,
		Example: `  canopus agent --kubeconfig /etc/canopus/node/kubelet.conf`,
	}, func(cfg *config, c *cobra.Command) {
		cfg.networkFlags(c.Flags())
		cfg.agentFlags(c.Flags())
		c.Flags().StringVar(&cfg.advertiseAddress, "advertise-address", "", "address at which others reach this node (default: the one of the default route)")
	}, runAgent)
}

func runAgent(ctx context.Context, cmd *cobra.Command, cfg *config) error {
	log, err := processLogger(cfg)
	if err != nil {
		return err
	}
	unlock, err := lockProcess(cfg, "agent")
	if err != nil {
		return err
	}
	defer unlock()
	if err := checkMachine(ctx, needs(cfg, false, true), log); err != nil {
		return err
	}
	if err := remember(cmd, cfg); err != nil {
		return err
	}
	access, renews, err := nodeAccess(cfg)
	if err != nil {
		return err
	}
	n := &nodeParts{cfg: cfg, log: log, access: access, network: access}
	if err := n.parse(); err != nil {
		return err
	}
	dir := filepath.Dir(cfg.kubeconfig)
	if err := n.readCertificates(dir, renews); err != nil {
		return err
	}
	parts, err := n.parts(ctx)
	if err != nil {
		return err
	}
	if renews {
		r, err := rotation.New(rotation.Config{
			Client: access.Client, Node: n.name, Addresses: []netip.Addr{n.address}, Dir: dir, Clock: n.clock, Log: log,
		})
		if err != nil {
			return err
		}
		parts = append(parts, run.Part{Name: "certificates", Run: r.Run})
	}
	return runParts(ctx, log, append(parts, run.Part{Name: "informers", Run: access.RunInformers})...)
}

// nodeAccess is access with a node's credentials. Those that came inside the kubeconfig are renewed by the agent itself, in a file
// that connections made afterwards use; those in files are somebody else's to renew.
func nodeAccess(cfg *config) (access *client.Access, renews bool, err error) {
	c, err := clientcmd.BuildConfigFromFlags("", cfg.kubeconfig)
	if err != nil {
		return nil, false, fmt.Errorf("kubeconfig %s: %w", cfg.kubeconfig, err)
	}
	if len(c.CertData) > 0 {
		file := rotation.ClientFile(filepath.Dir(cfg.kubeconfig))
		if err := rotation.Adopt(file, c.CertData, c.KeyData); err != nil {
			return nil, false, fmt.Errorf("kubeconfig %s: %w", cfg.kubeconfig, err)
		}
		c.CertData, c.KeyData, c.CertFile, c.KeyFile = nil, nil, file, file
		renews = true
	}
	access, err = client.FromConfig(c, "kubelet")
	return access, renews, err
}

// localNode makes the node of a server's own process.
func (c *controlPlane) localNode(ctx context.Context) ([]run.Part, error) {
	n := &nodeParts{cfg: c.cfg, log: c.log, name: c.node, address: c.address, tls: c.cluster.NodeTLS(), roots: c.cluster.Roots()}
	var err error
	n.access, err = c.local.As(&auth.User{Name: "system:node:" + n.name, Groups: []string{"system:nodes", "system:authenticated"}}, "kubelet")
	if err != nil {
		return nil, err
	}
	if n.network, err = c.local.As(&auth.User{Name: "system:kube-proxy", Groups: []string{"system:authenticated"}}, "kube-proxy"); err != nil {
		return nil, err
	}
	parts, err := n.parts(ctx)
	if err != nil {
		return nil, err
	}
	for i := range parts {
		if parts[i].Name != "containerd" && parts[i].Name != "name server" {
			parts[i].Run = afterReady(c.boot.Ready, parts[i].Run)
		}
	}
	return parts, nil
}

func (n *nodeParts) parse() error {
	var err error
	if n.name, err = nodeName(n.cfg.nodeName); err != nil {
		return err
	}
	n.address, err = hostAddress(n.cfg.advertiseAddress)
	return err
}

// readCertificates takes the agent's serving certificate and the cluster's authority from dir, the certificate again whenever it
// changes.
func (n *nodeParts) readCertificates(dir string, renews bool) error {
	ca, err := os.ReadFile(filepath.Join(dir, "ca.crt"))
	if err != nil {
		return fmt.Errorf("the cluster's authority: %w: `canopus issue-node` on a server writes it", err)
	}
	n.roots = x509.NewCertPool()
	if !n.roots.AppendCertsFromPEM(ca) {
		return fmt.Errorf("%s holds no certificate", filepath.Join(dir, "ca.crt"))
	}
	n.tls = &tls.Config{MinVersion: tls.VersionTLS12, ClientAuth: tls.RequestClientCert}
	certFile, keyFile := filepath.Join(dir, "kubelet.crt"), filepath.Join(dir, "kubelet.key")
	if renews {
		cert, err1 := os.ReadFile(certFile)
		key, err2 := os.ReadFile(keyFile)
		if err := errors.Join(err1, err2); err != nil {
			return fmt.Errorf("the agent's serving certificate: %w", err)
		}
		n.tls.GetCertificate = rotation.Serving(rotation.ServingFile(dir))
		return rotation.Adopt(rotation.ServingFile(dir), cert, key)
	}
	n.tls.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		c, err := tls.LoadX509KeyPair(certFile, keyFile)
		return &c, err
	}
	if _, err := n.tls.GetCertificate(nil); err != nil {
		return fmt.Errorf("the agent's serving certificate: %w", err)
	}
	return nil
}

// parts makes what a node is made of, in the order in which it starts.
func (n *nodeParts) parts(ctx context.Context) ([]run.Part, error) {
	var parts []run.Part
	endpoint := n.cfg.runtimeEndpoint
	ready := func() <-chan struct{} { c := make(chan struct{}); close(c); return c }
	if endpoint == "" {
		if os.Geteuid() != 0 {
			return nil, errors.New("running containers takes root: start canopus as root, or a control plane alone with --no-agent")
		}
		if err := n.unpack(ctx); err != nil {
			return nil, err
		}
		runtime, err := newRuntime(n.cfg, n.log)
		if err != nil {
			return nil, err
		}
		endpoint, ready = runtime.Endpoint(), runtime.Ready
		parts = append(parts, run.Part{Name: "containerd", Run: runtime.Run})
	}
	net, err := newNetwork(n.cfg, n.name, n.network, n.log)
	if err != nil {
		return nil, err
	}
	services, err := n.proxy()
	if err != nil {
		return nil, err
	}
	agent, err := n.agent(endpoint)
	if err != nil {
		return nil, err
	}
	names, err := n.nameServer(ctx)
	if err != nil {
		return nil, err
	}
	parts = append([]run.Part{{Name: "name server", Run: names.Run}}, parts...)
	return append(parts,
		run.Part{Name: "pod network", Run: net.Run},
		run.Part{Name: "service proxy", Run: services.Run},
		run.Part{Name: "node agent", Run: afterReady(ready, agent.Run)},
	), nil
}

func (n *nodeParts) unpack(ctx context.Context) error {
	b, err := bundle.Embedded()
	if err != nil {
		return err
	}
	return ensureBundle(ctx, b, binDir(n.cfg))
}

func newRuntime(cfg *config, log *slog.Logger) (*containerd.Runtime, error) {
	images := cfg.imagesDir
	if images == "" {
		images = filepath.Join(cfg.dataDir, "images")
	}
	return containerd.New(containerd.Config{
		Bin:        bundle.Current(binDir(cfg)),
		Root:       filepath.Join(cfg.dataDir, "containerd"),
		State:      filepath.Join(cfg.runDir, "containerd"),
		LogFile:    filepath.Join(cfg.dataDir, "log", "containerd.log"),
		CNIConf:    cniDir(cfg),
		Registries: filepath.Join(filepath.Dir(cfg.file), "registries"),
		Bundled:    bundle.Images(binDir(cfg)),
		ImageDirs:  []string{images},
		Log:        log,
		Clock:      clock.RealClock{},
	})
}

func cniDir(cfg *config) string { return filepath.Join(cfg.dataDir, "cni", "net.d") }

// volumesDir is where volumes of the StorageClass local are. It outlives pods and Canopus; reset removes it.
func volumesDir(cfg *config) string { return filepath.Join(cfg.dataDir, "volumes") }

func newNetwork(cfg *config, name string, access *client.Access, log *slog.Logger) (*network.Network, error) {
	return network.New(network.Config{
		NodeName: name, Nodes: access.Informers.Core().V1().Nodes(), CNIConf: cniDir(cfg),
		State: filepath.Join(cfg.dataDir, "cni", "networks"), Log: log, Clock: clock.RealClock{},
	})
}

func (n *nodeParts) proxy() (*proxy.Proxy, error) {
	pods, err := netip.ParsePrefix(n.cfg.clusterCIDR)
	if err != nil {
		return nil, fmt.Errorf("cluster-cidr: %w", err)
	}
	dns, err := netip.ParseAddr(n.cfg.clusterDNS)
	if err != nil {
		return nil, fmt.Errorf("cluster-dns: %w", err)
	}
	return proxy.New(proxy.Config{
		NodeName: n.name, ClusterCIDR: pods, Except: []netip.Addr{dns}, Informers: n.network.Informers, Log: n.log, Clock: n.clock,
	})
}

// dnsDescriptors is the environment variable by which runtime/keep hands its sockets down: the UDP and the TCP one's number.
const dnsDescriptors = "CANOPUS_DNS_FDS"

// nameServer makes the cluster's name server. It is the first part to run: pods wait for it after a restart.
func (n *nodeParts) nameServer(ctx context.Context) (*dns.Server, error) {
	ip, err := netip.ParseAddr(n.cfg.clusterDNS)
	if err != nil {
		return nil, fmt.Errorf("cluster-dns: %w", err)
	}
	var sockets *dns.Sockets
	if handed := os.Getenv(dnsDescriptors); handed != "" {
		var udp, tcp int
		if _, err := fmt.Sscanf(handed, "%d,%d", &udp, &tcp); err != nil {
			return nil, fmt.Errorf("%s=%q: two file descriptors are expected, such as 3,4: %w", dnsDescriptors, handed, err)
		}
		sockets, err = dns.Inherit([]*os.File{os.NewFile(uintptr(udp), "udp"), os.NewFile(uintptr(tcp), "tcp")})
	} else {
		sockets, err = dns.Open(ctx, netip.AddrPortFrom(ip, dnsPort))
	}
	if err != nil {
		return nil, err
	}
	return dns.New(dns.Config{
		Domain: n.cfg.clusterDomain, Sockets: sockets, Informers: n.network.Informers, ResolvConf: "/etc/resolv.conf",
		Snapshot: filepath.Join(n.cfg.dataDir, "dns.snapshot"), Log: n.log, Clock: n.clock,
	})
}

const dnsPort = 53

func (n *nodeParts) agent(endpoint string) (*node.Node, error) {
	return node.New(node.Config{
		Client: n.access.Client, NodeName: n.name, IPs: []string{n.address.String()}, Endpoint: endpoint, Version: serverVersion().GitVersion,
		Root: n.cfg.kubeletDir, PodLogs: n.cfg.podLogsDir, ContainerLogs: n.cfg.containerLogsDir, LocalVolumes: volumesDir(n.cfg), CgroupRoot: n.cfg.cgroupRoot,
		ClusterDNS: []string{n.cfg.clusterDNS}, ClusterDomain: n.cfg.clusterDomain, MaxPods: int64(n.cfg.maxPods),
		Address: ":" + strconv.Itoa(n.cfg.agentPort), TLS: n.tls, ClientCA: n.roots, Figures: []prometheus.Collector{buildInfo()},
		Clock: n.clock, Log: n.log,
	})
}
