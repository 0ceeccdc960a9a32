// Package attachdetach has volumes attached to the nodes whose pods use them: it writes VolumeAttachments, which the volumes'
// drivers act on, and tells each node in its status what it may mount.
//
// A volume is detached when no pod of the node uses it and the node has unmounted it; from an unhealthy node it is taken
// after six minutes, from one that is out of service at once. Only volumes of CSI drivers that ask for it are attached.
//
// plan.go decides, node by node; sources.go says which nodes a change concerns.
package attachdetach

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	corelisters "k8s.io/client-go/listers/core/v1"
	storagelisters "k8s.io/client-go/listers/storage/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/utils/ptr"

	"canopus/internal/controllers/reconcile"
	"canopus/internal/controllers/volumeuse"
)

const workers = 4

// Controller attaches volumes to nodes.
type Controller struct {
	reconcile.Deps
	nodes       corelisters.NodeLister
	claims      corelisters.PersistentVolumeClaimLister
	volumes     corelisters.PersistentVolumeLister
	drivers     storagelisters.CSIDriverLister
	pods        cache.SharedIndexInformer
	attachments cache.SharedIndexInformer
	loop        *reconcile.Loop[string]

	mu       sync.Mutex
	unwanted map[string]time.Time // guarded by mu; by attachment: since when nobody wants it
	// promised holds, by volume that one node only may have, the attachment that was written and the cache may not show yet:
	// two nodes that ask at once must not both get it. Guarded by mu.
	promised map[string]*storagev1.VolumeAttachment
}

// New makes a controller that does nothing before Run.
func New(d reconcile.Deps) (*Controller, error) {
	if err := d.Check(); err != nil {
		return nil, err
	}
	core, storage := d.Informers.Core().V1(), d.Informers.Storage().V1()
	c := &Controller{
		Deps: d, nodes: core.Nodes().Lister(), claims: core.PersistentVolumeClaims().Lister(), volumes: core.PersistentVolumes().Lister(),
		drivers: storage.CSIDrivers().Lister(), pods: core.Pods().Informer(), attachments: storage.VolumeAttachments().Informer(),
		unwanted: map[string]time.Time{}, promised: map[string]*storagev1.VolumeAttachment{},
	}
	err := errors.Join(volumeuse.IndexByClaim(c.pods), reconcile.IndexByNode(c.pods), indexAttachments(c.attachments))
	if err != nil {
		return nil, err
	}
	c.loop, err = reconcile.New(reconcile.Config[string]{
		Name: "attachdetach", Workers: workers, Reconcile: c.reconcile, Clock: d.Clock, Log: d.Log, Queues: d.Queues,
		Sources: []reconcile.Source[string]{
			reconcile.On(core.Nodes().Informer(), nodeChanged), reconcile.On(c.pods, podChanged),
			reconcile.On(core.PersistentVolumeClaims().Informer(), c.claimChanged), reconcile.On(core.PersistentVolumes().Informer(), c.volumeChanged),
			reconcile.On(c.attachments, c.attachmentChanged), reconcile.On(storage.CSIDrivers().Informer(), c.driverChanged),
		},
	})
	return c, err
}

// Run works until ctx ends.
func (c *Controller) Run(ctx context.Context) error { return c.loop.Run(ctx) }

func (c *Controller) reconcile(ctx context.Context, name string) (time.Duration, error) {
	v, err := c.observe(name)
	if err != nil {
		return 0, err
	}
	p := planNode(v)
	return p.after, c.apply(ctx, v, p)
}

// observe gathers what a decision about a node looks at.
func (c *Controller) observe(name string) (view, error) {
	v := view{
		name: name, wanted: map[string]want{}, elsewhere: map[string][]*storagev1.VolumeAttachment{},
		volumes: map[string]*corev1.PersistentVolume{}, users: map[string][]string{}, now: c.Clock.Now(),
	}
	var err error
	if v.node, err = c.nodes.Get(name); apierrors.IsNotFound(err) {
		v.node, err = nil, nil
	}
	if err != nil {
		return v, err
	}
	if v.attachments, err = reconcile.Indexed[*storagev1.VolumeAttachment](c.attachments, byTarget, onNode(name)); err != nil {
		return v, err
	}
	for _, a := range v.attachments {
		if pv, err := c.volumes.Get(ptr.Deref(a.Spec.Source.PersistentVolumeName, "")); err == nil {
			v.volumes[pv.Name] = pv
		}
	}
	pods, err := reconcile.Indexed[*corev1.Pod](c.pods, reconcile.ByNode, name)
	if err != nil {
		return v, err
	}
	for _, p := range pods {
		if !terminated(p) {
			c.addWanted(&v, p)
		}
	}
	for pv := range v.wanted {
		if err := c.observeElsewhere(&v, pv); err != nil {
			return v, err
		}
	}
	v.unwanted = c.noteUnwanted(v)
	return v, nil
}

// addWanted adds what p's volumes need attached. What is not bound yet is wanted when it is: then we are called again.
func (c *Controller) addWanted(v *view, p *corev1.Pod) {
	for i := range p.Spec.Volumes {
		pv := c.volumeOf(p, &p.Spec.Volumes[i])
		if pv == nil || pv.Spec.CSI == nil || !c.attachable(pv.Spec.CSI.Driver) {
			continue
		}
		w := v.wanted[pv.Name]
		w.volume, w.pods = pv, append(w.pods, p)
		v.wanted[pv.Name] = w
	}
}

// volumeOf returns the volume that is bound to the claim of volume vol of p, nil if there is none.
func (c *Controller) volumeOf(p *corev1.Pod, vol *corev1.Volume) *corev1.PersistentVolume {
	name := volumeuse.ClaimName(p, vol)
	if name == "" {
		return nil
	}
	claim, err := c.claims.PersistentVolumeClaims(p.Namespace).Get(name)
	if err != nil || volumeuse.Foreign(p, vol, claim) || claim.Status.Phase != corev1.ClaimBound {
		return nil
	}
	pv, err := c.volumes.Get(claim.Spec.VolumeName)
	if err != nil || pv.Spec.ClaimRef == nil || pv.Spec.ClaimRef.UID != claim.UID {
		return nil
	}
	return pv
}

// attachable says whether a driver's volumes are attached before they are mounted. One that says nothing about itself wants it.
func (c *Controller) attachable(driver string) bool {
	d, err := c.drivers.Get(driver)
	return err != nil || ptr.Deref(d.Spec.AttachRequired, true)
}

func (c *Controller) observeElsewhere(v *view, pv string) error {
	all, err := reconcile.Indexed[*storagev1.VolumeAttachment](c.attachments, byTarget, ofVolume(pv))
	if err != nil {
		return err
	}
	for _, a := range all {
		if a.Spec.NodeName != v.name {
			v.elsewhere[pv] = append(v.elsewhere[pv], a)
		}
	}
	ref := v.wanted[pv].volume.Spec.ClaimRef
	pods, err := reconcile.Indexed[*corev1.Pod](c.pods, volumeuse.ByClaim, types.NamespacedName{Namespace: ref.Namespace, Name: ref.Name}.String())
	for _, p := range pods {
		if p.Spec.NodeName != "" && p.Spec.NodeName != v.name && !terminated(p) {
			v.users[pv] = append(v.users[pv], p.Name)
		}
	}
	slices.Sort(v.users[pv])
	return err
}

// noteUnwanted remembers since when nobody wants each of the node's attachments. A restart starts the time anew.
func (c *Controller) noteUnwanted(v view) map[string]time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := map[string]time.Time{}
	for _, a := range v.attachments {
		if _, wanted := v.wanted[ptr.Deref(a.Spec.Source.PersistentVolumeName, "")]; wanted {
			delete(c.unwanted, a.Name)
			continue
		}
		if _, known := c.unwanted[a.Name]; !known {
			c.unwanted[a.Name] = v.now
		}
		out[a.Name] = c.unwanted[a.Name]
	}
	return out
}

func (c *Controller) apply(ctx context.Context, v view, p plan) error {
	if v.node != nil && !apiequality.Semantic.DeepEqual(v.node.Status.VolumesAttached, p.attached) {
		patch, err := json.Marshal(map[string]any{"status": map[string]any{"volumesAttached": p.attached}})
		if err != nil {
			return fmt.Errorf("encode what is attached to node %s: %w", v.name, err)
		}
		if _, err := c.Client.CoreV1().Nodes().Patch(ctx, v.name, types.MergePatchType, patch, metav1.PatchOptions{}, "status"); err != nil && !apierrors.IsNotFound(err) {
			return fmt.Errorf("write what is attached to node %s: %w", v.name, err)
		}
	}
	for _, e := range p.events {
		c.Events.Event(e.pod, e.kind, e.reason, e.message)
	}
	var errs []error
	for _, name := range p.detach {
		if err := c.Client.StorageV1().VolumeAttachments().Delete(ctx, name, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
			errs = append(errs, fmt.Errorf("detach %s from node %s: %w", name, v.name, err))
		}
	}
	for _, a := range p.attach {
		pv := *a.Spec.Source.PersistentVolumeName
		if err := c.attach(ctx, v.wanted[pv].volume, a); err != nil {
			errs = append(errs, fmt.Errorf("attach volume %s to node %s: %w", pv, v.name, err))
		}
	}
	return errors.Join(errs...)
}

func (c *Controller) attach(ctx context.Context, pv *corev1.PersistentVolume, a *storagev1.VolumeAttachment) error {
	if exclusive(pv) {
		if err := c.promise(ctx, pv.Name, a); err != nil {
			return err
		}
	}
	// A failed create may have been written all the same: its promise stands until whoever asks next has looked.
	_, err := c.Client.StorageV1().VolumeAttachments().Create(ctx, a, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		return nil
	}
	return err
}

// promise reserves volume pv for a, or says that another node has it. An attachment that came and went unseen is forgotten.
func (c *Controller) promise(ctx context.Context, pv string, a *storagev1.VolumeAttachment) error {
	c.mu.Lock()
	other := c.promised[pv]
	if other == nil || other.Name == a.Name {
		c.promised[pv] = a
		c.mu.Unlock()
		return nil
	}
	c.mu.Unlock()
	_, err := c.Client.StorageV1().VolumeAttachments().Get(ctx, other.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		c.keepPromise(pv, other.Name)
	}
	return apierrors.NewConflict(storagev1.Resource("volumeattachments"), a.Name, fmt.Errorf("node %s is being given the volume", other.Spec.NodeName))
}

// keepPromise forgets the promise of volume pv to an attachment that the cache shows, or that is not.
func (c *Controller) keepPromise(pv, attachment string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if p := c.promised[pv]; p != nil && p.Name == attachment {
		delete(c.promised, pv)
	}
}

func attachmentOf(pv *corev1.PersistentVolume, node string) *storagev1.VolumeAttachment {
	return &storagev1.VolumeAttachment{
		ObjectMeta: metav1.ObjectMeta{Name: attachmentName(pv, node)},
		Spec: storagev1.VolumeAttachmentSpec{
			Attacher: pv.Spec.CSI.Driver, NodeName: node, Source: storagev1.VolumeAttachmentSource{PersistentVolumeName: ptr.To(pv.Name)},
		},
	}
}
