package nodelifecycle

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// nodeOf parses "Ready=True DiskPressure=True" and taints like "key:Effect".
func nodeOf(conditions, taints string) *corev1.Node {
	n := &corev1.Node{}
	for _, c := range strings.Fields(conditions) {
		name, status, _ := strings.Cut(c, "=")
		n.Status.Conditions = append(n.Status.Conditions, corev1.NodeCondition{Type: corev1.NodeConditionType(name), Status: corev1.ConditionStatus(status)})
	}
	for _, t := range strings.Fields(taints) {
		key, effect, _ := strings.Cut(t, ":")
		n.Spec.Taints = append(n.Spec.Taints, corev1.Taint{Key: full(key), Effect: corev1.TaintEffect(effect)})
	}
	return n
}

func full(key string) string {
	if key == "dedicated" {
		return key
	}
	return "node.kubernetes.io/" + key
}

func texts(taints []corev1.Taint) string {
	var out []string
	for _, t := range taints {
		out = append(out, strings.TrimPrefix(t.Key, "node.kubernetes.io/")+":"+string(t.Effect))
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

func TestTaints(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, conditions, taints string
		silent                   time.Duration
		disrupted, turn          bool
		want                     string
	}{
		{"well", "Ready=True", "", 0, false, true, ""},
		{"well again", "Ready=True", "unreachable:NoSchedule unreachable:NoExecute dedicated:NoExecute", 0, false, true, "dedicated:NoExecute"},
		{"not ready", "Ready=False", "", 0, false, true, "not-ready:NoExecute not-ready:NoSchedule"},
		{"not ready, its turn has not come", "Ready=False", "", 0, false, false, "not-ready:NoSchedule"},
		{"silent", "Ready=True", "", time.Minute, false, true, "unreachable:NoExecute unreachable:NoSchedule"},
		{"from not ready to silent", "Ready=False", "not-ready:NoExecute", time.Minute, false, true, "unreachable:NoExecute unreachable:NoSchedule"},
		{"the same out of turn", "Ready=False", "not-ready:NoExecute", time.Minute, false, false, "not-ready:NoExecute unreachable:NoSchedule"},
		{"all nodes are down", "Ready=Unknown", "unreachable:NoExecute", time.Minute, true, true, "unreachable:NoSchedule"},
		{"pressure", "Ready=True DiskPressure=True MemoryPressure=True PIDPressure=True NetworkUnavailable=True", "", 0, false, true,
			"disk-pressure:NoSchedule memory-pressure:NoSchedule network-unavailable:NoSchedule pid-pressure:NoSchedule"},
		{"pressure is over", "Ready=True DiskPressure=False", "disk-pressure:NoSchedule", 0, false, true, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			node := nodeOf(tc.conditions, tc.taints)
			a := plan(observed{node: node, heard: epoch.Add(-tc.silent), grace: 50 * time.Second, disrupted: tc.disrupted}, epoch)
			got, changed := merge(node, a, tc.turn, epoch)
			if texts(got) != tc.want || changed != (texts(got) != texts(node.Spec.Taints)) {
				t.Errorf("taints %q (changed %v), want %q", texts(got), changed, tc.want)
			}
			again := node.DeepCopy()
			again.Spec.Taints = got
			if _, changed := merge(again, a, tc.turn, epoch); changed {
				t.Error("merging again changes the taints")
			}
			for _, taint := range got {
				if !has(node.Spec.Taints, taint) && (taint.TimeAdded == nil || !taint.TimeAdded.Time.Equal(epoch)) {
					t.Errorf("%s has no time", taint.Key)
				}
			}
		})
	}
}

func TestCordon(t *testing.T) {
	t.Parallel()
	node := nodeOf("Ready=True", "")
	node.Spec.Unschedulable = true
	a := plan(observed{node: node, heard: epoch, grace: time.Minute}, epoch)
	if texts(a.taints) != "unschedulable:NoSchedule" {
		t.Errorf("taints %q", texts(a.taints))
	}
}

func TestSilence(t *testing.T) {
	t.Parallel()
	node := nodeOf("Ready=True MemoryPressure=False DiskPressure=Unknown", "")
	node.CreationTimestamp = metav1.NewTime(epoch.Add(-time.Hour))
	o := observed{node: node, heard: epoch.Add(-40 * time.Second), grace: 50 * time.Second}
	if a := plan(o, epoch); a.conditions != nil || a.after != 10*time.Second {
		t.Errorf("within the grace: %+v", a)
	}
	a := plan(o, epoch.Add(10*time.Second))
	var got []string
	for _, c := range a.conditions {
		got = append(got, fmt.Sprint(c.Type, " ", c.Status, " ", c.Reason))
	}
	want := "Ready Unknown NodeStatusUnknown, MemoryPressure Unknown NodeStatusUnknown, DiskPressure Unknown , PIDPressure Unknown NodeStatusNeverUpdated"
	if strings.Join(got, ", ") != want || !a.notReady {
		t.Errorf("after it: %s, not ready %v", got, a.notReady)
	}
	node.Status.Conditions = a.conditions
	if a := plan(o, epoch.Add(time.Hour)); a.conditions != nil || a.notReady {
		t.Errorf("said once: %+v", a)
	}
}

func TestZonePace(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		ready, down, cluster int
		want                 time.Duration
	}{
		{9, 1, 10, evictionInterval},
		{0, 5, 10, evictionInterval},
		{1, 2, 10, evictionInterval},
		{4, 6, 10, 0},
		{40, 60, 100, secondaryEvictionInterval},
	} {
		if got := interval(tc.ready, tc.down, tc.cluster); got != tc.want {
			t.Errorf("%d ready, %d down of %d: %s, want %s", tc.ready, tc.down, tc.cluster, got, tc.want)
		}
	}
	z := newZones()
	if ok, _ := z.turn("a", evictionInterval, epoch); !ok {
		t.Error("the first turn is free")
	}
	if ok, wait := z.turn("a", evictionInterval, epoch.Add(4*time.Second)); ok || wait != 6*time.Second {
		t.Errorf("the second came after %s", wait)
	}
	if ok, _ := z.turn("b", evictionInterval, epoch); !ok {
		t.Error("zones do not wait for each other")
	}
	if ok, wait := z.turn("c", 0, epoch); ok || wait == 0 {
		t.Error("a stopped zone has no turns")
	}
}
