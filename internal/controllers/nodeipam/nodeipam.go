// Package nodeipam gives every node a range of pod addresses (spec.podCIDRs) out of the cluster's ranges.
//
// Ranges in use are read from the nodes themselves, so nothing is kept on disk. One worker allocates: what it handed out
// and the cache does not show yet is kept in assigned.
package nodeipam

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/listers/core/v1"

	"canopus/internal/controllers/reconcile"
)

// Range is one of the cluster's address ranges and the prefix length of a node's part of it.
type Range struct {
	Cluster netip.Prefix
	Node    int
}

// Config is what the controller works with.
type Config struct {
	reconcile.Deps
	Ranges []Range // one per address family, in the order of spec.podCIDRs
}

// Controller reconciles nodes.
type Controller struct {
	Config
	nodes v1.NodeLister
	loop  *reconcile.Loop[string]
	// assigned holds what was written for nodes whose cached object has no range yet. Owned by the one worker.
	assigned map[types.UID][]netip.Prefix
}

// New makes a controller that does nothing before Run.
func New(config Config) (*Controller, error) {
	if err := config.Check(); err != nil {
		return nil, err
	}
	if len(config.Ranges) == 0 {
		return nil, errors.New("node address allocation needs a cluster CIDR")
	}
	for _, r := range config.Ranges {
		if !r.Cluster.IsValid() || r.Cluster != r.Cluster.Masked() {
			return nil, fmt.Errorf("cluster CIDR %s is no network address", r.Cluster)
		}
		if r.Node < r.Cluster.Bits() || r.Node > r.Cluster.Addr().BitLen() || r.Node-r.Cluster.Bits() > 16 {
			return nil, fmt.Errorf("node mask /%d does not divide cluster CIDR %s into 1 to 65536 parts", r.Node, r.Cluster)
		}
	}
	nodes := config.Informers.Core().V1().Nodes()
	c := &Controller{Config: config, nodes: nodes.Lister(), assigned: map[types.UID][]netip.Prefix{}}
	var err error
	c.loop, err = reconcile.New(reconcile.Config[string]{
		Name: "cidrallocator", Workers: 1, Reconcile: c.reconcile, Clock: config.Clock, Log: config.Log,
		Sources: []reconcile.Source[string]{reconcile.On(nodes.Informer(), nodeChanged)},
	})
	return c, err
}

// Run works until ctx ends.
func (c *Controller) Run(ctx context.Context) error { return c.loop.Run(ctx) }

// nodeChanged names a node that appeared or has no range; heartbeats of the others are nobody's business here.
func nodeChanged(_, node *corev1.Node) []string {
	if node == nil || node.Spec.PodCIDR != "" {
		return nil
	}
	return []string{node.Name}
}

func (c *Controller) reconcile(ctx context.Context, name string) (time.Duration, error) {
	node, err := c.nodes.Get(name)
	if apierrors.IsNotFound(err) {
		return 0, nil
	}
	if err != nil || node.Spec.PodCIDR != "" || node.DeletionTimestamp != nil {
		return 0, err
	}
	if len(c.assigned[node.UID]) > 0 {
		return 0, nil // written; the cache will show it
	}
	nodes, err := c.nodes.List(labels.Everything())
	if err != nil {
		return 0, err
	}
	parts, err := choose(c.Ranges, c.used(nodes))
	if err != nil {
		c.Events.Eventf(node, corev1.EventTypeNormal, "CIDRNotAvailable", "Node %s status is now: CIDRNotAvailable", name)
		return 0, fmt.Errorf("node %s: %w", name, err)
	}
	if err := c.write(ctx, node, parts); err != nil {
		return 0, fmt.Errorf("assign %v to node %s: %w", parts, name, err)
	}
	c.assigned[node.UID] = parts
	return 0, nil
}

// used collects the ranges of all nodes, and drops from assigned what the cache shows or whose node is gone.
func (c *Controller) used(nodes []*corev1.Node) []netip.Prefix {
	var used []netip.Prefix
	pending := make(map[types.UID][]netip.Prefix, len(c.assigned))
	for _, n := range nodes {
		cidrs := n.Spec.PodCIDRs
		if len(cidrs) == 0 && n.Spec.PodCIDR != "" {
			cidrs = []string{n.Spec.PodCIDR}
		}
		for _, text := range cidrs {
			if p, err := netip.ParsePrefix(text); err == nil {
				used = append(used, p.Masked())
			}
		}
		if parts := c.assigned[n.UID]; len(cidrs) == 0 && len(parts) > 0 {
			pending[n.UID] = parts
			used = append(used, parts...)
		}
	}
	c.assigned = pending
	return used
}

func (c *Controller) write(ctx context.Context, node *corev1.Node, parts []netip.Prefix) error {
	texts := make([]string, len(parts))
	for i, p := range parts {
		texts[i] = p.String()
	}
	patch, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"uid": node.UID},
		"spec":     map[string]any{"podCIDR": texts[0], "podCIDRs": texts},
	})
	if err != nil {
		return err
	}
	_, err = c.Client.CoreV1().Nodes().Patch(ctx, node.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{})
	return err
}

// choose picks the first part of every range that overlaps nothing in use.
func choose(ranges []Range, used []netip.Prefix) ([]netip.Prefix, error) {
	out := make([]netip.Prefix, 0, len(ranges))
	for _, r := range ranges {
		p, ok := firstFree(r, used)
		if !ok {
			return nil, fmt.Errorf("cluster CIDR %s has no free /%d left: remove nodes, or use a larger range", r.Cluster, r.Node)
		}
		out = append(out, p)
	}
	return out, nil
}

func firstFree(r Range, used []netip.Prefix) (netip.Prefix, bool) {
	total := 1 << (r.Node - r.Cluster.Bits())
	taken := make([]bool, total)
	for _, u := range used {
		if !u.Overlaps(r.Cluster) {
			continue
		}
		if u.Bits() <= r.Cluster.Bits() {
			return netip.Prefix{}, false
		}
		first := partOf(r, u.Addr())
		last := first
		if u.Bits() < r.Node {
			last = first + 1<<(r.Node-u.Bits()) - 1
		}
		for i := first; i <= last && i < total; i++ {
			taken[i] = true
		}
	}
	for i, t := range taken {
		if !t {
			return part(r, i), true
		}
	}
	return netip.Prefix{}, false
}

// partOf is the index of the node range that holds a.
func partOf(r Range, a netip.Addr) int {
	index := 0
	bytes := a.AsSlice()
	for bit := r.Cluster.Bits(); bit < r.Node; bit++ {
		index = index<<1 | int(bytes[bit/8]>>(7-bit%8)&1)
	}
	return index
}

// part is the node range with this index.
func part(r Range, index int) netip.Prefix {
	bytes := r.Cluster.Addr().AsSlice()
	for bit := r.Node - 1; bit >= r.Cluster.Bits(); bit-- {
		bytes[bit/8] |= byte(index&1) << (7 - bit%8)
		index >>= 1
	}
	a, _ := netip.AddrFromSlice(bytes) // of the length it came with
	return netip.PrefixFrom(a, r.Node)
}
