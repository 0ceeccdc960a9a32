package why

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// explainBudget says why a budget lets no pod be evicted, and what is wrong with the pods that it waits for.
func (f *Facts) explainBudget(b *policyv1.PodDisruptionBudget) (string, []Finding) {
	s := b.Status
	summary := fmt.Sprintf("%s may be evicted: %d of %s healthy, %d must stay so", plural(int(s.DisruptionsAllowed), "pod"), s.CurrentHealthy, plural(int(s.ExpectedPods), "pod"), s.DesiredHealthy)
	if out := f.unseenByController(b, s.ObservedGeneration); len(out) > 0 {
		return summary, out
	}
	out := Finding{Link: LinkDisruption, Severity: Error, Reason: policyv1.InsufficientPodsReason, Object: f.Target.String()}
	if c := meta.FindStatusCondition(s.Conditions, policyv1.DisruptionAllowedCondition); c != nil && c.Reason == policyv1.SyncFailedReason {
		out.Reason, out.Message = c.Reason, "how many pods may be evicted cannot be told, so none may: "+c.Message
		out.Do = "mend what the message says; a number in minAvailable works for pods of any owner"
		return summary, []Finding{out}
	}
	pods := f.explainPods(dropDone(f.Pods))
	switch {
	case s.DisruptionsAllowed > 0:
		return summary, asWarnings(pods)
	case s.ExpectedPods == 0:
		out.Severity, out.Reason, out.Message = Warning, "NoPods", "it protects nothing: no pod matches "+metav1.FormatLabelSelector(b.Spec.Selector)
		out.Do = "correct its selector, or delete it"
		return summary, []Finding{out}
	case s.DesiredHealthy >= s.ExpectedPods:
		out.Severity = Warning
		out.Message = fmt.Sprintf("no pod may ever be evicted: there are to be %d, and all must stay; a drain of their node would not end", s.ExpectedPods)
		out.Do = "let one go (maxUnavailable: 1), or run more pods"
	case s.CurrentHealthy < s.DesiredHealthy+1:
		out.Message = fmt.Sprintf("no pod may be evicted: %d must be healthy, %d are", s.DesiredHealthy, s.CurrentHealthy)
		out.Do = "mend the pods that are not well"
		if deref(b.Spec.UnhealthyPodEvictionPolicy, policyv1.IfHealthyBudget) == policyv1.IfHealthyBudget {
			out.Do += "; unhealthyPodEvictionPolicy: AlwaysAllow lets a drain remove those"
		}
	}
	return summary, append(pods, out)
}

// asWarnings: others do the work meanwhile.
func asWarnings(found []Finding) []Finding {
	for i := range found {
		if found[i].Severity == Error {
			found[i].Severity = Warning
		}
	}
	return found
}

// held are the budgets that keep pods on a node that is to be empty.
func (f *Facts) held(n *corev1.Node) []Finding {
	var out []Finding
	for _, b := range f.Budgets {
		selector, err := metav1.LabelSelectorAsSelector(b.Spec.Selector)
		if err != nil || b.Status.DisruptionsAllowed > 0 {
			continue
		}
		var names []string
		for _, p := range f.Pods {
			if p.Namespace == b.Namespace && evictable(p) && selector.Matches(labels.Set(p.Labels)) {
				names = append(names, p.Name)
			}
		}
		if len(names) == 0 {
			continue
		}
		slices.Sort(names)
		out = append(out, Finding{Link: LinkDisruption, Severity: Warning, Reason: policyv1.InsufficientPodsReason, Object: "poddisruptionbudget/" + b.Name,
			Message: fmt.Sprintf("namespace %s: it lets no pod go from node %s: %s cannot be drained", b.Namespace, n.Name, some(names)),
			Do:      fmt.Sprintf("`canopus why -n %s pdb/%s`", b.Namespace, b.Name)})
	}
	return out
}

// evictable says whether a drain evicts a pod and asks its budgets: it is there to stay, and no DaemonSet's and not static.
func evictable(p *corev1.Pod) bool {
	owner := metav1.GetControllerOf(p)
	_, static := p.Annotations[corev1.MirrorPodAnnotationKey]
	return !static && p.DeletionTimestamp == nil && p.Status.Phase != corev1.PodSucceeded && p.Status.Phase != corev1.PodFailed && (owner == nil || owner.Kind != "DaemonSet")
}
