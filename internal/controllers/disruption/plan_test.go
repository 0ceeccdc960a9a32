package disruption

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
)

var now = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

// somePods makes a pod per letter: r ready, u unready, d ready but being deleted. They are named a, b, c, …
func somePods(states string) []*corev1.Pod {
	var out []*corev1.Pod
	for i, state := range states {
		p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: string(rune('a' + i))}}
		if state != 'u' {
			p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
		}
		if state == 'd' {
			p.DeletionTimestamp = &metav1.Time{Time: now}
		}
		out = append(out, p)
	}
	return out
}

func TestDisruptionPlan(t *testing.T) {
	t.Parallel()
	type evictions = map[string]time.Duration // how long ago
	for _, c := range []struct {
		name         string
		min, max     string
		pods         string
		scales       []int32
		evicted      evictions
		want         string // expected/desired/healthy/allowed
		awaited      []string
		overdue      []string
		recheckAfter time.Duration
	}{
		{name: "no bound", pods: "rrr", want: "0/0/3/0"},
		{name: "no pods", min: "1", want: "0/1/0/0"},
		{name: "an integer needs no controller", min: "2", pods: "rrr", want: "3/2/3/1"},
		{name: "unready pods do not count", min: "2", pods: "rru", want: "3/2/2/0"},
		{name: "never below zero", min: "5", pods: "rru", want: "3/5/2/0"},
		{name: "zero protects nothing", min: "0", pods: "rr", want: "2/0/2/2"},
		{name: "pods on their way out do not count", min: "1", pods: "rdd", want: "3/1/1/0"},
		{name: "a minimum rounds up", min: "50%", pods: "rrr", scales: []int32{3}, want: "3/2/3/1"},
		{name: "all", min: "100%", pods: "rrr", scales: []int32{3}, want: "3/3/3/0"},
		{name: "of the wanted, not of those there are", min: "50%", pods: "rr", scales: []int32{4}, want: "4/2/2/0"},
		{name: "several controllers", min: "50%", pods: "rrrrr", scales: []int32{3, 2}, want: "5/3/5/2"},
		{name: "a maximum", max: "1", pods: "rrr", scales: []int32{3}, want: "3/2/3/1"},
		{name: "a maximum rounds up too", max: "30%", pods: "rrrrr", scales: []int32{5}, want: "5/3/5/2"},
		{name: "a maximum beyond the scale", max: "7", pods: "rr", scales: []int32{2}, want: "2/0/2/2"},
		{name: "scaled to nothing", max: "1", pods: "rr", scales: []int32{0}, want: "0/0/2/0"},
		{name: "only unmanaged pods", max: "1", pods: "rr", want: "0/0/2/0"},
		{name: "more ready than wanted", max: "1", pods: "rrrr", scales: []int32{3}, want: "3/2/4/2"},
		{name: "an eviction awaited", min: "1", pods: "rrr", evicted: evictions{"b": 30 * time.Second}, want: "3/1/2/1",
			awaited: []string{"b"}, recheckAfter: 90 * time.Second},
		{name: "the first of two to be overdue", min: "1", pods: "rrr", evicted: evictions{"b": 30 * time.Second, "c": 100 * time.Second}, want: "3/1/1/0",
			awaited: []string{"b", "c"}, recheckAfter: 20 * time.Second},
		{name: "an eviction overdue", min: "1", pods: "rrr", evicted: evictions{"b": 2 * time.Minute}, want: "3/1/3/2", overdue: []string{"b"}},
		{name: "an eviction seen", min: "1", pods: "rdr", evicted: evictions{"b": time.Second}, want: "3/1/2/1"},
		{name: "a pod gone", min: "1", pods: "rr", evicted: evictions{"x": time.Second}, want: "2/1/2/1"},
	} {
		o := observed{budget: &policyv1.PodDisruptionBudget{ObjectMeta: metav1.ObjectMeta{Generation: 7}}, pods: somePods(c.pods), scales: map[types.UID]int32{}}
		for field, text := range map[**intstr.IntOrString]string{&o.budget.Spec.MinAvailable: c.min, &o.budget.Spec.MaxUnavailable: c.max} {
			if text != "" {
				*field = ptr.To(intstr.Parse(text))
			}
		}
		for i, n := range c.scales {
			o.scales[types.UID(fmt.Sprint(i))] = n
		}
		o.budget.Status.DisruptedPods = map[string]metav1.Time{}
		for pod, ago := range c.evicted {
			o.budget.Status.DisruptedPods[pod] = metav1.NewTime(now.Add(-ago))
		}
		p, err := plan(o, now)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		s := p.status
		if got := fmt.Sprintf("%d/%d/%d/%d", s.ExpectedPods, s.DesiredHealthy, s.CurrentHealthy, s.DisruptionsAllowed); got != c.want {
			t.Errorf("%s: expected/desired/healthy/allowed %s, want %s", c.name, got, c.want)
		}
		if got := slices.Sorted(maps.Keys(s.DisruptedPods)); !slices.Equal(got, c.awaited) {
			t.Errorf("%s: awaits %v, want %v", c.name, got, c.awaited)
		}
		var overdue []string
		for _, pod := range p.overdue {
			overdue = append(overdue, pod.Name)
		}
		if !slices.Equal(overdue, c.overdue) || p.recheck != c.recheckAfter {
			t.Errorf("%s: overdue %v, want %v; recheck %s, want %s", c.name, overdue, c.overdue, p.recheck, c.recheckAfter)
		}
		status, reason := metav1.ConditionFalse, policyv1.InsufficientPodsReason
		if s.DisruptionsAllowed > 0 {
			status, reason = metav1.ConditionTrue, policyv1.SufficientPodsReason
		}
		got := meta.FindStatusCondition(s.Conditions, policyv1.DisruptionAllowedCondition)
		if got == nil || got.Status != status || got.Reason != reason || got.ObservedGeneration != 7 || s.ObservedGeneration != 7 {
			t.Errorf("%s: condition %+v, generation %d", c.name, got, s.ObservedGeneration)
		}
	}
}

// TestDisruptionConditions follows a budget through a failure: the time moves only with the status.
func TestDisruptionConditions(t *testing.T) {
	t.Parallel()
	b := &policyv1.PodDisruptionBudget{ObjectMeta: metav1.ObjectMeta{Generation: 1}, Spec: policyv1.PodDisruptionBudgetSpec{MinAvailable: ptr.To(intstr.FromInt32(1))}}
	step := func(at time.Duration, pods, reason string, since time.Duration) {
		t.Helper()
		if pods == "" {
			b.Status = failed(b, errors.New("why"), now.Add(at))
		} else {
			p, err := plan(observed{budget: b, pods: somePods(pods)}, now.Add(at))
			if err != nil {
				t.Fatal(err)
			}
			b.Status = p.status
		}
		c := b.Status.Conditions[0]
		if len(b.Status.Conditions) != 1 || c.Reason != reason || !c.LastTransitionTime.Equal(&metav1.Time{Time: now.Add(since)}) {
			t.Errorf("after %s: %+v, want %s since %s", at, b.Status.Conditions, reason, since)
		}
		if (c.Message == "why") != (pods == "") || pods == "" && b.Status.DisruptionsAllowed != 0 {
			t.Errorf("after %s: message %q, %d allowed", at, c.Message, b.Status.DisruptionsAllowed)
		}
	}
	step(0, "rr", policyv1.SufficientPodsReason, 0)
	step(1, "rrr", policyv1.SufficientPodsReason, 0)
	step(2, "", policyv1.SyncFailedReason, 2)
	if b.Status.CurrentHealthy != 3 {
		t.Errorf("%d healthy: a failure forgets what was counted", b.Status.CurrentHealthy)
	}
	b.Generation = 2
	step(3, "", policyv1.SyncFailedReason, 2)
	if b.Status.ObservedGeneration != 1 {
		t.Error("a generation that was not counted is observed")
	}
	step(4, "r", policyv1.InsufficientPodsReason, 2)
	step(5, "rr", policyv1.SufficientPodsReason, 5)
}

func TestDisruptionAnnounced(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(*corev1.Pod)
		left   time.Duration
		stale  bool
	}{
		"fresh":            {func(*corev1.Pod) {}, 90 * time.Second, true},
		"old":              {func(p *corev1.Pod) { p.Status.Conditions[0].LastTransitionTime.Time = now.Add(-3 * time.Minute) }, 0, true},
		"by the kubelet":   {func(p *corev1.Pod) { p.Status.Conditions[0].Reason = corev1.PodReasonTerminationByKubelet }, 0, false},
		"being deleted":    {func(p *corev1.Pod) { p.DeletionTimestamp = &metav1.Time{Time: now} }, 0, false},
		"failed":           {func(p *corev1.Pod) { p.Status.Phase = corev1.PodFailed }, 0, false},
		"taken back":       {func(p *corev1.Pod) { p.Status.Conditions[0].Status = corev1.ConditionFalse }, 0, false},
		"never announced":  {func(p *corev1.Pod) { p.Status.Conditions = nil }, 0, false},
		"some other thing": {func(p *corev1.Pod) { p.Status.Conditions[0].Type = corev1.PodReady }, 0, false},
	} {
		p := &corev1.Pod{Status: corev1.PodStatus{Phase: corev1.PodRunning, Conditions: []corev1.PodCondition{{
			Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: "EvictionByEvictionAPI", LastTransitionTime: metav1.NewTime(now.Add(-30 * time.Second)),
		}}}}
		c.change(p)
		if left, announced := stale(p, now); announced != c.stale || left != c.left {
			t.Errorf("%s: %v for %s, want %v for %s", name, announced, left, c.stale, c.left)
		}
	}
}

func TestDisruptionScalable(t *testing.T) {
	t.Parallel()
	all := []metav1.APIResource{
		{Name: "jobs", Kind: "Job"}, {Name: "jobs/status", Kind: "Job"},
		{Name: "things/scale", Kind: "Scale"}, {Name: "things/status", Kind: "Thing"}, {Name: "things", Kind: "Thing"},
	}
	for kind, want := range map[string]string{
		"Thing": "things",
		"Job":   "jobs.batch does not implement the scale subresource",
		"Other": `no matches for kind "Other" in version "batch/v1"`,
		"Scale": `no matches for kind "Scale" in version "batch/v1"`,
	} {
		got, err := scalable(schema.GroupVersionKind{Group: "batch", Version: "v1", Kind: kind}, all)
		if err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%s: %s, want %s", kind, got, want)
		}
	}
}
