package scheduler

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

func means(app, topology string) corev1.PodAffinityTerm {
	return corev1.PodAffinityTerm{TopologyKey: topology, LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": app}}}
}

func affinityOf(p *corev1.Pod) *corev1.Affinity {
	if p.Spec.Affinity == nil {
		p.Spec.Affinity = &corev1.Affinity{}
	}
	if p.Spec.Affinity.PodAffinity == nil {
		p.Spec.Affinity.PodAffinity = &corev1.PodAffinity{}
	}
	if p.Spec.Affinity.PodAntiAffinity == nil {
		p.Spec.Affinity.PodAntiAffinity = &corev1.PodAntiAffinity{}
	}
	return p.Spec.Affinity
}

func near(t corev1.PodAffinityTerm) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		a := affinityOf(p).PodAffinity
		a.RequiredDuringSchedulingIgnoredDuringExecution = append(a.RequiredDuringSchedulingIgnoredDuringExecution, t)
	}
}

func apart(t corev1.PodAffinityTerm) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		a := affinityOf(p).PodAntiAffinity
		a.RequiredDuringSchedulingIgnoredDuringExecution = append(a.RequiredDuringSchedulingIgnoredDuringExecution, t)
	}
}

// wish is a preference of weight w; a negative one is to be apart.
func wish(w int32, t corev1.PodAffinityTerm) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		a := affinityOf(p)
		to := &a.PodAffinity.PreferredDuringSchedulingIgnoredDuringExecution
		if w < 0 {
			to, w = &a.PodAntiAffinity.PreferredDuringSchedulingIgnoredDuringExecution, -w
		}
		*to = append(*to, corev1.WeightedPodAffinityTerm{Weight: w, PodAffinityTerm: t})
	}
}

func with(changes ...func(*corev1.Pod)) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		for _, change := range changes {
			change(p)
		}
	}
}

func app(name string) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.Labels = map[string]string{"app": name} }
}

func in(namespace string) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.Namespace = namespace }
}

func TestPodAffinity(t *testing.T) {
	t.Parallel()
	const (
		refusedNear  = "0/3 nodes are available: 3 node(s) didn't match pod affinity rules."
		refusedApart = "0/3 nodes are available: 1 node(s) didn't match pod affinity rules, 2 node(s) didn't match pod anti-affinity rules."
	)
	inNamespaces := func(t corev1.PodAffinityTerm, names ...string) corev1.PodAffinityTerm {
		t.Namespaces = names
		return t
	}
	inLabelled := func(t corev1.PodAffinityTerm, l map[string]string) corev1.PodAffinityTerm {
		t.NamespaceSelector = &metav1.LabelSelector{MatchLabels: l}
		return t
	}
	byKeys := func(t corev1.PodAffinityTerm, match, mismatch []string) corev1.PodAffinityTerm {
		t.MatchLabelKeys, t.MismatchLabelKeys = match, mismatch
		return t
	}
	version := func(v string) func(*corev1.Pod) { return func(p *corev1.Pod) { p.Labels["version"] = v } }
	// Nodes a and b are in zone 1, c in zone 2.
	tests := []struct {
		name   string
		placed map[string]func(*corev1.Pod)
		pod    func(*corev1.Pod)
		want   string // node, "any", or message
	}{
		{"near", map[string]func(*corev1.Pod){"c": app("x")}, near(means("x", "zone")), "c"},
		{"near, none there", nil, near(means("x", "zone")), refusedNear},
		{"near its own kind, the first", nil, near(means("a", "zone")), "any"},
		{"near its own kind, not the first", map[string]func(*corev1.Pod){"c": app("a")}, near(means("a", "zone")), "c"},
		{"near its own kind, nodes without the label", nil, near(means("a", "rack")), refusedNear},
		{"near two terms by different pods", map[string]func(*corev1.Pod){"a": app("x"), "c": app("y")},
			with(near(means("x", "zone")), near(means("y", "zone"))), refusedNear},
		{"near in two topologies", map[string]func(*corev1.Pod){"b": app("x")}, with(near(means("x", "zone")), near(means("x", corev1.LabelHostname))), "b"},
		{"near means the own namespace", map[string]func(*corev1.Pod){"c": with(app("x"), in("other"))}, near(means("x", "zone")), refusedNear},
		{"near in named namespaces", map[string]func(*corev1.Pod){"c": with(app("x"), in("other"))}, near(inNamespaces(means("x", "zone"), "third", "other")), "c"},
		{"near in labelled namespaces", map[string]func(*corev1.Pod){"c": with(app("x"), in("other")), "a": with(app("x"), in("third"))},
			near(inLabelled(means("x", "zone"), map[string]string{"team": "o"})), "c"},
		{"near in all namespaces", map[string]func(*corev1.Pod){"c": with(app("x"), in("unheard-of"))}, near(inLabelled(means("x", "zone"), nil)), "c"},
		{"near with matchLabelKeys", map[string]func(*corev1.Pod){"a": with(app("x"), version("1")), "c": with(app("x"), version("2"))},
			with(version("2"), near(byKeys(means("x", "zone"), []string{"version", "absent"}, nil))), "c"},
		{"near with mismatchLabelKeys", map[string]func(*corev1.Pod){"a": with(app("x"), version("1")), "c": with(app("x"), version("2"))},
			with(version("2"), near(byKeys(means("x", corev1.LabelHostname), nil, []string{"version"}))), "a"},
		{"apart", map[string]func(*corev1.Pod){"a": app("x")}, apart(means("x", "zone")), "c"},
		{"apart, everywhere taken", map[string]func(*corev1.Pod){"a": app("x"), "c": app("x")}, apart(means("x", "zone")),
			"0/3 nodes are available: 3 node(s) didn't match pod anti-affinity rules."},
		{"apart where nodes lack the label", map[string]func(*corev1.Pod){"a": app("x")}, apart(means("x", "rack")), "any"},
		{"apart by any of two terms", map[string]func(*corev1.Pod){"a": app("x"), "b": app("y")},
			with(apart(means("x", corev1.LabelHostname)), apart(means("y", corev1.LabelHostname))), "c"},
		{"others want to be apart", map[string]func(*corev1.Pod){"b": apart(means("a", "zone"))}, nil, "c"},
		{"others want to be apart everywhere", map[string]func(*corev1.Pod){"b": apart(means("a", "zone")), "c": apart(means("a", "zone"))}, nil,
			"0/3 nodes are available: 3 node(s) didn't satisfy existing pods anti-affinity rules."},
		{"others want to be apart from labelled namespaces", map[string]func(*corev1.Pod){"b": apart(inLabelled(means("a", "zone"), map[string]string{"team": "o"}))},
			in("other"), "c"},
		{"near before apart", map[string]func(*corev1.Pod){"a": app("x"), "b": app("y")}, with(near(means("x", "zone")), apart(means("y", "zone"))), refusedApart},
		{"prefers near", map[string]func(*corev1.Pod){"c": with(app("x"), cpu("2"))}, wish(10, means("x", "zone")), "c"},
		{"prefers apart", map[string]func(*corev1.Pod){"a": with(app("x"), cpu("100m")), "c": with(app("z"), cpu("3"))}, wish(-10, means("x", "zone")), "c"},
		{"the heavier preference", map[string]func(*corev1.Pod){"a": app("x"), "c": app("y")}, with(wish(10, means("x", corev1.LabelHostname)), wish(11, means("y", corev1.LabelHostname))), "c"},
		{"preferred by others", map[string]func(*corev1.Pod){"c": with(cpu("2"), wish(1, means("a", corev1.LabelHostname)))}, nil, "c"},
		{"required by others counts as preferred", map[string]func(*corev1.Pod){"c": with(cpu("2"), near(means("a", corev1.LabelHostname)))}, nil, "c"},
		{"unwanted by others", map[string]func(*corev1.Pod){"a": with(cpu("100m"), wish(-5, means("a", "zone"))), "c": with(app("z"), cpu("3"))}, nil, "c"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := newCluster()
			c.affinity.setNamespace("other", labels.Set{"team": "o"})
			c.affinity.setNamespace("third", labels.Set{"team": "t"})
			for name, zone := range map[string]string{"a": "1", "b": "1", "c": "2"} {
				c.setNode(testNode(name, func(n *corev1.Node) { n.Labels["zone"] = zone }))
			}
			for node, change := range tt.placed {
				c.place(newPodInfo(testPod("on-"+node, change)), node, false)
			}
			d := decide(c, newPending(testPod("p", tt.pod)), testOptions())
			message, _, _ := strings.Cut(d.message(), " preemption: ")
			switch got := d.node; {
			case tt.want == "any" && got != "":
			case got == "" && message == tt.want:
			case got != "" && got == tt.want:
			default:
				t.Errorf("got %q (%s), want %q", got, d.message(), tt.want)
			}
		})
	}
}

func TestLabelKeysAlreadyResolvedCountOnce(t *testing.T) {
	t.Parallel()
	// The API server resolved the key when the label had its old value.
	term := means("x", "zone")
	term.MatchLabelKeys = []string{"version"}
	term.LabelSelector.MatchExpressions = []metav1.LabelSelectorRequirement{{Key: "version", Operator: metav1.LabelSelectorOpIn, Values: []string{"1"}}}
	pod := testPod("p", func(p *corev1.Pod) { p.Labels["version"] = "2" })
	got := newPodTerm(pod, &term, 0)
	if !got.matches(testPod("q", func(p *corev1.Pod) { p.Labels = map[string]string{"app": "x", "version": "1"} }), nil) {
		t.Errorf("%s does not match what the API server resolved", got.selector)
	}
}

func TestNamespaceLabelsChangeWhatTermsMean(t *testing.T) {
	t.Parallel()
	c := newCluster()
	c.setNode(testNode("a", func(n *corev1.Node) { n.Labels["zone"] = "1" }))
	c.place(newPodInfo(testPod("q", in("other"))), "a", false)
	term := means("a", "zone")
	term.NamespaceSelector = &metav1.LabelSelector{MatchLabels: map[string]string{"team": "o"}}
	p := newPending(testPod("p", with(app("p"), near(term))))
	if d := decide(c, p, testOptions()); d.node != "" {
		t.Fatalf("placed on %q although no namespace matches", d.node)
	}
	if !c.affinity.setNamespace("other", labels.Set{"team": "o"}) {
		t.Fatal("new labels were not noticed")
	}
	if d := decide(c, p, testOptions()); d.node != "a" {
		t.Fatalf("got %q (%s), want a", d.node, d.message())
	}
	if c.affinity.setNamespace("other", labels.Set{"team": "o"}) {
		t.Fatal("the same labels were taken for new ones")
	}
	c.affinity.setNamespace("other", nil)
	if d := decide(c, p, testOptions()); d.node != "" {
		t.Fatal("the labels of a namespace that is gone still count")
	}
}
