// Package job runs the pods of Jobs until enough of them have succeeded, or too many have failed.
//
// Each pod carries a finalizer until the Job's status has accounted for it, so that none is counted twice or lost however
// pods, controllers and machines come and go: count.go says how. plan.go, count.go, failure.go and indexes.go decide,
// apply.go acts, orphan.go frees the pods of Jobs that are gone, term.go takes Jobs over from another leader, this file observes.
package job

import (
	"context"
	"fmt"
	"sync"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	batchlisters "k8s.io/client-go/listers/batch/v1"
	"k8s.io/client-go/tools/cache"

	"canopus/internal/controllers/podclaim"
	"canopus/internal/controllers/podstate"
	"canopus/internal/controllers/reconcile"
)

const (
	kind    = "Job"
	workers = 8
)

// Controller reconciles Jobs.
type Controller struct {
	reconcile.Deps
	jobs    batchlisters.JobLister
	pods    cache.SharedIndexInformer
	claimer *podclaim.Claimer
	written *reconcile.Written[*corev1.Pod]
	figures figures
	loop    *reconcile.Loop[types.NamespacedName]
	orphans *reconcile.Loop[types.NamespacedName]

	mu sync.Mutex
	// freed holds pods whose finalizer we took away, as the server answered, until the cache shows it: one that the cache
	// shows with a finalizer would be counted a second time.
	freed map[types.UID]*corev1.Pod
	// taken are the Jobs that were taken over from whoever had the office before, until the cache has caught up with what they had
	// then (nil): see term.go.
	taken map[types.UID]*takeover
	// latest is the version of each Job that the cache must have reached before we decide about it.
	latest map[types.UID]string
}

// New makes a controller that does nothing before Run.
func New(d reconcile.Deps) (*Controller, error) {
	if err := d.Check(); err != nil {
		return nil, err
	}
	jobs, pods := d.Informers.Batch().V1().Jobs(), d.Informers.Core().V1().Pods()
	c := &Controller{
		Deps: d, jobs: jobs.Lister(), pods: pods.Informer(),
		written: reconcile.NewWritten[*corev1.Pod](), freed: map[types.UID]*corev1.Pod{}, taken: map[types.UID]*takeover{},
		latest: map[types.UID]string{},
	}
	c.claimer = &podclaim.Claimer{
		Client: d.Client, Pods: c.pods, GVK: batchv1.SchemeGroupVersion.WithKind(kind), Finalizer: batchv1.JobTrackingFinalizer,
		Fresh: func(ctx context.Context, owner metav1.Object) (metav1.Object, error) {
			return d.Client.BatchV1().Jobs(owner.GetNamespace()).Get(ctx, owner.GetName(), metav1.GetOptions{})
		},
	}
	if err := reconcile.IndexByController(c.pods); err != nil {
		return nil, err
	}
	var err error
	if c.figures, err = newFigures(d); err != nil {
		return nil, err
	}
	c.loop, err = reconcile.New(reconcile.Config[types.NamespacedName]{
		Name: "job", Workers: workers, Reconcile: c.reconcile, Clock: d.Clock, Log: d.Log, Queues: d.Queues,
		Sources: []reconcile.Source[types.NamespacedName]{
			reconcile.On(jobs.Informer(), c.jobChanged),
			reconcile.On(c.pods, c.podChanged),
		},
	})
	if err != nil {
		return nil, err
	}
	c.orphans, err = reconcile.New(reconcile.Config[types.NamespacedName]{
		Name: "job-orphan", Workers: 1, Reconcile: c.reconcileOrphan, Clock: d.Clock, Log: d.Log, Queues: d.Queues,
		Sources: []reconcile.Source[types.NamespacedName]{
			reconcile.On(jobs.Informer(), c.podsOfGone),
			reconcile.On(c.pods, trackedPod),
		},
	})
	return c, err
}

// Run works until ctx ends.
func (c *Controller) Run(ctx context.Context) error {
	var orphanErr error
	var running sync.WaitGroup
	running.Go(func() { orphanErr = c.orphans.Run(ctx) })
	err := c.loop.Run(ctx)
	running.Wait()
	if err == nil {
		err = orphanErr
	}
	return err
}

func (c *Controller) jobChanged(old, j *batchv1.Job) []types.NamespacedName {
	if j == nil {
		c.written.Forget(old.UID)
		c.forgetJob(old.UID)
		return nil
	}
	return []types.NamespacedName{reconcile.Key(j)}
}

// podChanged names the Jobs that controlled or control the pod, or may adopt it.
func (c *Controller) podChanged(old, pod *corev1.Pod) []types.NamespacedName {
	c.figures.waits(old, pod)
	keys := reconcile.Controllers(kind, old, pod)
	if pod == nil {
		c.forget(old.UID)
		return keys
	}
	if metav1.GetControllerOfNoCopy(pod) != nil || !podstate.Active(pod) {
		return keys
	}
	for _, j := range c.selecting(pod) {
		keys = append(keys, reconcile.Key(j))
	}
	return keys
}

// selecting returns the Jobs whose selector matches the pod.
func (c *Controller) selecting(pod *corev1.Pod) []*batchv1.Job {
	jobs, err := c.jobs.Jobs(pod.Namespace).List(labels.Everything())
	if err != nil {
		return nil
	}
	var out []*batchv1.Job
	for _, j := range jobs {
		selector, err := metav1.LabelSelectorAsSelector(j.Spec.Selector)
		if err == nil && !selector.Empty() && selector.Matches(labels.Set(pod.Labels)) {
			out = append(out, j)
		}
	}
	return out
}

func ours(j *batchv1.Job) bool {
	return j.Spec.ManagedBy == nil || *j.Spec.ManagedBy == batchv1.JobControllerName
}

func (c *Controller) reconcile(ctx context.Context, key types.NamespacedName) (time.Duration, error) {
	j, err := c.jobs.Jobs(key.Namespace).Get(key.Name)
	if apierrors.IsNotFound(err) || err == nil && !ours(j) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	if j.Spec.CompletionMode != nil && *j.Spec.CompletionMode != batchv1.NonIndexedCompletion && *j.Spec.CompletionMode != batchv1.IndexedCompletion {
		c.Events.Event(j, corev1.EventTypeWarning, "UnknownCompletionMode", "Skipped Job sync because completion mode is unknown")
		return 0, nil
	}
	selector, err := metav1.LabelSelectorAsSelector(j.Spec.Selector)
	if err != nil {
		return 0, reconcile.Terminal(fmt.Errorf("bad selector of job %s: %w", key, err))
	}
	if err := c.takeOver(ctx, j, selector); err != nil {
		return 0, fmt.Errorf("take over job %s: %w", key, err)
	}
	if c.outdated(j) {
		return 0, nil
	}
	adopted, err := c.claimer.Claim(ctx, j, selector)
	if err != nil {
		return 0, fmt.Errorf("find the pods of job %s: %w", key, err)
	}
	for _, p := range adopted {
		c.written.Created(j.UID, p)
	}
	pods, err := c.controlled(j)
	if err != nil {
		return 0, err
	}
	began := c.Clock.Now()
	decided := plan(observed{job: j, pods: pods}, began)
	err = c.apply(ctx, j, decided)
	if !finished(j) {
		c.figures.synced(j, decided, c.Clock.Since(began), err)
	}
	if err != nil {
		return decided.after, fmt.Errorf("job %s: %w", key, err)
	}
	return decided.after, nil
}

// controlled returns the pods of j, our own writes included.
func (c *Controller) controlled(j *batchv1.Job) ([]*corev1.Pod, error) {
	seen := c.pods.GetStore().LastStoreSyncResourceVersion() // before the list: see Written.View
	pods, err := reconcile.Indexed[*corev1.Pod](c.pods, reconcile.ByController, string(j.UID))
	if err != nil {
		return nil, err
	}
	pods = c.written.View(j.UID, c.caughtUp(j.UID, pods, seen), seen)
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, p := range pods {
		if after := c.freed[p.UID]; after != nil {
			if !hasFinalizer(p) {
				delete(c.freed, p.UID)
				continue
			}
			pods[i] = after
		}
	}
	return pods, nil
}

func (c *Controller) forget(pod types.UID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.freed, pod)
}
