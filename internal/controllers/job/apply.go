package job

import (
	"context"
	"fmt"
	"strconv"
	"sync"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"canopus/internal/controllers/reconcile"
)

// apply writes what was decided, the status before all else. It may stop at any write: the next look decides from what has
// become of the world.
func (c *Controller) apply(ctx context.Context, j *batchv1.Job, a actions) error {
	if !equality.Semantic.DeepEqual(j.Status, a.status) {
		changed := j.DeepCopy()
		changed.Status = a.status
		now, err := c.Client.BatchV1().Jobs(j.Namespace).UpdateStatus(ctx, changed, metav1.UpdateOptions{})
		if err != nil && !apierrors.IsNotFound(err) {
			return fmt.Errorf("write status: %w", err)
		}
		if err == nil {
			c.wrote(j, now.ResourceVersion)
			c.figures.counted(j, &a.status)
			for _, action := range a.judged {
				if action != batchv1.PodFailurePolicyActionIgnore {
					c.figures.handled(action)
				}
			}
			for _, e := range a.events {
				c.Events.Event(j, e.kind, e.reason, e.message)
			}
		}
	}
	return firstOf(
		c.each(ctx, a.free, func(ctx context.Context, p *corev1.Pod) error { return c.settle(ctx, p, a.judged[p.UID]) }),
		c.each(ctx, a.kill, func(ctx context.Context, p *corev1.Pod) error { return c.remove(ctx, j, p) }),
		c.each(ctx, a.shrink, func(ctx context.Context, p *corev1.Pod) error { return c.discard(ctx, j, p) }),
		c.create(ctx, j, a.create),
	)
}

func firstOf(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func (c *Controller) each(ctx context.Context, pods []*corev1.Pod, f func(context.Context, *corev1.Pod) error) error {
	failed := reconcile.Parallel(ctx, len(pods), func(ctx context.Context, i int) error { return f(ctx, pods[i]) })
	return firstOf(failed...)
}

// settle frees a pod. The status does not tell of one that a rule lets pass: it is handled once it is free.
func (c *Controller) settle(ctx context.Context, p *corev1.Pod, action batchv1.PodFailurePolicyAction) error {
	err := c.free(ctx, p)
	if err == nil && action == batchv1.PodFailurePolicyActionIgnore {
		c.figures.handled(action)
	}
	return err
}

// free takes the finalizer away from a pod that is accounted for.
func (c *Controller) free(ctx context.Context, p *corev1.Pod) error {
	if !hasFinalizer(p) {
		return nil
	}
	got, err := c.claimer.RemoveFinalizer(ctx, p)
	if err != nil {
		return fmt.Errorf("release pod %s, which is accounted for: %w", p.Name, err)
	}
	if got == nil { // gone: the cache will say so
		got = p.DeepCopy()
		got.Finalizers = nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.freed[p.UID] = got
	return nil
}

// discard deletes a pod that is wanted no longer, and does not count it as a failure.
func (c *Controller) discard(ctx context.Context, j *batchv1.Job, p *corev1.Pod) error {
	if err := c.free(ctx, p); err != nil {
		return err
	}
	return c.remove(ctx, j, p)
}

func (c *Controller) remove(ctx context.Context, j *batchv1.Job, p *corev1.Pod) error {
	err := c.Client.CoreV1().Pods(p.Namespace).Delete(ctx, p.Name, metav1.DeleteOptions{
		Preconditions: metav1.NewUIDPreconditions(string(p.UID)),
	})
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil
	}
	if err != nil {
		c.Events.Eventf(j, corev1.EventTypeWarning, "FailedDelete", "Error deleting: %v", err)
		return fmt.Errorf("delete pod %s: %w", p.Name, err)
	}
	c.Events.Eventf(j, corev1.EventTypeNormal, "SuccessfulDelete", "Deleted pod: %v", p.Name)
	return nil
}

func (c *Controller) create(ctx context.Context, j *batchv1.Job, pods []newPod) error {
	var mu sync.Mutex
	next := 0
	_, err := reconcile.SlowStart(ctx, len(pods), func(ctx context.Context) error {
		mu.Lock()
		n := pods[next]
		next++
		mu.Unlock()
		pod, err := c.Client.CoreV1().Pods(j.Namespace).Create(ctx, podOf(j, n), metav1.CreateOptions{})
		if err != nil {
			if reconcile.Terminating(err) {
				return err
			}
			c.Events.Eventf(j, corev1.EventTypeWarning, "FailedCreate", "Error creating: %v", err)
			return fmt.Errorf("create pod: %w", err)
		}
		c.written.Created(j.UID, pod)
		c.Events.Eventf(j, corev1.EventTypeNormal, "SuccessfulCreate", "Created pod: %v", pod.Name)
		return nil
	})
	return err
}

const indexVariable = "JOB_COMPLETION_INDEX"

// maxStem leaves room for the five characters that the server adds to a pod's name.
const maxStem = 57

// podOf is j's template as a pod that j controls and accounts for; the server completes its name.
func podOf(j *batchv1.Job, n newPod) *corev1.Pod {
	t := j.Spec.Template.DeepCopy()
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: j.Namespace, GenerateName: j.Name + "-", Labels: t.Labels, Annotations: t.Annotations,
			Finalizers:      append(t.Finalizers, batchv1.JobTrackingFinalizer),
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(j, batchv1.SchemeGroupVersion.WithKind(kind))},
		},
		Spec: t.Spec,
	}
	if n.index < 0 {
		return pod
	}
	index := strconv.Itoa(n.index)
	pod.GenerateName = j.Name[:min(len(j.Name), maxStem-len(index)-1)] + "-" + index + "-"
	pod.Spec.Hostname = j.Name + "-" + index
	pod.Labels = with(pod.Labels, batchv1.JobCompletionIndexAnnotation, index)
	pod.Annotations = with(pod.Annotations, batchv1.JobCompletionIndexAnnotation, index)
	if j.Spec.BackoffLimitPerIndex != nil {
		pod.Annotations[batchv1.JobIndexFailureCountAnnotation] = strconv.Itoa(int(n.failures))
		if n.spared > 0 {
			pod.Annotations[batchv1.JobIndexIgnoredFailureCountAnnotation] = strconv.Itoa(int(n.spared))
		}
	}
	addIndexVariable(pod.Spec.InitContainers)
	addIndexVariable(pod.Spec.Containers)
	return pod
}

func with(m map[string]string, key, value string) map[string]string {
	if m == nil {
		m = map[string]string{}
	}
	m[key] = value
	return m
}

func addIndexVariable(containers []corev1.Container) {
	for i := range containers {
		set := false
		for _, e := range containers[i].Env {
			set = set || e.Name == indexVariable
		}
		if !set {
			containers[i].Env = append(containers[i].Env, corev1.EnvVar{Name: indexVariable, ValueFrom: &corev1.EnvVarSource{
				FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.labels['" + batchv1.JobCompletionIndexAnnotation + "']"},
			}})
		}
	}
}
