package apiserver

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestTaken(t *testing.T) {
	t.Parallel()
	status := func(observed int64, allowed, healthy, desired int32) *policyv1.PodDisruptionBudget {
		return &policyv1.PodDisruptionBudget{ObjectMeta: metav1.ObjectMeta{Name: "b", Generation: 2}, Status: policyv1.PodDisruptionBudgetStatus{
			ObservedGeneration: observed, DisruptionsAllowed: allowed, CurrentHealthy: healthy, DesiredHealthy: desired}}
	}
	crowded := status(2, 1, 3, 2)
	crowded.Status.DisruptedPods = map[string]metav1.Time{}
	for i := range maxDisrupted + 1 {
		crowded.Status.DisruptedPods[strings.Repeat("p", i+1)] = metav1.Now()
	}
	for name, c := range map[string]struct {
		budget *policyv1.PodDisruptionBudget
		code   int32
		cause  string
	}{
		"not seen by its controller": {status(1, 1, 3, 2), 429, "still being processed"},
		"used up":                    {status(2, 0, 2, 2), 429, "needs 2 healthy pods and has 2 currently"},
		"negative":                   {status(2, -1, 2, 2), 403, ""},
		"too many unconfirmed":       {crowded, 403, ""},
		"one left":                   {status(2, 1, 3, 2), 0, ""},
		"two left":                   {status(2, 2, 4, 2), 0, ""},
	} {
		before := c.budget.DeepCopy()
		next, err := taken(c.budget, "pod", metav1.Now())
		if before.Status.DisruptionsAllowed != c.budget.Status.DisruptionsAllowed || len(before.Status.DisruptedPods) != len(c.budget.Status.DisruptedPods) {
			t.Errorf("%s: the shared budget was changed", name)
		}
		if c.code == 0 {
			if err != nil || next.Status.DisruptionsAllowed != before.Status.DisruptionsAllowed-1 || len(next.Status.DisruptedPods) != 1 {
				t.Errorf("%s: %v %+v", name, err, next)
			}
			continue
		}
		st, ok := err.(apierrors.APIStatus) //nolint:errorlint // made here
		if !ok || st.Status().Code != c.code {
			t.Errorf("%s: %v, want %d", name, err, c.code)
			continue
		}
		if c.cause != "" && (len(st.Status().Details.Causes) != 1 || !strings.Contains(st.Status().Details.Causes[0].Message, c.cause)) {
			t.Errorf("%s: %+v, want %q", name, st.Status().Details, c.cause)
		}
	}
}

func TestUnguarded(t *testing.T) {
	t.Parallel()
	always := policyv1.AlwaysAllow
	ready := &corev1.Pod{Status: corev1.PodStatus{Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}}}
	for _, c := range []struct {
		name             string
		pod              *corev1.Pod
		policy           *policyv1.UnhealthyPodEvictionPolicyType
		healthy, desired int32
		want             bool
	}{
		{"ready", ready, &always, 9, 1, false},
		{"not ready, always allowed", &corev1.Pod{}, &always, 0, 3, true},
		{"not ready, budget healthy", &corev1.Pod{}, nil, 3, 3, true},
		{"not ready, budget short", &corev1.Pod{}, nil, 2, 3, false},
		{"not ready, nothing desired", &corev1.Pod{}, nil, 0, 0, false},
	} {
		b := &policyv1.PodDisruptionBudget{Spec: policyv1.PodDisruptionBudgetSpec{UnhealthyPodEvictionPolicy: c.policy},
			Status: policyv1.PodDisruptionBudgetStatus{CurrentHealthy: c.healthy, DesiredHealthy: c.desired}}
		if got := unguarded(c.pod, b); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}
