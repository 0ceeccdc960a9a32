// Package podclaim finds the pods that belong to a workload: it adopts those that match its selector and have no
// controller, and lets go of those that match no longer.
package podclaim

import (
	"context"
	"encoding/json"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"

	"canopus/internal/controllers/podstate"
	"canopus/internal/controllers/reconcile"
)

// Claimer claims pods for workloads of one kind. The informer has the index reconcile.ByController. All fields but
// Finalizer and Mine are required.
type Claimer struct {
	Client kubernetes.Interface
	Pods   cache.SharedIndexInformer
	GVK    schema.GroupVersionKind
	// Fresh reads the owner from the server, not the cache: an orphan must not be given to an owner that is gone.
	Fresh     func(ctx context.Context, owner metav1.Object) (metav1.Object, error)
	Finalizer string                                        // put on what is adopted, if set
	Mine      func(owner metav1.Object, p *corev1.Pod) bool // what else a pod must be to be adopted or kept
}

// Claim adopts and releases, and returns the pods that it adopted.
func (c *Claimer) Claim(ctx context.Context, owner metav1.Object, selector labels.Selector) ([]*corev1.Pod, error) {
	orphans, err := reconcile.Indexed[*corev1.Pod](c.Pods, reconcile.ByController, reconcile.OrphansIn(owner.GetNamespace()))
	if err != nil {
		return nil, err
	}
	owned, err := reconcile.Indexed[*corev1.Pod](c.Pods, reconcile.ByController, string(owner.GetUID()))
	if err != nil {
		return nil, err
	}
	var adopted []*corev1.Pod
	checked := false
	for _, p := range orphans {
		if !podstate.Active(p) || reconcile.ClaimOf(owner, selector, p) != reconcile.Adopt || c.Mine != nil && !c.Mine(owner, p) {
			continue
		}
		if !checked {
			if err := c.mayAdopt(ctx, owner); err != nil {
				return nil, err
			}
			checked = true
		}
		got, err := c.adopt(ctx, owner, p)
		if err != nil {
			return nil, fmt.Errorf("adopt pod %s: %w", p.Name, err)
		}
		if got != nil {
			adopted = append(adopted, got)
		}
	}
	for _, p := range owned {
		if reconcile.ClaimOf(owner, selector, p) != reconcile.Release {
			continue
		}
		if err := c.release(ctx, owner, p); err != nil {
			return nil, fmt.Errorf("release pod %s: %w", p.Name, err)
		}
	}
	return adopted, nil
}

func (c *Claimer) mayAdopt(ctx context.Context, owner metav1.Object) error {
	fresh, err := c.Fresh(ctx, owner)
	if err != nil {
		return fmt.Errorf("cannot adopt before reading %s %s: %w", c.GVK.Kind, owner.GetName(), err)
	}
	if fresh.GetUID() != owner.GetUID() || fresh.GetDeletionTimestamp() != nil {
		return fmt.Errorf("%s %s has been deleted, it adopts nothing", c.GVK.Kind, owner.GetName())
	}
	return nil
}

func (c *Claimer) adopt(ctx context.Context, owner metav1.Object, p *corev1.Pod) (*corev1.Pod, error) {
	meta := map[string]any{"uid": p.UID, "ownerReferences": []metav1.OwnerReference{*metav1.NewControllerRef(owner, c.GVK)}}
	if c.Finalizer != "" {
		meta["finalizers"] = []string{c.Finalizer}
	}
	return c.patch(ctx, p, meta)
}

func (c *Claimer) release(ctx context.Context, owner metav1.Object, p *corev1.Pod) error {
	meta := map[string]any{"uid": p.UID, "ownerReferences": []any{map[string]any{"$patch": "delete", "uid": owner.GetUID()}}}
	if c.Finalizer != "" {
		meta["$deleteFromPrimitiveList/finalizers"] = []string{c.Finalizer}
	}
	_, err := c.patch(ctx, p, meta)
	return err
}

// RemoveFinalizer takes the claimer's finalizer from p. It returns nil without an error when p is gone.
func (c *Claimer) RemoveFinalizer(ctx context.Context, p *corev1.Pod) (*corev1.Pod, error) {
	return c.patch(ctx, p, map[string]any{"uid": p.UID, "$deleteFromPrimitiveList/finalizers": []string{c.Finalizer}})
}

// patch changes p's metadata. It returns nil without an error when p is gone or another one has its name.
func (c *Claimer) patch(ctx context.Context, p *corev1.Pod, meta map[string]any) (*corev1.Pod, error) {
	patch, err := json.Marshal(map[string]any{"metadata": meta})
	if err != nil {
		return nil, err
	}
	got, err := c.Client.CoreV1().Pods(p.Namespace).Patch(ctx, p.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{})
	if apierrors.IsNotFound(err) || apierrors.IsInvalid(err) || apierrors.IsConflict(err) {
		return nil, nil
	}
	return got, err
}
