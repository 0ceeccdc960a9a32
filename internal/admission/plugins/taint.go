package plugins

import (
	"context"

	"canopus/internal/admission"

	corev1 "k8s.io/api/core/v1"
)

// TaintNodesByCondition taints new nodes as not ready, so that nothing is scheduled to them before the node lifecycle
// controller has seen their conditions.
type TaintNodesByCondition struct{}

// Name implements admission.Plugin.
func (TaintNodesByCondition) Name() string { return "TaintNodesByCondition" }

// Handles implements admission.Plugin.
func (TaintNodesByCondition) Handles(r *admission.Request) bool {
	return r.Operation == admission.Create && r.Resource.Resource == "nodes" && r.Resource.Group == "" && r.Subresource == ""
}

// Admit implements admission.Mutator.
func (TaintNodesByCondition) Admit(_ context.Context, r *admission.Request) error {
	node, ok := r.Object.(*corev1.Node)
	if !ok {
		return nil
	}
	for _, t := range node.Spec.Taints {
		if t.Key == corev1.TaintNodeNotReady && t.Effect == corev1.TaintEffectNoSchedule {
			return nil
		}
	}
	node.Spec.Taints = append(node.Spec.Taints, corev1.Taint{Key: corev1.TaintNodeNotReady, Effect: corev1.TaintEffectNoSchedule})
	return nil
}
