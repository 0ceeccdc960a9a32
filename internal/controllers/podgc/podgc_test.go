package podgc

import (
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestOldest(t *testing.T) {
	t.Parallel()
	pod := func(name string, minute int, reason string) *corev1.Pod {
		return &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Name: name, CreationTimestamp: metav1.NewTime(time.Unix(int64(minute)*60, 0))},
			Status:     corev1.PodStatus{Phase: corev1.PodFailed, Reason: reason},
		}
	}
	pods := []*corev1.Pod{pod("young", 9, ""), pod("old", 1, ""), pod("evicted", 5, "Evicted"), pod("twin", 1, "")}
	for n, want := range map[int]string{-1: "", 0: "", 2: "evicted old ", 3: "evicted old twin ", 9: "evicted old twin young "} {
		got := ""
		for _, p := range oldest(pods, n) {
			got += p.Name + " "
		}
		if got != want {
			t.Errorf("%d to go: %q, want %q", n, got, want)
		}
	}
}

func TestOutOfService(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		taint string
		ready corev1.ConditionStatus
		want  bool
	}{
		{"", corev1.ConditionUnknown, false},
		{corev1.TaintNodeOutOfService, corev1.ConditionTrue, false},
		{corev1.TaintNodeOutOfService, corev1.ConditionUnknown, true},
		{corev1.TaintNodeOutOfService, corev1.ConditionFalse, true},
	} {
		node := &corev1.Node{Status: corev1.NodeStatus{Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: tc.ready}}}}
		if tc.taint != "" {
			node.Spec.Taints = []corev1.Taint{{Key: tc.taint}}
		}
		if got := outOfService(node); got != tc.want {
			t.Errorf("%s: %v", fmt.Sprint(tc), got)
		}
	}
}
