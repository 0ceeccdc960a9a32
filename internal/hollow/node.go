package hollow

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
)

// How often a node agent writes when nothing happens.
const (
	statusPeriod = 5 * time.Minute
	leaseRenewal = 10 * time.Second
	leaseSeconds = 40
)

// node is one hollow node. lease belongs to the one job that renews it.
type node struct {
	index int
	name  string
	uid   types.UID // set before anything but registration starts
	lease *coordinationv1.Lease

	mu     sync.Mutex
	pods   map[types.UID]*pod
	lastIP int
}

// as says that the node itself sends a request.
func (n *node) as(r *rest.Request) *rest.Request {
	return r.SetHeader("Impersonate-User", "system:node:"+n.name).SetHeader("Impersonate-Group", "system:nodes", "system:authenticated")
}

// register creates the Node, or takes over the one that is there.
func (n *Nodes) register(ctx context.Context, node *node) error {
	created := &corev1.Node{}
	err := node.as(n.core.Post()).Resource("nodes").Body(n.object(node)).Do(ctx).Into(created)
	if apierrors.IsAlreadyExists(err) {
		if err = node.as(n.core.Get()).Resource("nodes").Name(node.name).Do(ctx).Into(created); err != nil {
			return fmt.Errorf("read node %s: %w", node.name, err)
		}
		err = n.heartbeat(ctx, node)
	}
	if err != nil {
		return fmt.Errorf("register node %s: %w", node.name, err)
	}
	node.uid = created.UID
	return nil
}

// heartbeat writes the node's conditions.
func (n *Nodes) heartbeat(ctx context.Context, node *node) error {
	patch, err := json.Marshal(map[string]any{"status": map[string]any{"conditions": conditions(n.Clock.Now())}})
	if err != nil {
		return err
	}
	err = node.as(n.core.Patch(types.StrategicMergePatchType)).Resource("nodes").Name(node.name).SubResource("status").Body(patch).Do(ctx).Error()
	if err != nil {
		return fmt.Errorf("write status of node %s: %w", node.name, err)
	}
	return nil
}

// renew writes the node's lease, which is made when there is none.
func (n *Nodes) renew(ctx context.Context, node *node) error {
	now := metav1.NewMicroTime(n.Clock.Now())
	if node.lease == nil {
		lease := newLease(node)
		lease.Spec.RenewTime = &now
		got := &coordinationv1.Lease{}
		err := node.as(n.leases.Post()).Namespace(corev1.NamespaceNodeLease).Resource("leases").Body(lease).Do(ctx).Into(got)
		if apierrors.IsAlreadyExists(err) {
			err = node.as(n.leases.Get()).Namespace(corev1.NamespaceNodeLease).Resource("leases").Name(node.name).Do(ctx).Into(got)
		}
		if err != nil {
			return fmt.Errorf("make lease of node %s: %w", node.name, err)
		}
		node.lease = got
	}
	next := node.lease.DeepCopy()
	next.Spec.RenewTime = &now
	got := &coordinationv1.Lease{}
	err := node.as(n.leases.Put()).Namespace(corev1.NamespaceNodeLease).Resource("leases").Name(node.name).Body(next).Do(ctx).Into(got)
	if err != nil {
		node.lease = nil // somebody else wrote it, or deleted it: read it again
		return fmt.Errorf("renew lease of node %s: %w", node.name, err)
	}
	node.lease = got
	return nil
}
