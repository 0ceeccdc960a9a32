// Package storageprotection keeps storage that is in use from being deleted: claims that pods use, volumes that are bound,
// attributes classes that claims and volumes name. Each has a finalizer from its creation on, which is taken away when it is
// to be deleted and nothing uses it any more.
//
// There are three controllers of one shape, in claim.go, volume.go and class.go; finalizer.go is what they share.
package storageprotection

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"

	"canopus/internal/controllers/reconcile"
	"canopus/internal/controllers/volumeuse"
)

// Claims protects claims that pods use.
type Claims struct {
	reconcile.Deps
	claims corelisters.PersistentVolumeClaimLister
	pods   cache.SharedIndexInformer
	loop   *reconcile.Loop[types.NamespacedName]
}

// NewClaims makes a controller that does nothing before Run.
func NewClaims(d reconcile.Deps) (*Claims, error) {
	if err := d.Check(); err != nil {
		return nil, err
	}
	core := d.Informers.Core().V1()
	c := &Claims{Deps: d, claims: core.PersistentVolumeClaims().Lister(), pods: core.Pods().Informer()}
	if err := volumeuse.IndexByClaim(c.pods); err != nil {
		return nil, err
	}
	var err error
	c.loop, err = reconcile.New(reconcile.Config[types.NamespacedName]{
		Name: "pvcprotection", Workers: workers, Reconcile: c.reconcile, Clock: d.Clock, Log: d.Log, Queues: d.Queues,
		Sources: []reconcile.Source[types.NamespacedName]{
			reconcile.On(core.PersistentVolumeClaims().Informer(), claimChanged), reconcile.On(c.pods, podLetsGo),
		},
	})
	return c, err
}

// Run works until ctx ends.
func (c *Claims) Run(ctx context.Context) error { return c.loop.Run(ctx) }

func claimChanged(_, claim *corev1.PersistentVolumeClaim) []types.NamespacedName {
	if claim == nil || decide(claim, claimFinalizer, false) == nothing && claim.DeletionTimestamp == nil {
		return nil
	}
	return []types.NamespacedName{reconcile.Key(claim)}
}

// podLetsGo: claims may be free when a pod that used them is gone, or another has taken its name.
func podLetsGo(old, pod *corev1.Pod) []types.NamespacedName {
	if old == nil || pod != nil && pod.UID == old.UID {
		return nil
	}
	return volumeuse.Claims(old)
}

func (c *Claims) reconcile(ctx context.Context, key types.NamespacedName) (time.Duration, error) {
	claim, err := c.claims.PersistentVolumeClaims(key.Namespace).Get(key.Name)
	if apierrors.IsNotFound(err) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	used := false
	if claim.DeletionTimestamp != nil && has(claim, claimFinalizer) {
		if used, err = c.used(ctx, claim); err != nil {
			return 0, err
		}
	}
	next, ok := applied(claim.DeepCopy(), claimFinalizer, decide(claim, claimFinalizer, used))
	if !ok {
		return 0, nil
	}
	_, err = c.Client.CoreV1().PersistentVolumeClaims(key.Namespace).Update(ctx, next, metav1.UpdateOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return 0, fmt.Errorf("protect claim %s: %w", key, err)
	}
	return 0, nil
}

// used says whether a pod uses claim. The cache may lack the newest pods, so the server has the last word.
func (c *Claims) used(ctx context.Context, claim *corev1.PersistentVolumeClaim) (bool, error) {
	cached, err := reconcile.Indexed[*corev1.Pod](c.pods, volumeuse.ByClaim, reconcile.Key(claim).String())
	if err != nil {
		return false, err
	}
	for _, p := range cached {
		if usesClaim(p, claim) {
			return true, nil
		}
	}
	const page = 500
	options := metav1.ListOptions{Limit: page}
	for {
		list, err := c.Client.CoreV1().Pods(claim.Namespace).List(ctx, options)
		if err != nil {
			return false, fmt.Errorf("list pods that may use claim %s/%s: %w", claim.Namespace, claim.Name, err)
		}
		for i := range list.Items {
			if usesClaim(&list.Items[i], claim) {
				return true, nil
			}
		}
		if list.Continue == "" {
			return false, nil
		}
		if list.Continue == options.Continue {
			return false, errors.New("the list of pods does not go on")
		}
		options.Continue = list.Continue
	}
}

// usesClaim: a pod that has no node yet will not start with a claim that is being deleted, so it does not count.
func usesClaim(p *corev1.Pod, claim *corev1.PersistentVolumeClaim) bool {
	if p.Spec.NodeName == "" {
		return false
	}
	for i := range p.Spec.Volumes {
		v := &p.Spec.Volumes[i]
		if volumeuse.ClaimName(p, v) == claim.Name && !volumeuse.Foreign(p, v, claim) {
			return true
		}
	}
	return false
}
