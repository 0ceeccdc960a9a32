// Package devicetainteviction deletes pods whose devices have NoExecute taints that their claims do not tolerate, at once or when
// the time has passed that tolerations grant. Taints come from drivers (ResourceSlices) and from people (DeviceTaintRules); of the
// latter it also tells how the eviction comes along, or what it would do.
//
// Read due.go first (which pods, when): it is pure. rules.go tells about rules, this file observes and evicts.
package devicetainteviction

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	corelisters "k8s.io/client-go/listers/core/v1"
	resourcelisters "k8s.io/client-go/listers/resource/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/dynamic-resource-allocation/resourceclaim"

	"canopus/internal/controllers/podstate"
	"canopus/internal/controllers/reconcile"
)

const (
	workers = 8
	queue   = "device_taint_eviction"
	byPool  = "canopus/devicepool" // slices, and claims with devices, by driver and pool
)

// subject is what is reconciled: a pod or, without a namespace, a rule.
type subject = types.NamespacedName

// Controller reconciles pods that use devices, and taint rules.
type Controller struct {
	reconcile.Deps
	pods       corelisters.PodLister
	claims     resourcelisters.ResourceClaimLister
	claimCache cache.SharedIndexInformer
	sliceCache cache.SharedIndexInformer
	rules      resourcelisters.DeviceTaintRuleLister
	loop       *reconcile.Loop[subject]
}

// New makes a controller that does nothing before Run.
func New(d reconcile.Deps) (*Controller, error) {
	if err := d.Check(); err != nil {
		return nil, err
	}
	pods, devices := d.Informers.Core().V1().Pods(), d.Informers.Resource().V1()
	c := &Controller{
		Deps: d, pods: pods.Lister(), claims: devices.ResourceClaims().Lister(), claimCache: devices.ResourceClaims().Informer(),
		sliceCache: devices.ResourceSlices().Informer(), rules: devices.DeviceTaintRules().Lister(),
	}
	if err := errors.Join(reconcile.Index(c.claimCache, byPool, poolsOfClaim), reconcile.Index(c.sliceCache, byPool, poolOfSlice)); err != nil {
		return nil, err
	}
	var err error
	c.loop, err = reconcile.New(reconcile.Config[subject]{
		Name: queue, Workers: workers, Reconcile: c.reconcile, Clock: d.Clock, Log: d.Log, Queues: d.Queues,
		Sources: []reconcile.Source[subject]{
			reconcile.On(pods.Informer(), c.podChanged), reconcile.On(c.claimCache, c.claimChanged),
			reconcile.On(c.sliceCache, c.sliceChanged), reconcile.On(devices.DeviceTaintRules().Informer(), c.ruleChanged),
		},
	})
	return c, err
}

// Run works until ctx ends.
func (c *Controller) Run(ctx context.Context) error { return c.loop.Run(ctx) }

func poolKey(driver, pool string) string { return driver + "/" + pool }

func poolsOfClaim(obj any) ([]string, error) {
	claim, ok := obj.(*resourcev1.ResourceClaim)
	if !ok || claim.Status.Allocation == nil {
		return nil, nil
	}
	var out []string
	for i := range claim.Status.Allocation.Devices.Results {
		r := &claim.Status.Allocation.Devices.Results[i]
		if key := poolKey(r.Driver, r.Pool); !slices.Contains(out, key) {
			out = append(out, key)
		}
	}
	return out, nil
}

func poolOfSlice(obj any) ([]string, error) {
	s, ok := obj.(*resourcev1.ResourceSlice)
	if !ok {
		return nil, nil
	}
	return []string{poolKey(s.Spec.Driver, s.Spec.Pool.Name)}, nil
}

// podChanged cares for a pod that got a node, and for one that went: the rules that evicted it want to know.
func (c *Controller) podChanged(old, pod *corev1.Pod) []subject {
	switch {
	case pod == nil:
		if claims(old) {
			return c.evictingRules()
		}
		return nil
	case !claims(pod) || pod.Spec.NodeName == "":
		return nil
	case old != nil && old.UID == pod.UID && old.Spec.NodeName == pod.Spec.NodeName &&
		podstate.Finished(old) == podstate.Finished(pod) && (old.DeletionTimestamp == nil) == (pod.DeletionTimestamp == nil):
		return nil
	}
	return append(c.evictingRules(), reconcile.Key(pod))
}

// claims reports whether pod may have devices. They may stand for an extended resource.
func claims(pod *corev1.Pod) bool {
	return len(pod.Spec.ResourceClaims) > 0 || pod.Status.ExtendedResourceClaimStatus != nil
}

func (c *Controller) evictingRules() []subject {
	list, err := c.rules.List(labels.Everything())
	if err != nil { // a lister over a cache never fails
		return nil
	}
	var keys []subject
	for _, r := range list {
		if r.Spec.Taint.Effect == resourcev1.DeviceTaintEffectNoExecute {
			keys = append(keys, subject{Name: r.Name})
		}
	}
	return keys
}

func (c *Controller) claimChanged(old, claim *resourcev1.ResourceClaim) []subject {
	if claim == nil || claim.Status.Allocation == nil ||
		old != nil && old.Status.Allocation != nil && equality.Semantic.DeepEqual(old.Status.ReservedFor, claim.Status.ReservedFor) {
		return nil
	}
	return users(claim)
}

// users are the pods that have a claim reserved.
func users(claim *resourcev1.ResourceClaim) []subject {
	var keys []subject
	for _, ref := range claim.Status.ReservedFor {
		if ref.APIGroup == "" && ref.Resource == "pods" {
			keys = append(keys, subject{Namespace: claim.Namespace, Name: ref.Name})
		}
	}
	return keys
}

func (c *Controller) sliceChanged(_, s *resourcev1.ResourceSlice) []subject {
	if s == nil || !slices.ContainsFunc(s.Spec.Devices, func(d resourcev1.Device) bool { return len(evicting(d.Taints)) > 0 }) {
		return nil
	}
	claims, err := reconcile.Indexed[*resourcev1.ResourceClaim](c.claimCache, byPool, poolKey(s.Spec.Driver, s.Spec.Pool.Name))
	if err != nil { // the index is made in New
		c.Log.Error("claims cannot be looked up", "controller", queue, "error", err)
	}
	var keys []subject
	for _, claim := range claims {
		keys = append(keys, users(claim)...)
	}
	return keys
}

func (c *Controller) ruleChanged(old, rule *resourcev1.DeviceTaintRule) []subject {
	if rule == nil || old != nil && old.UID == rule.UID && old.Generation == rule.Generation {
		return nil
	}
	keys := []subject{{Name: rule.Name}}
	if rule.Spec.Taint.Effect != resourcev1.DeviceTaintEffectNoExecute {
		return keys
	}
	claims, err := c.claims.List(labels.Everything())
	if err != nil {
		return keys
	}
	for _, claim := range claims {
		if meant(rule, claim) {
			keys = append(keys, users(claim)...)
		}
	}
	return keys
}

func (c *Controller) reconcile(ctx context.Context, key subject) (time.Duration, error) {
	if key.Namespace == "" {
		return 0, c.reconcileRule(ctx, key.Name)
	}
	pod, err := c.pods.Pods(key.Namespace).Get(key.Name)
	if apierrors.IsNotFound(err) || err == nil && !affected(pod) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	held, err := c.heldBy(pod)
	if err != nil {
		return 0, err
	}
	now := c.Clock.Now()
	at, evict := due(held)
	switch {
	case !evict:
		return 0, nil
	case at.After(now):
		return at.Sub(now), nil
	}
	if err := c.evict(ctx, pod, now); err != nil {
		return 0, fmt.Errorf("evict pod %s from tainted devices: %w", key, err)
	}
	return 0, nil
}

// heldBy is what pod has of devices, with the taints they have now.
func (c *Controller) heldBy(pod *corev1.Pod) ([]heldDevice, error) {
	rules, err := c.rules.List(labels.Everything())
	if err != nil {
		return nil, err
	}
	var out []heldDevice
	for name := range resourceclaim.PodClaims(pod) {
		claim, err := c.claims.ResourceClaims(pod.Namespace).Get(name)
		if apierrors.IsNotFound(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if claim.Status.Allocation == nil || !resourceclaim.IsReservedForPod(pod, claim, false) {
			continue
		}
		for i := range claim.Status.Allocation.Devices.Results {
			r := &claim.Status.Allocation.Devices.Results[i]
			published, err := reconcile.Indexed[*resourcev1.ResourceSlice](c.sliceCache, byPool, poolKey(r.Driver, r.Pool))
			if err != nil {
				return nil, err
			}
			out = append(out, heldDevice{tolerations: r.Tolerations, taints: append(publishedTaints(published, r.Device), ruledTaints(rules, r)...)})
		}
	}
	return out, nil
}

// evict says in the pod's conditions why it goes, then deletes it.
func (c *Controller) evict(ctx context.Context, pod *corev1.Pod, now time.Time) error {
	c.Events.Event(pod, corev1.EventTypeNormal, "DeviceTaintManagerEviction", "Marking for deletion")
	patch, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"uid": pod.UID},
		"status": map[string]any{"conditions": []corev1.PodCondition{{
			Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: "DeletionByDeviceTaintManager",
			Message: "Device Taint manager: deleting due to NoExecute taint", LastTransitionTime: metav1.NewTime(now),
			ObservedGeneration: pod.Generation,
		}}},
	})
	if err != nil {
		return err
	}
	pods := c.Client.CoreV1().Pods(pod.Namespace)
	if _, err := pods.Patch(ctx, pod.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status"); err != nil && !apierrors.IsNotFound(err) {
		return err
	}
	err = pods.Delete(ctx, pod.Name, metav1.DeleteOptions{Preconditions: metav1.NewUIDPreconditions(string(pod.UID))})
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil
	}
	return err
}
