package apiserver

import (
	"context"
	"net/http"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// DisruptionBudgets decides whether a pod may be evicted now.
type DisruptionBudgets interface {
	// Disrupt takes one disruption of pod from its budgets; its error, a 429 as a rule, refuses the eviction.
	Disrupt(ctx context.Context, pod *corev1.Pod, dryRun bool) error
}

// evict deletes a pod if its disruption budgets allow it.
func (s *Server) evict(rq *request, ep *endpoint) error {
	ev := &policyv1.Eviction{}
	p, err := rq.takePosted(policyv1.SchemeGroupVersion.WithKind("Eviction"), ev)
	if err != nil {
		return err
	}
	if ev.Name != "" && ev.Name != rq.route.name {
		return apierrors.NewBadRequest("name in URL does not match name in Eviction object")
	}
	if err := s.admitPosted(rq, ep, policyv1.SchemeGroupVersion.WithKind("Eviction"), p); err != nil {
		return err
	}
	pod, err := lookUp[*corev1.Pod](rq, ep.gr, rq.route.namespace, rq.route.name)
	if err != nil {
		return err
	}
	o := ev.DeleteOptions
	if o == nil {
		o = &metav1.DeleteOptions{}
	}
	if len(p.options.DryRun) > 0 {
		o.DryRun = p.options.DryRun
	}
	if s.cfg.Budgets != nil && budgeted(pod) {
		if err := s.cfg.Budgets.Disrupt(rq.Context(), pod, len(o.DryRun) > 0); err != nil {
			return err
		}
	}
	if _, err := s.run(rq, rq.deletion(ep, rq.route.namespace, rq.route.name, o)); err != nil {
		return err
	}
	rq.succeed(http.StatusCreated)
	return nil
}

// budgeted is false for pods whose end disrupts nothing: those that run no more, not yet, or are on their way out.
func budgeted(pod *corev1.Pod) bool {
	switch pod.Status.Phase {
	case corev1.PodSucceeded, corev1.PodFailed, corev1.PodPending:
		return false
	}
	return pod.DeletionTimestamp == nil
}
