// Package disruption says in the status of every PodDisruptionBudget how many of its pods may be evicted.
//
// The API server takes evictions from that status and notes them there; this package counts them off when the pods go, or
// gives them back when they do not. It also takes back a pod's announcement of its disruption that nothing followed.
// plan.go decides, scale.go finds out how many pods there should be, this file observes and acts.
package disruption

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	corelisters "k8s.io/client-go/listers/core/v1"
	policylisters "k8s.io/client-go/listers/policy/v1"

	"canopus/internal/controllers/reconcile"
)

const (
	workers = 4
	// unscalableRetry is when a budget is tried again whose pods have a controller without scale: its CRD may get one.
	unscalableRetry = 5 * time.Minute
)

// Controller reconciles PodDisruptionBudgets.
type Controller struct {
	reconcile.Deps
	budgets policylisters.PodDisruptionBudgetLister
	pods    corelisters.PodLister
	scales  *scales
	count   *reconcile.Loop[types.NamespacedName] // of budgets
	retract *reconcile.Loop[types.NamespacedName] // of pods
}

// New makes a controller that does nothing before Run.
func New(d reconcile.Deps) (*Controller, error) {
	if err := d.Check(); err != nil {
		return nil, err
	}
	apps, pods, budgets := d.Informers.Apps().V1(), d.Informers.Core().V1().Pods(), d.Informers.Policy().V1().PodDisruptionBudgets()
	c := &Controller{
		Deps: d, budgets: budgets.Lister(), pods: pods.Lister(),
		scales: &scales{
			client: d.Client, clock: d.Clock, known: map[schema.GroupVersionKind]known{},
			deployments: apps.Deployments().Lister(), replicaSets: apps.ReplicaSets().Lister(), sets: apps.StatefulSets().Lister(),
		},
	}
	var err error
	c.count, err = reconcile.New(reconcile.Config[types.NamespacedName]{
		Name: "disruption", Workers: workers, Reconcile: c.reconcile, Clock: d.Clock, Log: d.Log, Queues: d.Queues,
		Sources: []reconcile.Source[types.NamespacedName]{
			reconcile.Self(budgets.Informer()),
			reconcile.On(pods.Informer(), c.podChanged),
			{Informer: apps.Deployments().Informer(), Keys: c.ownerChanged},
			{Informer: apps.ReplicaSets().Informer(), Keys: c.ownerChanged},
			{Informer: apps.StatefulSets().Informer(), Keys: c.ownerChanged},
		},
	})
	if err != nil {
		return nil, err
	}
	c.retract, err = reconcile.New(reconcile.Config[types.NamespacedName]{
		Name: "stale_pod_disruption", Workers: workers, Reconcile: c.retractStale, Clock: d.Clock, Log: d.Log, Queues: d.Queues,
		Sources: []reconcile.Source[types.NamespacedName]{reconcile.On(pods.Informer(), c.announced)},
	})
	return c, err
}

// Run works until ctx ends.
func (c *Controller) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return c.count.Run(ctx) })
	g.Go(func() error { return c.retract.Run(ctx) })
	return g.Wait()
}

// podChanged names the budgets that selected or select the pod.
func (c *Controller) podChanged(old, pod *corev1.Pod) []types.NamespacedName {
	some := pod
	if some == nil {
		some = old
	}
	var keys []types.NamespacedName
	for _, b := range c.budgetsIn(some.Namespace) {
		s := selectorOf(b)
		if old != nil && s.Matches(labels.Set(old.Labels)) || pod != nil && s.Matches(labels.Set(pod.Labels)) {
			keys = append(keys, reconcile.Key(b))
		}
	}
	return keys
}

// ownerChanged names the budgets that depend on how many pods a workload wants: a scale that changes no pod at once (a
// quota is in the way, say) changes them.
func (c *Controller) ownerChanged(old, obj any) []types.NamespacedName {
	was, _ := wanted(old)
	now, namespace := wanted(obj)
	if obj == nil || old != nil && was == now {
		return nil
	}
	var keys []types.NamespacedName
	for _, b := range c.budgetsIn(namespace) {
		if byScale(&b.Spec) {
			keys = append(keys, reconcile.Key(b))
		}
	}
	return keys
}

// announced names a pod that says it will be disrupted.
func (c *Controller) announced(_, pod *corev1.Pod) []types.NamespacedName {
	if pod == nil {
		return nil
	}
	if _, ok := stale(pod, c.Clock.Now()); !ok {
		return nil
	}
	return []types.NamespacedName{reconcile.Key(pod)}
}

// budgetsIn lists from the cache, which cannot fail.
func (c *Controller) budgetsIn(namespace string) []*policyv1.PodDisruptionBudget {
	all, _ := c.budgets.PodDisruptionBudgets(namespace).List(labels.Everything())
	return all
}

// selectorOf is what a budget selects; nothing if its selector cannot be read, which validation forbids.
func selectorOf(b *policyv1.PodDisruptionBudget) labels.Selector {
	s, err := metav1.LabelSelectorAsSelector(b.Spec.Selector)
	if err != nil {
		return labels.Nothing()
	}
	return s
}

func (c *Controller) reconcile(ctx context.Context, key types.NamespacedName) (time.Duration, error) {
	b, err := c.budgets.PodDisruptionBudgets(key.Namespace).Get(key.Name)
	if apierrors.IsNotFound(err) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	now := c.Clock.Now()
	p, err := c.observe(ctx, b, now)
	if err != nil {
		c.Events.Eventf(b, corev1.EventTypeWarning, "CalculateExpectedPodCountFailed", "Failed to calculate the number of expected pods: %v", err)
		return c.fail(ctx, b, err)
	}
	if err := c.write(ctx, b, p.status); err != nil {
		return 0, err
	}
	for _, pod := range p.overdue {
		c.Events.Eventf(pod, corev1.EventTypeWarning, "NotDeleted", "Pod was expected by PDB %s/%s to be deleted but it wasn't", b.Namespace, b.Name)
	}
	return p.recheck, nil
}

// observe collects what the plan for b needs, and tells of what is odd about it.
func (c *Controller) observe(ctx context.Context, b *policyv1.PodDisruptionBudget, now time.Time) (planned, error) {
	o := observed{budget: b}
	var err error
	if o.pods, err = c.pods.Pods(b.Namespace).List(selectorOf(b)); err != nil {
		return planned{}, err
	}
	if len(o.pods) == 0 {
		c.Events.Event(b, corev1.EventTypeNormal, "NoPods", "No matching pods found")
	}
	c.tellShared(b, o.pods)
	if byScale(&b.Spec) {
		unmanaged := false
		if o.scales, unmanaged, err = c.scales.of(ctx, o.pods); err != nil {
			return planned{}, err
		}
		if unmanaged {
			c.Events.Eventf(b, corev1.EventTypeWarning, "UnmanagedPods", "Pods selected by this PodDisruptionBudget (selector: %v) were found to be unmanaged. "+
				"As a result, the status of the PDB cannot be calculated correctly, which may result in undefined behavior. "+
				"To account for these pods please set \".spec.minAvailable\" field of the PDB to an integer value.", selectorOf(b))
		}
	}
	return plan(o, now)
}

// tellShared says of pods that several budgets select that nothing can evict them. Whichever budget was changed last says
// so, and all say it in the same words.
func (c *Controller) tellShared(b *policyv1.PodDisruptionBudget, pods []*corev1.Pod) {
	all := c.budgetsIn(b.Namespace)
	if len(all) < 2 {
		return
	}
	slices.SortFunc(all, func(x, y *policyv1.PodDisruptionBudget) int { return strings.Compare(x.Name, y.Name) })
	selectors := make([]labels.Selector, len(all))
	for i, other := range all {
		selectors[i] = selectorOf(other)
	}
	for _, pod := range pods {
		selects := func(s labels.Selector) bool { return s.Matches(labels.Set(pod.Labels)) }
		first := slices.IndexFunc(selectors, selects)
		if first >= 0 && slices.ContainsFunc(selectors[first+1:], selects) {
			c.Events.Eventf(pod, corev1.EventTypeWarning, "MultiplePodDisruptionBudgets", "Pod %q/%q matches multiple PodDisruptionBudgets.  Chose %q arbitrarily.", pod.Namespace, pod.Name, all[first].Name)
		}
	}
}

// fail forbids evictions while the budget cannot be computed.
func (c *Controller) fail(ctx context.Context, b *policyv1.PodDisruptionBudget, why error) (time.Duration, error) {
	if err := c.write(ctx, b, failed(b, why, c.Clock.Now())); err != nil {
		return 0, errors.Join(why, err)
	}
	if errors.As(why, &unscalable{}) {
		return unscalableRetry, nil
	}
	return 0, fmt.Errorf("count the pods of poddisruptionbudget %s: %w", reconcile.Key(b), why)
}

// write stores a status that differs. A conflict is an eviction that was granted meanwhile: it is tried again, never
// overwritten.
func (c *Controller) write(ctx context.Context, b *policyv1.PodDisruptionBudget, next policyv1.PodDisruptionBudgetStatus) error {
	if apiequality.Semantic.DeepEqual(b.Status, next) {
		return nil
	}
	b = b.DeepCopy()
	b.Status = next
	_, err := c.Client.PolicyV1().PodDisruptionBudgets(b.Namespace).UpdateStatus(ctx, b, metav1.UpdateOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("write the status of poddisruptionbudget %s: %w", reconcile.Key(b), err)
	}
	return nil
}

// retractStale takes back what a pod announced of its disruption when none followed.
func (c *Controller) retractStale(ctx context.Context, key types.NamespacedName) (time.Duration, error) {
	pod, err := c.pods.Pods(key.Namespace).Get(key.Name)
	if apierrors.IsNotFound(err) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	now := c.Clock.Now()
	left, announced := stale(pod, now)
	if !announced || left > 0 {
		return left, nil
	}
	patch, err := json.Marshal(map[string]any{
		// The version makes sure that a disruption announced again meanwhile stays.
		"metadata": map[string]any{"uid": pod.UID, "resourceVersion": pod.ResourceVersion},
		"status": map[string]any{"conditions": []any{map[string]any{
			"type": corev1.DisruptionTarget, "status": corev1.ConditionFalse, "lastTransitionTime": metav1.NewTime(now),
			"reason": nil, "message": nil, "observedGeneration": pod.Generation,
		}}},
	})
	if err != nil {
		return 0, err
	}
	_, err = c.Client.CoreV1().Pods(pod.Namespace).Patch(ctx, pod.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status")
	if err != nil && !apierrors.IsNotFound(err) {
		return 0, fmt.Errorf("take back the announced disruption of pod %s: %w", key, err)
	}
	return 0, nil
}
