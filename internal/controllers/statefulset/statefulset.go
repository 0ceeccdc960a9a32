// Package statefulset keeps pods with stable names and an order for every StatefulSet.
//
// plan.go decides which ordinals need a pod and which pods must go, claims.go which volume claims they need and whom these
// go with, pod.go makes pods, history.go keeps the revisions of the template, apply.go acts, this file observes.
package statefulset

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	appslisters "k8s.io/client-go/listers/apps/v1"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"

	"canopus/internal/controllers/podclaim"
	"canopus/internal/controllers/podstate"
	"canopus/internal/controllers/reconcile"
)

const (
	kind    = "StatefulSet"
	workers = 5
)

func gvk() schema.GroupVersionKind { return appsv1.SchemeGroupVersion.WithKind(kind) }

// Controller reconciles StatefulSets.
type Controller struct {
	reconcile.Deps
	sets      appslisters.StatefulSetLister
	pods      cache.SharedIndexInformer
	revisions cache.SharedIndexInformer
	claims    corelisters.PersistentVolumeClaimLister
	claimer   *podclaim.Claimer
	written   *reconcile.Written[*corev1.Pod]
	vacated   *vacated
	loop      *reconcile.Loop[types.NamespacedName]
}

// New makes a controller that does nothing before Run.
func New(d reconcile.Deps) (*Controller, error) {
	if err := d.Check(); err != nil {
		return nil, err
	}
	sets := d.Informers.Apps().V1().StatefulSets()
	claims := d.Informers.Core().V1().PersistentVolumeClaims()
	c := &Controller{
		Deps: d, claims: claims.Lister(), sets: sets.Lister(), pods: d.Informers.Core().V1().Pods().Informer(),
		revisions: d.Informers.Apps().V1().ControllerRevisions().Informer(), written: reconcile.NewWritten[*corev1.Pod](),
		vacated: &vacated{spans: map[types.UID]span{}},
	}
	c.claimer = &podclaim.Claimer{
		Client: d.Client, Pods: c.pods, GVK: gvk(), Fresh: c.fresh,
		Mine: func(owner metav1.Object, p *corev1.Pod) bool {
			_, ok := ordinalOf(owner.GetName(), p.Name)
			return ok
		},
	}
	for _, informer := range []cache.SharedIndexInformer{c.pods, c.revisions} {
		if err := reconcile.IndexByController(informer); err != nil {
			return nil, err
		}
	}
	var err error
	c.loop, err = reconcile.New(reconcile.Config[types.NamespacedName]{
		Name: "statefulset", Workers: workers, Reconcile: c.reconcile, Clock: d.Clock, Log: d.Log, Queues: d.Queues,
		Sources: []reconcile.Source[types.NamespacedName]{
			reconcile.On(sets.Informer(), c.setChanged),
			reconcile.On(c.pods, c.podChanged),
			reconcile.On(c.revisions, revisionChanged),
			reconcile.On(claims.Informer(), c.claimChanged),
		},
	})
	return c, err
}

// Run works until ctx ends.
func (c *Controller) Run(ctx context.Context) error { return c.loop.Run(ctx) }

func (c *Controller) fresh(ctx context.Context, owner metav1.Object) (metav1.Object, error) {
	return c.Client.AppsV1().StatefulSets(owner.GetNamespace()).Get(ctx, owner.GetName(), metav1.GetOptions{})
}

func (c *Controller) setChanged(old, set *appsv1.StatefulSet) []types.NamespacedName {
	c.vacated.note(old, set)
	if set == nil {
		c.written.Forget(old.UID)
		return nil
	}
	return []types.NamespacedName{reconcile.Key(set)}
}

func revisionChanged(old, r *appsv1.ControllerRevision) []types.NamespacedName {
	return reconcile.Controllers(kind, old, r)
}

// podChanged names the sets that controlled or control the pod, or may adopt it, or wait for its name.
func (c *Controller) podChanged(old, pod *corev1.Pod) []types.NamespacedName {
	keys := reconcile.Controllers(kind, old, pod)
	left := pod == nil
	if left {
		pod = old
	}
	if !left && (metav1.GetControllerOfNoCopy(pod) != nil || !podstate.Active(pod)) {
		return keys
	}
	sets, err := c.sets.StatefulSets(pod.Namespace).List(labels.Everything())
	if err != nil {
		return keys
	}
	for _, set := range sets {
		if _, named := ordinalOf(set.Name, pod.Name); !named || len(keys) > 0 && keys[0] == reconcile.Key(set) {
			continue
		}
		selector, err := metav1.LabelSelectorAsSelector(set.Spec.Selector)
		if left || err == nil && !selector.Empty() && selector.Matches(labels.Set(pod.Labels)) {
			keys = append(keys, reconcile.Key(set))
		}
	}
	return keys
}

// claimChanged names the sets whose pods use the claim, when it leaves or has other owners: the rest is not theirs to mind.
func (c *Controller) claimChanged(old, claim *corev1.PersistentVolumeClaim) []types.NamespacedName {
	if old == nil || claim != nil && equality.Semantic.DeepEqual(old.OwnerReferences, claim.OwnerReferences) {
		return nil
	}
	sets, err := c.sets.StatefulSets(old.Namespace).List(labels.Everything())
	if err != nil {
		return nil
	}
	var keys []types.NamespacedName
	for _, set := range sets {
		for i := range set.Spec.VolumeClaimTemplates {
			pod, ok := strings.CutPrefix(old.Name, set.Spec.VolumeClaimTemplates[i].Name+"-")
			if _, named := ordinalOf(set.Name, pod); ok && named {
				keys = append(keys, reconcile.Key(set))
				break
			}
		}
	}
	return keys
}

func (c *Controller) reconcile(ctx context.Context, key types.NamespacedName) (time.Duration, error) {
	set, err := c.sets.StatefulSets(key.Namespace).Get(key.Name)
	if apierrors.IsNotFound(err) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	selector, err := metav1.LabelSelectorAsSelector(set.Spec.Selector)
	if err != nil {
		return 0, reconcile.Terminal(fmt.Errorf("statefulset %s has a bad selector: %w", key, err))
	}
	h, err := c.history(ctx, set, selector)
	if err != nil {
		return 0, fmt.Errorf("statefulset %s: %w", key, err)
	}
	pods, err := c.observe(ctx, set, selector)
	if err != nil {
		return 0, fmt.Errorf("find the pods of statefulset %s: %w", key, err)
	}
	o := observed{set: set, current: h.current.Name, update: h.update.Name, pods: pods}
	if o.claims, err = c.claimsOf(set, pods); err != nil {
		return 0, fmt.Errorf("find the claims of statefulset %s: %w", key, err)
	}
	left, scaled := c.vacated.of(set.UID)
	if scaled {
		if o.vacant, err = c.vacantOf(set, left); err != nil {
			return 0, fmt.Errorf("find the claims that statefulset %s has left: %w", key, err)
		}
	}
	decided := plan(o, c.Clock.Now())
	applyErr := c.apply(ctx, set, h, decided)
	if scaled && applyErr == nil && !slices.ContainsFunc(pods, func(p *corev1.Pod) bool { return beyond(set, p) }) {
		c.vacated.settle(set.UID, left)
	}
	if err := c.writeStatus(ctx, set, decided.status); err != nil {
		return 0, fmt.Errorf("write the status of statefulset %s: %w", key, err)
	}
	if applyErr != nil {
		return decided.after, fmt.Errorf("statefulset %s: %w", key, applyErr)
	}
	return decided.after, c.forgetOld(ctx, o, h)
}

// observe claims the set's pods and returns them. Those that we deleted stay, as leaving, until they are gone: their name
// is taken.
func (c *Controller) observe(ctx context.Context, set *appsv1.StatefulSet, selector labels.Selector) ([]*corev1.Pod, error) {
	adopted, err := c.claimer.Claim(ctx, set, selector)
	if err != nil {
		return nil, err
	}
	for _, p := range adopted {
		c.written.Created(set.UID, p)
	}
	seen := c.pods.GetStore().LastStoreSyncResourceVersion() // before the list: see Written.View
	cached, err := reconcile.Indexed[*corev1.Pod](c.pods, reconcile.ByController, string(set.UID))
	if err != nil {
		return nil, err
	}
	return reconcile.Taken(c.written, set.UID, reconcile.Sight{Pods: cached, Seen: seen, At: c.Clock.Now()}), nil
}

// claimsOf returns the claims of the set's ordinals and of pods beyond them.
func (c *Controller) claimsOf(set *appsv1.StatefulSet, pods []*corev1.Pod) (map[string]*corev1.PersistentVolumeClaim, error) {
	out := map[string]*corev1.PersistentVolumeClaim{}
	if len(set.Spec.VolumeClaimTemplates) == 0 {
		return out, nil
	}
	start, size := ordinals(set)
	used := map[int]bool{}
	for i := range size {
		used[start+i] = true
	}
	for _, p := range pods {
		if n, ok := ordinalOf(set.Name, p.Name); ok {
			used[n] = true
		}
	}
	lister := c.claims.PersistentVolumeClaims(set.Namespace)
	for n := range used {
		for i := range set.Spec.VolumeClaimTemplates {
			name := claimName(set.Spec.VolumeClaimTemplates[i].Name, set.Name, n)
			claim, err := lister.Get(name)
			if apierrors.IsNotFound(err) {
				continue
			}
			if err != nil {
				return nil, err
			}
			out[name] = claim
		}
	}
	return out, nil
}

// beyond reports whether p has an ordinal that the set has no longer.
func beyond(set *appsv1.StatefulSet, p *corev1.Pod) bool {
	n, ok := ordinalOf(set.Name, p.Name)
	return ok && !spanOf(set).has(n)
}

// vacantOf returns the claims from the set's templates with an ordinal in left.
func (c *Controller) vacantOf(set *appsv1.StatefulSet, left span) ([]vacancy, error) {
	claims, err := c.claims.PersistentVolumeClaims(set.Namespace).List(labels.Everything())
	if err != nil {
		return nil, err
	}
	var out []vacancy
	for _, claim := range claims {
		for i := range set.Spec.VolumeClaimTemplates {
			pod, ok := strings.CutPrefix(claim.Name, set.Spec.VolumeClaimTemplates[i].Name+"-")
			if n, named := ordinalOf(set.Name, pod); ok && named && left.has(n) {
				out = append(out, vacancy{n, claim})
			}
		}
	}
	return out, nil
}
