package statefulset

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
)

var epoch = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

func setOf(replicas int32) *appsv1.StatefulSet {
	return &appsv1.StatefulSet{
		ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "default", UID: "set", Generation: 7},
		Spec: appsv1.StatefulSetSpec{
			Replicas: &replicas, ServiceName: "peers", PodManagementPolicy: appsv1.OrderedReadyPodManagement,
			UpdateStrategy: appsv1.StatefulSetUpdateStrategy{
				Type:          appsv1.RollingUpdateStatefulSetStrategyType,
				RollingUpdate: &appsv1.RollingUpdateStatefulSetStrategy{Partition: ptr.To(int32(0)), MaxUnavailable: ptr.To(intstr.FromInt32(1))},
			},
		},
	}
}

// podOf is a pod in one word: ordinal, state (+ ready, - not ready, f failed, s succeeded, x leaving) and revision.
func podOf(word string) *corev1.Pod {
	index, state, rev := word[:1], word[1:2], word[2:]
	name := "web-" + index
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID("uid-" + word), Labels: identity(name, index)}}
	p.Labels[appsv1.ControllerRevisionHashLabelKey] = rev
	p.Status.Phase = corev1.PodRunning
	status := corev1.ConditionTrue
	switch state {
	case "-":
		status = corev1.ConditionFalse
	case "f":
		p.Status.Phase = corev1.PodFailed
	case "s":
		p.Status.Phase = corev1.PodSucceeded
	case "x":
		p.DeletionTimestamp = &metav1.Time{Time: epoch}
	}
	p.Status.Conditions = []corev1.PodCondition{{
		Type: corev1.PodReady, Status: status, LastTransitionTime: metav1.NewTime(epoch.Add(-10 * time.Second)),
	}}
	return p
}

func podsOf(words string) []*corev1.Pod {
	var out []*corev1.Pod
	for word := range strings.FieldsSeq(words) {
		out = append(out, podOf(word))
	}
	return out
}

// told is what a plan does, in words: +ordinal@revision and -ordinal, in order.
func told(a actions) string {
	var out []string
	for _, b := range a.create {
		out = append(out, fmt.Sprintf("+%d@%s", b.ordinal, b.revision))
	}
	for _, p := range a.remove {
		out = append(out, "-"+strings.TrimPrefix(p.Name, "web-"))
	}
	return strings.Join(out, " ")
}

func parallel(s *appsv1.StatefulSetSpec) { s.PodManagementPolicy = appsv1.ParallelPodManagement }

func partition(n int32) func(*appsv1.StatefulSetSpec) {
	return func(s *appsv1.StatefulSetSpec) { s.UpdateStrategy.RollingUpdate.Partition = &n }
}

func unavailable(m intstr.IntOrString) func(*appsv1.StatefulSetSpec) {
	return func(s *appsv1.StatefulSetSpec) { s.UpdateStrategy.RollingUpdate.MaxUnavailable = &m }
}

func start(n int32) func(*appsv1.StatefulSetSpec) {
	return func(s *appsv1.StatefulSetSpec) { s.Ordinals = &appsv1.StatefulSetOrdinals{Start: n} }
}

func minReady(n int32) func(*appsv1.StatefulSetSpec) {
	return func(s *appsv1.StatefulSetSpec) { s.MinReadySeconds = n }
}

func onDelete(s *appsv1.StatefulSetSpec) {
	s.UpdateStrategy = appsv1.StatefulSetUpdateStrategy{Type: appsv1.OnDeleteStatefulSetStrategyType}
}

func bare(s *appsv1.StatefulSetSpec) { s.UpdateStrategy.RollingUpdate = nil }

// TestPlan: revision "a" is the current one; "b" is the update's where there are pods of both, or where update says so.
func TestPlan(t *testing.T) {
	t.Parallel()
	type edits = []func(*appsv1.StatefulSetSpec)
	for _, tc := range []struct {
		name     string
		replicas int32
		edits    edits
		update   string // "a" unless set
		pods     string
		want     string
	}{
		{name: "the first", replicas: 3, want: "+0@a"},
		{name: "wait for the first", replicas: 3, pods: "0-a"},
		{name: "the second", replicas: 3, pods: "0+a", want: "+1@a"},
		{name: "all there", replicas: 3, pods: "0+a 1+a 2+a"},
		{name: "a gap first", replicas: 3, pods: "1+a 2+a", want: "+0@a"},
		{name: "a gap waits for those before", replicas: 3, pods: "0-a 2+a"},
		{name: "all at once", replicas: 3, edits: edits{parallel}, want: "+0@a +1@a +2@a"},
		{name: "ordinals from five", replicas: 2, edits: edits{start(5)}, pods: "5+a", want: "+6@a"},
		{name: "ordinals moved", replicas: 2, edits: edits{start(1)}, pods: "0+a 1+a", want: "+2@a"},
		{name: "ordinals moved, then the old go", replicas: 2, edits: edits{start(1)}, pods: "0+a 1+a 2+a", want: "-0"},
		{name: "not available for long enough", replicas: 2, edits: edits{minReady(11)}, pods: "0+a"},
		{name: "available", replicas: 2, edits: edits{minReady(10)}, pods: "0+a", want: "+1@a"},

		{name: "down: highest first", replicas: 1, pods: "0+a 1+a 2+a", want: "-2"},
		{name: "down: wait until it is gone", replicas: 1, pods: "0+a 1+a 2xa"},
		{name: "down: not before those that stay are ready", replicas: 1, pods: "0-a 1+a 2+a"},
		{name: "down: an unready one goes", replicas: 1, pods: "0+a 1+a 2-a", want: "-2"},
		{name: "down: unless one below it is unready too", replicas: 1, pods: "0+a 1-a 2-a"},
		{name: "down: what has ended waits for nobody", replicas: 1, pods: "0+a 1-a 2fa", want: "-2"},
		{name: "down: nobody waits for what has ended", replicas: 1, pods: "0+a 1fa 2-a", want: "-2"},
		{name: "down: a ready one does not wait for one below", replicas: 1, pods: "0+a 1-a 2+a", want: "-2"},
		{name: "down to none", replicas: 0, pods: "0+a", want: "-0"},
		{name: "down at once", replicas: 1, edits: edits{parallel}, pods: "0-a 1-a 2+a 3xa", want: "-2 -1"},

		{name: "failed", replicas: 2, pods: "0fa 1+a", want: "-0"},
		{name: "succeeded", replicas: 2, pods: "0+a 1sa", want: "-1"},
		{name: "leaving", replicas: 2, pods: "0xa"},
		{name: "failed beside missing", replicas: 3, edits: edits{parallel}, pods: "0fa 1+a", want: "+2@a -0"},

		{name: "roll: highest first", replicas: 3, update: "b", pods: "0+a 1+a 2+a", want: "-2"},
		{name: "roll: comes back new", replicas: 3, update: "b", pods: "0+a 1+a", want: "+2@b"},
		{name: "roll: wait", replicas: 3, update: "b", pods: "0+a 1+a 2-b"},
		{name: "roll: next", replicas: 3, update: "b", pods: "0+a 1+a 2+b", want: "-1"},
		{name: "roll: wait for its end", replicas: 3, update: "b", pods: "0+a 1xa 2+b"},
		{name: "roll: done", replicas: 3, update: "b", pods: "0+b 1+b 2+b"},
		{name: "roll: minReadySeconds", replicas: 2, update: "b", edits: edits{minReady(60)}, pods: "0+a 1+b"},
		{name: "partition: above it", replicas: 3, update: "b", edits: edits{partition(2)}, pods: "0+a 1+a 2+a", want: "-2"},
		{name: "partition: not below", replicas: 3, update: "b", edits: edits{partition(2)}, pods: "0+a 1+a 2+b"},
		{name: "partition: lost ones come back old", replicas: 3, update: "b", edits: edits{partition(2)}, pods: "0+a 2+b", want: "+1@a"},
		{name: "partition counts from the start", replicas: 3, update: "b", edits: edits{partition(2), start(4)}, pods: "4+a 6+b", want: "+5@a"},
		{name: "partition beyond all", replicas: 2, update: "b", edits: edits{partition(9)}, pods: "0+a 1+a"},
		{name: "no parameters", replicas: 3, update: "b", edits: edits{bare}, pods: "0+a 1+a", want: "+2@b"},
		{name: "no parameters, lost while rolling", replicas: 3, update: "b", edits: edits{bare}, pods: "1+a 2+b", want: "+0@a"},
		{name: "two at once", replicas: 4, update: "b", edits: edits{unavailable(intstr.FromInt32(2))}, pods: "0+a 1+a 2+a 3+a", want: "-3 -2"},
		{name: "a share rounds up", replicas: 4, update: "b", edits: edits{unavailable(intstr.FromString("30%"))}, pods: "0+a 1+a 2+a 3+a", want: "-3 -2"},
		{name: "two, one is away", replicas: 4, update: "b", edits: edits{parallel, unavailable(intstr.FromInt32(2))}, pods: "0+a 1+a 2+a 3-b", want: "-2"},
		{name: "broken old ones are replaced", replicas: 2, update: "b", edits: edits{parallel}, pods: "0-a 1-a", want: "-1"},
		{name: "a broken old one below good ones", replicas: 3, update: "b", edits: edits{parallel}, pods: "0-a 1+a 2+a", want: "-0"},
		{name: "broken new ones hold the rest", replicas: 3, update: "b", edits: edits{parallel}, pods: "0+a 1-a 2-b"},
		{name: "on delete", replicas: 2, update: "b", edits: edits{onDelete}, pods: "0+a 1+a"},
		{name: "on delete comes back new", replicas: 2, update: "b", edits: edits{onDelete}, pods: "0+a", want: "+1@b"},
		{name: "scale down before rolling", replicas: 1, update: "b", pods: "0+a 1+a", want: "-1"},
	} {
		set := setOf(tc.replicas)
		for _, edit := range tc.edits {
			edit(&set.Spec)
		}
		o := observed{set: set, current: "a", update: "a", pods: podsOf(tc.pods)}
		if tc.update != "" {
			o.update = tc.update
		}
		slices.Reverse(o.pods) // the order of a cache means nothing
		if got := told(plan(o, epoch)); got != tc.want {
			t.Errorf("%s: %q, want %q", tc.name, got, tc.want)
		}
	}
}

func TestStatus(t *testing.T) {
	t.Parallel()
	set := setOf(4)
	set.Spec.MinReadySeconds = 12
	set.Status.CollisionCount = ptr.To(int32(3))
	pods := podsOf("0+a 1-a 2xa 3+b 4+b")
	pods[3].Status.Conditions[0].LastTransitionTime = metav1.NewTime(epoch.Add(-time.Minute))
	a := plan(observed{set: set, current: "a", update: "b", pods: pods}, epoch)
	want := appsv1.StatefulSetStatus{
		ObservedGeneration: 7, Replicas: 5, ReadyReplicas: 4, AvailableReplicas: 1, CurrentReplicas: 2, UpdatedReplicas: 2,
		CurrentRevision: "a", UpdateRevision: "b", CollisionCount: ptr.To(int32(3)),
	}
	if fmt.Sprintf("%+v", a.status) != fmt.Sprintf("%+v", withCount(want, a.status.CollisionCount)) || *a.status.CollisionCount != 3 {
		t.Errorf("got  %+v\nwant %+v", a.status, want)
	}
	if a.after != 2*time.Second {
		t.Errorf("look again after %v, want 2s", a.after)
	}
	done := plan(observed{set: setOf(2), current: "a", update: "b", pods: podsOf("0+b 1+b")}, epoch).status
	if done.CurrentRevision != "b" || done.CurrentReplicas != 2 || done.UpdatedReplicas != 2 {
		t.Errorf("a finished rollout: %+v", done)
	}
	manual := setOf(2)
	onDelete(&manual.Spec)
	if s := plan(observed{set: manual, current: "a", update: "b", pods: podsOf("0+b 1+b")}, epoch).status; s.CurrentRevision != "a" || s.UpdatedReplicas != 2 {
		t.Errorf("replaced by hand: %+v", s)
	}
}

// withCount makes two statuses print alike: a pointer prints as its address.
func withCount(s appsv1.StatefulSetStatus, count *int32) appsv1.StatefulSetStatus {
	s.CollisionCount = count
	return s
}

func TestLeftAlone(t *testing.T) {
	t.Parallel()
	gone := setOf(3)
	gone.DeletionTimestamp = &metav1.Time{Time: epoch}
	if a := plan(observed{set: gone, current: "a", update: "b", pods: podsOf("0+a 4fa")}, epoch); told(a) != "" || a.status.Replicas != 2 {
		t.Errorf("a set that is being deleted: %q, %+v", told(a), a.status)
	}
	for _, name := range []string{"web", "web-", "web-01", "web--1", "web-+1", "web-x", "api-0", "web-0-0", "web-99999999999"} {
		if n, ok := ordinalOf("web", name); ok {
			t.Errorf("%s has ordinal %d", name, n)
		}
	}
	p := podOf("0+a")
	delete(p.Labels, appsv1.PodIndexLabel)
	if a := plan(observed{set: setOf(1), current: "a", update: "a", pods: []*corev1.Pod{p}}, epoch); len(a.relabel) != 1 {
		t.Errorf("an adopted pod keeps its labels: %+v", a)
	}
}

func TestRecreatingEvents(t *testing.T) {
	t.Parallel()
	for state, want := range map[string]event{
		"f": {corev1.EventTypeWarning, "RecreatingFailedPod", "StatefulSet default/web is recreating failed Pod web-0"},
		"s": {corev1.EventTypeNormal, "RecreatingTerminatedPod", "StatefulSet default/web is recreating terminated Pod web-0"},
	} {
		a := plan(observed{set: setOf(1), current: "a", update: "a", pods: podsOf("0" + state + "a")}, epoch)
		if len(a.events) != 1 || a.events[0] != want {
			t.Errorf("%+v, want %+v", a.events, want)
		}
	}
}

func TestNewPod(t *testing.T) {
	t.Parallel()
	set := setOf(3)
	template := &corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": "web"}, Annotations: map[string]string{"a": "b"}}}
	p := newPod(set, template, birth{ordinal: 12, revision: "web-5f"})
	want := map[string]string{
		"app": "web", "statefulset.kubernetes.io/pod-name": "web-12", "apps.kubernetes.io/pod-index": "12", "controller-revision-hash": "web-5f",
	}
	if fmt.Sprint(p.Labels) != fmt.Sprint(want) || p.Name != "web-12" || p.Spec.Hostname != "web-12" || p.Spec.Subdomain != "peers" ||
		p.Annotations["a"] != "b" || !metav1.IsControlledBy(p, set) {
		t.Errorf("%+v", p)
	}
	if len(template.Labels) != 1 {
		t.Errorf("the template has changed: %v", template.Labels)
	}
}
