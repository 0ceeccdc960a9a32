package scheduler

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// hardAffinityWeight is what a required affinity of a placed pod is worth when a pod that it means looks for a node.
const hardAffinityWeight = 1

// podTerm is one term of a pod's affinity or anti-affinity to other pods, parsed.
type podTerm struct {
	topology   string          // label key of nodes
	weight     int64           // what one pod in the domain is worth; negative: apart; 0: a required anti-affinity
	namespaces []string        // sorted
	within     labels.Selector // over labels of namespaces, besides those named; nil: none
	selector   labels.Selector // over labels of pods
	meaning    string          // identity of the set of pods meant; equal meanings match the same pods
	carried    string          // identity of the term among those that placed pods have
}

// podTerms are a pod's terms by what they do.
type podTerms struct {
	near   []podTerm // required affinity
	apart  []podTerm // required anti-affinity
	wishes []podTerm // preferred, of both kinds
}

func newPodTerms(pod *corev1.Pod) podTerms {
	var out podTerms
	if pod.Spec.Affinity == nil {
		return out
	}
	if a := pod.Spec.Affinity.PodAffinity; a != nil {
		for i := range a.RequiredDuringSchedulingIgnoredDuringExecution {
			out.near = append(out.near, newPodTerm(pod, &a.RequiredDuringSchedulingIgnoredDuringExecution[i], hardAffinityWeight))
		}
		for i := range a.PreferredDuringSchedulingIgnoredDuringExecution {
			w := &a.PreferredDuringSchedulingIgnoredDuringExecution[i]
			out.wishes = append(out.wishes, newPodTerm(pod, &w.PodAffinityTerm, int64(w.Weight)))
		}
	}
	if a := pod.Spec.Affinity.PodAntiAffinity; a != nil {
		for i := range a.RequiredDuringSchedulingIgnoredDuringExecution {
			out.apart = append(out.apart, newPodTerm(pod, &a.RequiredDuringSchedulingIgnoredDuringExecution[i], 0))
		}
		for i := range a.PreferredDuringSchedulingIgnoredDuringExecution {
			w := &a.PreferredDuringSchedulingIgnoredDuringExecution[i]
			out.wishes = append(out.wishes, newPodTerm(pod, &w.PodAffinityTerm, -int64(w.Weight)))
		}
	}
	return out
}

func newPodTerm(pod *corev1.Pod, term *corev1.PodAffinityTerm, weight int64) podTerm {
	t := podTerm{
		topology:   term.TopologyKey,
		weight:     weight,
		namespaces: slices.Sorted(slices.Values(term.Namespaces)),
		selector:   parseSelector(term.LabelSelector),
	}
	if len(t.namespaces) == 0 && term.NamespaceSelector == nil {
		t.namespaces = []string{pod.Namespace}
	}
	if term.LabelSelector != nil {
		t.selector = withLabelKeys(t.selector, metav1.LabelSelectorOpIn, term.MatchLabelKeys, pod.Labels)
		t.selector = withLabelKeys(t.selector, metav1.LabelSelectorOpNotIn, term.MismatchLabelKeys, pod.Labels)
	}
	id := []string{strings.Join(t.namespaces, ","), "", selectorID(t.selector)}
	if term.NamespaceSelector != nil {
		t.within = parseSelector(term.NamespaceSelector)
		id[1] = selectorID(t.within)
	}
	t.meaning = strings.Join(id, "\x00")
	t.carried = carriedKey(&t)
	return t
}

// selectorID tells all selectors apart; String alone does not: those of everything and of nothing are both empty.
func selectorID(s labels.Selector) string {
	switch {
	case s.Empty():
		return "*"
	case s.String() == "":
		return "-"
	}
	return s.String()
}

// parseSelector is nothing for a nil selector and for one that validation should have refused.
func parseSelector(s *metav1.LabelSelector) labels.Selector {
	selector, err := metav1.LabelSelectorAsSelector(s)
	if err != nil {
		return labels.Nothing()
	}
	return selector
}

// withLabelKeys narrows selector by the pod's own values of keys. The API server does that when a pod is created, so that a
// later change of the pod's labels does not count; a key that selector has already is therefore left alone.
func withLabelKeys(selector labels.Selector, op metav1.LabelSelectorOperator, keys []string, own map[string]string) labels.Selector {
	if len(keys) == 0 {
		return selector
	}
	var more metav1.LabelSelector
	for _, key := range keys {
		if value, ok := own[key]; ok && !constrains(selector, key) {
			more.MatchExpressions = append(more.MatchExpressions, metav1.LabelSelectorRequirement{Key: key, Operator: op, Values: []string{value}})
		}
	}
	requirements, _ := parseSelector(&more).Requirements()
	return selector.Add(requirements...)
}

func constrains(selector labels.Selector, key string) bool {
	requirements, _ := selector.Requirements()
	return slices.ContainsFunc(requirements, func(r labels.Requirement) bool { return r.Key() == key })
}

// matches reports whether t means pod. namespaces holds the labels of every namespace.
func (t *podTerm) matches(pod *corev1.Pod, namespaces map[string]labels.Set) bool {
	if !slices.Contains(t.namespaces, pod.Namespace) && (t.within == nil || !t.within.Matches(namespaces[pod.Namespace])) {
		return false
	}
	return t.selector.Matches(labels.Set(pod.Labels))
}

func (t *podTerms) matchesAll(pod *corev1.Pod, namespaces map[string]labels.Set) bool {
	for i := range t.near {
		if !t.near[i].matches(pod, namespaces) {
			return false
		}
	}
	return true
}
