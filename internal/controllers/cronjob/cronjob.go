// Package cronjob makes the Jobs of CronJobs when they are due, and deletes those beyond the history limits.
//
// plan.go decides, this file observes and acts.
package cronjob

import (
	"context"
	"fmt"
	"slices"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	batchlisters "k8s.io/client-go/listers/batch/v1"
	"k8s.io/client-go/tools/cache"

	"canopus/internal/controllers/reconcile"

	"github.com/prometheus/client_golang/prometheus"
)

const (
	kind    = "CronJob"
	workers = 4
)

// Controller reconciles CronJobs.
type Controller struct {
	reconcile.Deps
	crons batchlisters.CronJobLister
	jobs  cache.SharedIndexInformer
	// written holds Jobs that we made until the cache shows them, so that they are not taken for missing.
	written *reconcile.Written[*batchv1.Job]
	skew    prometheus.Histogram // how late Jobs are made
	loop    *reconcile.Loop[types.NamespacedName]
}

// New makes a controller that does nothing before Run.
func New(d reconcile.Deps) (*Controller, error) {
	if err := d.Check(); err != nil {
		return nil, err
	}
	crons := d.Informers.Batch().V1().CronJobs()
	c := &Controller{
		Deps: d, crons: crons.Lister(), jobs: d.Informers.Batch().V1().Jobs().Informer(), written: reconcile.NewWritten[*batchv1.Job](),
	}
	if err := reconcile.IndexByController(c.jobs); err != nil {
		return nil, err
	}
	var err error
	c.skew, err = reconcile.Show(d, prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "cronjob_controller_job_creation_skew_duration_seconds",
		Help: "Time from when a Job was due to when it was made.", Buckets: prometheus.ExponentialBuckets(1, 2, 10),
	}))
	if err != nil {
		return nil, err
	}
	c.loop, err = reconcile.New(reconcile.Config[types.NamespacedName]{
		Name: "cronjob", Workers: workers, Reconcile: c.reconcile, Clock: d.Clock, Log: d.Log, Queues: d.Queues,
		Sources: []reconcile.Source[types.NamespacedName]{
			reconcile.On(crons.Informer(), c.cronChanged),
			reconcile.On(c.jobs, jobChanged),
		},
	})
	return c, err
}

// Run works until ctx ends.
func (c *Controller) Run(ctx context.Context) error { return c.loop.Run(ctx) }

func (c *Controller) cronChanged(old, cron *batchv1.CronJob) []types.NamespacedName {
	if cron == nil {
		c.written.Forget(old.UID)
		return nil
	}
	return []types.NamespacedName{reconcile.Key(cron)}
}

func jobChanged(old, j *batchv1.Job) []types.NamespacedName {
	if j == nil {
		j = old
	}
	if key, ok := reconcile.ControlledBy(j, kind); ok {
		return []types.NamespacedName{key}
	}
	return nil
}

func (c *Controller) reconcile(ctx context.Context, key types.NamespacedName) (time.Duration, error) {
	cron, err := c.crons.CronJobs(key.Namespace).Get(key.Name)
	if apierrors.IsNotFound(err) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	seen := c.jobs.GetStore().LastStoreSyncResourceVersion() // before the list: see Written.View
	jobs, err := reconcile.Indexed[*batchv1.Job](c.jobs, reconcile.ByController, string(cron.UID))
	if err != nil {
		return 0, err
	}
	decided := plan(cron, c.written.View(cron.UID, jobs, seen), c.Clock.Now())
	if err := c.apply(ctx, cron, decided); err != nil {
		return 0, fmt.Errorf("cronjob %s: %w", key, err)
	}
	return decided.after, nil
}

func (c *Controller) apply(ctx context.Context, cron *batchv1.CronJob, a actions) error {
	if err := c.remove(ctx, cron, a.replace); err != nil {
		return err
	}
	if a.create != nil {
		made, err := c.create(ctx, cron, a)
		if err != nil {
			return err
		}
		if made != nil {
			a.status.Active = append(a.status.Active, reference(made))
		}
	}
	if !equality.Semantic.DeepEqual(cron.Status, a.status) {
		changed := cron.DeepCopy()
		changed.Status = a.status
		_, err := c.Client.BatchV1().CronJobs(cron.Namespace).UpdateStatus(ctx, changed, metav1.UpdateOptions{})
		if err != nil && !apierrors.IsNotFound(err) {
			return fmt.Errorf("write status: %w", err)
		}
	}
	for _, e := range a.events {
		c.Events.Event(cron, e.kind, e.reason, e.message)
	}
	return c.remove(ctx, cron, a.expired)
}

func (c *Controller) remove(ctx context.Context, cron *batchv1.CronJob, jobs []*batchv1.Job) error {
	for _, j := range jobs {
		if err := c.removeOne(ctx, cron, j); err != nil {
			return err
		}
	}
	return nil
}

func (c *Controller) removeOne(ctx context.Context, cron *batchv1.CronJob, j *batchv1.Job) error {
	background := metav1.DeletePropagationBackground
	err := c.Client.BatchV1().Jobs(j.Namespace).Delete(ctx, j.Name, metav1.DeleteOptions{
		PropagationPolicy: &background, Preconditions: metav1.NewUIDPreconditions(string(j.UID)),
	})
	switch {
	case apierrors.IsNotFound(err), apierrors.IsConflict(err):
	case err != nil:
		c.Events.Eventf(cron, corev1.EventTypeWarning, "FailedDelete", "Deleted job: %v", err)
		return fmt.Errorf("delete job %s: %w", j.Name, err)
	default:
		c.Events.Eventf(cron, corev1.EventTypeNormal, "SuccessfulDelete", "Deleted job %v", j.Name)
	}
	c.written.Deleted(cron.UID, j.UID)
	return nil
}

// create returns nil without an error if the Job exists, as ours, and has ended or is listed, or if its namespace goes.
func (c *Controller) create(ctx context.Context, cron *batchv1.CronJob, a actions) (*batchv1.Job, error) {
	j := a.create
	made, err := c.Client.BatchV1().Jobs(j.Namespace).Create(ctx, j, metav1.CreateOptions{})
	switch {
	case apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
		return nil, nil
	case apierrors.IsAlreadyExists(err):
		there, err := c.Client.BatchV1().Jobs(j.Namespace).Get(ctx, j.Name, metav1.GetOptions{})
		if err != nil {
			return nil, fmt.Errorf("read job %s, whose name is taken: %w", j.Name, err)
		}
		if !metav1.IsControlledBy(there, cron) {
			c.Events.Eventf(cron, corev1.EventTypeWarning, "FailedCreate", "Error creating job: %s is another's", j.Name)
			return nil, nil
		}
		listed := slices.ContainsFunc(a.status.Active, func(r corev1.ObjectReference) bool { return r.UID == there.UID })
		if listed || outcome(there) != "" {
			return nil, nil
		}
		return there, nil
	case err != nil:
		c.Events.Eventf(cron, corev1.EventTypeWarning, "FailedCreate", "Error creating job: %v", err)
		return nil, fmt.Errorf("create job %s: %w", j.Name, err)
	}
	c.written.Created(cron.UID, made)
	c.skew.Observe(made.CreationTimestamp.Sub(a.status.LastScheduleTime.Time).Seconds())
	c.Events.Eventf(cron, corev1.EventTypeNormal, "SuccessfulCreate", "Created job %v", made.Name)
	return made, nil
}
