package apiserver

import (
	"net/http"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

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
	pinned := pod.Status.Phase == corev1.PodPending && pod.DeletionTimestamp == nil
	if budgeted(pod) {
		if pinned, err = s.disrupt(rq.Context(), pod, len(o.DryRun) > 0); err != nil {
			return err
		}
	}
	if pinned {
		pin(o, pod)
	}
	if _, err := s.run(rq, rq.deletion(ep, rq.route.namespace, rq.route.name, o)); err != nil {
		return err
	}
	rq.succeed(http.StatusCreated)
	return nil
}

// pin lets a deletion happen only to the pod as it was looked at.
func pin(o *metav1.DeleteOptions, pod *corev1.Pod) {
	if o.Preconditions == nil {
		o.Preconditions = &metav1.Preconditions{}
	}
	if o.Preconditions.ResourceVersion == nil {
		o.Preconditions.ResourceVersion = &pod.ResourceVersion
	}
}

// budgeted is false for pods whose end disrupts nothing: those that run no more, not yet, or are on their way out.
func budgeted(pod *corev1.Pod) bool {
	switch pod.Status.Phase {
	case corev1.PodSucceeded, corev1.PodFailed, corev1.PodPending:
		return false
	}
	return pod.DeletionTimestamp == nil
}
