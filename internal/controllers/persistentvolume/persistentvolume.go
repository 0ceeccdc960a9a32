// Package persistentvolume binds claims to volumes: it finds or orders a volume for each claim, keeps both ends of a binding
// and their phases true, and says what becomes of a volume whose claim is gone.
//
// A binding is four writes: the volume's claimRef, its phase, the claim's volumeName, its phase. Each is safe to repeat, and
// the first decides: another claim that wants the volume meets a conflict. Claims whose class waits for the first consumer are
// reserved a volume, or given a node to be provisioned for, by the scheduler.
//
// claim.go and volume.go decide, match.go chooses volumes, sources.go says who is concerned by what, apply.go writes.
package persistentvolume

import (
	"context"
	"errors"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	corelisters "k8s.io/client-go/listers/core/v1"
	storagelisters "k8s.io/client-go/listers/storage/v1"
	"k8s.io/client-go/tools/cache"
	storagehelpers "k8s.io/component-helpers/storage/volume"

	"canopus/internal/controllers/reconcile"
	"canopus/internal/controllers/volumeuse"
	"canopus/internal/kinds/storage"
)

// Controller binds volumes and claims. One worker makes all decisions, so that no two claims are promised one volume.
type Controller struct {
	reconcile.Deps
	volumes     corelisters.PersistentVolumeLister
	claims      corelisters.PersistentVolumeClaimLister
	classes     storagelisters.StorageClassLister
	volumeCache cache.SharedIndexInformer
	claimCache  cache.SharedIndexInformer
	podCache    cache.SharedIndexInformer
	ownVolumes  written[*corev1.PersistentVolume]
	ownClaims   written[*corev1.PersistentVolumeClaim]
	loop        *reconcile.Loop[key]
}

// key names a volume, or a claim where it has a namespace.
type key types.NamespacedName

// New makes a controller that does nothing before Run.
func New(d reconcile.Deps) (*Controller, error) {
	if err := d.Check(); err != nil {
		return nil, err
	}
	core, classes := d.Informers.Core().V1(), d.Informers.Storage().V1().StorageClasses()
	c := &Controller{
		Deps: d, volumes: core.PersistentVolumes().Lister(), claims: core.PersistentVolumeClaims().Lister(), classes: classes.Lister(),
		volumeCache: core.PersistentVolumes().Informer(), claimCache: core.PersistentVolumeClaims().Informer(), podCache: core.Pods().Informer(),
		ownVolumes: written[*corev1.PersistentVolume]{}, ownClaims: written[*corev1.PersistentVolumeClaim]{},
	}
	err := errors.Join(
		reconcile.Index(c.volumeCache, byNeed, volumeNeeds), reconcile.Index(c.claimCache, byNeed, claimNeeds), volumeuse.IndexByClaim(c.podCache))
	if err != nil {
		return nil, err
	}
	c.loop, err = reconcile.New(reconcile.Config[key]{
		Name: "pvbinder", Workers: 1, Reconcile: c.reconcile, Clock: d.Clock, Log: d.Log, Queues: d.Queues,
		Sources: []reconcile.Source[key]{
			reconcile.On(c.claimCache, c.claimChanged), reconcile.On(c.volumeCache, c.volumeChanged),
			reconcile.On(classes.Informer(), c.classChanged), reconcile.On(c.podCache, podWaits),
		},
	})
	return c, err
}

// Run works until ctx ends.
func (c *Controller) Run(ctx context.Context) error { return c.loop.Run(ctx) }

func (c *Controller) reconcile(ctx context.Context, k key) (time.Duration, error) {
	if k.Namespace == "" {
		return 0, c.syncVolume(ctx, k.Name)
	}
	return 0, c.syncClaim(ctx, types.NamespacedName(k))
}

func (c *Controller) syncVolume(ctx context.Context, name string) error {
	pv, err := c.volumes.Get(name)
	if apierrors.IsNotFound(err) {
		c.ownVolumes.forget(name)
		return nil
	}
	if err != nil {
		return err
	}
	pv = c.ownVolumes.newest(name, pv)
	claim, err := c.claimOf(ctx, pv)
	if err != nil {
		return err
	}
	return c.applyVolume(ctx, pv, claim, planVolume(pv, claim))
}

// claimOf returns the claim that pv's claimRef names, nil if it is gone. Before it counts as gone the server is asked: what
// follows may destroy data.
func (c *Controller) claimOf(ctx context.Context, pv *corev1.PersistentVolume) (*corev1.PersistentVolumeClaim, error) {
	ref := pv.Spec.ClaimRef
	if ref == nil || ref.UID == "" {
		return nil, nil
	}
	claim, err := c.claims.PersistentVolumeClaims(ref.Namespace).Get(ref.Name)
	if err == nil && claim.UID == ref.UID {
		return c.ownClaims.newest(claimKey(claim), claim), nil
	}
	if err != nil && !apierrors.IsNotFound(err) {
		return nil, err
	}
	claim, err = c.Client.CoreV1().PersistentVolumeClaims(ref.Namespace).Get(ctx, ref.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) || err == nil && claim.UID != ref.UID {
		return nil, nil
	}
	return claim, err
}

func (c *Controller) syncClaim(ctx context.Context, k types.NamespacedName) error {
	claim, err := c.claims.PersistentVolumeClaims(k.Namespace).Get(k.Name)
	if apierrors.IsNotFound(err) {
		c.ownClaims.forget(k.String())
		return nil
	}
	if err != nil {
		return err
	}
	v, err := c.observe(ctx, c.ownClaims.newest(k.String(), claim))
	if err != nil {
		return err
	}
	plan, err := planClaim(v)
	if err != nil {
		return err
	}
	return c.applyClaim(ctx, v.claim, plan)
}

// observe gathers what a decision about claim looks at.
func (c *Controller) observe(ctx context.Context, claim *corev1.PersistentVolumeClaim) (claimView, error) {
	v := claimView{claim: claim}
	if name := claim.Spec.VolumeName; name != "" {
		pv, err := c.volumes.Get(name)
		if apierrors.IsNotFound(err) && metav1.HasAnnotation(claim.ObjectMeta, storagehelpers.AnnBindCompleted) {
			pv, err = c.Client.CoreV1().PersistentVolumes().Get(ctx, name, metav1.GetOptions{}) // before it counts as lost
		}
		switch {
		case err == nil:
			v.volume = c.ownVolumes.newest(name, pv)
		case !apierrors.IsNotFound(err):
			return v, err
		}
		return v, nil
	}
	class := storagehelpers.GetPersistentVolumeClaimClass(claim)
	for _, need := range []string{classNeed(class), claimNeed(reconcile.Key(claim))} {
		found, err := reconcile.Indexed[*corev1.PersistentVolume](c.volumeCache, byNeed, need)
		if err != nil {
			return v, err
		}
		for _, pv := range found {
			v.candidates = append(v.candidates, c.ownVolumes.newest(pv.Name, pv))
		}
	}
	return v, c.observeClass(&v, class)
}

// observeClass fills in v's class and what waits for a node.
func (c *Controller) observeClass(v *claimView, class string) error {
	if !storagehelpers.PersistentVolumeClaimHasClass(v.claim) {
		all, err := c.classes.List(labels.Everything())
		if err != nil {
			return err
		}
		if d := storage.DefaultClass(all); d != nil {
			v.defaultClass = d.Name
		}
		return nil
	}
	var err error
	if v.class, err = c.classes.Get(class); err != nil && !apierrors.IsNotFound(err) {
		return err
	}
	if v.class == nil || v.class.VolumeBindingMode == nil || *v.class.VolumeBindingMode != storagev1.VolumeBindingWaitForFirstConsumer {
		return nil
	}
	pods, err := reconcile.Indexed[*corev1.Pod](c.podCache, volumeuse.ByClaim, reconcile.Key(v.claim).String())
	for _, p := range pods {
		if unplaced(p) {
			v.waiting = append(v.waiting, p.Name)
		}
	}
	return err
}
