package scheduler

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	schedulingv1beta1 "k8s.io/api/scheduling/v1beta1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"k8s.io/utils/ptr"

	"canopus/internal/apiserver"
	"canopus/internal/kinds/builtin"
)

func inGroup(name string) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.Spec.SchedulingGroup = &corev1.PodSchedulingGroup{PodGroupName: &name} }
}

// withGroups starts a scheduler on an API server that serves pod groups.
func withGroups(t *testing.T) *rig {
	t.Helper()
	return startOn(t, func(c *Config, _ *rest.Config) { c.PodGroups = true }, func(c *apiserver.Config) {
		set, err := builtin.Choose(map[string]string{"scheduling.k8s.io/v1beta1": "true"})
		if err != nil {
			t.Fatal(err)
		}
		c.Kinds = set
	})
}

func (r *rig) group(name string, minCount int32) {
	r.t.Helper()
	g := &schedulingv1beta1.PodGroup{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "ns"}}
	g.Spec.SchedulingPolicy.Gang = &schedulingv1beta1.GangSchedulingPolicy{MinCount: minCount}
	if _, err := r.SchedulingV1beta1().PodGroups("ns").Create(r.t.Context(), g, metav1.CreateOptions{}); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) groupIs(name string, status metav1.ConditionStatus, message string) {
	r.t.Helper()
	r.eventually("group "+name, func(ctx context.Context) (string, error) {
		g, err := r.SchedulingV1beta1().PodGroups("ns").Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return "", err
		}
		c := meta.FindStatusCondition(g.Status.Conditions, "PodGroupInitiallyScheduled")
		if c != nil && c.Status == status && strings.Contains(c.Message, message) {
			return "", nil
		}
		return fmt.Sprintf("%+v", g.Status), nil
	})
}

// members counts the pods of a group and those of them that have nodes.
func (r *rig) members(group string) (bound, all int) {
	r.t.Helper()
	list, err := r.CoreV1().Pods("ns").List(r.t.Context(), metav1.ListOptions{})
	if err != nil {
		r.t.Fatal(err)
	}
	for i := range list.Items {
		if key, ok := groupOf(&list.Items[i]); ok && key.Name == group {
			all++
			if list.Items[i].Spec.NodeName != "" {
				bound++
			}
		}
	}
	return bound, all
}

func TestGangsWaitForAll(t *testing.T) {
	t.Parallel()
	r := withGroups(t)
	r.node("a", nil) // 4 CPUs
	r.pod("g0", with(inGroup("g"), cpu("2")))
	r.refused("g0", `waiting for pods's pod group "g" to appear in scheduling queue`)
	r.group("g", 3)
	r.pod("g1", with(inGroup("g"), cpu("2")))
	r.refused("g1", "waiting for minCount pods from a gang to appear in scheduling queue")
	r.pod("g2", with(inGroup("g"), cpu("2")))
	const why = `pod group "g" needs nodes for 3 pods, and there are for 2: 0/1 nodes are available: 1 Insufficient cpu.`
	r.refused("g2", why)
	r.groupIs("g", metav1.ConditionFalse, why)

	// What the gang does not get, others may have: nothing was kept for it.
	r.pod("other", cpu("3"))
	r.bound("other", "a")
	if bound, _ := r.members("g"); bound != 0 {
		t.Fatalf("%d pods of an incomplete gang have nodes", bound)
	}
	r.node("b", nil)
	r.node("c", nil)
	r.eventually("the gang has nodes", func(context.Context) (string, error) {
		bound, all := r.members("g")
		if bound == 3 {
			return "", nil
		}
		return fmt.Sprintf("%d of %d", bound, all), nil
	})
	r.groupIs("g", metav1.ConditionTrue, "")

	// A complete gang's further pods are scheduled one by one.
	r.gone("other")
	r.pod("g3", with(inGroup("g"), cpu("1")))
	r.eventually("the fourth has a node", func(context.Context) (string, error) {
		bound, _ := r.members("g")
		if bound == 4 {
			return "", nil
		}
		return fmt.Sprint(bound), nil
	})
}

// TestGangsDoNotDeadlock: each of two gangs would fit alone; interleaved, with room held, neither would.
func TestGangsDoNotDeadlock(t *testing.T) {
	t.Parallel()
	r := withGroups(t)
	r.group("g", 4)
	r.group("h", 4)
	for i := range 4 {
		r.pod(fmt.Sprintf("g%d", i), with(inGroup("g"), cpu("1")))
		r.pod(fmt.Sprintf("h%d", i), with(inGroup("h"), cpu("1")))
	}
	r.node("a", nil)
	winner, loser := "", ""
	r.eventually("one gang runs", func(context.Context) (string, error) {
		g, _ := r.members("g")
		h, _ := r.members("h")
		switch {
		case g == 4 && h == 0:
			winner, loser = "g", "h"
		case h == 4 && g == 0:
			winner, loser = "h", "g"
		default:
			return fmt.Sprintf("g %d, h %d", g, h), nil
		}
		return "", nil
	})
	r.groupIs(loser, metav1.ConditionFalse, "")
	for i := range 4 {
		r.gone(fmt.Sprintf("%s%d", winner, i))
	}
	r.eventually("the other gang runs", func(context.Context) (string, error) {
		bound, _ := r.members(loser)
		if bound == 4 {
			return "", nil
		}
		return fmt.Sprint(bound), nil
	})
}

func TestMembership(t *testing.T) {
	t.Parallel()
	g := newGangs()
	key := types.NamespacedName{Namespace: "ns", Name: "g"}
	pod := testPod("p", inGroup("g"))
	g.join(pod)
	if got := g.waiting(key); !strings.Contains(got, "pod group") {
		t.Errorf("without a group: %q", got)
	}
	g.groups[key] = &schedulingv1beta1.PodGroup{Spec: schedulingv1beta1.PodGroupSpec{SchedulingPolicy: schedulingv1beta1.PodGroupSchedulingPolicy{
		Gang: &schedulingv1beta1.GangSchedulingPolicy{MinCount: 2}}}}
	if got := g.waiting(key); !strings.Contains(got, "minCount") {
		t.Errorf("one of two: %q", got)
	}
	g.join(testPod("q", inGroup("g")))
	if got := g.waiting(key); got != "" {
		t.Errorf("two of two: %q", got)
	}
	going := pod.DeepCopy()
	going.DeletionTimestamp = &metav1.Time{}
	g.join(going)
	if got := g.waiting(key); got == "" {
		t.Error("a pod on its way out counts")
	}
	g.leave(types.UID("q"))
	g.leave(testPod("q", nil).UID)
	if len(g.members) != 0 || len(g.of) != 0 {
		t.Errorf("left behind: %+v", g)
	}
}

// TestHeldPodsAreToldLate: a gang whose pods come one after another is no news; one that stays incomplete is.
func TestHeldPodsAreToldLate(t *testing.T) {
	t.Parallel()
	r := newBenchRig(t, 1)
	for i := range benchGang { // complete
		r.come(fmt.Sprintf("g%d", i), inGroup("g"))
	}
	r.come("h", inGroup("h"))
	r.s.tellHeld(r.clock.Now())
	if got := len(r.s.outbox.items); got != 0 {
		t.Errorf("%d pods were told at once", got)
	}
	if at := r.s.gangs.unsaid[0].at; !at.Equal(r.clock.Now().Add(tellAfter)) {
		t.Errorf("the first is told at %v", at)
	}
	r.clock.Step(tellAfter)
	r.s.tellHeld(r.clock.Now())
	if got := len(r.s.outbox.items); got != 1 || len(r.s.gangs.unsaid) != 0 {
		t.Errorf("%d pods were told, %d are to be, want 1 and none", got, len(r.s.gangs.unsaid))
	}
}

// TestGangPreempts: pods are evicted for a gang when all of it fits then, and only those that must go.
func TestGangPreempts(t *testing.T) {
	t.Parallel()
	low := with(cpu("3"), priority(1))
	for name, tt := range map[string]struct {
		placed  map[string][]func(*corev1.Pod) // by node; the nodes are n00000 to n00002 and have 4 CPUs
		gang    int
		member  func(*corev1.Pod)
		first   *int32 // the group's priority
		victims []string
	}{
		"all of it":            {map[string][]func(*corev1.Pod){"n00000": {low}, "n00001": {low}, "n00002": {low}}, 3, with(cpu("3"), priority(5)), nil, []string{"n00000/0", "n00001/0", "n00002/0"}},
		"some have room":       {map[string][]func(*corev1.Pod){"n00000": {low}, "n00001": {low}}, 3, with(cpu("3"), priority(5)), nil, []string{"n00000/0", "n00001/0"}},
		"not for a part of it": {map[string][]func(*corev1.Pod){"n00000": {low}, "n00001": {low}, "n00002": {low}}, 4, with(cpu("3"), priority(5)), nil, nil},
		"not for its equals":   {map[string][]func(*corev1.Pod){"n00000": {low}}, 3, with(cpu("3"), priority(1)), nil, nil},
		"two on one node": {map[string][]func(*corev1.Pod){"n00000": {with(cpu("1"), priority(1)), with(cpu("3"), priority(2))}, "n00001": {with(cpu("4"), priority(9))},
			"n00002": {with(cpu("4"), priority(9))}}, 2, with(cpu("1500m"), priority(5)), nil, []string{"n00000/1"}},
		"by the group's priority":         {map[string][]func(*corev1.Pod){"n00000": {low}}, 3, cpu("3"), ptr.To[int32](5), []string{"n00000/0"}},
		"the group's is less than theirs": {map[string][]func(*corev1.Pod){"n00000": {low}}, 3, with(cpu("3"), priority(5)), ptr.To[int32](1), nil},
		"never": {map[string][]func(*corev1.Pod){"n00000": {low}}, 3, with(cpu("3"), priority(5), func(p *corev1.Pod) {
			p.Spec.PreemptionPolicy = ptr.To(corev1.PreemptNever)
		}), nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newBenchRig(t, 3)
			c := r.s.cluster
			for node, pods := range tt.placed {
				for i, change := range pods {
					c.place(newPodInfo(testPod(fmt.Sprintf("%s/%d", node, i), change)), node, false)
				}
			}
			r.gang("g", tt.gang, tt.first)
			for i := range tt.gang {
				r.come(fmt.Sprintf("g%d", i), with(inGroup("g"), tt.member))
			}
			r.tryAll()
			if got := r.evicting(); !slices.Equal(got, tt.victims) {
				t.Fatalf("evicted: %v, want %v", got, tt.victims)
			}
			if len(tt.victims) == 0 {
				if len(c.nominations) != 0 {
					t.Errorf("%d nodes are reserved for nothing", len(c.nominations))
				}
				return
			}
			for i, v := range tt.victims { // as one after another goes, nobody else must, and the gang waits for the last
				r.s.forgetPod(c.placed[types.UID(v)].info.pod)
				r.clock.Step(time.Minute)
				r.tryAll()
				if got := r.evicting(); !slices.Equal(got, tt.victims[i+1:]) {
					t.Fatalf("evicted: %v, want %v", got, tt.victims[i+1:])
				}
				seated := 0
				for uid := range r.tried {
					if c.placed[uid] != nil {
						seated++
					}
				}
				if all := i == len(tt.victims)-1; all && seated != tt.gang || !all && seated != 0 {
					t.Errorf("%d of %d pods have nodes after %d of %d victims went", seated, tt.gang, i+1, len(tt.victims))
				}
			}
		})
	}
}

// gang makes a group.
func (r *benchRig) gang(name string, minCount int, priority *int32) {
	g := &schedulingv1beta1.PodGroup{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name}}
	g.Spec.SchedulingPolicy.Gang = &schedulingv1beta1.GangSchedulingPolicy{MinCount: int32(minCount)}
	g.Spec.Priority = priority
	r.s.observeGroup(g)
}

// tryAll schedules until nothing is left to try; nothing that is decided is confirmed.
func (r *benchRig) tryAll() {
	for w := r.s.queue.pop(r.clock.Now()); w != nil; w = r.s.queue.pop(r.clock.Now()) {
		r.s.schedule(w)
	}
}

// evicting are the pods that are on their way out, in order.
func (r *benchRig) evicting() []string {
	var out []string
	for uid, at := range r.s.cluster.placed {
		if at.evicting {
			out = append(out, string(uid))
		}
	}
	slices.Sort(out)
	return out
}
