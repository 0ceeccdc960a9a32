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
	if len(o.DryRun) == 0 {
		if err := s.announce(rq.Context(), ep, pod, o); err != nil {
			return err
		}
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

// announce says on a pod that it is about to be evicted: the failure policies of Jobs tell by that who is to blame for its
// end. A pod that o's preconditions do not hold for stays as it is, for the deletion to refuse; of one that they do hold for
// they mean the new version.
func (s *Server) announce(ctx context.Context, ep *endpoint, pod *corev1.Pod, o *metav1.DeleteOptions) error {
	pods := s.Resource(ep.gr)
	for range maxRuns {
		entry, err := pods.Get(ctx, pod.Namespace, pod.Name, store.Freshness{})
		if errors.Is(err, store.ErrNotFound) {
			return nil // which the deletion says better
		}
		if err != nil {
			return err
		}
		obj, err := entry.Object()
		if err != nil {
			return err
		}
		now, ok := obj.(*corev1.Pod)
		if !ok {
			return fmt.Errorf("pod %s is a %T", entry.Name, obj)
		}
		if now.UID != pod.UID || !meets(now, o.Preconditions) {
			return nil
		}
		next := now.DeepCopy()
		if !markEvicted(next, metav1.NewTime(s.clock.Now())) {
			return nil
		}
		next.ResourceVersion = ""
		_, err = s.cfg.Store.Commit(ctx, store.Change{Resource: pods, Namespace: entry.Namespace, Name: entry.Name, Was: entry, Now: next})
		if err == nil && o.Preconditions != nil && o.Preconditions.ResourceVersion != nil {
			pinned := *o.Preconditions
			pinned.ResourceVersion = &next.ResourceVersion
			o.Preconditions = &pinned
		}
		var conflict *store.Conflict
		if !errors.As(err, &conflict) {
			return err
		}
	}
	return apierrors.NewConflict(ep.gr, pod.Name, errors.New("the pod keeps changing: evict it again"))
}

// meets reports whether preconditions, if there are any, hold for a pod.
func meets(pod *corev1.Pod, p *metav1.Preconditions) bool {
	return p == nil || (p.UID == nil || *p.UID == pod.UID) && (p.ResourceVersion == nil || *p.ResourceVersion == pod.ResourceVersion)
}

// markEvicted sets the condition and reports whether it changed anything.
func markEvicted(pod *corev1.Pod, at metav1.Time) bool {
	c := corev1.PodCondition{
		Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: "EvictionByEvictionAPI", Message: "Eviction API: evicting",
		LastTransitionTime: at, ObservedGeneration: pod.Generation,
	}
	for i, old := range pod.Status.Conditions {
		if old.Type != c.Type {
			continue
		}
		if old.Status == c.Status {
			c.LastTransitionTime = old.LastTransitionTime
		}
		pod.Status.Conditions[i] = c
		return c != old
	}
	pod.Status.Conditions = append(pod.Status.Conditions, c)
	return true
}
