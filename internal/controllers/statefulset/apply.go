package statefulset

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"canopus/internal/controllers/reconcile"
)

// apply does what a asks for. Removals keep their order; the pods to create are several only in a parallel set.
func (c *Controller) apply(ctx context.Context, set *appsv1.StatefulSet, h history, a actions) error {
	for _, e := range a.events {
		c.Events.Event(set, e.kind, e.reason, e.message)
	}
	if err := c.applyClaims(ctx, set, a); err != nil {
		return err
	}
	for _, p := range a.relabel {
		if err := c.identify(ctx, set, p); err != nil {
			return err
		}
	}
	for _, p := range a.remove {
		if err := c.remove(ctx, set, p); err != nil {
			return err
		}
	}
	var mu sync.Mutex
	next := 0
	_, err := reconcile.SlowStart(ctx, len(a.create), func(ctx context.Context) error {
		mu.Lock()
		b := a.create[next]
		next++
		mu.Unlock()
		return c.create(ctx, set, h, b)
	})
	return err
}

func (c *Controller) create(ctx context.Context, set *appsv1.StatefulSet, h history, b birth) error {
	template, err := h.template(set, b.revision)
	if err != nil {
		return err
	}
	want := newPod(set, template, b)
	if err := c.readyClaims(ctx, set, want.Name, b); err != nil {
		return err
	}
	pod, err := c.Client.CoreV1().Pods(set.Namespace).Create(ctx, want, metav1.CreateOptions{})
	switch {
	case err == nil:
		c.written.Created(set.UID, pod)
	case apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
		return nil // the namespace goes, and the set with it
	case apierrors.IsAlreadyExists(err):
		return fmt.Errorf("create pod %s: %w", want.Name, err) // ours, not in the cache yet; or another's, which must leave
	}
	return c.tell(set, "Create", want.Name, err)
}

func (c *Controller) remove(ctx context.Context, set *appsv1.StatefulSet, p *corev1.Pod) error {
	err := c.Client.CoreV1().Pods(p.Namespace).Delete(ctx, p.Name, metav1.DeleteOptions{
		Preconditions: metav1.NewUIDPreconditions(string(p.UID)),
	})
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil
	}
	if err == nil {
		c.written.Deleted(set.UID, p.UID)
	}
	return c.tell(set, "Delete", p.Name, err)
}

// identify gives p the labels of its ordinal.
func (c *Controller) identify(ctx context.Context, set *appsv1.StatefulSet, p *corev1.Pod) error {
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{
		"uid": p.UID, "labels": identity(p.Name, p.Name[len(set.Name)+1:]),
	}})
	if err != nil {
		return err
	}
	_, err = c.Client.CoreV1().Pods(p.Namespace).Patch(ctx, p.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{})
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil
	}
	return c.tell(set, "Update", p.Name, err)
}

// tell records what became of a pod as an event, in the words that users look for.
func (c *Controller) tell(set *appsv1.StatefulSet, verb, pod string, err error) error {
	lower := strings.ToLower(verb)
	if err != nil {
		c.Events.Eventf(set, corev1.EventTypeWarning, "Failed"+verb, "%s Pod %s in StatefulSet %s failed error: %v", lower, pod, set.Name, err)
		return fmt.Errorf("%s pod %s: %w", lower, pod, err)
	}
	c.Events.Eventf(set, corev1.EventTypeNormal, "Successful"+verb, "%s Pod %s in StatefulSet %s successful", lower, pod, set.Name)
	return nil
}

// applyClaims makes claims that pods wait for, gives others their owners and deletes those that nobody will need.
func (c *Controller) applyClaims(ctx context.Context, set *appsv1.StatefulSet, a actions) error {
	for _, claim := range a.own {
		_, err := c.Client.CoreV1().PersistentVolumeClaims(claim.Namespace).Update(ctx, claim, metav1.UpdateOptions{})
		if err != nil && !apierrors.IsNotFound(err) {
			return fmt.Errorf("give persistentvolumeclaim %s its owners: %w", claim.Name, err)
		}
	}
	for _, claim := range a.discard {
		err := c.Client.CoreV1().PersistentVolumeClaims(claim.Namespace).Delete(ctx, claim.Name, metav1.DeleteOptions{
			Preconditions: metav1.NewUIDPreconditions(string(claim.UID)),
		})
		if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
			return fmt.Errorf("delete persistentvolumeclaim %s, whose pod was scaled away: %w", claim.Name, err)
		}
	}
	for _, w := range a.claim {
		if err := c.createClaim(ctx, set, w.pod, w.claim); err != nil {
			return err
		}
	}
	return nil
}

// readyClaims makes the claims that the cache does not show. When claims go with scaled-down pods it looks at those that
// are there once more: a pod made on a claim that is about to be collected would lose its data.
func (c *Controller) readyClaims(ctx context.Context, set *appsv1.StatefulSet, pod string, b birth) error {
	missing := map[string]bool{}
	for _, claim := range b.claims {
		missing[claim.Name] = true
		if err := c.createClaim(ctx, set, pod, claim); err != nil {
			return err
		}
	}
	if !deletes(set).whenScaled {
		return nil
	}
	for i := range set.Spec.VolumeClaimTemplates {
		name := claimName(set.Spec.VolumeClaimTemplates[i].Name, set.Name, b.ordinal)
		if missing[name] {
			continue
		}
		if err := c.checkClaim(ctx, set, pod, name); err != nil {
			return err
		}
	}
	return nil
}

func (c *Controller) createClaim(ctx context.Context, set *appsv1.StatefulSet, pod string, claim *corev1.PersistentVolumeClaim) error {
	_, err := c.Client.CoreV1().PersistentVolumeClaims(claim.Namespace).Create(ctx, claim, metav1.CreateOptions{})
	switch {
	case apierrors.IsAlreadyExists(err):
		return c.checkClaim(ctx, set, pod, claim.Name)
	case apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
		return nil
	case err != nil:
		c.Events.Eventf(set, corev1.EventTypeWarning, "FailedCreate", "create Claim %s for Pod %s in StatefulSet %s failed error: %v", claim.Name, pod, set.Name, err)
		return fmt.Errorf("create persistentvolumeclaim %s: %w", claim.Name, err)
	}
	c.Events.Eventf(set, corev1.EventTypeNormal, "SuccessfulCreate", "create Claim %s Pod %s in StatefulSet %s success", claim.Name, pod, set.Name)
	return nil
}

// checkClaim reads a claim from the server and returns why a new pod cannot use it.
func (c *Controller) checkClaim(ctx context.Context, set *appsv1.StatefulSet, pod, name string) error {
	claim, err := c.Client.CoreV1().PersistentVolumeClaims(set.Namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return fmt.Errorf("read persistentvolumeclaim %s: %w", name, err)
	}
	if why := unusable(set, pod, claim); why != "" {
		return fmt.Errorf("create pod %s: %s", pod, why)
	}
	return nil
}

func (c *Controller) writeStatus(ctx context.Context, set *appsv1.StatefulSet, next appsv1.StatefulSetStatus) error {
	if equality.Semantic.DeepEqual(set.Status, next) {
		return nil
	}
	changed := set.DeepCopy()
	changed.Status = next
	_, err := c.Client.AppsV1().StatefulSets(set.Namespace).UpdateStatus(ctx, changed, metav1.UpdateOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}
