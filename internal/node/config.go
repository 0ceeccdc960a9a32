package node

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/utils/clock"

	"github.com/prometheus/client_golang/prometheus"
)

// Config is what a node agent needs. Client, NodeName, IPs, Endpoint, Version, Clock and Log are required, and TLS unless
// NoServer is set.
type Config struct {
	Client   kubernetes.Interface
	NodeName string
	IPs      []string // of the node, primary first
	Endpoint string   // of the container runtime: unix:///…/containerd.sock
	Version  string   // v1.37.x+canopus.y, shown as the kubelet's version

	// Pods is an informer of this node's pods, and Services with ServicesSynced a lister of all Services, where the
	// process has them already. Without them the agent makes its own from Client.
	Pods           cache.SharedIndexInformer
	Services       corelisters.ServiceLister
	ServicesSynced cache.InformerSynced

	Root          string // /var/lib/kubelet unless set
	PodLogs       string // /var/log/pods unless set
	ContainerLogs string // /var/log/containers unless set
	LocalVolumes  string // below which volumes are provisioned on this node; none are unless set
	CgroupRoot    string // below which kubepods is made; / unless set
	ResolvConf    string // the node's own resolver; /etc/resolv.conf unless set

	ClusterDNS    []string
	ClusterDomain string // cluster.local unless set

	Labels   map[string]string
	Taints   []corev1.Taint
	MaxPods  int64               // 110 unless set
	Reserved corev1.ResourceList // kept from pods
	PIDLimit int64               // per pod; 0: none
	Pulls    int                 // images pulled at once; 5 unless set

	Address     string // the server's; :10250 unless set
	TLS         *tls.Config
	ClientCA    *x509.CertPool // of client certificates; nil: tokens only
	NoServer    bool
	Figures     []prometheus.Collector // shown on the server's page of metrics, besides the agent's own
	LogMaxSize  int64                  // bytes after which a container's log is rotated; 10 MiB unless set
	LogMaxFiles int                    // kept per container; 5 unless set

	Clock clock.WithTicker
	Log   *slog.Logger
}

// complete checks the configuration and fills in what is not set.
func (c *Config) complete() error {
	var errs []error
	need := func(ok bool, what string) {
		if !ok {
			errs = append(errs, errors.New("node agent: "+what))
		}
	}
	need(c.Client != nil, "Client is required")
	need(c.NodeName != "", "NodeName is required")
	need(len(c.IPs) > 0, "at least one node IP is required")
	need(c.Endpoint != "", "Endpoint of the container runtime is required")
	need(c.Version != "", "Version is required")
	need(c.Clock != nil && c.Log != nil, "Clock and Log are required")
	need(c.NoServer || c.TLS != nil, "TLS is required to serve logs and exec: give it, or set NoServer")
	need((c.Services == nil) == (c.ServicesSynced == nil), "Services and ServicesSynced go together")
	for _, ip := range c.IPs {
		need(net.ParseIP(ip) != nil, fmt.Sprintf("node IP %q is not an IP address", ip))
	}
	for _, d := range []struct {
		path *string
		def  string
	}{
		{&c.Root, "/var/lib/kubelet"}, {&c.PodLogs, "/var/log/pods"}, {&c.ContainerLogs, "/var/log/containers"},
		{&c.CgroupRoot, "/"}, {&c.ResolvConf, "/etc/resolv.conf"}, {&c.ClusterDomain, "cluster.local"}, {&c.Address, ":10250"},
	} {
		if *d.path == "" {
			*d.path = d.def
		}
	}
	for _, p := range []string{c.Root, c.PodLogs, c.ContainerLogs, c.LocalVolumes} {
		need(filepath.IsAbs(p) || p == "", fmt.Sprintf("directory %q must be absolute", p))
	}
	if c.Pulls == 0 {
		c.Pulls = 5
	}
	if c.LogMaxSize == 0 {
		c.LogMaxSize = 10 << 20
	}
	if c.LogMaxFiles == 0 {
		c.LogMaxFiles = 5
	}
	return errors.Join(errs...)
}
