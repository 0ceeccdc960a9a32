// Package namespace empties namespaces that are being deleted, then lets them go.
//
// What a namespace may contain is asked from discovery each time, so kinds that custom resources add are included. Pods go
// first and alone: what they depend on (their NetworkPolicies, Secrets, ServiceAccounts) outlives them.
package namespace

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/metadata"

	"canopus/internal/controllers/reconcile"
)

const workers = 10

// While content remains that no event tells us about, a namespace is looked at again after a quarter of the time that its
// deletion has taken, within these bounds.
const (
	soonest = 200 * time.Millisecond
	latest  = 10 * time.Second
	// untilPods is soonest where pods remain: they take a while, and the last of them tells.
	untilPods = time.Second
)

// Config is what the controller works with.
type Config struct {
	reconcile.Deps
	Metadata metadata.Interface
}

// Controller reconciles namespaces.
type Controller struct {
	Config
	namespaces v1.NamespaceLister
	loop       *reconcile.Loop[string]
	// pods counts those of each namespace that has any. Owned by the handler of the pod informer.
	pods map[string]int
}

// New makes a controller that does nothing before Run.
func New(config Config) (*Controller, error) {
	if err := config.Check(); err != nil {
		return nil, err
	}
	if config.Metadata == nil {
		return nil, errors.New("the namespace controller needs a metadata client")
	}
	core := config.Informers.Core().V1()
	c := &Controller{Config: config, namespaces: core.Namespaces().Lister(), pods: map[string]int{}}
	var err error
	c.loop, err = reconcile.New(reconcile.Config[string]{
		Name: "namespace", Workers: workers, Reconcile: c.reconcile, Clock: config.Clock, Log: config.Log, Queues: config.Queues,
		Sources: []reconcile.Source[string]{
			reconcile.On(core.Namespaces().Informer(), namespaceChanged),
			reconcile.On(core.Pods().Informer(), c.podChanged),
		},
	})
	return c, err
}

// Run works until ctx ends.
func (c *Controller) Run(ctx context.Context) error { return c.loop.Run(ctx) }

func namespaceChanged(_, ns *corev1.Namespace) []string {
	if ns == nil || ns.DeletionTimestamp == nil {
		return nil
	}
	return []string{ns.Name}
}

// podChanged wakes a namespace that waits for its pods when the last of them is gone. Each would be a look at all the others.
func (c *Controller) podChanged(old, pod *corev1.Pod) []string {
	switch {
	case old == nil:
		c.pods[pod.Namespace]++
		return nil
	case pod != nil:
		return nil
	}
	if c.pods[old.Namespace]--; c.pods[old.Namespace] > 0 {
		return nil
	}
	delete(c.pods, old.Namespace)
	if ns, err := c.namespaces.Get(old.Namespace); err != nil || ns.DeletionTimestamp == nil {
		return nil
	}
	return []string{old.Namespace}
}

func (c *Controller) reconcile(ctx context.Context, name string) (time.Duration, error) {
	ns, err := c.namespaces.Get(name)
	if apierrors.IsNotFound(err) {
		return 0, nil
	}
	if err != nil || ns.DeletionTimestamp == nil || !slices.Contains(ns.Spec.Finalizers, corev1.FinalizerKubernetes) {
		return 0, err
	}
	if ns, err = c.terminate(ctx, ns); err != nil {
		return 0, fmt.Errorf("mark namespace %s terminating: %w", name, err)
	}
	found := c.empty(ctx, name)
	if ns, err = c.writeConditions(ctx, ns, found); err != nil {
		return 0, fmt.Errorf("write the conditions of namespace %s: %w", name, err)
	}
	if len(found.errs) > 0 {
		return 0, fmt.Errorf("empty namespace %s: %w", name, errors.Join(found.errs...))
	}
	if found.remaining() > 0 {
		return again(found, c.Clock.Since(ns.DeletionTimestamp.Time)), nil
	}
	final := ns.DeepCopy()
	final.Spec.Finalizers = slices.DeleteFunc(final.Spec.Finalizers, func(f corev1.FinalizerName) bool {
		return f == corev1.FinalizerKubernetes
	})
	_, err = c.Client.CoreV1().Namespaces().Finalize(ctx, final, metav1.UpdateOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return 0, fmt.Errorf("finalize namespace %s: %w", name, err)
	}
	return 0, nil
}

// again is when to look again at a namespace whose deletion has taken so long.
func again(found content, age time.Duration) time.Duration {
	least := soonest
	if found.left[podsLeft] > 0 {
		least = untilPods
	}
	return min(max(age/4, least), latest)
}

func (c *Controller) terminate(ctx context.Context, ns *corev1.Namespace) (*corev1.Namespace, error) {
	if ns.Status.Phase == corev1.NamespaceTerminating {
		return ns, nil
	}
	marked := ns.DeepCopy()
	marked.Status.Phase = corev1.NamespaceTerminating
	return c.Client.CoreV1().Namespaces().UpdateStatus(ctx, marked, metav1.UpdateOptions{})
}

func (c *Controller) writeConditions(ctx context.Context, ns *corev1.Namespace, found content) (*corev1.Namespace, error) {
	next := conditions(ns.Status.Conditions, found, metav1.NewTime(c.Clock.Now()))
	if equality.Semantic.DeepEqual(next, ns.Status.Conditions) {
		return ns, nil
	}
	changed := ns.DeepCopy()
	changed.Status.Conditions = next
	return c.Client.CoreV1().Namespaces().UpdateStatus(ctx, changed, metav1.UpdateOptions{})
}
