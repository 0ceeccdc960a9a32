package backends

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

func TestTriggers(t *testing.T) {
	t.Parallel()
	at := func(s int64) time.Time { return time.Unix(s, 0) }
	svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{CreationTimestamp: metav1.NewTime(at(100))}}
	pod := func(uid types.UID, s int64) *corev1.Pod {
		return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{UID: uid}, Status: corev1.PodStatus{Conditions: []corev1.PodCondition{
			{Type: corev1.PodReady, LastTransitionTime: metav1.NewTime(at(s))},
		}}}
	}
	silent := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{UID: "s"}}
	var seen Triggers
	for i, c := range []struct {
		pods []*corev1.Pod
		want int64 // 0: nothing changed
		held int
	}{
		{nil, 100, 0},
		{nil, 0, 0},
		{[]*corev1.Pod{pod("a", 120), pod("b", 110), silent}, 110, 2},
		{[]*corev1.Pod{pod("a", 120), pod("b", 110), silent}, 0, 2},
		{[]*corev1.Pod{pod("a", 130), pod("b", 140)}, 130, 2},
		{[]*corev1.Pod{pod("b", 140)}, 0, 1},
		{[]*corev1.Pod{pod("b", 140), pod("a", 130)}, 130, 2},
		{[]*corev1.Pod{pod("c", 150), pod("a", 130)}, 150, 2},
	} {
		got := seen.Since(svc, c.pods)
		if c.want == 0 != got.IsZero() || c.want != 0 && !got.Equal(at(c.want)) {
			t.Errorf("step %d: %v, want %v", i, got, at(c.want))
		}
		if again := seen.Since(svc, c.pods); !again.Equal(got) {
			t.Errorf("step %d: it counts as told before it was: %v, then %v", i, got, again)
		}
		if seen = seen.Noted(svc, c.pods); len(seen.Pods) != c.held {
			t.Errorf("step %d: %d pods are remembered, want %d", i, len(seen.Pods), c.held)
		}
	}
}
