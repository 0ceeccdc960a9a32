// Package resourceclaim looks after claims to devices: it makes those that pods want from templates, keeps only the
// reservations of pods that still need them, and takes the devices back from claims that nobody has reserved.
//
// Read pod.go (what a pod needs) and claim.go (what becomes of a claim); both are pure. This file observes and acts, and figures.go
// counts.
package resourceclaim

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	corelisters "k8s.io/client-go/listers/core/v1"
	resourcelisters "k8s.io/client-go/listers/resource/v1"
	"k8s.io/client-go/tools/cache"

	"canopus/internal/controllers/reconcile"
)

const (
	workers = 10
	queue   = "resource_claim"

	byClaim    = "canopus/resourceclaim"         // pods by the claims they use
	byTemplate = "canopus/resourceclaimtemplate" // and by the templates of theirs
)

// errNoTemplate begins the message about a template that is not there.
var errNoTemplate = errors.New("resource claim template")

// subject is what is reconciled: a pod or, if claim is set, a claim.
type subject struct {
	types.NamespacedName
	claim bool
}

// Controller looks after claims and the pods that use them.
type Controller struct {
	reconcile.Deps
	pods       corelisters.PodLister
	podCache   cache.SharedIndexInformer
	claims     resourcelisters.ResourceClaimLister
	claimCache cache.SharedIndexInformer
	templates  resourcelisters.ResourceClaimTemplateLister
	figures    *Figures
	loop       *reconcile.Loop[subject]
}

// Config is what a Controller needs; all of it is required.
type Config struct {
	reconcile.Deps
	Figures *Figures // outlive the controller
}

// New makes a controller that does nothing before Run.
func New(cfg Config) (*Controller, error) {
	d := cfg.Deps
	if err := d.Check(); err != nil {
		return nil, err
	}
	if cfg.Figures == nil {
		return nil, errors.New("the controller of resource claims needs figures: set resourceclaim.Config.Figures")
	}
	pods, devices := d.Informers.Core().V1().Pods(), d.Informers.Resource().V1()
	c := &Controller{
		Deps: d, figures: cfg.Figures, pods: pods.Lister(), podCache: pods.Informer(),
		claims: devices.ResourceClaims().Lister(), claimCache: devices.ResourceClaims().Informer(), templates: devices.ResourceClaimTemplates().Lister(),
	}
	if err := errors.Join(
		reconcile.Index(c.podCache, byClaim, indexPods(claimNames)), reconcile.Index(c.podCache, byTemplate, indexPods(templateNames)),
		reconcile.IndexByController(c.claimCache),
	); err != nil {
		return nil, err
	}
	var err error
	c.loop, err = reconcile.New(reconcile.Config[subject]{
		Name: queue, Workers: workers, Reconcile: c.reconcile, Clock: d.Clock, Log: d.Log, Queues: d.Queues,
		Sources: []reconcile.Source[subject]{
			reconcile.On(c.podCache, podChanged), reconcile.On(c.claimCache, c.claimChanged), reconcile.On(devices.ResourceClaimTemplates().Informer(), c.templateChanged),
		},
	})
	return c, err
}

// Run works until ctx ends.
func (c *Controller) Run(ctx context.Context) error { return c.loop.Run(ctx) }

func indexPods(names func(*corev1.Pod) []string) cache.IndexFunc {
	return func(obj any) ([]string, error) {
		pod, ok := obj.(*corev1.Pod)
		if !ok {
			return nil, nil
		}
		var out []string
		for _, name := range names(pod) {
			out = append(out, pod.Namespace+"/"+name)
		}
		return out, nil
	}
}

// podChanged: a pod that goes on may need claims, one that does not gives up those it has.
func podChanged(old, pod *corev1.Pod) []subject {
	switch {
	case pod == nil:
		return claimsOf(old)
	case !claiming(pod):
		return nil
	case done(pod):
		return claimsOf(pod)
	}
	keys := []subject{{NamespacedName: reconcile.Key(pod)}}
	if old != nil && old.UID != pod.UID {
		keys = append(keys, claimsOf(old)...)
	}
	return keys
}

func claimsOf(pod *corev1.Pod) []subject {
	var keys []subject
	for _, name := range claimNames(pod) {
		keys = append(keys, subject{types.NamespacedName{Namespace: pod.Namespace, Name: name}, true})
	}
	return keys
}

// claimChanged also wakes the pods that use the claim: it may be theirs to make again, or to reserve.
func (c *Controller) claimChanged(old, claim *resourcev1.ResourceClaim) []subject {
	var keys []subject
	one := old
	if claim != nil {
		one = claim
		keys = append(keys, subject{reconcile.Key(claim), true})
	}
	if old != nil && claim != nil && old.UID == claim.UID && (old.Status.Allocation == nil) == (claim.Status.Allocation == nil) {
		return keys
	}
	return append(keys, c.users(byClaim, one)...)
}

func (c *Controller) templateChanged(_, template *resourcev1.ResourceClaimTemplate) []subject {
	if template == nil {
		return nil
	}
	return c.users(byTemplate, template)
}

// users are the pods that name a claim or a template.
func (c *Controller) users(index string, obj metav1.Object) []subject {
	pods, err := reconcile.Indexed[*corev1.Pod](c.podCache, index, reconcile.Key(obj).String())
	if err != nil { // the index is made in New
		c.Log.Error("pods cannot be looked up", "controller", queue, "error", err)
	}
	var keys []subject
	for _, p := range pods {
		if !done(p) {
			keys = append(keys, subject{NamespacedName: reconcile.Key(p)})
		}
	}
	return keys
}

func (c *Controller) reconcile(ctx context.Context, key subject) (time.Duration, error) {
	if key.claim {
		return 0, c.reconcileClaim(ctx, key.NamespacedName)
	}
	pod, err := c.pods.Pods(key.Namespace).Get(key.Name)
	if apierrors.IsNotFound(err) || err == nil && (pod.DeletionTimestamp != nil || done(pod)) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	if err := c.provide(ctx, pod); err != nil {
		return 0, err
	}
	return 0, c.reserve(ctx, pod)
}

// provide makes the claims that pod lacks, and has its status name them.
func (c *Controller) provide(ctx context.Context, pod *corev1.Pod) error {
	if len(templateNames(pod)) == 0 {
		return nil
	}
	owned, err := reconcile.Indexed[*resourcev1.ResourceClaim](c.claimCache, reconcile.ByController, string(pod.UID))
	if err != nil {
		return err
	}
	known := make(map[string]string, len(owned)) // claims by what the pod calls them
	for _, claim := range owned {
		known[claim.Annotations[resourcev1.PodResourceClaimAnnotation]] = claim.Name
	}
	var errs []error
	for _, one := range missing(pod, known) {
		name, err := c.create(ctx, pod, one)
		if err != nil {
			c.Events.Eventf(pod, corev1.EventTypeWarning, "FailedResourceClaimCreation", "PodResourceClaim %s: %v", one.Name, err)
			if !errors.Is(err, errNoTemplate) { // the template will wake us
				errs = append(errs, fmt.Errorf("pod %s, claim %s: %w", reconcile.Key(pod), one.Name, err))
			}
			continue
		}
		known[one.Name] = name
	}
	if now := statuses(pod, known); len(now) > 0 {
		errs = append(errs, c.writeStatuses(ctx, pod, now))
	}
	return errors.Join(errs...)
}

// create makes the claim of one reference, unless it is there, and returns its name.
func (c *Controller) create(ctx context.Context, pod *corev1.Pod, ref *corev1.PodResourceClaim) (string, error) {
	template, err := c.templates.ResourceClaimTemplates(pod.Namespace).Get(*ref.ResourceClaimTemplateName)
	if apierrors.IsNotFound(err) {
		return "", fmt.Errorf("%w %q: %w", errNoTemplate, *ref.ResourceClaimTemplateName, err)
	}
	if err != nil {
		return "", err
	}
	claims := c.Client.ResourceV1().ResourceClaims(pod.Namespace)
	for attempt := 0; ; attempt++ {
		want := generate(pod, ref, template, attempt)
		have, err := claims.Create(ctx, want, metav1.CreateOptions{})
		c.figures.created(want, err)
		if apierrors.IsAlreadyExists(err) {
			have, err = claims.Get(ctx, want.Name, metav1.GetOptions{})
		}
		if err != nil {
			return "", err
		}
		if metav1.IsControlledBy(have, pod) {
			return have.Name, nil
		}
		if attempt == sharedNames {
			return "", fmt.Errorf("the names that the claim could have are taken by others, the last by %s", have.Name)
		}
	}
}

func (c *Controller) writeStatuses(ctx context.Context, pod *corev1.Pod, list []corev1.PodResourceClaimStatus) error {
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"uid": pod.UID}, "status": map[string]any{"resourceClaimStatuses": list}})
	if err != nil {
		return err
	}
	_, err = c.Client.CoreV1().Pods(pod.Namespace).Patch(ctx, pod.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status")
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) { // gone, or another of its name
		return nil
	}
	return err
}

// reserve does the scheduler's part for a pod that was given a node without it.
func (c *Controller) reserve(ctx context.Context, pod *corev1.Pod) error {
	if pod.Spec.NodeName == "" {
		return nil
	}
	var errs []error
	for _, name := range claimNames(pod) {
		claim, err := c.claims.ResourceClaims(pod.Namespace).Get(name)
		if apierrors.IsNotFound(err) {
			continue
		}
		if err == nil && reservable(pod, claim) {
			claim = claim.DeepCopy()
			claim.Status.ReservedFor = append(claim.Status.ReservedFor, resourcev1.ResourceClaimConsumerReference{Resource: "pods", Name: pod.Name, UID: pod.UID})
			_, err = c.Client.ResourceV1().ResourceClaims(claim.Namespace).UpdateStatus(ctx, claim, metav1.UpdateOptions{})
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("reserve claim %s for pod %s: %w", name, reconcile.Key(pod), err))
		}
	}
	return errors.Join(errs...)
}

func (c *Controller) reconcileClaim(ctx context.Context, key types.NamespacedName) error {
	claim, err := c.claims.ResourceClaims(key.Namespace).Get(key.Name)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	var lookup error
	p := planClaim(claim, func(ref *resourcev1.ResourceClaimConsumerReference) bool {
		needed, err := c.needed(ctx, key.Namespace, ref)
		lookup = errors.Join(lookup, err)
		return needed || err != nil
	})
	if err := c.carryOut(ctx, claim, p); err != nil {
		return fmt.Errorf("claim %s: %w", key, err)
	}
	return lookup
}

// carryOut writes what has become of a claim. The version that was decided on goes along: others write claims, too.
func (c *Controller) carryOut(ctx context.Context, claim *resourcev1.ResourceClaim, p claimPlan) error {
	claims := c.Client.ResourceV1().ResourceClaims(claim.Namespace)
	now := claim.DeepCopy()
	if p.status != nil {
		now.Status = *p.status
		var err error
		if now, err = claims.UpdateStatus(ctx, now, metav1.UpdateOptions{}); err != nil {
			return ignoreGone(err)
		}
	}
	if p.release {
		now.Finalizers = slices.DeleteFunc(now.Finalizers, func(f string) bool { return f == resourcev1.Finalizer })
		if _, err := claims.Update(ctx, now, metav1.UpdateOptions{}); err != nil {
			return ignoreGone(err)
		}
	}
	if owner := metav1.GetControllerOfNoCopy(claim); p.unused && owner != nil && owner.Kind == "Pod" && claim.DeletionTimestamp == nil {
		pod, err := c.pods.Pods(claim.Namespace).Get(owner.Name)
		// A pod that is not known may only not be known yet; if it is gone, the garbage collector sees to the claim.
		if err == nil && (pod.UID != owner.UID || done(pod)) {
			return ignoreGone(claims.Delete(ctx, claim.Name, metav1.DeleteOptions{Preconditions: metav1.NewUIDPreconditions(string(claim.UID))}))
		}
	}
	return nil
}

func ignoreGone(err error) error {
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

// needed reports whether a reservation is still of use. That a pod is gone is not believed to the cache alone, which may be behind
// the scheduler.
func (c *Controller) needed(ctx context.Context, namespace string, ref *resourcev1.ResourceClaimConsumerReference) (bool, error) {
	if ref.APIGroup != "" || ref.Resource != "pods" {
		return true, nil // who uses it so must give it up
	}
	pod, err := c.pods.Pods(namespace).Get(ref.Name)
	if err != nil || pod.UID != ref.UID {
		pod, err = c.Client.CoreV1().Pods(namespace).Get(ctx, ref.Name, metav1.GetOptions{})
	}
	if apierrors.IsNotFound(err) {
		return false, nil
	}
	if err != nil {
		return true, fmt.Errorf("look up pod %s/%s, which has a claim reserved: %w", namespace, ref.Name, err)
	}
	return pod.UID == ref.UID && !done(pod), nil
}
