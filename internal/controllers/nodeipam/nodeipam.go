// Package nodeipam gives every node a range of pod addresses (spec.podCIDRs) out of the cluster's ranges.
//
// Ranges in use are read from the nodes themselves, so nothing is kept on disk; the pool counts them as nodes come and go.
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
	pool  *pool
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
	c := &Controller{Config: config, nodes: nodes.Lister(), pool: newPool(config.Ranges)}
	var err error
	c.loop, err = reconcile.New(reconcile.Config[string]{
		Name: "cidrallocator", Workers: 1, Reconcile: c.reconcile, Clock: config.Clock, Log: config.Log, Queues: config.Queues,
		Sources: []reconcile.Source[string]{reconcile.On(nodes.Informer(), c.nodeChanged)},
	})
	return c, err
}

// Run works until ctx ends.
func (c *Controller) Run(ctx context.Context) error { return c.loop.Run(ctx) }

// nodeChanged names a node that has no range yet, and those that waited for the one this change gave back. Heartbeats of
// the others are nobody's business here.
func (c *Controller) nodeChanged(old, node *corev1.Node) []string {
	if node == nil {
		return c.pool.giveBack(old.UID)
	}
	var keys []string
	if old != nil && old.UID != node.UID {
		keys = c.pool.giveBack(old.UID)
	}
	if cidrs := cidrsOf(node); len(cidrs) > 0 {
		return append(keys, c.pool.observe(node.UID, cidrs)...)
	}
	return append(keys, node.Name)
}

// cidrsOf are the ranges that a node says it has; those that cannot be parsed are left out.
func cidrsOf(node *corev1.Node) []netip.Prefix {
	texts := node.Spec.PodCIDRs
	if len(texts) == 0 && node.Spec.PodCIDR != "" {
		texts = []string{node.Spec.PodCIDR}
	}
	out := make([]netip.Prefix, 0, len(texts))
	for _, text := range texts {
		if p, err := netip.ParsePrefix(text); err == nil {
			out = append(out, p.Masked())
		}
	}
	return out
}

func (c *Controller) reconcile(ctx context.Context, name string) (time.Duration, error) {
	node, err := c.nodes.Get(name)
	if apierrors.IsNotFound(err) {
		return 0, nil
	}
	if err != nil || node.Spec.PodCIDR != "" || node.DeletionTimestamp != nil {
		return 0, err
	}
	parts, err := c.pool.take(node.UID, name)
	if err != nil { // the node is queued again when another one leaves
		c.Events.Eventf(node, corev1.EventTypeNormal, "CIDRNotAvailable", "Node %s status is now: CIDRNotAvailable", name)
		return 0, reconcile.Terminal(fmt.Errorf("node %s: %w", name, err))
	}
	if parts == nil {
		return 0, nil // written; the cache will show it
	}
	if err := c.write(ctx, node, parts); err != nil {
		c.pool.giveBack(node.UID)
		return 0, fmt.Errorf("assign %v to node %s: %w", parts, name, err)
	}
	return 0, nil
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
