package scheduler

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	schedulingv1beta1 "k8s.io/api/scheduling/v1beta1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
)

// testNode has 4 CPUs, 8 GiB and room for 10 pods.
func testNode(name string, change func(*corev1.Node)) *corev1.Node {
	n := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{corev1.LabelHostname: name}},
		Status: corev1.NodeStatus{Allocatable: corev1.ResourceList{
			corev1.ResourceCPU:    resource.MustParse("4"),
			corev1.ResourceMemory: resource.MustParse("8Gi"),
			corev1.ResourcePods:   resource.MustParse("10"),
		}},
	}
	if change != nil {
		change(n)
	}
	return n
}

func testPod(name string, change func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, UID: types.UID(name), Labels: map[string]string{"app": "a"}},
		Spec: corev1.PodSpec{SchedulerName: "default-scheduler", Containers: []corev1.Container{{
			Name: "c", Image: "img",
			Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("1")}},
		}}},
	}
	if change != nil {
		change(p)
	}
	return p
}

func cpu(q string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Spec.Containers[0].Resources.Requests[corev1.ResourceCPU] = resource.MustParse(q)
	}
}

func testOptions() options {
	return options{rules: defaultRules(), percent: 100, rand: rand.New(rand.NewPCG(1, 2))}
}

func TestDecide(t *testing.T) {
	t.Parallel()
	label := func(k, v string) func(*corev1.Node) { return func(n *corev1.Node) { n.Labels[k] = v } }
	taint := func(effect corev1.TaintEffect) func(*corev1.Node) {
		return func(n *corev1.Node) { n.Spec.Taints = []corev1.Taint{{Key: "k", Value: "v", Effect: effect}} }
	}
	port := func(p *corev1.Pod) {
		p.Spec.Containers[0].Ports = []corev1.ContainerPort{{ContainerPort: 80, HostPort: 80}}
	}
	spread := func(p *corev1.Pod) {
		p.Spec.TopologySpreadConstraints = []corev1.TopologySpreadConstraint{{MaxSkew: 1, TopologyKey: "zone",
			WhenUnsatisfiable: corev1.DoNotSchedule, LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "a"}}}}
	}
	tests := []struct {
		name   string
		nodes  []*corev1.Node
		placed map[string][]*corev1.Pod
		pod    *corev1.Pod
		want   string // node, or message
	}{
		{"no nodes", nil, nil, testPod("p", nil), "no nodes available to schedule pods"},
		{"fits", []*corev1.Node{testNode("a", nil)}, nil, testPod("p", nil), "a"},
		{"too big", []*corev1.Node{testNode("a", nil), testNode("b", nil)}, nil, testPod("p", cpu("5")), "0/2 nodes are available: 2 Insufficient cpu."},
		{"full", []*corev1.Node{testNode("a", nil)}, map[string][]*corev1.Pod{"a": {testPod("q", cpu("3500m"))}}, testPod("p", nil), "0/1 nodes are available: 1 Insufficient cpu."},
		{"emptier wins", []*corev1.Node{testNode("a", nil), testNode("b", nil)}, map[string][]*corev1.Pod{"a": {testPod("q", nil)}}, testPod("p", nil), "b"},
		{"no room for another pod", []*corev1.Node{testNode("a", func(n *corev1.Node) { n.Status.Allocatable[corev1.ResourcePods] = resource.MustParse("0") })}, nil,
			testPod("p", nil), "0/1 nodes are available: 1 Too many pods."},
		{"extended resource", []*corev1.Node{testNode("a", nil), testNode("b", func(n *corev1.Node) { n.Status.Allocatable["x.io/gpu"] = resource.MustParse("1") })}, nil,
			testPod("p", func(p *corev1.Pod) {
				p.Spec.Containers[0].Resources.Requests["x.io/gpu"] = resource.MustParse("1")
			}), "b"},
		{"node selector", []*corev1.Node{testNode("a", nil), testNode("b", label("disk", "ssd"))}, nil,
			testPod("p", func(p *corev1.Pod) { p.Spec.NodeSelector = map[string]string{"disk": "ssd"} }), "b"},
		{"node selector of nobody", []*corev1.Node{testNode("a", nil)}, nil,
			testPod("p", func(p *corev1.Pod) { p.Spec.NodeSelector = map[string]string{"disk": "ssd"} }),
			"0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector."},
		{"taint", []*corev1.Node{testNode("a", taint(corev1.TaintEffectNoSchedule))}, nil, testPod("p", nil), "0/1 nodes are available: 1 node(s) had untolerated taint(s)."},
		{"tolerated taint", []*corev1.Node{testNode("a", taint(corev1.TaintEffectNoExecute))}, nil,
			testPod("p", func(p *corev1.Pod) {
				p.Spec.Tolerations = []corev1.Toleration{{Key: "k", Operator: corev1.TolerationOpEqual, Value: "v"}}
			}), "a"},
		{"soft taint", []*corev1.Node{testNode("a", taint(corev1.TaintEffectPreferNoSchedule)), testNode("b", nil)}, nil, testPod("p", nil), "b"},
		{"cordoned", []*corev1.Node{testNode("a", func(n *corev1.Node) { n.Spec.Unschedulable = true })}, nil, testPod("p", nil), "0/1 nodes are available: 1 node(s) were unschedulable."},
		{"host port", []*corev1.Node{testNode("a", nil)}, map[string][]*corev1.Pod{"a": {testPod("q", port)}}, testPod("p", port),
			"0/1 nodes are available: 1 node(s) didn't have free ports for the requested pod ports."},
		{"image", []*corev1.Node{testNode("a", nil), testNode("b", func(n *corev1.Node) {
			n.Status.Images = []corev1.ContainerImage{{Names: []string{"img:latest"}, SizeBytes: 900 << 20}}
		})}, nil, testPod("p", nil), "b"},
		{"several reasons", []*corev1.Node{testNode("a", taint(corev1.TaintEffectNoSchedule)), testNode("b", nil)}, nil, testPod("p", cpu("5")),
			"0/2 nodes are available: 1 Insufficient cpu, 1 node(s) had untolerated taint(s)."},
		{"spread", []*corev1.Node{testNode("a", label("zone", "1")), testNode("b", label("zone", "2"))}, map[string][]*corev1.Pod{"a": {testPod("q", cpu("100m"))}, "b": {testPod("r", func(p *corev1.Pod) {
			cpu("3")(p)
			p.Labels = nil
		})}}, testPod("p", spread), "b"},
		{"spread without label", []*corev1.Node{testNode("a", nil)}, nil, testPod("p", spread),
			"0/1 nodes are available: 1 node(s) didn't match pod topology spread constraints (missing required label)."},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := newCluster()
			for _, n := range tt.nodes {
				c.setNode(n)
			}
			for name, pods := range tt.placed {
				for _, p := range pods {
					c.place(newPodInfo(p), name, false)
				}
			}
			d := decide(c, newPending(tt.pod), testOptions())
			got := d.node
			if got == "" {
				got, _, _ = strings.Cut(d.message(), " preemption: ")
			}
			if got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

// TestHistories runs random histories: a placed pod always fits, a refused pod fits nowhere, and counts kept incrementally equal counts made anew.
func TestHistories(t *testing.T) {
	t.Parallel()
	for seed := range uint64(30) {
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
			t.Parallel()
			r := rand.New(rand.NewPCG(seed, 7))
			c := newCluster()
			o := testOptions()
			var live []*corev1.Pod
			for step := range 300 {
				switch r.IntN(13) {
				case 12:
					c.setGroup(randomGroup(r))
				case 10:
					c.affinity.setNamespace([]string{"ns", "other"}[r.IntN(2)], []labels.Set{nil, {"team": "o"}, {"team": "t"}}[r.IntN(3)])
				case 0, 1:
					c.setNode(randomNode(r))
				case 11:
					if waiting := slices.Sorted(maps.Keys(c.nominations)); len(waiting) > 0 {
						c.dismiss(waiting[0])
					}
				case 2:
					c.removeNode(fmt.Sprintf("n%d", r.IntN(8)))
				case 3, 4:
					if len(live) > 0 {
						i := r.IntN(len(live))
						c.remove(live[i].UID)
						live = append(live[:i], live[i+1:]...)
					}
				default:
					pod := randomPod(r, step)
					if r.IntN(3) == 0 {
						inGroup(fmt.Sprintf("g%d", r.IntN(3)))(pod)
					}
					p := newPending(pod)
					d := decide(c, p, o)
					if d.node != "" && !twinOf(c).fits(c.nodes[d.node].object, pod) {
						t.Fatalf("pod %s was placed on %s, where it does not fit", p.key, d.node)
					}
					checkAgainstTwin(t, c, p, d)
					if d.node != "" {
						c.dismiss(pod.UID)
						c.place(p, d.node, true)
						if r.IntN(2) == 0 {
							p = confirmation(t, r, p)
							c.place(p, d.node, false)
						}
						live = append(live, p.pod)
						break
					}
					checkPlan(t, c, p, d.plan)
					if d.plan.node != nil {
						c.nominate(p, d.plan.node.name)
						for _, v := range d.plan.victims {
							c.remove(v.pod.UID)
							live = slices.DeleteFunc(live, func(q *corev1.Pod) bool { return q.UID == v.pod.UID })
						}
					}
				}
				checkSpreadCounts(t, c)
			}
		})
	}
}

// confirmation is p as the API confirms it, perhaps with other labels.
func confirmation(t *testing.T, r *rand.Rand, p *podInfo) *podInfo {
	t.Helper()
	pod := p.pod.DeepCopy()
	if r.IntN(2) == 0 {
		pod.Labels = map[string]string{"app": string(rune('a' + r.IntN(2))), "zone": "1"}
	}
	out := p.confirmed(pod)
	if out == nil {
		t.Fatalf("pod %s has changed in more than its labels", p.key)
	}
	return out
}

// randomGroup is one of a few groups, to be disrupted as a whole or not, perhaps of some importance.
func randomGroup(r *rand.Rand) *schedulingv1beta1.PodGroup {
	mode := schedulingv1beta1.DisruptionMode{Single: &schedulingv1beta1.SingleDisruptionMode{}}
	if r.IntN(3) > 0 {
		mode = schedulingv1beta1.DisruptionMode{All: &schedulingv1beta1.AllDisruptionMode{}}
	}
	g := testGroup(fmt.Sprintf("g%d", r.IntN(3)), mode)
	if r.IntN(3) == 0 {
		g.Spec.Priority = ptr.To(int32(r.IntN(4)))
	}
	return g
}

func randomNode(r *rand.Rand) *corev1.Node {
	return testNode(fmt.Sprintf("n%d", r.IntN(8)), func(n *corev1.Node) {
		if r.IntN(5) > 0 {
			n.Labels["zone"] = strconv.Itoa(r.IntN(3))
		}
		if r.IntN(5) > 0 {
			n.Labels["rack"] = strconv.Itoa(r.IntN(4))
		}
		if r.IntN(6) == 0 {
			n.Spec.Taints = []corev1.Taint{{Key: "k", Effect: corev1.TaintEffectNoSchedule}}
		}
	})
}

func randomPod(r *rand.Rand, step int) *corev1.Pod {
	return testPod(fmt.Sprintf("p%d", step), func(p *corev1.Pod) {
		cpu(fmt.Sprintf("%dm", 100+r.IntN(1500)))(p)
		p.Generation = 1
		p.Labels = map[string]string{"app": string(rune('a' + r.IntN(2)))}
		if r.IntN(2) == 0 {
			p.Spec.NodeSelector = map[string]string{"zone": strconv.Itoa(r.IntN(3))}
		}
		if r.IntN(2) == 0 {
			when := []corev1.UnsatisfiableConstraintAction{corev1.DoNotSchedule, corev1.ScheduleAnyway}[r.IntN(2)]
			p.Spec.TopologySpreadConstraints = []corev1.TopologySpreadConstraint{{MaxSkew: int32(1 + r.IntN(2)), TopologyKey: "zone",
				WhenUnsatisfiable: when, LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "a"}}}}
			if r.IntN(3) == 0 && when == corev1.DoNotSchedule {
				p.Spec.TopologySpreadConstraints[0].MinDomains = ptr.To(int32(1 + r.IntN(4)))
			}
		}
		if r.IntN(4) == 0 {
			spreadBy(corev1.DoNotSchedule, []string{"zone", corev1.LabelHostname, "rack"}[r.IntN(3)], func(c *corev1.TopologySpreadConstraint) { c.MaxSkew = 2 })(p)
		}
		randomAffinity(r, p)
		priority(int32(r.IntN(4)))(p)
	})
}

func randomAffinity(r *rand.Rand, p *corev1.Pod) {
	if r.IntN(3) == 0 {
		p.Namespace = "other"
	}
	for range r.IntN(3) {
		term := means(string(rune('a'+r.IntN(2))), []string{"zone", corev1.LabelHostname}[r.IntN(2)])
		switch r.IntN(4) {
		case 0:
			term.Namespaces = []string{"other"}
		case 1:
			term.NamespaceSelector = &metav1.LabelSelector{MatchLabels: map[string]string{"team": "o"}}
		}
		switch r.IntN(5) {
		case 0: // among others by a label
			term.LabelSelector.MatchExpressions = []metav1.LabelSelectorRequirement{{Key: "app", Operator: metav1.LabelSelectorOpIn, Values: []string{"a", "b"}}}
		case 1: // by none that it insists on
			term.LabelSelector = &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "app", Operator: metav1.LabelSelectorOpNotIn, Values: []string{"a"}}}}
		case 2:
			term.LabelSelector = [...]*metav1.LabelSelector{nil, {}}[r.IntN(2)] // nobody, everybody
		}
		[]func(*corev1.Pod){near(term), apart(term), wish(int32(1+r.IntN(3)), term), wish(-int32(1+r.IntN(3)), term)}[r.IntN(4)](p)
	}
}

func checkSpreadCounts(t *testing.T, c *cluster) {
	t.Helper()
	for key, s := range c.spread.counts {
		fresh := map[string]int{}
		for _, n := range c.nodes {
			if !s.in.eligible(n) {
				continue
			}
			fresh[n.object.Labels[s.in.topology]] += 0
			for _, p := range n.pods {
				if s.matches(p.pod) {
					fresh[n.object.Labels[s.in.topology]]++
				}
			}
		}
		if len(fresh) != len(s.in.slots) || len(s.pods) != len(s.in.nodes) || !s.in.counts[s] {
			t.Fatalf("%q: %d domains kept, %d there are; %d of %d slots", key, len(s.in.slots), len(fresh), len(s.pods), len(s.in.nodes))
		}
		for value, want := range fresh {
			if slot, ok := s.in.slots[value]; !ok || int(s.pods[slot]) != want {
				t.Fatalf("%q: domain %s has slot %d, %v of %v, want %d", key, value, slot, ok, s.pods, want)
			}
		}
		for _, slot := range s.in.free {
			if s.pods[slot] != 0 {
				t.Fatalf("%q: %d pods are left in a slot that is free", key, s.pods[slot])
			}
		}
	}
}
