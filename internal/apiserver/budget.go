package apiserver

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"canopus/internal/store"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

//lint:ignore ST1005 clients show upstream's text as it is
var errManyBudgets = errors.New("This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.")

// disrupt takes one disruption of pod from its budget, or returns why it may not be taken. pinned is true if the pod may
// go only as it is now, because its state was the reason to let it go.
func (s *Server) disrupt(ctx context.Context, pod *corev1.Pod, dryRun bool) (pinned bool, err error) {
	for range maxRuns {
		entry, err := s.budgetOf(ctx, pod)
		if err != nil || entry == nil {
			return false, err
		}
		o, err := entry.Object()
		if err != nil {
			return false, err
		}
		budget, ok := o.(*policyv1.PodDisruptionBudget)
		if !ok {
			return false, fmt.Errorf("budget %s is a %T", entry.Name, o)
		}
		if unguarded(pod, budget) {
			return true, nil
		}
		next, err := taken(budget, pod.Name, metav1.NewTime(s.clock.Now()))
		if err != nil || dryRun {
			return false, err
		}
		next.ResourceVersion = ""
		_, err = s.cfg.Store.Commit(ctx, store.Change{Resource: s.budgets(), Namespace: entry.Namespace, Name: entry.Name, Was: entry, Now: next})
		var conflict *store.Conflict
		if !errors.As(err, &conflict) {
			return false, err
		}
	}
	return false, stillProcessed(pod.Name)
}

func (s *Server) budgets() *store.Resource {
	return s.Resource(schema.GroupResource{Group: policyv1.GroupName, Resource: "poddisruptionbudgets"})
}

// budgetOf finds the one budget that selects a pod; nil if there is none.
func (s *Server) budgetOf(ctx context.Context, pod *corev1.Pod) (*store.Entry, error) {
	budgets := s.budgets()
	if budgets == nil {
		return nil, nil
	}
	l, err := budgets.List(ctx, store.ListOptions{Match: store.Consistent, Selector: store.Selector{Namespace: pod.Namespace}})
	if err != nil {
		return nil, err
	}
	var found *store.Entry
	for _, e := range l.Entries {
		o, err := e.Object()
		if err != nil {
			return nil, err
		}
		b, ok := o.(*policyv1.PodDisruptionBudget)
		if !ok || !selects(b, pod) {
			continue
		}
		if found != nil {
			return nil, &apierrors.StatusError{ErrStatus: metav1.Status{
				Status: metav1.StatusFailure, Code: http.StatusInternalServerError, Message: errManyBudgets.Error()}}
		}
		found = e
	}
	return found, nil
}

func selects(b *policyv1.PodDisruptionBudget, pod *corev1.Pod) bool {
	selector, err := metav1.LabelSelectorAsSelector(b.Spec.Selector)
	return err == nil && selector.Matches(labels.Set(pod.Labels))
}

// unguarded is true for a pod that is not ready and so counts for nothing in its budget, if the budget lets such pods go.
func unguarded(pod *corev1.Pod, b *policyv1.PodDisruptionBudget) bool {
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue {
			return false
		}
	}
	if p := b.Spec.UnhealthyPodEvictionPolicy; p != nil && *p == policyv1.AlwaysAllow {
		return true
	}
	return b.Status.DesiredHealthy > 0 && b.Status.CurrentHealthy >= b.Status.DesiredHealthy
}

// maxDisrupted bounds how many evictions a budget remembers that its controller has not seen yet.
const maxDisrupted = 2000

// taken is the budget after one disruption more, or why there is none left.
func taken(b *policyv1.PodDisruptionBudget, pod string, now metav1.Time) (*policyv1.PodDisruptionBudget, error) {
	gr := schema.GroupResource{Group: policyv1.GroupName, Resource: "poddisruptionbudget"}
	switch {
	case b.Status.ObservedGeneration < b.Generation:
		return nil, stillProcessed(b.Name)
	case b.Status.DisruptionsAllowed < 0:
		return nil, apierrors.NewForbidden(gr, b.Name, errors.New("pdb disruptions allowed is negative"))
	case len(b.Status.DisruptedPods) > maxDisrupted:
		return nil, apierrors.NewForbidden(gr, b.Name, errors.New("DisruptedPods map too big - too many evictions not confirmed by PDB controller"))
	case b.Status.DisruptionsAllowed == 0:
		return nil, refusedByBudget(0, fmt.Sprintf("The disruption budget %s needs %d healthy pods and has %d currently", b.Name, b.Status.DesiredHealthy, b.Status.CurrentHealthy))
	}
	next := b.DeepCopy()
	next.Status.DisruptionsAllowed--
	if next.Status.DisruptionsAllowed == 0 {
		meta.SetStatusCondition(&next.Status.Conditions, metav1.Condition{Type: policyv1.DisruptionAllowedCondition, Status: metav1.ConditionFalse,
			Reason: policyv1.InsufficientPodsReason, ObservedGeneration: next.Status.ObservedGeneration, LastTransitionTime: now})
	}
	if next.Status.DisruptedPods == nil {
		next.Status.DisruptedPods = map[string]metav1.Time{}
	}
	next.Status.DisruptedPods[pod] = now
	return next, nil
}

func stillProcessed(name string) error {
	return refusedByBudget(10, fmt.Sprintf("The disruption budget %s is still being processed by the server.", name))
}

// refusedByBudget is the answer that kubectl drain waits on and tries again after.
func refusedByBudget(retryAfter int, why string) error {
	err := apierrors.NewTooManyRequests("Cannot evict pod as it would violate the pod's disruption budget.", retryAfter)
	err.ErrStatus.Details.Causes = append(err.ErrStatus.Details.Causes, metav1.StatusCause{Type: policyv1.DisruptionBudgetCause, Message: why})
	return err
}
