package apiserver

import (
	"time"

	"canopus/internal/kinds"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// A namespace has finalizers in its spec too; while there are any it is emptied by its controller and not removed.

// heldBack says whether obj is a namespace that is not empty yet.
func heldBack(obj kinds.Object) bool {
	ns, ok := obj.(*corev1.Namespace)
	return ok && len(ns.Spec.Finalizers) > 0
}

// markHeld starts the end of a namespace that is not empty yet; it returns false for everything else.
func markHeld(obj kinds.Object, now time.Time) bool {
	if !heldBack(obj) {
		return false
	}
	ns := obj.(*corev1.Namespace)
	if ns.DeletionTimestamp == nil {
		end := metav1.NewTime(now.UTC().Truncate(time.Second))
		ns.DeletionTimestamp = &end
	}
	ns.Status.Phase = corev1.NamespaceTerminating
	return true
}

// finalizeNamespace writes spec.finalizers and nothing else; the namespace goes with the last of them.
func (s *Server) finalizeNamespace(rq *request, ep *endpoint) error {
	sub := *ep.Kind.Subresource("finalize")
	if sub.PrepareUpdate == nil {
		sub.PrepareUpdate = keepAllButFinalizers
	}
	if sub.ValidateUpdate == nil {
		sub.ValidateUpdate = ep.Kind.ValidateUpdate
	}
	return s.update(rq, ep, &sub)
}

func keepAllButFinalizers(obj, old kinds.Object) {
	ns, ok := obj.(*corev1.Namespace)
	if !ok {
		return
	}
	was := old.(*corev1.Namespace)
	finalizers := ns.Spec.Finalizers
	managers := ns.ManagedFields
	version := ns.ResourceVersion
	*ns = *was.DeepCopy()
	ns.Spec.Finalizers = finalizers
	ns.ManagedFields, ns.ResourceVersion = managers, version
}
