package deployment

import (
	"context"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"canopus/internal/controllers/reconcile"
)

const scalingEvent = "ScalingReplicaSet"

// apply writes what was decided. It may stop at any write: the next look decides from what has become of the world.
func (c *Controller) apply(ctx context.Context, d *appsv1.Deployment, a actions) error {
	for _, s := range a.write {
		if err := c.writeSet(ctx, d, s); err != nil {
			return err
		}
	}
	for _, s := range a.remove {
		err := c.Client.AppsV1().ReplicaSets(s.Namespace).Delete(ctx, s.Name, metav1.DeleteOptions{
			Preconditions: metav1.NewUIDPreconditions(string(s.UID)),
		})
		if err != nil && !apierrors.IsNotFound(err) {
			return fmt.Errorf("delete old replicaset %s: %w", s.Name, err)
		}
	}
	if a.revision != "" {
		return c.writeRevision(ctx, d, a)
	}
	return c.writeStatus(ctx, d, a.status)
}

func (c *Controller) writeSet(ctx context.Context, d *appsv1.Deployment, s *set) error {
	if s.was == nil {
		return c.create(ctx, d, s)
	}
	if _, err := c.Client.AppsV1().ReplicaSets(s.Namespace).Update(ctx, &s.ReplicaSet, metav1.UpdateOptions{}); err != nil {
		return fmt.Errorf("update replicaset %s: %w", s.Name, err)
	}
	from, to := replicasOf(s.was), s.size()
	switch {
	case to > from:
		c.Events.Eventf(d, corev1.EventTypeNormal, scalingEvent, "Scaled up replica set %s from %d to %d", s.Name, from, to)
	case to < from:
		c.Events.Eventf(d, corev1.EventTypeNormal, scalingEvent, "Scaled down replica set %s from %d to %d", s.Name, from, to)
	}
	return nil
}

// create makes the ReplicaSet of the present template. If its name is taken by one of ours with the same template, that is
// ours from a moment ago; if by anything else, two templates have the same hash and the next attempt hashes differently.
func (c *Controller) create(ctx context.Context, d *appsv1.Deployment, s *set) error {
	_, err := c.Client.AppsV1().ReplicaSets(d.Namespace).Create(ctx, &s.ReplicaSet, metav1.CreateOptions{})
	switch {
	case err == nil:
		if s.size() > 0 {
			c.Events.Eventf(d, corev1.EventTypeNormal, scalingEvent, "Scaled up replica set %s from 0 to %d", s.Name, s.size())
		}
		return nil
	case apierrors.IsAlreadyExists(err):
		return c.collide(ctx, d, s)
	case apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
		return nil
	}
	message := fmt.Sprintf("Failed to create new replica set %q: %v", s.Name, err)
	c.Events.Event(d, corev1.EventTypeWarning, reasonSetFailed, message)
	if hasDeadline(d) {
		conditions := &conditionSet{list: d.Status.DeepCopy().Conditions, now: metav1.NewTime(c.Clock.Now())}
		conditions.progressing(corev1.ConditionFalse, reasonSetFailed, message)
		next := *d.Status.DeepCopy()
		next.Conditions = conditions.list
		if statusErr := c.writeStatus(ctx, d, next); statusErr != nil {
			return fmt.Errorf("create replicaset %s: %w (and its failure could not be noted: %w)", s.Name, err, statusErr)
		}
	}
	return fmt.Errorf("create replicaset %s: %w", s.Name, err)
}

func (c *Controller) collide(ctx context.Context, d *appsv1.Deployment, s *set) error {
	there, err := c.Client.AppsV1().ReplicaSets(d.Namespace).Get(ctx, s.Name, metav1.GetOptions{})
	if err != nil {
		return fmt.Errorf("read replicaset %s, whose name is taken: %w", s.Name, err)
	}
	if ref := metav1.GetControllerOfNoCopy(there); ref != nil && ref.UID == d.UID && sameTemplate(&there.Spec.Template, &d.Spec.Template) {
		return nil // the cache will show it
	}
	next := *d.Status.DeepCopy()
	collisions := int32(1)
	if next.CollisionCount != nil {
		collisions = *next.CollisionCount + 1
	}
	next.CollisionCount = &collisions
	if err := c.writeStatus(ctx, d, next); err != nil {
		return fmt.Errorf("count a hash collision: %w", err)
	}
	return fmt.Errorf("replicaset name %s is taken by another template, trying another name", s.Name)
}

func (c *Controller) writeStatus(ctx context.Context, d *appsv1.Deployment, next appsv1.DeploymentStatus) error {
	if equality.Semantic.DeepEqual(d.Status, next) {
		return nil
	}
	changed := d.DeepCopy()
	changed.Status = next
	if _, err := c.Client.AppsV1().Deployments(d.Namespace).UpdateStatus(ctx, changed, metav1.UpdateOptions{}); err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("write status: %w", err)
	}
	return nil
}

// writeRevision notes the revision together with the status: the status subresource lets annotations change without a new
// generation, so that a fresh Deployment stays at generation 1.
func (c *Controller) writeRevision(ctx context.Context, d *appsv1.Deployment, a actions) error {
	marked := d.DeepCopy()
	if marked.Annotations == nil {
		marked.Annotations = map[string]string{}
	}
	marked.Annotations[revisionAnnotation], marked.Status = a.revision, a.status
	_, err := c.Client.AppsV1().Deployments(d.Namespace).UpdateStatus(ctx, marked, metav1.UpdateOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("note revision %s: %w", a.revision, err)
	}
	return nil
}

// adopt returns nil without an error when rs has gone meanwhile.
func (c *Controller) adopt(ctx context.Context, d *appsv1.Deployment, rs *appsv1.ReplicaSet) (*appsv1.ReplicaSet, error) {
	fresh, err := c.Client.AppsV1().Deployments(d.Namespace).Get(ctx, d.Name, metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	if fresh.UID != d.UID || fresh.DeletionTimestamp != nil {
		return nil, fmt.Errorf("deployment %s has been deleted, it adopts nothing", d.Name)
	}
	patch, err := reconcile.AdoptPatch(rs.UID, *metav1.NewControllerRef(d, appsv1.SchemeGroupVersion.WithKind(kind)))
	if err != nil {
		return nil, err
	}
	return c.patchSet(ctx, rs, patch)
}

func (c *Controller) release(ctx context.Context, d *appsv1.Deployment, rs *appsv1.ReplicaSet) error {
	patch, err := reconcile.ReleasePatch(rs.UID, d.UID)
	if err != nil {
		return err
	}
	_, err = c.patchSet(ctx, rs, patch)
	return err
}

func (c *Controller) patchSet(ctx context.Context, rs *appsv1.ReplicaSet, patch []byte) (*appsv1.ReplicaSet, error) {
	got, err := c.Client.AppsV1().ReplicaSets(rs.Namespace).Patch(ctx, rs.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{})
	if apierrors.IsNotFound(err) || apierrors.IsInvalid(err) || apierrors.IsConflict(err) {
		return nil, nil
	}
	return got, err
}
