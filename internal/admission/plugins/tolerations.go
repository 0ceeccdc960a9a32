package plugins

import (
	"context"

	"canopus/internal/admission"

	corev1 "k8s.io/api/core/v1"
)

// evictionSeconds is how long a pod stays on a node that is not ready or out of reach, unless it says otherwise.
const evictionSeconds = 300

// DefaultTolerationSeconds adds tolerations for the two taints of failing nodes to pods that have none.
type DefaultTolerationSeconds struct{}

// Name implements admission.Plugin.
func (DefaultTolerationSeconds) Name() string { return "DefaultTolerationSeconds" }

// Handles implements admission.Plugin.
func (DefaultTolerationSeconds) Handles(r *admission.Request) bool {
	return isPod(r) && (r.Operation == admission.Create || r.Operation == admission.Update)
}

// Admit implements admission.Mutator.
func (DefaultTolerationSeconds) Admit(_ context.Context, r *admission.Request) error {
	pod, ok := r.Object.(*corev1.Pod)
	if !ok {
		return nil
	}
	for _, key := range [...]string{corev1.TaintNodeNotReady, corev1.TaintNodeUnreachable} {
		if !tolerates(pod.Spec.Tolerations, key) {
			seconds := int64(evictionSeconds)
			pod.Spec.Tolerations = append(pod.Spec.Tolerations, corev1.Toleration{
				Key: key, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute, TolerationSeconds: &seconds,
			})
		}
	}
	return nil
}

func tolerates(list []corev1.Toleration, key string) bool {
	for i := range list {
		t := &list[i]
		if (t.Key == key || t.Key == "") && (t.Effect == corev1.TaintEffectNoExecute || t.Effect == "") {
			return true
		}
	}
	return false
}
