package scheduler

import (
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	schedulingv1beta1 "k8s.io/api/scheduling/v1beta1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
)

func testGroup(name string, mode schedulingv1beta1.DisruptionMode) *schedulingv1beta1.PodGroup {
	g := &schedulingv1beta1.PodGroup{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name}}
	g.Spec.DisruptionMode = &mode
	return g
}

// TestPreemptWholeGroups: pods of a group whose disruption mode is All are evicted together or stay together.
func TestPreemptWholeGroups(t *testing.T) {
	t.Parallel()
	type pods map[string]func(*corev1.Pod) // by "node/name"; nodes a, b and c have 4 CPUs
	whole := schedulingv1beta1.DisruptionMode{All: &schedulingv1beta1.AllDisruptionMode{}}
	single := schedulingv1beta1.DisruptionMode{Single: &schedulingv1beta1.SingleDisruptionMode{}}
	g := inGroup("g")
	full := with(cpu("4"), priority(50))
	for _, tt := range []struct {
		name    string
		mode    schedulingv1beta1.DisruptionMode
		own     *int32 // the group's priority
		placed  pods
		budgets []*policyv1.PodDisruptionBudget
		pod     func(*corev1.Pod)
		want    string
	}{
		{"one by one", single, nil, pods{"a/g1": with(g, cpu("3")), "b/g2": with(g, cpu("3")), "b/full": with(cpu("1"), priority(50)), "c/full": full}, nil,
			with(priority(10), cpu("4")), "a: g1"},
		{"all of them", whole, nil, pods{"a/g1": with(g, cpu("3")), "b/g2": with(g, cpu("1")), "b/full": with(cpu("3"), priority(50)), "c/full": full}, nil,
			with(priority(10), cpu("4")), "a: g1 g2"},
		{"two of it on the node", whole, nil, pods{"a/g1": with(g, cpu("2")), "a/g2": with(g, cpu("2")), "b/full": full, "c/full": full}, nil,
			with(priority(10), cpu("2")), "a: g1 g2"},
		{"the lesser evil is a pod alone", whole, nil, pods{"a/g1": with(g, cpu("3")), "c/g2": with(g, cpu("3")), "b/x": cpu("3")}, nil,
			with(priority(10), cpu("3")), "b: x"},
		{"it stays, and a pod alone goes", whole, nil, pods{"a/g1": with(g, cpu("2")), "a/x": cpu("2"), "b/g2": with(g, cpu("3")), "b/full": with(cpu("1"), priority(50)), "c/full": full}, nil,
			with(priority(10), cpu("2")), "a: x"},
		{"one of it is too important", whole, nil, pods{"a/g1": with(g, cpu("3")), "b/g2": with(g, cpu("3"), priority(10)), "c/full": full}, nil,
			with(priority(10), cpu("3")), "0/3 nodes are available: 1 Insufficient cpu, 2 No preemption victims found for incoming pod."},
		{"the group itself is", whole, ptr.To[int32](10), pods{"a/g1": with(g, cpu("3")), "b/g2": with(g, cpu("3")), "c/full": full}, nil,
			with(priority(10), cpu("3")), "0/3 nodes are available: 1 No preemption victims found for incoming pod, 2 Insufficient cpu."},
		{"the group's own does not make it less", whole, ptr.To[int32](1), pods{"a/g1": with(g, cpu("3"), priority(10)), "b/g2": with(g, cpu("3")), "c/full": full}, nil,
			with(priority(10), cpu("3")), "0/3 nodes are available: 1 Insufficient cpu, 2 No preemption victims found for incoming pod."},
		{"its budget counts wherever its pods are", whole, nil, pods{"a/g1": with(g, cpu("3")), "c/g2": with(g, cpu("3"), app("x")), "b/x": with(cpu("3"), priority(5))},
			[]*policyv1.PodDisruptionBudget{testBudget("x", 0)}, with(priority(10), cpu("3")), "b: x"},
		{"its own members do not evict it", whole, nil, pods{"a/g1": with(g, cpu("3")), "b/g2": with(g, cpu("3")), "c/full": full}, nil,
			with(g, priority(10), cpu("3")), "0/3 nodes are available: 1 No preemption victims found for incoming pod, 2 Insufficient cpu."},
		{"with rules that look beyond the node", whole, nil, pods{"a/g1": with(g, app("x")), "b/g2": with(g, app("x")), "c/full": full}, nil,
			with(priority(10), cpu("1"), apart(means("x", corev1.LabelHostname))), "a: g1 g2|b: g1 g2"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := newCluster()
			for _, name := range []string{"a", "b", "c"} {
				c.setNode(testNode(name, nil))
			}
			group := testGroup("g", tt.mode)
			group.Spec.Priority = tt.own
			c.setGroup(group)
			for at, change := range tt.placed {
				node, name, _ := strings.Cut(at, "/")
				if name == "full" {
					name += node
				}
				c.place(newPodInfo(testPod(name, change)), node, false)
			}
			for _, b := range tt.budgets {
				c.setBudget(b)
			}
			p := newPending(testPod("p", tt.pod))
			d := decide(c, p, testOptions())
			if d.node != "" {
				t.Fatalf("it fits on %s", d.node)
			}
			if d.plan.node != nil {
				slices.SortFunc(d.plan.victims, func(a, b *podInfo) int { return strings.Compare(a.key.Name, b.key.Name) })
			}
			if got := victimsOf(d.plan); !slices.Contains(strings.Split(tt.want, "|"), got) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
			if len(c.placed) != len(tt.placed) {
				t.Errorf("the plan left %d pods, there were %d", len(c.placed), len(tt.placed))
			}
			if k := c.cohorts[types.NamespacedName{Namespace: "ns", Name: "g"}]; k == nil && tt.mode.All != nil || k != nil && len(k.placed) != 2 {
				t.Errorf("the plan left the group as %+v", k)
			}
		})
	}
}

// TestPlansFollowGroups: what was planned for pods of a class is planned anew when a group may no longer be torn apart, and when
// a pod of it comes to another node.
func TestPlansFollowGroups(t *testing.T) {
	t.Parallel()
	c := newCluster()
	c.setNode(testNode("a", nil))
	c.setNode(testNode("b", func(n *corev1.Node) { n.Spec.Unschedulable = true }))
	c.place(newPodInfo(testPod("g1", with(inGroup("g"), cpu("3")))), "a", false)
	plan := func() string {
		pod := testPod("p", with(priority(10), cpu("3")))
		to := decide(c, c.pending(pod), testOptions()).plan
		return victimsOf(to)
	}
	for _, step := range []struct {
		do   func()
		want string
	}{
		{func() {}, "a: g1"},
		{func() { c.place(newPodInfo(testPod("g2", with(inGroup("g"), cpu("1"), priority(2)))), "b", false) }, "a: g1"},
		{func() {
			c.setGroup(testGroup("g", schedulingv1beta1.DisruptionMode{All: &schedulingv1beta1.AllDisruptionMode{}}))
		}, "a: g2 g1"},
		{func() { c.place(newPodInfo(testPod("g3", with(inGroup("g"), cpu("1"), priority(1)))), "b", false) }, "a: g2 g3 g1"},
		{func() { c.remove("g2") }, "a: g3 g1"},
		{func() { c.removeGroup(types.NamespacedName{Namespace: "ns", Name: "g"}) }, "a: g1"},
	} {
		step.do()
		if got := plan(); got != step.want {
			t.Fatalf("got %q, want %q", got, step.want)
		}
	}
	c.remove("g1")
	c.remove("g3")
	if len(c.cohorts) != 0 {
		t.Errorf("groups without pods are kept: %v", c.cohorts)
	}
}

// TestGangsEvictWholeGroups: what a gang need not evict stays, but not as a part of what must go as a whole.
func TestGangsEvictWholeGroups(t *testing.T) {
	t.Parallel()
	r := newBenchRig(t, 4)
	c := r.s.cluster
	r.s.observeGroup(testGroup("victims", schedulingv1beta1.DisruptionMode{All: &schedulingv1beta1.AllDisruptionMode{}}))
	for node, change := range map[string]func(*corev1.Pod){
		"n00000": with(inGroup("victims"), cpu("3")), "n00001": with(inGroup("victims"), cpu("500m")), "n00002": with(cpu("3"), priority(50)), "n00003": with(cpu("3"), priority(50)),
	} {
		c.place(newPodInfo(testPod("on-"+node, change)), node, false)
	}
	r.gang("g", 2, nil)
	for _, name := range []string{"g0", "g1"} {
		r.come(name, with(inGroup("g"), cpu("3"), priority(5)))
	}
	r.tryAll()
	if got, want := r.evicting(), []string{"on-n00000", "on-n00001"}; !slices.Equal(got, want) {
		t.Fatalf("evicted: %v, want %v", got, want)
	}
}
