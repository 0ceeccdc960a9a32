package scheduler

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// spreadConstraint is one topology spread constraint, parsed.
type spreadConstraint struct {
	corev1.TopologySpreadConstraint
	selector labels.Selector // label selector with matchLabelKeys merged in
	labels   []string        // that a node must have to be looked at, besides the topology's
	key      string          // identity of the counts it reads: see spreadIndex
	nodesKey string          // of the domains that these count in
}

// spreadConstraints are a pod's constraints by what they do.
type spreadConstraints struct {
	hard, soft []spreadConstraint
	given      bool // soft holds though the pod has no constraints of its own
}

// newSpreadConstraints parses pod's constraints. Those of one sort look only at nodes that have the labels of all of them.
func newSpreadConstraints(pod *corev1.Pod) spreadConstraints {
	var out spreadConstraints
	keys := map[corev1.UnsatisfiableConstraintAction][]string{}
	for i := range pod.Spec.TopologySpreadConstraints {
		c := &pod.Spec.TopologySpreadConstraints[i]
		keys[c.WhenUnsatisfiable] = append(keys[c.WhenUnsatisfiable], c.TopologyKey)
	}
	for _, c := range pod.Spec.TopologySpreadConstraints {
		parsed := spreadConstraint{
			TopologySpreadConstraint: c,
			selector:                 withLabelKeys(parseSelector(c.LabelSelector), metav1.LabelSelectorOpIn, c.MatchLabelKeys, pod.Labels),
			labels:                   keys[c.WhenUnsatisfiable],
		}.identified(pod)
		if c.WhenUnsatisfiable == corev1.DoNotSchedule {
			out.hard = append(out.hard, parsed)
		} else {
			out.soft = append(out.soft, parsed)
		}
	}
	return out
}

// identified returns s with its keys, which tell apart constraints that count differently and those that look at other nodes.
func (s spreadConstraint) identified(pod *corev1.Pod) spreadConstraint {
	id := []string{s.TopologyKey}
	if len(s.labels) > 1 {
		id = append(id, s.labels...)
	}
	if honors(s.NodeAffinityPolicy, corev1.NodeInclusionPolicyHonor) {
		id = append(id, "affinity", labels.Set(pod.Spec.NodeSelector).String(), affinityID(pod))
	}
	if honors(s.NodeTaintsPolicy, corev1.NodeInclusionPolicyIgnore) {
		for _, t := range pod.Spec.Tolerations {
			id = append(id, "tolerates", t.String())
		}
	}
	s.nodesKey = strings.Join(id, "\x00")
	s.key = strings.Join([]string{pod.Namespace, selectorID(s.selector), s.nodesKey}, "\x00")
	return s
}

// honors reports whether a node inclusion policy, or its default when unset, is Honor.
func honors(policy *corev1.NodeInclusionPolicy, unset corev1.NodeInclusionPolicy) bool {
	if policy == nil {
		policy = &unset
	}
	return *policy == corev1.NodeInclusionPolicyHonor
}

func affinityID(pod *corev1.Pod) string {
	a := pod.Spec.Affinity
	if a == nil || a.NodeAffinity == nil || a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution == nil {
		return ""
	}
	return a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.String()
}
