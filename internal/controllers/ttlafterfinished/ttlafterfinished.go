// Package ttlafterfinished deletes Jobs some time after they have finished: ttlSecondsAfterFinished in their spec.
package ttlafterfinished

import (
	"context"
	"fmt"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	batchlisters "k8s.io/client-go/listers/batch/v1"

	"canopus/internal/controllers/reconcile"
)

const workers = 4

// Controller deletes finished Jobs.
type Controller struct {
	reconcile.Deps
	jobs batchlisters.JobLister
	loop *reconcile.Loop[types.NamespacedName]
}

// New makes a controller that does nothing before Run.
func New(d reconcile.Deps) (*Controller, error) {
	if err := d.Check(); err != nil {
		return nil, err
	}
	jobs := d.Informers.Batch().V1().Jobs()
	c := &Controller{Deps: d, jobs: jobs.Lister()}
	var err error
	c.loop, err = reconcile.New(reconcile.Config[types.NamespacedName]{
		Name: "ttl-after-finished", Workers: workers, Reconcile: c.reconcile, Clock: d.Clock, Log: d.Log, Queues: d.Queues,
		Sources: []reconcile.Source[types.NamespacedName]{reconcile.On(jobs.Informer(), changed)},
	})
	return c, err
}

// Run works until ctx ends.
func (c *Controller) Run(ctx context.Context) error { return c.loop.Run(ctx) }

func changed(_, j *batchv1.Job) []types.NamespacedName {
	if j == nil {
		return nil
	}
	if _, has := expiry(j); !has {
		return nil
	}
	return []types.NamespacedName{reconcile.Key(j)}
}

// expiry is when j shall go, if it has finished and has a time to live.
func expiry(j *batchv1.Job) (time.Time, bool) {
	if j.Spec.TTLSecondsAfterFinished == nil || j.DeletionTimestamp != nil {
		return time.Time{}, false
	}
	for _, c := range j.Status.Conditions {
		if (c.Type == batchv1.JobComplete || c.Type == batchv1.JobFailed) && c.Status == corev1.ConditionTrue {
			return c.LastTransitionTime.Add(time.Duration(*j.Spec.TTLSecondsAfterFinished) * time.Second), true
		}
	}
	return time.Time{}, false
}

func (c *Controller) reconcile(ctx context.Context, key types.NamespacedName) (time.Duration, error) {
	cached, err := c.jobs.Jobs(key.Namespace).Get(key.Name)
	if apierrors.IsNotFound(err) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	if at, has := expiry(cached); !has || at.After(c.Clock.Now()) {
		return max(0, at.Sub(c.Clock.Now())), nil
	}
	// What is deleted is what the server holds now: its time to live may have been made longer.
	j, err := c.Client.BatchV1().Jobs(key.Namespace).Get(ctx, key.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read job %s before its deletion: %w", key, err)
	}
	if at, has := expiry(j); !has || at.After(c.Clock.Now()) {
		return max(0, at.Sub(c.Clock.Now())), nil
	}
	foreground := metav1.DeletePropagationForeground
	err = c.Client.BatchV1().Jobs(key.Namespace).Delete(ctx, key.Name, metav1.DeleteOptions{
		PropagationPolicy: &foreground,
		Preconditions:     &metav1.Preconditions{UID: &j.UID, ResourceVersion: &j.ResourceVersion},
	})
	if err != nil && !apierrors.IsNotFound(err) {
		return 0, fmt.Errorf("delete finished job %s: %w", key, err)
	}
	return 0, nil
}
