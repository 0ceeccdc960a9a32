// Package localvolume provisions directories of nodes as PersistentVolumes: for claims of StorageClasses of the provisioner
// canopus.io/local it makes the volume on the node that the scheduler chose, and deletes it when its claim is gone and
// the reclaim policy is Delete. Nodes make and remove the directories (package canopus/internal/localvolume says how all
// of them play together).
//
// plan.go decides, this file observes and acts.
package localvolume

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	corelisters "k8s.io/client-go/listers/core/v1"
	storagelisters "k8s.io/client-go/listers/storage/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/component-helpers/storage/volume"

	"canopus/internal/controllers/reconcile"
	"canopus/internal/localvolume"
)

const workers = 4

// Controller provisions and reclaims local volumes.
type Controller struct {
	reconcile.Deps
	claims  corelisters.PersistentVolumeClaimLister
	volumes corelisters.PersistentVolumeLister
	classes storagelisters.StorageClassLister
	nodes   corelisters.NodeLister
	wanted  *reconcile.Loop[types.NamespacedName] // claims
	ending  *reconcile.Loop[types.NamespacedName] // volumes
}

// New makes a controller that does nothing before Run.
func New(d reconcile.Deps) (*Controller, error) {
	if err := d.Check(); err != nil {
		return nil, err
	}
	claims, volumes, nodes := d.Informers.Core().V1().PersistentVolumeClaims(), d.Informers.Core().V1().PersistentVolumes(), d.Informers.Core().V1().Nodes()
	classes := d.Informers.Storage().V1().StorageClasses()
	c := &Controller{Deps: d, claims: claims.Lister(), volumes: volumes.Lister(), classes: classes.Lister(), nodes: nodes.Lister()}
	var err error
	c.wanted, err = reconcile.New(reconcile.Config[types.NamespacedName]{
		Name: "local_volume_claims", Workers: workers, Reconcile: c.provision, Clock: d.Clock, Log: d.Log, Queues: d.Queues,
		Sources: []reconcile.Source[types.NamespacedName]{
			reconcile.On(claims.Informer(), func(_, claim *corev1.PersistentVolumeClaim) []types.NamespacedName {
				if claim == nil || selected(claim) == "" {
					return nil
				}
				return []types.NamespacedName{reconcile.Key(claim)}
			}),
			reconcile.On(classes.Informer(), c.classChanged),
		},
		Caches: []cache.SharedIndexInformer{nodes.Informer()},
	})
	if err != nil {
		return nil, err
	}
	c.ending, err = reconcile.New(reconcile.Config[types.NamespacedName]{
		Name: "local_volumes", Workers: workers, Reconcile: c.end, Clock: d.Clock, Log: d.Log, Queues: d.Queues,
		Sources: []reconcile.Source[types.NamespacedName]{
			reconcile.Self(volumes.Informer()),
			reconcile.On(nodes.Informer(), c.nodeChanged),
		},
	})
	return c, err
}

// Run works until ctx ends.
func (c *Controller) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return c.wanted.Run(ctx) })
	g.Go(func() error { return c.ending.Run(ctx) })
	return g.Wait()
}

// classChanged names the claims that wait for a class which has come.
func (c *Controller) classChanged(old, class *storagev1.StorageClass) []types.NamespacedName {
	if old != nil || class == nil || class.Provisioner != localvolume.Provisioner {
		return nil
	}
	claims, err := c.claims.List(labels.Everything())
	if err != nil {
		return nil
	}
	var keys []types.NamespacedName
	for _, claim := range claims {
		if selected(claim) != "" && volume.GetPersistentVolumeClaimClass(claim) == class.Name {
			keys = append(keys, reconcile.Key(claim))
		}
	}
	return keys
}

// nodeChanged names the volumes of a node that has gone.
func (c *Controller) nodeChanged(old, node *corev1.Node) []types.NamespacedName {
	if node != nil {
		return nil
	}
	volumes, err := c.volumes.List(labels.SelectorFromSet(labels.Set{localvolume.NodeLabel: old.Name}))
	if err != nil {
		return nil
	}
	var keys []types.NamespacedName
	for _, pv := range volumes {
		keys = append(keys, reconcile.Key(pv))
	}
	return keys
}

func (c *Controller) provision(ctx context.Context, key types.NamespacedName) (time.Duration, error) {
	claim, err := c.claims.PersistentVolumeClaims(key.Namespace).Get(key.Name)
	if apierrors.IsNotFound(err) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	name := selected(claim)
	if name == "" {
		return 0, nil
	}
	r := request{claim: claim}
	if r.class, err = c.classes.Get(volume.GetPersistentVolumeClaimClass(claim)); apierrors.IsNotFound(err) {
		r.class = nil
	} else if err != nil {
		return 0, err
	}
	if r.node, err = c.nodes.Get(name); apierrors.IsNotFound(err) {
		r.node = nil
	} else if err != nil {
		return 0, err
	}
	switch p := plan(r); {
	case p.refuse != "":
		c.failed(r, p.refuse)
	case p.move != "":
		c.failed(r, p.move)
		return 0, c.chooseAgain(ctx, claim)
	case p.volume != nil:
		return 0, c.create(ctx, claim, p.volume)
	}
	return 0, nil
}

func (c *Controller) failed(r request, why string) {
	c.Events.Eventf(r.claim, corev1.EventTypeWarning, "ProvisioningFailed", "failed to provision volume with StorageClass %q: %s", r.class.Name, why)
}

func (c *Controller) create(ctx context.Context, claim *corev1.PersistentVolumeClaim, pv *corev1.PersistentVolume) error {
	if _, err := c.volumes.Get(pv.Name); err == nil {
		return nil // the binder binds it
	}
	c.Events.Eventf(claim, corev1.EventTypeNormal, "Provisioning", "External provisioner is provisioning volume for claim %q", reconcile.Key(claim))
	_, err := c.Client.CoreV1().PersistentVolumes().Create(ctx, pv, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		return nil
	}
	if err != nil {
		c.Events.Eventf(claim, corev1.EventTypeWarning, "ProvisioningFailed", "failed to provision volume with StorageClass %q: %v", pv.Spec.StorageClassName, err)
		return fmt.Errorf("create persistent volume %s: %w", pv.Name, err)
	}
	c.Events.Eventf(claim, corev1.EventTypeNormal, "ProvisioningSucceeded", "Successfully provisioned volume %s", pv.Name)
	return nil
}

// chooseAgain takes the chosen node off a claim, so that the scheduler chooses another for its pod.
func (c *Controller) chooseAgain(ctx context.Context, claim *corev1.PersistentVolumeClaim) error {
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{
		"uid": claim.UID, "resourceVersion": claim.ResourceVersion, "annotations": map[string]any{volume.AnnSelectedNode: nil},
	}})
	if err != nil {
		return err
	}
	_, err = c.Client.CoreV1().PersistentVolumeClaims(claim.Namespace).Patch(ctx, claim.Name, types.MergePatchType, patch, metav1.PatchOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("let the scheduler choose another node for persistentvolumeclaim %s: %w", reconcile.Key(claim), err)
	}
	return nil
}

func (c *Controller) end(ctx context.Context, key types.NamespacedName) (time.Duration, error) {
	pv, err := c.volumes.Get(key.Name)
	if apierrors.IsNotFound(err) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	_, err = c.nodes.Get(pv.Labels[localvolume.NodeLabel])
	if err != nil && !apierrors.IsNotFound(err) {
		return 0, err
	}
	switch end(pv, err != nil) {
	case remove:
		err := c.Client.CoreV1().PersistentVolumes().Delete(ctx, pv.Name, metav1.DeleteOptions{Preconditions: metav1.NewUIDPreconditions(string(pv.UID))})
		if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
			c.Events.Eventf(pv, corev1.EventTypeWarning, "VolumeFailedDelete", "%v", err)
			return 0, fmt.Errorf("delete persistent volume %s: %w", pv.Name, err)
		}
	case release:
		return 0, c.release(ctx, pv)
	}
	return 0, nil
}

// release takes the finalizer off a volume whose node is gone for good: nobody else can. The node is asked for at the API
// once more, as the cache may not show one that has just registered again.
func (c *Controller) release(ctx context.Context, pv *corev1.PersistentVolume) error {
	if node := pv.Labels[localvolume.NodeLabel]; node != "" {
		if _, err := c.Client.CoreV1().Nodes().Get(ctx, node, metav1.GetOptions{}); !apierrors.IsNotFound(err) {
			return err
		}
	}
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"uid": pv.UID, "$deleteFromPrimitiveList/finalizers": []string{localvolume.Finalizer}}})
	if err != nil {
		return err
	}
	_, err = c.Client.CoreV1().PersistentVolumes().Patch(ctx, pv.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{})
	if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
		return fmt.Errorf("let go of persistent volume %s of a node that is gone: %w", pv.Name, err)
	}
	return nil
}
