// Package podautoscaler scales workloads as HorizontalPodAutoscalers say.
//
// Each autoscaler is looked at every 15 seconds: its target's scale, its pods and its metrics are read, then decided on.
// Read decide.go (the decision), proposal.go (one metric), replicas.go (how many replicas a metric asks for), behavior.go
// (how much of that is done now); scale.go and read.go observe; this file acts. Everything but scale.go, read.go and this
// file is pure.
package podautoscaler

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	autoscalinglisters "k8s.io/client-go/listers/autoscaling/v2"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"

	"canopus/internal/controllers/reconcile"
)

const (
	workers = 5
	// syncPeriod is how often an autoscaler is looked at.
	syncPeriod = 15 * time.Second
)

// Config is what a Controller works with.
type Config struct {
	reconcile.Deps
	// Period between two looks at an autoscaler; 15 s unless set.
	Period time.Duration
}

// Controller reconciles HorizontalPodAutoscalers.
type Controller struct {
	reconcile.Deps
	period    time.Duration
	hpas      autoscalinglisters.HorizontalPodAutoscalerLister
	pods      corelisters.PodLister
	resources *resources
	figures   figures
	loop      *reconcile.Loop[types.NamespacedName]

	mu    sync.Mutex
	known map[types.NamespacedName]memory
}

// memory is what is kept of one autoscaler between two looks.
type memory struct {
	uid      types.UID
	history  history
	selector labels.Selector // of its target's pods; nil: not known yet
}

// New makes a controller that does nothing before Run.
func New(c Config) (*Controller, error) {
	if err := c.Check(); err != nil {
		return nil, err
	}
	if c.Period < 0 {
		return nil, errors.New("the period of the pod autoscaler must be positive")
	}
	if c.Period == 0 {
		c.Period = syncPeriod
	}
	hpas, pods := c.Informers.Autoscaling().V2().HorizontalPodAutoscalers(), c.Informers.Core().V1().Pods()
	out := &Controller{
		Deps: c.Deps, period: c.Period, hpas: hpas.Lister(), pods: pods.Lister(), known: map[types.NamespacedName]memory{},
		resources: &resources{client: c.Client, clock: c.Clock, served: map[schema.GroupVersion]knownVersion{}, groups: map[string]knownGroup{}},
	}
	var err error
	if out.figures, err = newFigures(c.Deps); err != nil {
		return nil, err
	}
	out.loop, err = reconcile.New(reconcile.Config[types.NamespacedName]{
		Name: "horizontalpodautoscaler", Workers: workers, Reconcile: out.reconcile, Clock: c.Clock, Log: c.Log, Queues: c.Queues,
		Sources: []reconcile.Source[types.NamespacedName]{reconcile.On(hpas.Informer(), changed)},
		Caches:  []cache.SharedIndexInformer{pods.Informer()},
	})
	return out, err
}

// Run works until ctx ends.
func (c *Controller) Run(ctx context.Context) error { return c.loop.Run(ctx) }

// changed names an autoscaler that appeared, vanished or has another spec. Its status is our own writing.
func changed(old, now *autoscalingv2.HorizontalPodAutoscaler) []types.NamespacedName {
	switch {
	case now == nil:
		return []types.NamespacedName{reconcile.Key(old)}
	case old == nil, old.UID != now.UID, old.Generation != now.Generation:
		return []types.NamespacedName{reconcile.Key(now)}
	}
	return nil
}

func (c *Controller) reconcile(ctx context.Context, key types.NamespacedName) (time.Duration, error) {
	hpa, err := c.hpas.HorizontalPodAutoscalers(key.Namespace).Get(key.Name)
	if apierrors.IsNotFound(err) {
		c.forget(key)
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	began := c.Clock.Now()
	o, at, err := c.observe(ctx, hpa)
	if err != nil {
		return c.period, err
	}
	d := decide(o, c.Clock.Now())
	if d.scaled {
		err := c.writeScale(ctx, at, d.to)
		if ctx.Err() != nil {
			return 0, ctx.Err()
		}
		d.finish(hpa, err, c.Clock.Now())
	}
	c.remember(key, hpa.UID, func(m *memory) { m.history = d.history })
	for _, e := range d.events {
		c.Events.Event(hpa, e.kind, e.reason, e.message)
	}
	err = c.writeStatus(ctx, hpa, d.status)
	c.figures.looked(&d, err, c.Clock.Since(began))
	return c.period, err
}

// observe reads all that the decision needs. What cannot be read is part of it: only the end of the process is an error.
func (c *Controller) observe(ctx context.Context, hpa *autoscalingv2.HorizontalPodAutoscaler) (observed, target, error) {
	key, ref := reconcile.Key(hpa), hpa.Spec.ScaleTargetRef
	o := observed{hpa: hpa, history: c.recall(key, hpa.UID).history}
	at, err := c.readScale(ctx, hpa.Namespace, ref.APIVersion, ref.Kind, ref.Name)
	if ctx.Err() != nil {
		return o, at, ctx.Err()
	}
	o.scale, o.scaleErr = at.Scale, err
	if err != nil || !byMetrics(hpa, o.scale.Spec.Replicas) {
		return o, at, nil
	}
	selector, bad := selectorOf(o.scale)
	if bad != nil {
		o.selectErr = bad
		return o, at, nil
	}
	c.remember(key, hpa.UID, func(m *memory) { m.selector = selector })
	if o.pods, err = c.pods.Pods(hpa.Namespace).List(selector); err != nil {
		return o, at, err
	}
	if o.selectErr = c.shared(key, selector, o.pods); o.selectErr != nil {
		return o, at, nil
	}
	s := &source{resources: c.resources, namespace: hpa.Namespace, selector: selector}
	for i := range hpa.Spec.Metrics {
		began := c.Clock.Now()
		m := s.measure(ctx, &hpa.Spec.Metrics[i])
		m.took = c.Clock.Since(began)
		o.measures = append(o.measures, m)
	}
	return o, at, ctx.Err()
}

// selectorOf reads the selector of a scale.
func selectorOf(s *autoscalingv1.Scale) (labels.Selector, *failure) {
	if s.Status.Selector == "" {
		return nil, &failure{"InvalidSelector", "SelectorRequired", "selector is required", errors.New("the HPA target's scale is missing a selector")}
	}
	selector, err := labels.Parse(s.Status.Selector)
	if err != nil {
		text := fmt.Sprintf("couldn't convert selector into a corresponding internal selector object: %v", err)
		return nil, &failure{"InvalidSelector", "InvalidSelector", text, errors.New(text)}
	}
	return selector, nil
}

// shared refuses pods that other autoscalers scale too: they would pull in different directions.
func (c *Controller) shared(key types.NamespacedName, selector labels.Selector, pods []*corev1.Pod) *failure {
	c.mu.Lock()
	var others []string
	for k, m := range c.known {
		if k != key && k.Namespace == key.Namespace && m.selector != nil &&
			slices.ContainsFunc(pods, func(p *corev1.Pod) bool { return m.selector.Matches(labels.Set(p.Labels)) }) {
			others = append(others, k.String())
		}
	}
	c.mu.Unlock()
	if len(others) == 0 {
		return nil
	}
	others = append(others, key.String())
	slices.Sort(others)
	text := fmt.Sprintf("pods by selector %v are controlled by multiple HPAs: [%s]", selector, strings.Join(others, " "))
	return &failure{"AmbiguousSelector", "AmbiguousSelector", text, errors.New(text)}
}

func (c *Controller) recall(key types.NamespacedName, uid types.UID) memory {
	c.mu.Lock()
	defer c.mu.Unlock()
	if m := c.known[key]; m.uid == uid {
		return m
	}
	return memory{}
}

// remember changes what is kept of an autoscaler; one that was made anew under the same name starts without.
func (c *Controller) remember(key types.NamespacedName, uid types.UID, change func(*memory)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	m := c.known[key]
	if m.uid != uid {
		m = memory{uid: uid}
	}
	change(&m)
	c.known[key] = m
}

func (c *Controller) forget(key types.NamespacedName) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.known, key)
}

// writeStatus stores a status that differs. The decision was acted on already, so it is written over whatever version there is.
func (c *Controller) writeStatus(ctx context.Context, hpa *autoscalingv2.HorizontalPodAutoscaler, next autoscalingv2.HorizontalPodAutoscalerStatus) error {
	if apiequality.Semantic.DeepEqual(hpa.Status, next) {
		return nil
	}
	api := c.Client.AutoscalingV2().HorizontalPodAutoscalers(hpa.Namespace)
	out := hpa.DeepCopy()
	out.Status = next
	_, err := api.UpdateStatus(ctx, out, metav1.UpdateOptions{})
	if apierrors.IsConflict(err) {
		var live *autoscalingv2.HorizontalPodAutoscaler
		if live, err = api.Get(ctx, hpa.Name, metav1.GetOptions{}); err == nil && live.UID == hpa.UID {
			live.Status = next
			_, err = api.UpdateStatus(ctx, live, metav1.UpdateOptions{})
		}
	}
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("write the status of horizontalpodautoscaler %s: %w", reconcile.Key(hpa), err)
	}
	return nil
}
