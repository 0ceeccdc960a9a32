package scheduler

import (
	"maps"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// twin is the slow, obvious scheduler: it keeps nothing and reads only API objects.
type twin struct {
	nodes      []*corev1.Node
	pods       map[string][]*corev1.Pod // by node
	namespaces map[string]labels.Set
	reserved   map[string][]*corev1.Pod // by node: pods that wait for their victims to leave it
}

func twinOf(c *cluster) *twin {
	w := &twin{pods: map[string][]*corev1.Pod{}, namespaces: c.affinity.namespaces, reserved: map[string][]*corev1.Pod{}}
	for _, nominee := range c.nominations {
		w.reserved[nominee.node] = append(w.reserved[nominee.node], nominee.info.pod)
	}
	for _, n := range c.nodes {
		if n.object != nil {
			w.nodes = append(w.nodes, n.object)
		}
		for _, p := range n.pods {
			w.pods[n.name] = append(w.pods[n.name], p.pod)
		}
	}
	return w
}

// fits tells whether p may go to n, beside the pods that n is reserved for as well as without them.
func (w *twin) fits(n *corev1.Node, p *corev1.Pod) bool {
	beside := &twin{nodes: w.nodes, pods: maps.Clone(w.pods), namespaces: w.namespaces}
	for _, q := range w.reserved[n.Name] {
		if q.UID != p.UID && *q.Spec.Priority >= *p.Spec.Priority {
			beside.pods[n.Name] = append(slices.Clone(beside.pods[n.Name]), q)
		}
	}
	return w.obeys(n, p) && beside.obeys(n, p)
}

// obeys tells whether p may go to n, by every rule that random pods use.
func (w *twin) obeys(n *corev1.Node, p *corev1.Pod) bool {
	return w.roomy(n, p) && w.allows(n, p) && w.spreads(n, p) && w.social(n, p)
}

func (w *twin) roomy(n *corev1.Node, p *corev1.Pod) bool {
	used := p.Spec.Containers[0].Resources.Requests.Cpu().DeepCopy()
	for _, q := range w.pods[n.Name] {
		used.Add(*q.Spec.Containers[0].Resources.Requests.Cpu())
	}
	return used.Cmp(*n.Status.Allocatable.Cpu()) <= 0 && int64(len(w.pods[n.Name])) < n.Status.Allocatable.Pods().Value()
}

func (w *twin) allows(n *corev1.Node, p *corev1.Pod) bool {
	return len(n.Spec.Taints) == 0 && labels.SelectorFromSet(p.Spec.NodeSelector).Matches(labels.Set(n.Labels))
}

func (w *twin) spreads(n *corev1.Node, p *corev1.Pod) bool {
	for _, c := range p.Spec.TopologySpreadConstraints {
		if c.WhenUnsatisfiable != corev1.DoNotSchedule {
			continue
		}
		if _, ok := n.Labels[c.TopologyKey]; !ok {
			return false
		}
		selector, _ := metav1.LabelSelectorAsSelector(c.LabelSelector)
		counts := map[string]int{}
		for _, m := range w.nodes {
			value := m.Labels[c.TopologyKey]
			if !hasKeys(m, p, corev1.DoNotSchedule) || !labels.SelectorFromSet(p.Spec.NodeSelector).Matches(labels.Set(m.Labels)) {
				continue
			}
			counts[value] += 0
			for _, q := range w.pods[m.Name] {
				if q.Namespace == p.Namespace && q.DeletionTimestamp == nil && selector.Matches(labels.Set(q.Labels)) {
					counts[value]++
				}
			}
		}
		least := 1 << 30
		for _, v := range counts {
			least = min(least, v)
		}
		if c.MinDomains != nil && len(counts) < int(*c.MinDomains) {
			least = 0
		}
		mine := counts[n.Labels[c.TopologyKey]]
		if selector.Matches(labels.Set(p.Labels)) {
			mine++
		}
		if mine-least > int(c.MaxSkew) {
			return false
		}
	}
	return true
}

// hasKeys tells whether a node has the labels of all of p's constraints of one sort.
func hasKeys(n *corev1.Node, p *corev1.Pod, when corev1.UnsatisfiableConstraintAction) bool {
	for _, c := range p.Spec.TopologySpreadConstraints {
		if _, ok := n.Labels[c.TopologyKey]; !ok && c.WhenUnsatisfiable == when {
			return false
		}
	}
	return true
}

func (w *twin) means(owner *corev1.Pod, t *corev1.PodAffinityTerm, q *corev1.Pod) bool {
	there := slices.Contains(t.Namespaces, q.Namespace)
	if len(t.Namespaces) == 0 && t.NamespaceSelector == nil {
		there = owner.Namespace == q.Namespace
	}
	if t.NamespaceSelector != nil {
		s, _ := metav1.LabelSelectorAsSelector(t.NamespaceSelector)
		there = there || s.Matches(w.namespaces[q.Namespace])
	}
	s, _ := metav1.LabelSelectorAsSelector(t.LabelSelector)
	return there && s.Matches(labels.Set(q.Labels))
}

// each calls f for every placed pod in n's domain of the topology.
func (w *twin) each(n *corev1.Node, topology string, f func(q *corev1.Pod)) {
	value, ok := n.Labels[topology]
	for _, m := range w.nodes {
		if v, has := m.Labels[topology]; ok && has && v == value {
			for _, q := range w.pods[m.Name] {
				f(q)
			}
		}
	}
}

func (w *twin) social(n *corev1.Node, p *corev1.Pod) bool {
	ok := w.company(n, p)
	for _, t := range requiredApart(p) {
		w.each(n, t.TopologyKey, func(q *corev1.Pod) { ok = ok && !w.means(p, &t, q) })
	}
	for _, m := range w.nodes {
		for _, q := range w.pods[m.Name] {
			for _, t := range requiredApart(q) {
				mine, has := n.Labels[t.TopologyKey]
				theirs, have := m.Labels[t.TopologyKey]
				ok = ok && (!has || !have || mine != theirs || !w.means(q, &t, p))
			}
		}
	}
	return ok
}

// company tells whether n's domains hold what p must be near.
func (w *twin) company(n *corev1.Node, p *corev1.Pod) bool {
	terms := requiredNear(p)
	all := func(q *corev1.Pod) bool {
		return !slices.ContainsFunc(terms, func(t corev1.PodAffinityTerm) bool { return !w.means(p, &t, q) })
	}
	found, labelled, anywhere := true, true, false
	for _, t := range terms {
		here := false
		w.each(n, t.TopologyKey, func(q *corev1.Pod) { here = here || all(q) })
		_, has := n.Labels[t.TopologyKey]
		found, labelled = found && here, labelled && has
		for _, m := range w.nodes {
			w.each(m, t.TopologyKey, func(q *corev1.Pod) { anywhere = anywhere || all(q) })
		}
	}
	return found || (labelled && !anywhere && all(p))
}

func requiredNear(p *corev1.Pod) []corev1.PodAffinityTerm {
	if a := p.Spec.Affinity; a != nil && a.PodAffinity != nil {
		return a.PodAffinity.RequiredDuringSchedulingIgnoredDuringExecution
	}
	return nil
}

func requiredApart(p *corev1.Pod) []corev1.PodAffinityTerm {
	if a := p.Spec.Affinity; a != nil && a.PodAntiAffinity != nil {
		return a.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution
	}
	return nil
}

// wishes are p's preferences, those to be apart with negative weights.
func wishes(p *corev1.Pod) []corev1.WeightedPodAffinityTerm {
	var out []corev1.WeightedPodAffinityTerm
	if a := p.Spec.Affinity; a != nil && a.PodAffinity != nil {
		out = append(out, a.PodAffinity.PreferredDuringSchedulingIgnoredDuringExecution...)
	}
	if a := p.Spec.Affinity; a != nil && a.PodAntiAffinity != nil {
		for _, t := range a.PodAntiAffinity.PreferredDuringSchedulingIgnoredDuringExecution {
			t.Weight = -t.Weight
			out = append(out, t)
		}
	}
	return out
}

// liking is what inter-pod affinity gives n for p before it is brought to scale.
func (w *twin) liking(n *corev1.Node, p *corev1.Pod) int64 {
	var sum int64
	for _, t := range wishes(p) {
		w.each(n, t.PodAffinityTerm.TopologyKey, func(q *corev1.Pod) {
			if w.means(p, &t.PodAffinityTerm, q) {
				sum += int64(t.Weight)
			}
		})
	}
	for _, m := range w.nodes {
		for _, q := range w.pods[m.Name] {
			theirs := wishes(q)
			for _, t := range requiredNear(q) {
				theirs = append(theirs, corev1.WeightedPodAffinityTerm{Weight: 1, PodAffinityTerm: t})
			}
			for _, t := range theirs {
				mine, has := n.Labels[t.PodAffinityTerm.TopologyKey]
				other, have := m.Labels[t.PodAffinityTerm.TopologyKey]
				if has && have && mine == other && w.means(q, &t.PodAffinityTerm, p) {
					sum += int64(t.Weight)
				}
			}
		}
	}
	return sum
}

// checkAgainstTwin compares what the rules say of every node, and the points of inter-pod affinity.
func checkAgainstTwin(t *testing.T, c *cluster, p *podInfo, d decision) {
	t.Helper()
	w := twinOf(c)
	var want []string
	for _, n := range w.nodes {
		if w.fits(n, p.pod) {
			want = append(want, n.Name)
		}
	}
	if d.node == "" && len(want) > 0 {
		t.Fatalf("pod %s was refused (%s) but fits on %v", p.key, d.message(), want)
	}
	if len(w.nodes) == 0 {
		return
	}
	var got []string
	again := decision{}
	for _, n := range filter(c, p, testOptions(), &again) {
		got = append(got, n.name)
	}
	slices.Sort(want)
	slices.Sort(got)
	if strings.Join(want, " ") != strings.Join(got, " ") {
		t.Fatalf("pod %s fits on %v, the twin says %v", p.key, got, want)
	}
	score := scorePodAffinity(c, p)
	for _, n := range w.nodes {
		var points int64
		if score != nil {
			points = score(c.nodes[n.Name])
		}
		if liked := w.liking(n, p.pod); points != liked {
			t.Fatalf("pod %s: node %s has %d points of affinity, the twin says %d", p.key, n.Name, points, liked)
		}
	}
}
