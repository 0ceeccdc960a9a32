// Package network gives the pods of a node their network: it writes the CNI configuration that containerd uses (a bridge
// with addresses out of the node's pod CIDR), sets the kernel settings that forwarding needs, and keeps routes to the pods
// of other nodes. What Services need (translation and masquerading) is package proxy's.
//
// plan.go decides; this file observes and acts; reset.go takes everything away.
package network

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	coreinformers "k8s.io/client-go/informers/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/utils/clock"
)

// Config says what to set up. MTU and Bridge may be left zero.
type Config struct {
	NodeName string
	Nodes    coreinformers.NodeInformer
	CNIConf  string // directory that containerd reads its network configuration from
	State    string // directory for the records of given addresses; must survive a reboot or vanish with all pods
	Bridge   string // name of the bridge; cni0 unless set
	MTU      int    // of pods' interfaces; that of the interface with the node's address unless set
	Log      *slog.Logger
	Clock    clock.WithTicker
}

// Network keeps one node's pod network.
type Network struct {
	Config
	ready chan struct{}
	kick  chan struct{} // holds one token when there may be something to do
}

// DefaultBridge is the bridge that pods hang on.
const DefaultBridge = "cni0"

// New checks c. It touches nothing.
func New(c Config) (*Network, error) {
	if c.NodeName == "" || c.Nodes == nil || c.Log == nil || c.Clock == nil {
		return nil, errors.New("network: NodeName, Nodes, Log and Clock are required")
	}
	if !filepath.IsAbs(c.CNIConf) || !filepath.IsAbs(c.State) {
		return nil, fmt.Errorf("network: CNIConf and State must be absolute paths, they are %q and %q", c.CNIConf, c.State)
	}
	if c.Bridge == "" {
		c.Bridge = DefaultBridge
	}
	if len(c.Bridge) > 15 {
		return nil, fmt.Errorf("network: bridge name %q is longer than the 15 bytes that Linux allows", c.Bridge)
	}
	if c.MTU != 0 && (c.MTU < 576 || c.MTU > 65535) {
		return nil, fmt.Errorf("network: MTU %d is not between 576 and 65535", c.MTU)
	}
	c.Nodes.Informer() // asked for now, so that starting the factory before Run starts it
	return &Network{Config: c, ready: make(chan struct{}), kick: make(chan struct{}, 1)}, nil
}

// Ready is closed once pods can get addresses, which needs the node's pod CIDR.
func (n *Network) Ready() <-chan struct{} { return n.ready }

const (
	retryAfter = 2 * time.Second
	// checkEvery is how often routes and settings are compared with what they should be, in case someone else changed them.
	checkEvery = time.Minute
)

// Run keeps the network as the Nodes say until ctx ends, and leaves it in place then.
func (n *Network) Run(ctx context.Context) error {
	informer := n.Nodes.Informer()
	handler, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(any) { n.ring() },
		UpdateFunc: func(any, any) { n.ring() },
		DeleteFunc: func(any) { n.ring() },
	})
	if err != nil {
		return fmt.Errorf("network: watch nodes: %w", err)
	}
	defer func() { _ = informer.RemoveEventHandler(handler) }()
	return n.loop(ctx, handler.HasSynced)
}

func (n *Network) ring() {
	select {
	case n.kick <- struct{}{}:
	default:
	}
}

func (n *Network) loop(ctx context.Context, synced cache.InformerSynced) error {
	if !cache.WaitForCacheSync(ctx.Done(), synced) {
		return nil
	}
	var said string // the last problem logged, so that a lasting one is logged once
	for {
		wait := checkEvery
		if err := n.sync(); err != nil {
			wait = retryAfter
			if err.Error() != said {
				n.Log.Warn("pod network not complete yet", "error", err)
			}
			said = err.Error()
		} else {
			said = ""
		}
		select {
		case <-ctx.Done():
			return nil
		case <-n.kick:
		case <-n.Clock.After(wait):
		}
	}
}

// sync observes, plans and acts once.
func (n *Network) sync() error {
	nodes, err := n.Nodes.Lister().List(labels.Everything())
	if err != nil {
		return err
	}
	own, others, err := peers(n.NodeName, nodes)
	if err != nil {
		return err
	}
	links, err := localNetworks()
	if err != nil {
		return err
	}
	have, err := ourRoutes()
	if err != nil {
		return err
	}
	p, problems := planRoutes(others, links, have)
	mtu := n.MTU
	if mtu == 0 {
		mtu = mtuOf(own.address, links)
	}
	err = errors.Join(setSysctls(), n.writeConflist(own.podCIDR, mtu))
	if err != nil {
		return err
	}
	select {
	case <-n.ready:
	default:
		n.Log.Info("pod network is ready", "cidr", own.podCIDR, "mtu", mtu)
		close(n.ready)
	}
	return errors.Join(applyRoutes(p), problems)
}

// peers splits nodes into ours and the others, leaving out what has no pod CIDR or address yet.
func peers(name string, nodes []*corev1.Node) (own peer, others []peer, err error) {
	found := false
	for _, node := range nodes {
		p, ok := peerOf(node)
		switch {
		case node.Name == name && !ok:
			return peer{}, nil, fmt.Errorf("node %s has no IPv4 pod CIDR or no InternalIP yet", name)
		case node.Name == name:
			own, found = p, true
		case ok:
			others = append(others, p)
		}
	}
	if !found {
		return peer{}, nil, fmt.Errorf("node %s is not registered yet", name)
	}
	return own, others, nil
}

// peerOf reads the parts of node that routes depend on; false while they are missing.
func peerOf(node *corev1.Node) (peer, bool) {
	p := peer{name: node.Name}
	cidrs := node.Spec.PodCIDRs
	if len(cidrs) == 0 && node.Spec.PodCIDR != "" {
		cidrs = []string{node.Spec.PodCIDR}
	}
	for _, s := range cidrs {
		if c, err := netip.ParsePrefix(s); err == nil && c.Addr().Is4() {
			p.podCIDR = c.Masked()
			break
		}
	}
	for _, a := range node.Status.Addresses {
		if ip, err := netip.ParseAddr(a.Address); err == nil && a.Type == corev1.NodeInternalIP && ip.Is4() {
			p.address = ip
			break
		}
	}
	return p, p.podCIDR.IsValid() && p.address.IsValid()
}

// writeConflist puts the CNI configuration in place. Containerd notices a changed file by itself.
func (n *Network) writeConflist(podCIDR netip.Prefix, mtu int) error {
	want, err := conflist(n.Bridge, podCIDR, mtu, n.ipam())
	if err != nil {
		return err
	}
	path := n.conflistFile()
	if have, err := os.ReadFile(path); err == nil && string(have) == string(want) {
		return nil
	}
	for _, dir := range []string{n.CNIConf, n.ipam()} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("prepare the pod network: %w", err)
		}
	}
	if err := os.WriteFile(path+".new", want, 0o644); err != nil {
		return fmt.Errorf("write the CNI configuration: %w", err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return fmt.Errorf("write the CNI configuration: %w", err)
	}
	return nil
}

func (n *Network) conflistFile() string { return filepath.Join(n.CNIConf, "10-canopus.conflist") }

func (n *Network) ipam() string { return filepath.Join(n.State, "ipam") }
