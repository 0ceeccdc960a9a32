package replicaset

import (
	"context"
	"errors"
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"canopus/internal/controllers/podstate"
	"canopus/internal/controllers/reconcile"
)

// Reasons of events and of the ReplicaFailure condition.
const (
	successfulCreate = "SuccessfulCreate"
	failedCreate     = "FailedCreate"
	successfulDelete = "SuccessfulDelete"
	failedDelete     = "FailedDelete"
)

func timestamp(t time.Time) metav1.Time { return metav1.NewTime(t) }

// apply creates or removes pods. failure is what the status shall say of an error.
func (c *Controller) apply(ctx context.Context, rs *appsv1.ReplicaSet, a actions) (*failure, error) {
	if a.create > 0 {
		_, err := reconcile.SlowStart(ctx, a.create, func(ctx context.Context) error { return c.create(ctx, rs) })
		if err != nil {
			return &failure{failedCreate, said(err)}, err
		}
	}
	failed := reconcile.Parallel(ctx, len(a.remove), func(ctx context.Context, i int) error {
		return c.remove(ctx, rs, a.remove[i])
	})
	if len(failed) > 0 {
		return &failure{failedDelete, failed[0].Error()}, failed[0]
	}
	return nil, nil
}

// said is what the API server said, without our own words before it.
func said(err error) string {
	if status := (*apierrors.StatusError)(nil); errors.As(err, &status) {
		return status.Error()
	}
	return err.Error()
}

// newPod is rs's template as a pod that rs controls; the server completes its name.
func newPod(rs *appsv1.ReplicaSet, gvk schema.GroupVersionKind) *corev1.Pod {
	template := rs.Spec.Template.DeepCopy()
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: rs.Namespace, GenerateName: rs.Name + "-",
			Labels: template.Labels, Annotations: template.Annotations, Finalizers: template.Finalizers,
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(rs, gvk)},
		},
		Spec: template.Spec,
	}
}

func (c *Controller) create(ctx context.Context, rs *appsv1.ReplicaSet) error {
	pod, err := c.Client.CoreV1().Pods(rs.Namespace).Create(ctx, newPod(rs, c.kind.gvk), metav1.CreateOptions{})
	if err != nil {
		if reconcile.Terminating(err) {
			return err
		}
		c.Events.Eventf(c.kind.about(rs), corev1.EventTypeWarning, failedCreate, "Error creating: %v", err)
		return fmt.Errorf("create pod: %w", err)
	}
	c.written.Created(rs.UID, pod)
	c.Events.Eventf(c.kind.about(rs), corev1.EventTypeNormal, successfulCreate, "Created pod: %v", pod.Name)
	return nil
}

func (c *Controller) remove(ctx context.Context, rs *appsv1.ReplicaSet, pod *corev1.Pod) error {
	err := c.Client.CoreV1().Pods(pod.Namespace).Delete(ctx, pod.Name, metav1.DeleteOptions{
		Preconditions: metav1.NewUIDPreconditions(string(pod.UID)),
	})
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		c.written.Deleted(rs.UID, pod.UID) // gone, or its name belongs to another pod by now
		return nil
	}
	if err != nil {
		c.Events.Eventf(c.kind.about(rs), corev1.EventTypeWarning, failedDelete, "Error deleting: %v", err)
		return fmt.Errorf("delete pod %s: %w", pod.Name, err)
	}
	c.written.Deleted(rs.UID, pod.UID)
	c.Events.Eventf(c.kind.about(rs), corev1.EventTypeNormal, successfulDelete, "Deleted pod: %v", pod.Name)
	return nil
}

// claim adopts orphans that match and releases pods that match no longer.
func (c *Controller) claim(ctx context.Context, rs *appsv1.ReplicaSet, selector labels.Selector) error {
	orphans, err := reconcile.Indexed[*corev1.Pod](c.podInformer, reconcile.ByController, reconcile.OrphansIn(rs.Namespace))
	if err != nil {
		return err
	}
	owned, err := reconcile.Indexed[*corev1.Pod](c.podInformer, reconcile.ByController, string(rs.UID))
	if err != nil {
		return err
	}
	checked := false
	for _, p := range append(filter(orphans, podstate.Active), owned...) {
		switch reconcile.ClaimOf(rs, selector, p) {
		case reconcile.Adopt:
			if !checked {
				if err := c.mayAdopt(ctx, rs); err != nil {
					return err
				}
				checked = true
			}
			patch, err := reconcile.AdoptPatch(p.UID, *metav1.NewControllerRef(rs, c.kind.gvk))
			if err != nil {
				return err
			}
			adopted, err := c.patchPod(ctx, p, patch)
			if err != nil {
				return fmt.Errorf("adopt pod %s: %w", p.Name, err)
			}
			if adopted != nil {
				c.written.Created(rs.UID, adopted)
			}
		case reconcile.Release:
			patch, err := reconcile.ReleasePatch(p.UID, rs.UID)
			if err != nil {
				return err
			}
			if _, err := c.patchPod(ctx, p, patch); err != nil {
				return fmt.Errorf("release pod %s: %w", p.Name, err)
			}
		case reconcile.Owned, reconcile.Foreign:
		}
	}
	return nil
}

// mayAdopt asks the server, not the cache, whether rs is still there: an orphan must not be given to an owner that is gone.
func (c *Controller) mayAdopt(ctx context.Context, rs *appsv1.ReplicaSet) error {
	fresh, err := c.kind.live(ctx, rs.Namespace, rs.Name)
	if err != nil {
		return fmt.Errorf("cannot adopt before reading %s %s: %w", c.kind.gvk.Kind, rs.Name, err)
	}
	if fresh.GetUID() != rs.UID || fresh.GetDeletionTimestamp() != nil {
		return fmt.Errorf("%s %s has been deleted, it adopts nothing", c.kind.gvk.Kind, rs.Name)
	}
	return nil
}

// patchPod returns nil without an error when the pod is gone or another one has its name.
func (c *Controller) patchPod(ctx context.Context, p *corev1.Pod, patch []byte) (*corev1.Pod, error) {
	got, err := c.Client.CoreV1().Pods(p.Namespace).Patch(ctx, p.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{})
	if apierrors.IsNotFound(err) || apierrors.IsInvalid(err) || apierrors.IsConflict(err) {
		return nil, nil
	}
	return got, err
}

func (c *Controller) writeStatus(ctx context.Context, rs *appsv1.ReplicaSet, next appsv1.ReplicaSetStatus) error {
	if equality.Semantic.DeepEqual(rs.Status, next) {
		return nil
	}
	changed := rs.DeepCopy()
	changed.Status = next
	err := c.kind.writeStatus(ctx, changed)
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}
