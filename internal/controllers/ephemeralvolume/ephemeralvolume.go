// Package ephemeralvolume makes the claims of ephemeral volumes: a pod's volume that holds a claim template gets a claim of
// its own, called after pod and volume, which lives as long as the pod.
package ephemeralvolume

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
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

const workers = 4

// Controller makes claims for pods.
type Controller struct {
	reconcile.Deps
	pods     corelisters.PodLister
	podCache cache.SharedIndexInformer
	claims   corelisters.PersistentVolumeClaimLister
	loop     *reconcile.Loop[types.NamespacedName]
}

// New makes a controller that does nothing before Run.
func New(d reconcile.Deps) (*Controller, error) {
	if err := d.Check(); err != nil {
		return nil, err
	}
	core := d.Informers.Core().V1()
	c := &Controller{Deps: d, pods: core.Pods().Lister(), podCache: core.Pods().Informer(), claims: core.PersistentVolumeClaims().Lister()}
	if err := volumeuse.IndexByClaim(c.podCache); err != nil {
		return nil, err
	}
	var err error
	c.loop, err = reconcile.New(reconcile.Config[types.NamespacedName]{
		Name: "ephemeral_volume", Workers: workers, Reconcile: c.reconcile, Clock: d.Clock, Log: d.Log, Queues: d.Queues,
		Sources: []reconcile.Source[types.NamespacedName]{
			reconcile.On(c.podCache, podChanged), reconcile.On(core.PersistentVolumeClaims().Informer(), c.claimGone),
		},
	})
	return c, err
}

// Run works until ctx ends.
func (c *Controller) Run(ctx context.Context) error { return c.loop.Run(ctx) }

// podChanged: a pod's volumes are fixed, so its appearance is all that matters.
func podChanged(old, p *corev1.Pod) []types.NamespacedName {
	if p == nil || old != nil && old.UID == p.UID || !wants(p) {
		return nil
	}
	return []types.NamespacedName{reconcile.Key(p)}
}

// claimGone: a claim that was deleted under its pod is made again; one of somebody else no longer stands in the way.
func (c *Controller) claimGone(old, claim *corev1.PersistentVolumeClaim) []types.NamespacedName {
	if claim != nil {
		return nil
	}
	pods, err := reconcile.Indexed[*corev1.Pod](c.podCache, volumeuse.ByClaim, reconcile.Key(old).String())
	if err != nil { // the index is made in New
		c.Log.Error("pods cannot be looked up", "controller", "ephemeral_volume", "error", err)
	}
	var keys []types.NamespacedName
	for _, p := range pods {
		if wants(p) {
			keys = append(keys, reconcile.Key(p))
		}
	}
	return keys
}

// wants says whether p has ephemeral volumes and will go on.
func wants(p *corev1.Pod) bool {
	return p.DeletionTimestamp == nil && slices.ContainsFunc(p.Spec.Volumes, func(v corev1.Volume) bool { return v.Ephemeral != nil })
}

func (c *Controller) reconcile(ctx context.Context, key types.NamespacedName) (time.Duration, error) {
	pod, err := c.pods.Pods(key.Namespace).Get(key.Name)
	if apierrors.IsNotFound(err) {
		return 0, nil
	}
	if err != nil || !wants(pod) {
		return 0, err
	}
	var errs []error
	for i := range pod.Spec.Volumes {
		v := &pod.Spec.Volumes[i]
		if v.Ephemeral == nil || v.Ephemeral.VolumeClaimTemplate == nil {
			continue
		}
		if err := c.ensure(ctx, pod, v); err != nil {
			c.Events.Eventf(pod, corev1.EventTypeWarning, "FailedBinding", "ephemeral volume %s: %v", v.Name, err)
			errs = append(errs, fmt.Errorf("pod %s, ephemeral volume %s: %w", key, v.Name, err))
		}
	}
	return 0, errors.Join(errs...)
}

// ensure makes the claim of volume v unless it is there.
func (c *Controller) ensure(ctx context.Context, pod *corev1.Pod, v *corev1.Volume) error {
	want := claimFor(pod, v)
	have, err := c.claims.PersistentVolumeClaims(pod.Namespace).Get(want.Name)
	if apierrors.IsNotFound(err) {
		if _, err = c.Client.CoreV1().PersistentVolumeClaims(pod.Namespace).Create(ctx, want, metav1.CreateOptions{}); !apierrors.IsAlreadyExists(err) {
			return err
		}
		have, err = c.Client.CoreV1().PersistentVolumeClaims(pod.Namespace).Get(ctx, want.Name, metav1.GetOptions{})
	}
	if err != nil {
		return err
	}
	if volumeuse.Foreign(pod, v, have) {
		return fmt.Errorf("PVC %s/%s was not created for pod %s/%s (pod is not owner)", have.Namespace, have.Name, pod.Namespace, pod.Name)
	}
	return nil
}

// claimFor is the claim of volume v, which goes when pod does.
func claimFor(pod *corev1.Pod, v *corev1.Volume) *corev1.PersistentVolumeClaim {
	template := v.Ephemeral.VolumeClaimTemplate
	return &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: pod.Namespace, Name: volumeuse.ClaimName(pod, v),
			Annotations: maps.Clone(template.Annotations), Labels: maps.Clone(template.Labels),
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(pod, corev1.SchemeGroupVersion.WithKind("Pod"))},
		},
		Spec: *template.Spec.DeepCopy(),
	}
}
