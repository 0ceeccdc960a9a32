package job

import (
	"testing"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"canopus/internal/controllers/reconcile"

	"github.com/prometheus/client_golang/prometheus"
)

// tracked returns how often each event of waiting for a Job's account was counted.
func tracked(t *testing.T, r prometheus.Gatherer) map[string]float64 {
	t.Helper()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]float64{}
	for _, family := range families {
		if family.GetName() != "job_controller_terminated_pods_tracking_finalizer_total" {
			continue
		}
		for _, m := range family.GetMetric() {
			out[m.GetLabel()[0].GetValue()] = m.GetCounter().GetValue()
		}
	}
	return out
}

func dead(uid string, code int32, tracked bool) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: uid, UID: types.UID(uid)}, Status: corev1.PodStatus{
		Phase: corev1.PodFailed, ContainerStatuses: []corev1.ContainerStatus{{Name: "main", State: corev1.ContainerState{
			Terminated: &corev1.ContainerStateTerminated{ExitCode: code, FinishedAt: metav1.NewTime(epoch)},
		}}},
	}}
	if tracked {
		p.Finalizers = []string{batchv1.JobTrackingFinalizer}
	}
	return p
}

// TestWaits is about ended pods that a Job has not accounted for.
func TestWaits(t *testing.T) {
	t.Parallel()
	running := dead("a", 0, true)
	running.Status.Phase = corev1.PodRunning
	open, free := dead("a", 1, true), dead("a", 1, false)
	for name, tc := range map[string]struct {
		old, pod     *corev1.Pod
		added, freed float64
	}{
		"runs":                     {nil, running, 0, 0},
		"found ended":              {nil, open, 1, 0},
		"ends":                     {running, open, 1, 0},
		"changes while it waits":   {open, open, 0, 0},
		"is accounted for":         {open, free, 0, 1},
		"goes while it waits":      {open, nil, 0, 1},
		"goes after its account":   {free, nil, 0, 0},
		"goes before it has ended": {running, nil, 0, 0},
	} {
		r := prometheus.NewRegistry()
		f, err := newFigures(reconcile.Deps{Metrics: r})
		if err != nil {
			t.Fatal(err)
		}
		f.waits(tc.old, tc.pod)
		if got := tracked(t, r); got["add"] != tc.added || got["delete"] != tc.freed {
			t.Errorf("a pod that %s: %v", name, got)
		}
	}
}

// TestJudged is about which failures a rule had a say in, and that a second look does not tell of them again.
func TestJudged(t *testing.T) {
	t.Parallel()
	rule := func(action batchv1.PodFailurePolicyAction, code int32) batchv1.PodFailurePolicyRule {
		return batchv1.PodFailurePolicyRule{Action: action, OnExitCodes: &batchv1.PodFailurePolicyOnExitCodesRequirement{
			Operator: batchv1.PodFailurePolicyOnExitCodesOpIn, Values: []int32{code},
		}}
	}
	policy := &batchv1.PodFailurePolicy{Rules: []batchv1.PodFailurePolicyRule{
		rule(batchv1.PodFailurePolicyActionIgnore, 1), rule(batchv1.PodFailurePolicyActionCount, 2), rule(batchv1.PodFailurePolicyActionFailJob, 3),
	}}
	for _, tc := range []struct {
		code   int32
		policy *batchv1.PodFailurePolicy
		want   batchv1.PodFailurePolicyAction
	}{
		{1, policy, batchv1.PodFailurePolicyActionIgnore}, {2, policy, batchv1.PodFailurePolicyActionCount},
		{3, policy, batchv1.PodFailurePolicyActionFailJob}, {4, policy, ""}, {1, nil, ""},
	} {
		j := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Name: "j", UID: "j"}, Spec: batchv1.JobSpec{
			Completions: ptr.To(int32(1)), Parallelism: ptr.To(int32(1)), BackoffLimit: ptr.To(int32(6)), PodFailurePolicy: tc.policy,
		}}
		pod := dead("a", tc.code, true)
		first := plan(observed{job: j, pods: []*corev1.Pod{pod}}, epoch)
		if got := first.judged[pod.UID]; got != tc.want || len(first.judged) > 1 {
			t.Errorf("exit code %d: a rule says %q, want %q", tc.code, got, tc.want)
		}
		j.Status, pod.Finalizers = first.status, nil
		if again := plan(observed{job: j, pods: []*corev1.Pod{pod}}, epoch).judged; len(again) > 0 {
			t.Errorf("exit code %d: told of again: %v", tc.code, again)
		}
	}
}
