package devicetainteviction

import (
	"context"
	"encoding/json"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
)

// reconcileRule tells how the eviction by a rule comes along.
func (c *Controller) reconcileRule(ctx context.Context, name string) error {
	rule, err := c.rules.Get(name)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	claims, err := c.claims.List(labels.Everything())
	if err != nil {
		return err
	}
	now := progress(rule, claims, func(key subject, uid types.UID) bool {
		pod, err := c.pods.Pods(key.Namespace).Get(key.Name)
		return err == nil && pod.UID == uid && (affected(pod) || leaving(pod))
	})
	if now == nil {
		return nil
	}
	now.LastTransitionTime = metav1.NewTime(c.Clock.Now())
	conditions := rule.DeepCopy().Status.Conditions
	if !meta.SetStatusCondition(&conditions, *now) {
		return nil
	}
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"uid": rule.UID}, "status": map[string]any{"conditions": conditions}})
	if err != nil {
		return err
	}
	_, err = c.Client.ResourceV1().DeviceTaintRules().Patch(ctx, name, types.MergePatchType, patch, metav1.PatchOptions{}, "status")
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("tell how device taint rule %s comes along: %w", name, err)
	}
	return nil
}

// leaving reports whether pod is on its way out and still has its node.
func leaving(pod *corev1.Pod) bool { return pod.Spec.NodeName != "" && pod.DeletionTimestamp != nil }

// progress is the condition of a rule, or nil when it stays as it is: what a rule without effect would do is told once for each
// version of the rule.
func progress(rule *resourcev1.DeviceTaintRule, claims []*resourcev1.ResourceClaim, there func(subject, types.UID) bool) *metav1.Condition {
	out := &metav1.Condition{
		Type: resourcev1.DeviceTaintConditionEvictionInProgress, Status: metav1.ConditionFalse, ObservedGeneration: rule.Generation,
		Reason: "NoEviction", Message: "the effect of the taint evicts no pods",
	}
	old := meta.FindStatusCondition(rule.Status.Conditions, out.Type)
	effect := rule.Spec.Taint.Effect
	switch {
	case effect == resourcev1.DeviceTaintEffectNone && old != nil && old.ObservedGeneration == rule.Generation:
		return nil
	case effect != resourcev1.DeviceTaintEffectNone && effect != resourcev1.DeviceTaintEffectNoExecute:
		return out
	}
	pods, namespaces := struck(rule, claims, there)
	switch {
	case effect == resourcev1.DeviceTaintEffectNone:
		out.Message = fmt.Sprintf("the effect NoExecute would evict %s in %s", many(pods, "pod"), many(namespaces, "namespace"))
	case pods > 0:
		out.Status, out.Reason = metav1.ConditionTrue, "PodsPendingEviction"
		out.Message = fmt.Sprintf("%s in %s to be evicted", many(pods, "pod"), many(namespaces, "namespace"))
	default:
		out.Reason, out.Message = "NoPodsPendingEviction", "no pods are left to be evicted"
	}
	return out
}

// struck counts the pods that a rule evicts, or would.
func struck(rule *resourcev1.DeviceTaintRule, claims []*resourcev1.ResourceClaim, there func(subject, types.UID) bool) (pods, namespaces int) {
	seen, spaces := map[types.UID]bool{}, map[string]bool{}
	for _, claim := range claims {
		if !strikes(rule, claim) {
			continue
		}
		for _, ref := range claim.Status.ReservedFor {
			if !seen[ref.UID] && there(subject{Namespace: claim.Namespace, Name: ref.Name}, ref.UID) {
				seen[ref.UID], spaces[claim.Namespace] = true, true
			}
		}
	}
	return len(seen), len(spaces)
}

func many(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
