package statefulset

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"canopus/internal/controllers/reconcile"
	"canopus/internal/controllers/revision"
)

// hashLabel is where a revision of a set carries its hash. A pod's own label names the whole revision.
const hashLabel = "controller.kubernetes.io/hash"

// history is a set's revisions: the one it comes from, the one of its present template, and all.
type history struct {
	current, update *appsv1.ControllerRevision
	all             []*appsv1.ControllerRevision
}

// history makes sure that the present template is the newest revision.
func (c *Controller) history(ctx context.Context, set *appsv1.StatefulSet, selector labels.Selector) (history, error) {
	adopted, err := c.adoptRevisions(ctx, set, selector)
	if err != nil {
		return history{}, err
	}
	cached, err := reconcile.Indexed[*appsv1.ControllerRevision](c.revisions, reconcile.ByController, string(set.UID))
	if err != nil {
		return history{}, err
	}
	h := history{all: append(adopted, cached...)}
	h.update, err = revision.Pick(revision.Owner{
		Object: set, GVK: gvk(), Template: &set.Spec.Template, Collisions: set.Status.CollisionCount,
		HashLabel: hashLabel,
	}, h.all)
	if err != nil {
		return history{}, err
	}
	if set.DeletionTimestamp == nil && !h.has(h.update) {
		if h.update, err = revision.Write(ctx, c.Client, h.update); err != nil {
			return history{}, c.counted(ctx, set, err)
		}
	}
	h.current = h.update
	for _, r := range h.all {
		if r.Name == set.Status.CurrentRevision && r.Name != h.update.Name {
			h.current = r
		}
	}
	return h, nil
}

// has reports whether r is as it is in the history, and need not be written.
func (h history) has(r *appsv1.ControllerRevision) bool {
	for _, known := range h.all {
		if known == r {
			return true
		}
	}
	return false
}

// counted notes a collision of names in the set's status, so that the next look hashes to another name.
func (c *Controller) counted(ctx context.Context, set *appsv1.StatefulSet, err error) error {
	var collision revision.ErrCollision
	if !errors.As(err, &collision) {
		return err
	}
	next := *set.Status.DeepCopy()
	count := int32(1)
	if next.CollisionCount != nil {
		count = *next.CollisionCount + 1
	}
	next.CollisionCount = &count
	return errors.Join(err, c.writeStatus(ctx, set, next))
}

// adoptRevisions takes over revisions that nobody controls: a set deleted without its pods leaves both to its successor,
// which must know the pods' revision, or it would replace them all.
func (c *Controller) adoptRevisions(ctx context.Context, set *appsv1.StatefulSet, selector labels.Selector) ([]*appsv1.ControllerRevision, error) {
	orphans, err := reconcile.Indexed[*appsv1.ControllerRevision](c.revisions, reconcile.ByController, reconcile.OrphansIn(set.Namespace))
	if err != nil {
		return nil, err
	}
	var adopted []*appsv1.ControllerRevision
	for _, r := range orphans {
		if reconcile.ClaimOf(set, selector, r) != reconcile.Adopt {
			continue
		}
		if fresh, err := c.fresh(ctx, set); err != nil || fresh.GetUID() != set.UID || fresh.GetDeletionTimestamp() != nil {
			return nil, errors.Join(fmt.Errorf("%s has been deleted or cannot be read, it adopts no revisions", set.Name), err)
		}
		patch, err := reconcile.AdoptPatch(r.UID, *metav1.NewControllerRef(set, gvk()))
		if err != nil {
			return nil, err
		}
		got, err := c.Client.AppsV1().ControllerRevisions(r.Namespace).Patch(ctx, r.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{})
		if apierrors.IsNotFound(err) || apierrors.IsInvalid(err) || apierrors.IsConflict(err) {
			continue // gone, or somebody else's now
		}
		if err != nil {
			return nil, fmt.Errorf("adopt controllerrevision %s: %w", r.Name, err)
		}
		adopted = append(adopted, got)
	}
	return adopted, nil
}

// template is what pods of the named revision are made from.
func (h history) template(set *appsv1.StatefulSet, name string) (*corev1.PodTemplateSpec, error) {
	if name == h.update.Name {
		return &set.Spec.Template, nil
	}
	var recorded struct {
		Spec struct {
			Template corev1.PodTemplateSpec `json:"template"`
		} `json:"spec"`
	}
	if err := json.Unmarshal(h.current.Data.Raw, &recorded); err != nil {
		return nil, fmt.Errorf("controllerrevision %s holds no pod template, roll out without a partition: %w", h.current.Name, err)
	}
	return &recorded.Spec.Template, nil
}

// forgetOld deletes revisions beyond the set's history limit.
func (c *Controller) forgetOld(ctx context.Context, o observed, h history) error {
	if o.set.Spec.RevisionHistoryLimit == nil || o.set.DeletionTimestamp != nil {
		return nil
	}
	live := map[string]bool{h.current.Name: true, h.update.Name: true}
	for _, p := range o.pods {
		live[revisionOf(p)] = true
	}
	for _, r := range revision.Stale(h.all, live, int(*o.set.Spec.RevisionHistoryLimit)) {
		err := c.Client.AppsV1().ControllerRevisions(r.Namespace).Delete(ctx, r.Name, metav1.DeleteOptions{Preconditions: metav1.NewUIDPreconditions(string(r.UID))})
		if err != nil && !apierrors.IsNotFound(err) {
			return fmt.Errorf("delete old controllerrevision %s: %w", r.Name, err)
		}
	}
	return nil
}
