package gc

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/metadata"

	"canopus/internal/controllers/reconcile"
)

// ownerKey tells references apart whose answer from the server may differ.
type ownerKey struct {
	uid                               types.UID
	apiVersion, kind, namespace, name string
}

func (c *Collector) client(n node) metadata.ResourceInterface {
	if n.namespace == "" {
		return c.Metadata.Resource(n.resource)
	}
	return c.Metadata.Resource(n.resource).Namespace(n.namespace)
}

// get reads n from the server; nil when it, with this UID, is gone.
func (c *Collector) get(ctx context.Context, n node) (*metav1.PartialObjectMetadata, error) {
	fresh, err := c.client(n).Get(ctx, n.name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) || err == nil && fresh.UID != n.uid {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", n.text(), err)
	}
	return fresh, nil
}

func (n *node) text() string {
	if n.namespace == "" {
		return n.resource.Resource + " " + n.name
	}
	return n.resource.Resource + " " + n.namespace + "/" + n.name
}

// fates finds out about each owner: from the graph, from what is known to be absent, else from the server.
func (c *Collector) fates(ctx context.Context, n node, owners []metav1.OwnerReference) (map[types.UID]fate, error) {
	n.owners = owners
	out := make(map[types.UID]fate, len(owners))
	for _, ref := range owners {
		f, err := c.fate(ctx, n, ref)
		if err != nil {
			return nil, fmt.Errorf("%s: find its owner %s %s: %w", n.text(), ref.Kind, ref.Name, err)
		}
		out[ref.UID] = f
	}
	return out, nil
}

func (c *Collector) fate(ctx context.Context, n node, ref metav1.OwnerReference) (fate, error) {
	if _, gone := c.absent.Get(ref.UID); gone {
		return absent, nil
	}
	c.mu.Lock()
	owner := c.graph.byUID[ref.UID]
	known := owner != nil && n.mayBeOwnedBy(owner)
	leaving := known && owner.foreground
	c.mu.Unlock()
	if known {
		if leaving {
			return waiting, nil
		}
		return solid, nil
	}
	m, err := c.locate(ref)
	if err != nil {
		return solid, err
	}
	if m.namespaced && n.namespace == "" {
		// A namespace for the owner cannot be guessed: such an object is never collected.
		c.warn(n, ref)
		return solid, nil
	}
	key := ownerKey{ref.UID, ref.APIVersion, ref.Kind, "", ref.Name}
	if m.namespaced {
		key.namespace = n.namespace
	}
	if _, gone := c.absent.Get(key); gone {
		return absent, nil
	}
	live, err := c.get(ctx, node{kind: &kind{resource: m.resource}, namespace: key.namespace, name: ref.Name, uid: ref.UID})
	if err != nil {
		return solid, err
	}
	if live == nil {
		c.absent.Add(key, true)
		if owner != nil {
			c.warn(n, ref) // it exists, but elsewhere or by another name
		}
		return absent, nil
	}
	if live.DeletionTimestamp != nil && slices.Contains(live.Finalizers, metav1.FinalizerDeleteDependents) {
		return waiting, nil
	}
	return solid, nil
}

// locate finds the resource of an owner's kind. A kind that nobody serves may be served again: its objects are not given up.
func (c *Collector) locate(ref metav1.OwnerReference) (mapping, error) {
	gvk := schema.FromAPIVersionAndKind(ref.APIVersion, ref.Kind)
	c.mu.Lock()
	m, ok := c.kinds[gvk]
	c.mu.Unlock()
	if !ok {
		return mapping{}, fmt.Errorf("no kind %s is served in %s", ref.Kind, ref.APIVersion)
	}
	return m, nil
}

func (c *Collector) warn(n node, ref metav1.OwnerReference) {
	object := &corev1.ObjectReference{
		APIVersion: n.gvk.GroupVersion().String(), Kind: n.gvk.Kind, Namespace: n.namespace, Name: n.name, UID: n.uid,
	}
	c.Events.Eventf(object, corev1.EventTypeWarning, "OwnerRefInvalidNamespace",
		"ownerRef [%s/%s, namespace: %s, name: %s, uid: %s] does not exist in namespace %q",
		ref.APIVersion, ref.Kind, n.namespace, ref.Name, ref.UID, n.namespace)
}

// apply takes the step. fresh is what the server says of the object, nil when the step is about its dependents.
func (c *Collector) apply(ctx context.Context, s snapshot, a actions, fresh *metav1.PartialObjectMetadata) error {
	switch a.step {
	case deleteSelf:
		if a.unblock {
			unblocked := slices.Clone(fresh.OwnerReferences)
			no := false
			for i := range unblocked {
				unblocked[i].BlockOwnerDeletion = &no
			}
			return c.patch(ctx, s.node, fresh, map[string]any{"ownerReferences": unblocked}) // its event brings us back
		}
		return c.delete(ctx, s.node, fresh, a.propagation)
	case dropOwners:
		return c.dropOwners(ctx, s.node, fresh, a.drop)
	case releaseChildren:
		failed := reconcile.Parallel(ctx, len(s.dependents), func(ctx context.Context, i int) error {
			child, err := c.get(ctx, s.dependents[i])
			if err != nil || child == nil {
				return err
			}
			return c.dropOwners(ctx, s.dependents[i], child, []types.UID{s.uid})
		})
		if len(failed) > 0 {
			return failed[0]
		}
		return c.dropFinalizer(ctx, s.node, metav1.FinalizerOrphanDependents)
	case finish:
		return c.dropFinalizer(ctx, s.node, metav1.FinalizerDeleteDependents)
	case collectChildren:
		for i := range s.dependents {
			if s.dependents[i].blocks(s.uid) && !s.dependents[i].deleting {
				c.loop.Add(s.dependents[i].uid)
			}
		}
	case nothing:
	}
	return nil
}

// delete removes the object as it was read; what changed since is looked at again.
func (c *Collector) delete(ctx context.Context, n node, fresh *metav1.PartialObjectMetadata, how metav1.DeletionPropagation) error {
	switch {
	case how != "":
	case slices.Contains(fresh.Finalizers, metav1.FinalizerOrphanDependents):
		how = metav1.DeletePropagationOrphan
	case slices.Contains(fresh.Finalizers, metav1.FinalizerDeleteDependents):
		how = metav1.DeletePropagationForeground
	default:
		how = metav1.DeletePropagationBackground
	}
	err := c.client(n).Delete(ctx, n.name, metav1.DeleteOptions{
		PropagationPolicy: &how,
		Preconditions:     &metav1.Preconditions{UID: &n.uid, ResourceVersion: &fresh.ResourceVersion},
	})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("delete %s, whose owners are gone: %w", n.text(), err)
	}
	c.Log.Debug("deleted an object whose owners are gone", "object", n.text())
	return nil
}

func (c *Collector) dropOwners(ctx context.Context, n node, fresh *metav1.PartialObjectMetadata, drop []types.UID) error {
	kept := slices.DeleteFunc(slices.Clone(fresh.OwnerReferences), func(r metav1.OwnerReference) bool { return slices.Contains(drop, r.UID) })
	if len(kept) == len(fresh.OwnerReferences) {
		return nil
	}
	return c.patch(ctx, n, fresh, map[string]any{"ownerReferences": kept})
}

func (c *Collector) dropFinalizer(ctx context.Context, n node, name string) error {
	fresh, err := c.get(ctx, n)
	if err != nil || fresh == nil {
		return err
	}
	kept := slices.DeleteFunc(slices.Clone(fresh.Finalizers), func(f string) bool { return f == name })
	if len(kept) == len(fresh.Finalizers) {
		return nil
	}
	return c.patch(ctx, n, fresh, map[string]any{"finalizers": kept})
}

// patch changes metadata of the object as it was read. A JSON merge patch works for every kind, custom resources too.
func (c *Collector) patch(ctx context.Context, n node, fresh *metav1.PartialObjectMetadata, change map[string]any) error {
	change["resourceVersion"], change["uid"] = fresh.ResourceVersion, fresh.UID
	body, err := json.Marshal(map[string]any{"metadata": change})
	if err != nil {
		return err
	}
	_, err = c.client(n).Patch(ctx, n.name, types.MergePatchType, body, metav1.PatchOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("change the metadata of %s: %w", n.text(), err)
	}
	return nil
}
