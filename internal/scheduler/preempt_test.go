package scheduler

import (
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

func priority(v int32) func(*corev1.Pod) { return func(p *corev1.Pod) { p.Spec.Priority = &v } }

func startedAt(minute int) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Status.StartTime = &metav1.Time{Time: time.Date(2026, 1, 1, 0, minute, 0, 0, time.UTC)}
	}
}

func testBudget(app string, allowed int32) *policyv1.PodDisruptionBudget {
	return &policyv1.PodDisruptionBudget{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: app},
		Spec:       policyv1.PodDisruptionBudgetSpec{Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": app}}},
		Status:     policyv1.PodDisruptionBudgetStatus{DisruptionsAllowed: allowed},
	}
}

// victimsOf writes a plan as "node: victims" or gives the reason.
func victimsOf(to plan) string {
	if to.node == nil {
		return to.why
	}
	var names []string
	for _, v := range to.victims {
		names = append(names, v.key.Name)
	}
	return to.node.name + ": " + strings.Join(names, " ")
}

func TestPreempt(t *testing.T) {
	t.Parallel()
	type pods map[string]func(*corev1.Pod) // by "node/name"
	important := with(priority(10), cpu("3"))
	tests := []struct {
		name    string
		placed  pods
		budgets []*policyv1.PodDisruptionBudget
		node    func(*corev1.Node)
		pod     func(*corev1.Pod)
		want    string
	}{
		{"one less important", pods{"a/x": cpu("2"), "b/y": with(cpu("2"), priority(10))}, nil, nil, important, "a: x"},
		{"none less important", pods{"a/x": with(cpu("2"), priority(10)), "b/y": with(cpu("2"), priority(11))}, nil, nil, important,
			"0/2 nodes are available: 2 No preemption victims found for incoming pod."},
		{"too large even then", pods{"a/x": cpu("2"), "b/y": with(cpu("2"), priority(10))}, nil, nil, with(priority(5), cpu("3"), func(p *corev1.Pod) {
			p.Spec.NodeSelector = map[string]string{corev1.LabelHostname: "b"}
		}), "0/2 nodes are available: 1 No preemption victims found for incoming pod, 1 Preemption is not helpful for scheduling."},
		{"too large for any node", pods{"a/x": cpu("2")}, nil, nil, with(priority(10), cpu("5")), "0/2 nodes are available: 2 Preemption is not helpful for scheduling."},
		{"what stays is too large", pods{"a/x": cpu("1"), "a/big": with(cpu("2"), priority(10)), "b/y": cpu("1"), "b/big2": with(cpu("2"), priority(10))}, nil, nil, important,
			"0/2 nodes are available: 2 Insufficient cpu."},
		{"not more than needed", pods{"a/x": with(cpu("1"), priority(1)), "a/y": with(cpu("1"), priority(2)), "a/z": with(cpu("500m"), priority(0)), "b/w": with(cpu("4"), priority(10))}, nil, nil,
			important, "a: x z"},
		{"the least important first victim", pods{"a/x": with(cpu("2"), priority(3)), "b/y": with(cpu("2"), priority(2))}, nil, nil, important, "b: y"},
		{"fewer victims", pods{"a/x": cpu("2"), "a/y": cpu("2"), "b/z": cpu("4")}, nil, nil, with(priority(10), cpu("4")), "b: z"},
		{"the smaller sum", pods{"a/x": with(cpu("2"), priority(3)), "a/y": with(cpu("2"), priority(2)), "b/z": with(cpu("2"), priority(3)), "b/w": with(cpu("2"), priority(1))}, nil, nil,
			with(priority(10), cpu("4")), "b: z w"},
		{"the younger", pods{"a/x": with(cpu("2"), startedAt(1)), "b/y": with(cpu("2"), startedAt(2))}, nil, nil, important, "b: y"},
		{"an exhausted budget", pods{"a/x": with(cpu("2"), app("x")), "b/y": with(cpu("2"), priority(5))}, []*policyv1.PodDisruptionBudget{testBudget("x", 0)}, nil, important, "b: y"},
		{"a budget that allows one", pods{"a/x": with(cpu("2"), app("x")), "b/y": with(cpu("2"), priority(5))}, []*policyv1.PodDisruptionBudget{testBudget("x", 1)}, nil, important, "a: x"},
		{"budgets do not forbid", pods{"a/x": with(cpu("2"), app("x")), "b/y": with(cpu("4"), priority(10))}, []*policyv1.PodDisruptionBudget{testBudget("x", 0)}, nil, important, "a: x"},
		{"protected pods are the last to go", pods{"a/x": with(cpu("2"), app("x")), "a/y": with(cpu("2"), priority(5)), "b/z": with(cpu("4"), priority(10))},
			[]*policyv1.PodDisruptionBudget{testBudget("x", 0)}, nil, with(priority(10), cpu("2")), "a: y"},
		{"never", pods{"a/x": cpu("2"), "b/y": cpu("2")}, nil, nil, with(important, func(p *corev1.Pod) { p.Spec.PreemptionPolicy = ptr.To(corev1.PreemptNever) }),
			"not eligible due to preemptionPolicy=Never."},
		{"cordoned", pods{"a/x": cpu("2"), "b/y": cpu("2")}, nil, func(n *corev1.Node) { n.Spec.Unschedulable = true }, important,
			"0/2 nodes are available: 2 Preemption is not helpful for scheduling."},
		{"for anti-affinity", pods{"a/x": with(cpu("100m"), app("x")), "b/y": with(cpu("100m"), app("x"), priority(10))}, nil, nil,
			with(priority(10), apart(means("x", corev1.LabelHostname))), "a: x"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := newCluster()
			for _, name := range []string{"a", "b"} {
				c.setNode(testNode(name, tt.node))
			}
			for at, change := range tt.placed {
				node, name, _ := strings.Cut(at, "/")
				c.place(newPodInfo(testPod(name, change)), node, false)
			}
			for _, b := range tt.budgets {
				c.setBudget(b)
			}
			d := decide(c, newPending(testPod("p", tt.pod)), testOptions())
			if d.node != "" {
				t.Fatalf("it fits on %s", d.node)
			}
			if got := victimsOf(d.plan); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
			if len(c.placed) != len(tt.placed) {
				t.Errorf("the plan left %d pods, there were %d", len(c.placed), len(tt.placed))
			}
		})
	}
}

// TestNomination follows one preemption: while the victim leaves, the node is reserved against lesser pods, nobody else is
// evicted for the same pod, and once the victim is gone the pod goes there.
func TestNomination(t *testing.T) {
	t.Parallel()
	c := newCluster()
	c.setNode(testNode("a", nil))
	c.place(newPodInfo(testPod("x", cpu("2"))), "a", false)
	c.place(newPodInfo(testPod("y", with(cpu("1"), priority(1)))), "a", false)
	p := newPending(testPod("p", with(cpu("3"), priority(10))))
	d := decide(c, p, testOptions())
	if got := victimsOf(d.plan); got != "a: x" {
		t.Fatalf("victims %q, want a: x", got)
	}
	c.nominate(p, "a")
	c.placed["x"].evicting = true
	if again := decide(c, p, testOptions()).plan; again.why != victimsTerminating || !again.keep {
		t.Fatalf("a second look plans %q", victimsOf(again))
	}
	c.place(newPodInfo(testPod("x", with(cpu("2"), func(p *corev1.Pod) { p.DeletionTimestamp = &metav1.Time{} }))), "a", false)
	if !c.placed["x"].evicting {
		t.Fatal("an update of the victim made it forget that it is one")
	}
	c.remove("x")
	for importance, want := range map[int32]string{0: "", 9: "", 11: "a"} {
		if got := decide(c, newPending(testPod("q", with(cpu("500m"), priority(importance)))), testOptions()).node; got != want {
			t.Errorf("a pod of priority %d got node %q, want %q", importance, got, want)
		}
	}
	if d = decide(c, p, testOptions()); d.node != "a" {
		t.Fatalf("the nominee was refused: %s", d.message())
	}
	c.dismiss(p.pod.UID)
	if len(c.nominations)+len(c.nominees) != 0 {
		t.Fatal("the nomination did not end")
	}
}

// company are the pods that q can be evicted with only, itself included, found by looking at all.
func company(c *cluster, q *podInfo) []*podInfo {
	key, ok := groupOf(q.pod)
	if !ok || c.cohorts[key] == nil || c.cohorts[key].whole == nil {
		return []*podInfo{q}
	}
	var out []*podInfo
	for _, at := range c.placed {
		if other, ok := groupOf(at.info.pod); ok && other == key {
			out = append(out, at.info)
		}
	}
	return out
}

// mayEvict reports whether p is more important than q and all that go with it.
func mayEvict(c *cluster, p, q *podInfo) bool {
	least := p.priority
	if key, ok := groupOf(q.pod); ok && c.cohorts[key] != nil && c.cohorts[key].whole != nil && c.cohorts[key].whole.Spec.Priority != nil {
		least = min(least, p.priority-1)
		if *c.cohorts[key].whole.Spec.Priority > least {
			return false
		}
	}
	return !mates(p.pod, q.pod) && !slices.ContainsFunc(company(c, q), func(o *podInfo) bool { return o.priority >= p.priority })
}

// checkPlan holds what may be said of any plan: it helps, with pods of less importance, with whole groups where they must not be
// torn apart, and with none that could stay; and there is one if evicting all of less importance from some node would do.
func checkPlan(t *testing.T, c *cluster, p *podInfo, to plan) {
	t.Helper()
	w := twinOf(c)
	without := func(n *node, gone []*podInfo) bool {
		v := &twin{nodes: w.nodes, pods: map[string][]*corev1.Pod{}, namespaces: w.namespaces, reserved: w.reserved}
		for name, pods := range w.pods {
			v.pods[name] = slices.DeleteFunc(slices.Clone(pods), func(q *corev1.Pod) bool { return slices.Contains(gone, c.placed[q.UID].info) })
		}
		return v.fits(n.object, p.pod)
	}
	if to.node == nil {
		for _, n := range c.candidates() {
			var gone []*podInfo
			for _, q := range n.pods {
				if mayEvict(c, p, q) {
					gone = append(gone, company(c, q)...)
				}
			}
			if !to.keep && without(n, gone) {
				t.Fatalf("no plan for pod %s (%s), but evictions from %s would help", p.key, to.why, n.name)
			}
		}
		return
	}
	if !without(to.node, to.victims) {
		t.Fatalf("pod %s does not fit after its plan %s", p.key, victimsOf(to))
	}
	wide := false
	for _, v := range to.victims {
		wide = wide || len(company(c, v)) > 1
	}
	for _, v := range to.victims {
		if !mayEvict(c, p, v) {
			t.Fatalf("pod %s would evict the no less important %s", p.key, v.key)
		}
		together := company(c, v)
		if slices.ContainsFunc(together, func(q *podInfo) bool { return !slices.Contains(to.victims, q) }) {
			t.Fatalf("pod %s would tear the group of %s apart: %s", p.key, v.key, victimsOf(to))
		}
		if !slices.ContainsFunc(together, func(q *podInfo) bool { return c.placed[q.pod.UID].node == to.node }) {
			t.Fatalf("pod %s would evict %s, which has nobody on %s", p.key, v.key, to.node.name)
		}
		if wide && (len(p.spread.hard) > 0 || len(p.terms.near) > 0) {
			continue // pods elsewhere can be of help by staying: then it counts in which order they were tried
		}
		if without(to.node, slices.DeleteFunc(slices.Clone(to.victims), func(q *podInfo) bool { return slices.Contains(together, q) })) {
			t.Fatalf("pod %s would evict %s, which could stay", p.key, v.key)
		}
	}
}
