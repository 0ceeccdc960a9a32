package namespace

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/discovery"
)

// conditions returns old brought up to date with what an attempt found. A namespace that is empty at the first attempt gets
// none: it is gone in a moment, and the write would only delay that.
func conditions(old []corev1.NamespaceCondition, found content, now metav1.Time) []corev1.NamespaceCondition {
	if len(old) == 0 && len(found.errs) == 0 && found.remaining() == 0 {
		return old
	}
	out := slices.Clone(old)
	for _, c := range []corev1.NamespaceCondition{
		verdict(corev1.NamespaceDeletionDiscoveryFailure, discoveryText(found.discovery),
			"DiscoveryFailed", "ResourcesDiscovered", "All resources successfully discovered"),
		verdict(corev1.NamespaceDeletionGVParsingFailure, text(found.parsing),
			"GroupVersionParsingFailed", "ParsedGroupVersions", "All legacy kube types successfully parsed"),
		verdict(corev1.NamespaceDeletionContentFailure, deletionText(found.deletion),
			"ContentDeletionFailed", "ContentDeleted", "All content successfully deleted, may be waiting on finalization"),
		verdict(corev1.NamespaceContentRemaining, counts("Some resources are remaining: ", found.left, "%s has %d resource instances"),
			"SomeResourcesRemain", "ContentRemoved", "All content successfully removed"),
		verdict(corev1.NamespaceFinalizersRemaining, counts("Some content in the namespace has finalizers remaining: ", found.finalizers, "%s in %d resource instances"),
			"SomeFinalizersRemain", "ContentHasNoFinalizers", "All content-preserving finalizers finished"),
	} {
		out = merge(out, c, now)
	}
	return out
}

func verdict(t corev1.NamespaceConditionType, problem, bad, good, goodMessage string) corev1.NamespaceCondition {
	if problem != "" {
		return corev1.NamespaceCondition{Type: t, Status: corev1.ConditionTrue, Reason: bad, Message: problem}
	}
	return corev1.NamespaceCondition{Type: t, Status: corev1.ConditionFalse, Reason: good, Message: goodMessage}
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func discoveryText(err error) string {
	groups, ok := discovery.GroupDiscoveryFailedErrorGroups(err)
	if !ok {
		return text(err)
	}
	return fmt.Sprintf("Discovery failed for some groups, %d failing: %v", len(groups), err)
}

func deletionText(errs []error) string {
	if len(errs) == 0 {
		return ""
	}
	return fmt.Sprintf("Failed to delete all resource types, %d remaining: %v", len(errs), errors.Join(errs...))
}

func counts(what string, n map[string]int, format string) string {
	if len(n) == 0 {
		return ""
	}
	var parts []string
	for name, count := range n {
		parts = append(parts, fmt.Sprintf(format, name, count))
	}
	slices.Sort(parts)
	return what + strings.Join(parts, ", ")
}

func merge(out []corev1.NamespaceCondition, c corev1.NamespaceCondition, now metav1.Time) []corev1.NamespaceCondition {
	c.LastTransitionTime = now
	i := slices.IndexFunc(out, func(o corev1.NamespaceCondition) bool { return o.Type == c.Type })
	switch {
	case i < 0:
		return append(out, c)
	case out[i].Status == c.Status && out[i].Reason == c.Reason && out[i].Message == c.Message:
		return out
	case out[i].Status == c.Status:
		c.LastTransitionTime = out[i].LastTransitionTime
	}
	out[i] = c
	return out
}
