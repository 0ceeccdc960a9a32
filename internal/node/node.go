// Package node is the node agent, the kubelet: it registers the machine as a Node, runs the pods that are bound to it
// through a CRI container runtime, reports what becomes of them, and serves their logs, exec, attach and port-forward.
//
// Each subject is a subpackage: cri (the runtime and what it runs), pods (what to do about a pod, and doing it), crispec
// and env (from a spec to the runtime's configuration), volume, devices (claimed ones), reclaim (of local volumes), cgroup, images, probe, hooks, objects (referenced Secrets
// and ConfigMaps), nodestatus, logs, server. This package puts them together.
package node

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/informers"
	coreinformers "k8s.io/client-go/informers/core/v1"
	"k8s.io/client-go/kubernetes/scheme"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/mount-utils"

	"canopus/internal/localvolume"
	"canopus/internal/node/bell"
	"canopus/internal/node/cgroup"
	"canopus/internal/node/cri"
	"canopus/internal/node/crispec"
	"canopus/internal/node/devices"
	"canopus/internal/node/hooks"
	"canopus/internal/node/images"
	"canopus/internal/node/nodestatus"
	"canopus/internal/node/objects"
	"canopus/internal/node/pods"
	"canopus/internal/node/probe"
	"canopus/internal/node/reclaim"
	"canopus/internal/node/server"
	"canopus/internal/node/volume"

	"github.com/prometheus/client_golang/prometheus"
)

const (
	// runtimeRetry is the pause between attempts to reach a runtime that does not answer yet.
	runtimeRetry = 200 * time.Millisecond

	// driverGrace is how long a device driver may be away before what it published is deleted.
	driverGrace = 30 * time.Second
)

// Node is a node agent.
type Node struct {
	cfg     Config
	client  *cri.Client
	cgroups *cgroup.Tree
	machine nodestatus.Machine
	dns     *crispec.DNS
	report  *nodestatus.Reporter
	reclaim *reclaim.Reclaimer // nil: this node offers no local volumes
	events  record.EventBroadcaster
	record  record.EventRecorder
}

// New checks the configuration and looks at the machine. It starts nothing.
func New(cfg Config) (*Node, error) {
	if err := cfg.complete(); err != nil {
		return nil, err
	}
	n := &Node{cfg: cfg}
	var err error
	if n.client, err = cri.Dial(cfg.Endpoint); err != nil {
		return nil, err
	}
	if n.cgroups, err = cgroup.Open(cgroup.Config{Root: cfg.CgroupRoot, PIDs: cfg.PIDLimit, Clock: cfg.Clock}); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(cfg.Root, 0o750); err != nil {
		return nil, fmt.Errorf("node agent: root directory: %w", err)
	}
	if n.machine, err = nodestatus.Inspect(cfg.Root, nodestatus.Reserved{Resources: cfg.Reserved, MaxPods: cfg.MaxPods}); err != nil {
		return nil, err
	}
	resolv, err := crispec.ParseResolvConf(cfg.ResolvConf)
	if err != nil {
		cfg.Log.Warn("reading the node's resolver: pods get none but the cluster's", "error", err)
		resolv = &runtimeapi.DNSConfig{}
	}
	n.dns = &crispec.DNS{ClusterIPs: cfg.ClusterDNS, Domain: cfg.ClusterDomain, Node: resolv}
	n.events = record.NewBroadcaster()
	n.record = n.events.NewRecorder(scheme.Scheme, corev1.EventSource{Component: "kubelet", Host: cfg.NodeName})
	var annotations map[string]string
	if cfg.LocalVolumes != "" {
		annotations = map[string]string{localvolume.RootAnnotation: cfg.LocalVolumes}
		n.reclaim, err = reclaim.New(reclaim.Config{
			Client: cfg.Client, NodeName: cfg.NodeName, Volumes: cfg.LocalVolumes, Root: cfg.Root, Recorder: n.record, Clock: cfg.Clock, Log: cfg.Log,
		})
		if err != nil {
			return nil, err
		}
	}
	n.report, err = nodestatus.New(nodestatus.Config{
		Client: cfg.Client, NodeName: cfg.NodeName, IPs: cfg.IPs, Labels: cfg.Labels, Annotations: annotations, Taints: cfg.Taints, Machine: n.machine,
		Version: cfg.Version, Port: n.port(), Root: cfg.Root, Runtime: n.client, Recorder: n.record, Clock: cfg.Clock, Log: cfg.Log,
	})
	return n, err
}

// Ready is closed after the API was told that the node is ready.
func (n *Node) Ready() <-chan struct{} { return n.report.Ready() }

func (n *Node) port() int32 {
	_, port, err := net.SplitHostPort(n.cfg.Address)
	if err != nil {
		return 0
	}
	p, err := strconv.Atoi(port)
	if err != nil {
		return 0
	}
	return int32(p)
}

// Run works until ctx ends. Pods keep running then, and the next Run picks them up.
func (n *Node) Run(ctx context.Context) error {
	defer n.client.Close()
	for _, dir := range []string{n.cfg.PodLogs, n.cfg.ContainerLogs} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("node agent: log directory: %w", err)
		}
	}
	if err := shareMounts(n.cfg.Root); err != nil {
		return err
	}
	if err := n.cgroups.EnsureRoot(); err != nil {
		return err
	}
	n.events.StartRecordingToSink(&typedcorev1.EventSinkImpl{Interface: n.cfg.Client.CoreV1().Events("")})
	defer n.events.Shutdown()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return n.report.Run(ctx) })
	if n.reclaim != nil {
		g.Go(func() error { return n.reclaim.Run(ctx) })
	}
	g.Go(func() error { return n.runPods(ctx, g) })
	return g.Wait()
}

// runPods starts everything that needs the runtime once the runtime answers.
func (n *Node) runPods(ctx context.Context, g *errgroup.Group) error {
	name, ok := n.awaitRuntime(ctx)
	if !ok {
		return nil
	}
	services, synced := n.services(ctx, g)
	informer := n.cfg.Pods
	if informer == nil {
		informer = podInformer(n.cfg)
		g.Go(func() error { informer.RunWithContext(ctx); return nil })
	}
	p, err := n.assemble(name, informer, services)
	if err != nil {
		return err
	}
	g.Go(func() error { return p.cache.Run(ctx) })
	g.Go(func() error { return p.objects.Run(ctx) })
	g.Go(func() error { return p.probes.Run(ctx) })
	g.Go(func() error { return p.collector.Run(ctx) })
	g.Go(func() error { return p.rotator.Run(ctx) })
	g.Go(func() error { return p.devices.Run(ctx) })
	g.Go(func() error { return p.cleaner.Run(ctx) })
	if p.server != nil {
		g.Go(func() error { return p.server.Run(ctx) })
	}
	if !cache.WaitForCacheSync(ctx.Done(), synced) {
		return nil
	}
	return p.manager.Run(ctx)
}

// awaitRuntime returns the runtime's name once it answers; ok is false when ctx ended first.
func (n *Node) awaitRuntime(ctx context.Context) (name string, ok bool) {
	for {
		v, err := n.client.Version(ctx, &runtimeapi.VersionRequest{})
		if err == nil {
			return v.GetRuntimeName(), true
		}
		select {
		case <-ctx.Done():
			return "", false
		case <-n.cfg.Clock.After(runtimeRetry):
		}
	}
}

// services returns a lister of Services for the environment of containers.
func (n *Node) services(ctx context.Context, g *errgroup.Group) (coreinformers.ServiceInformer, cache.InformerSynced) {
	if n.cfg.Services != nil {
		return nil, n.cfg.ServicesSynced
	}
	f := informers.NewSharedInformerFactory(n.cfg.Client, 0)
	s := f.Core().V1().Services()
	informer := s.Informer()
	g.Go(func() error { informer.RunWithContext(ctx); return nil })
	return s, informer.HasSynced
}

func podInformer(cfg Config) cache.SharedIndexInformer {
	return coreinformers.NewFilteredPodInformer(cfg.Client, metav1.NamespaceAll, 0, cache.Indexers{
		cache.NamespaceIndex: cache.MetaNamespaceIndexFunc,
	}, func(o *metav1.ListOptions) {
		o.FieldSelector = fields.OneTermEqualSelector("spec.nodeName", cfg.NodeName).String()
	})
}

// parts is what runs beside the reporter.
type parts struct {
	cache     *cri.Cache
	objects   *objects.Watches
	probes    *probe.Set
	collector *images.Collector
	rotator   *pods.Rotator
	devices   *devices.Registry
	cleaner   *devices.Cleaner
	manager   *pods.Manager
	server    *server.Server
	figures   *prometheus.Registry
}

func (n *Node) assemble(runtimeName string, informer cache.SharedIndexInformer, services coreinformers.ServiceInformer) (*parts, error) {
	cfg, p := n.cfg, &parts{figures: prometheus.NewRegistry()}
	bells := bell.New()
	var err error
	for _, f := range cfg.Figures {
		if err := p.figures.Register(f); err != nil {
			return nil, fmt.Errorf("show the figures of the node: %w", err)
		}
	}
	if p.cache, err = cri.NewCache(cri.CacheConfig{Client: n.client, Changed: bells.Ring, Clock: cfg.Clock, Log: cfg.Log}); err != nil {
		return nil, err
	}
	marks := &pods.Marks{Bells: bells}
	p.objects = objects.New(cfg.Client, marks.Stale)
	if p.probes, err = probe.NewSet(probe.Config{Client: n.client, Clock: cfg.Clock, Changed: bells.Ring, Event: n.containerEvent, Metrics: p.figures}); err != nil {
		return nil, err
	}
	if p.collector, err = images.NewCollector(images.GCConfig{Client: n.client, Clock: cfg.Clock, Log: cfg.Log, InUse: inUse(p.cache)}); err != nil {
		return nil, err
	}
	p.rotator = &pods.Rotator{Cache: p.cache, Runtime: n.client, Clock: cfg.Clock, Log: cfg.Log, MaxSize: cfg.LogMaxSize, MaxFiles: cfg.LogMaxFiles}
	if p.devices, err = devices.NewRegistry(devices.RegistryConfig{
		Dir: filepath.Join(cfg.Root, "plugins_registry"), HealthChanged: bells.RingAll, Clock: cfg.Clock, Log: cfg.Log,
	}); err != nil {
		return nil, err
	}
	if p.cleaner, err = devices.NewCleaner(devices.CleanerConfig{
		Client: cfg.Client, Registry: p.devices, NodeName: cfg.NodeName, Grace: driverGrace, Clock: cfg.Clock, Log: cfg.Log,
	}); err != nil {
		return nil, err
	}
	claimed, err := devices.NewHost(cfg.Client, p.devices, cfg.Root)
	if err != nil {
		return nil, err
	}
	lister := cfg.Services
	if lister == nil {
		lister = services.Lister()
	}
	memory := n.machine.Capacity[corev1.ResourceMemory]
	paths := crispec.Paths{PodLogs: cfg.PodLogs, Root: cfg.Root, Seccomp: cfg.Root + "/seccomp"}
	p.manager, err = pods.NewManager(pods.Config{
		Client: cfg.Client, Pods: informer, Services: lister, HostIPs: cfg.IPs, Runtime: n.client, RuntimeName: runtimeName,
		Cache: p.cache, Bells: bells, Marks: marks, Objects: p.objects, Probes: p.probes, Cgroups: n.cgroups, DNS: n.dns, Paths: paths,
		Volumes: &volume.Host{
			Root: cfg.Root, Mounter: mount.New(""), Tokens: &tokens{cfg.Client}, Claims: &claims{cfg.Client, cfg.NodeName}, Clock: cfg.Clock,
			Node: cfg.NodeName, LocalVolumes: cfg.LocalVolumes, Allocatable: n.machine.Allocatable,
		},
		Devices: claimed,
		Puller:  images.NewPuller(n.client, cfg.Clock, cfg.Pulls), Hooks: &hooks.Runner{Client: n.client, Clock: cfg.Clock},
		ContainerLogs: cfg.ContainerLogs, Memory: memory.Value(), NodeName: cfg.NodeName, Allocatable: n.machine.Allocatable,
		Node: func(ctx context.Context) (*corev1.Node, error) {
			return cfg.Client.CoreV1().Nodes().Get(ctx, cfg.NodeName, metav1.GetOptions{})
		},
		Recorder: n.record, Clock: cfg.Clock, Log: cfg.Log,
	})
	if err != nil || cfg.NoServer {
		return p, err
	}
	p.server, err = server.New(server.Config{
		Client: cfg.Client, NodeName: cfg.NodeName, Address: cfg.Address, TLS: cfg.TLS, ClientCA: cfg.ClientCA, Runtime: n.client,
		Cache: p.cache, Pods: informer.GetStore(), PodLogs: cfg.PodLogs, Machine: n.machine, Metrics: p.figures, Clock: cfg.Clock, Log: cfg.Log,
	})
	return p, err
}

// containerEvent records an event about a container.
func (n *Node) containerEvent(pod *corev1.Pod, container, kind, reason, message string) {
	pods.Record(n.record, pod, container, pods.Event{Kind: kind, Reason: reason, Message: message})
}

// inUse returns a function that names the images of all containers.
func inUse(c *cri.Cache) func() map[string]bool {
	return func() map[string]bool {
		out := map[string]bool{}
		for _, p := range c.All() {
			for _, st := range p.Containers {
				out[st.GetImageId()] = true
				out[st.GetImage().GetImage()] = true
				out[st.GetImageRef()] = true
			}
		}
		return out
	}
}
