package scale

import (
	"strings"
	"testing"
	"time"

	"canopus/test/plane"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

func nodeAs(name string, ready corev1.ConditionStatus, pods, cpu string) *corev1.Node {
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.NodeSpec{PodCIDR: "10.0.0.0/24"},
		Status: corev1.NodeStatus{
			Allocatable: corev1.ResourceList{corev1.ResourcePods: resource.MustParse(pods), corev1.ResourceCPU: resource.MustParse(cpu)},
			Conditions:  []corev1.NodeCondition{{Type: corev1.NodeReady, Status: ready}},
		},
	}
}

func podAs(name, node string, phase corev1.PodPhase) *corev1.Pod {
	ready := corev1.ConditionFalse
	if phase == corev1.PodRunning {
		ready = corev1.ConditionTrue
	}
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "n", Name: name, UID: types.UID(name)},
		Spec: corev1.PodSpec{NodeName: node, Containers: []corev1.Container{{Resources: corev1.ResourceRequirements{
			Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("100m")},
		}}}},
		Status: corev1.PodStatus{Phase: phase, Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: ready}}},
	}
}

// TestLedgerFindsFaults plays what must never happen, and what may.
func TestLedgerFindsFaults(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	rack := &plane.Rack{Prefix: "rack", First: 7, Nodes: 1}
	for _, c := range []struct {
		name string
		play func(l *Ledger)
		want string // part of the one fault; "": none
	}{
		{"room for all", func(l *Ledger) {
			l.nodeNow(nodeAs("a", corev1.ConditionTrue, "2", "1"))
			l.pod(podAs("p", "a", corev1.PodRunning), now, true)
			l.pod(podAs("q", "a", corev1.PodPending), now, true)
		}, ""},
		{"too many pods", func(l *Ledger) {
			l.nodeNow(nodeAs("a", corev1.ConditionTrue, "1", "1"))
			l.pod(podAs("p", "a", corev1.PodRunning), now, true)
			l.pod(podAs("q", "a", corev1.PodPending), now, true)
		}, "node a has 2 pods"},
		{"too much cpu", func(l *Ledger) {
			l.nodeNow(nodeAs("a", corev1.ConditionTrue, "9", "150m"))
			l.pod(podAs("p", "a", corev1.PodRunning), now, true)
			l.pod(podAs("q", "a", corev1.PodPending), now, true)
		}, "want 200m cpu"},
		{"pods seen before their node", func(l *Ledger) {
			l.pod(podAs("p", "a", corev1.PodPending), now, true)
			l.pod(podAs("q", "a", corev1.PodPending), now, true)
			l.nodeNow(nodeAs("a", corev1.ConditionTrue, "1", "1"))
		}, "node a has 2 pods"},
		{"room given back", func(l *Ledger) {
			l.nodeNow(nodeAs("a", corev1.ConditionTrue, "1", "1"))
			l.pod(podAs("p", "a", corev1.PodRunning), now, true)
			l.pod(podAs("p", "a", corev1.PodSucceeded), now, true)
			l.pod(podAs("q", "a", corev1.PodRunning), now, true)
			l.podGone("q")
			l.pod(podAs("r", "a", corev1.PodRunning), now, true)
		}, ""},
		{"a pod that moves", func(l *Ledger) {
			l.pod(podAs("p", "a", corev1.PodRunning), now, true)
			l.pod(podAs("p", "b", corev1.PodRunning), now, true)
		}, "moved from node a"},
		{"a node that fails", func(l *Ledger) {
			l.nodeNow(nodeAs("a", corev1.ConditionTrue, "1", "1"))
			l.nodeNow(nodeAs("a", corev1.ConditionUnknown, "1", "1"))
		}, "node a stopped being ready"},
		{"a node that may fail", func(l *Ledger) {
			l.nodeNow(nodeAs("rack-7", corev1.ConditionTrue, "1", "1"))
			l.Expect(rack, true)
			l.nodeNow(nodeAs("rack-7", corev1.ConditionUnknown, "1", "1"))
			l.nodeNow(nodeAs("rack-7", corev1.ConditionTrue, "1", "1"))
			l.Expect(rack, false)
		}, ""},
		{"a node that goes", func(l *Ledger) {
			l.nodeNow(nodeAs("a", corev1.ConditionTrue, "1", "1"))
			l.nodeGone("a")
		}, "node a was deleted"},
	} {
		l := NewLedger()
		c.play(l)
		first, n := l.Faults()
		if c.want == "" && n != 0 || c.want != "" && (n != 1 || !strings.Contains(first[0], c.want)) {
			t.Errorf("%s: %d faults %q, want %q", c.name, n, first, c.want)
		}
	}
}

func TestLedgerCounts(t *testing.T) {
	t.Parallel()
	l, now := NewLedger(), time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	rack := &plane.Rack{Prefix: "rack", First: 1, Nodes: 2}
	for _, name := range []string{"hall-0", "rack-1", "rack-2"} {
		l.nodeNow(nodeAs(name, corev1.ConditionTrue, "9", "9"))
	}
	l.pod(podAs("old", "rack-1", corev1.PodRunning), now, false)
	l.pod(podAs("new", "", corev1.PodPending), now, true)
	l.pod(podAs("new", "rack-2", corev1.PodPending), now.Add(time.Second), true)
	l.pod(podAs("new", "rack-2", corev1.PodRunning), now.Add(3*time.Second), true)
	l.pod(podAs("new", "rack-2", corev1.PodRunning), now.Add(4*time.Second), true)
	l.pod(podAs("ends", "hall-0", corev1.PodRunning), now, false)
	l.podGone("ends")
	if got, want := l.Counts(), (Counts{Nodes: 3, Ready: 3, Open: 3, Pods: 2, Bound: 2, Running: 2, Removed: 1}); got != want {
		t.Errorf("counts %+v, want %+v", got, want)
	}
	lost := nodeAs("rack-2", corev1.ConditionUnknown, "9", "9")
	lost.Spec.Taints = []corev1.Taint{
		{Key: corev1.TaintNodeUnreachable, Effect: corev1.TaintEffectNoSchedule}, {Key: corev1.TaintNodeUnreachable, Effect: corev1.TaintEffectNoExecute},
	}
	l.Expect(rack, true)
	l.nodeNow(lost)
	l.pod(podAs("new", "rack-2", corev1.PodPending), now.Add(50*time.Second), true)
	if got, want := l.Rack(rack), (RackCounts{Nodes: 2, Ready: 1, Open: 1, Unreachable: 1, Evicting: 1, Pods: 2, Running: 1}); got != want {
		t.Errorf("rack %+v, want %+v", got, want)
	}
	if s := l.Starts(); len(s) != 1 || s[0] != 3*time.Second {
		t.Errorf("one start of 3 s wanted, and none of a pod from before: %v", s)
	}
	if n := l.PodsIn("n"); n != 2 {
		t.Errorf("%d pods in the namespace, want 2", n)
	}
}

func TestLayout(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ pods, deployments, want, spaces int }{{1, 5, 1, 1}, {10, 3, 3, 1}, {6001, 200, 200, 3}, {7000, 1, 3, 3}} {
		pods, spaces := 0, map[string]int{}
		all := layout(c.pods, c.deployments)
		for _, d := range all {
			pods += int(d.Replicas)
			spaces[d.Namespace] += int(d.Replicas)
		}
		if pods != c.pods || len(all) != c.want || len(spaces) != c.spaces {
			t.Errorf("%d pods in %d Deployments: %d pods in %d Deployments in %d namespaces", c.pods, c.deployments, pods, len(all), len(spaces))
		}
	}
}
