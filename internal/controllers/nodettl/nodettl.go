// Package nodettl tells node agents how long they may use a ConfigMap or Secret before they ask for it again: in a large cluster
// longer. It says so in an annotation of each node, for agents that ask; those that watch (as ours do) need no telling.
package nodettl

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"

	"canopus/internal/controllers/reconcile"
)

// size is how large a cluster is, roughly. Neighbours overlap, so that a cluster at a border does not go back and forth.
type size struct {
	least, most int // nodes; below and beyond, it is another size
	seconds     int
}

// sizes are upstream's, the smallest first. The last has no upper end.
func sizes() []size {
	return []size{{0, 100, 0}, {90, 500, 15}, {450, 1000, 30}, {900, 2000, 60}, {1800, 0, 300}}
}

// settle returns which of the sizes a cluster is that was the given one.
func settle(was, nodes int) int {
	all := sizes()
	for was < len(all)-1 && nodes > all[was].most {
		was++
	}
	for was > 0 && nodes < all[was].least {
		was--
	}
	return was
}

// Controller reconciles nodes. The empty key is the cluster's size.
type Controller struct {
	reconcile.Deps
	nodes    v1.NodeLister
	informer cache.SharedIndexInformer
	loop     *reconcile.Loop[string]

	// size indexes sizes once it is known. Owned by the one worker.
	size  int
	known bool
}

// New makes a controller that does nothing before Run.
func New(deps reconcile.Deps) (*Controller, error) {
	if err := deps.Check(); err != nil {
		return nil, err
	}
	nodes := deps.Informers.Core().V1().Nodes()
	c := &Controller{Deps: deps, nodes: nodes.Lister(), informer: nodes.Informer()}
	var err error
	c.loop, err = reconcile.New(reconcile.Config[string]{
		Name: "ttlcontroller", Workers: 1, Reconcile: c.reconcile, Clock: deps.Clock, Log: deps.Log, Queues: deps.Queues,
		Sources: []reconcile.Source[string]{reconcile.On(c.informer, changed)},
	})
	return c, err
}

// Run works until ctx ends.
func (c *Controller) Run(ctx context.Context) error { return c.loop.Run(ctx) }

// changed names the cluster when its size changes, and a node whose annotation may be wrong.
func changed(old, node *corev1.Node) []string {
	switch {
	case node == nil:
		return []string{""}
	case old == nil:
		return []string{"", node.Name}
	case old.Annotations[corev1.ObjectTTLAnnotationKey] != node.Annotations[corev1.ObjectTTLAnnotationKey]:
		return []string{node.Name}
	}
	return nil
}

func (c *Controller) reconcile(ctx context.Context, name string) (time.Duration, error) {
	if name == "" || !c.known {
		c.measure()
	}
	if name == "" {
		return 0, nil
	}
	node, err := c.nodes.Get(name)
	if apierrors.IsNotFound(err) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	return 0, c.annotate(ctx, node)
}

// measure counts the nodes. When the cluster has become of another size, all of them are to be told.
func (c *Controller) measure() {
	names := c.informer.GetIndexer().ListKeys()
	now := settle(c.size, len(names))
	if c.known && now != c.size {
		for _, name := range names {
			c.loop.Add(name)
		}
	}
	c.size, c.known = now, true
}

func (c *Controller) annotate(ctx context.Context, node *corev1.Node) error {
	want := strconv.Itoa(sizes()[c.size].seconds)
	if got, ok := node.Annotations[corev1.ObjectTTLAnnotationKey]; ok && got == want {
		return nil
	}
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"annotations": map[string]string{corev1.ObjectTTLAnnotationKey: want}}})
	if err != nil {
		return err
	}
	_, err = c.Client.CoreV1().Nodes().Patch(ctx, node.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("annotate node %s with the time objects may be kept: %w", node.Name, err)
	}
	return nil
}
