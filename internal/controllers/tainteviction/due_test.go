package tainteviction

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

func TestDue(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	taint := func(key string, ago time.Duration) corev1.Taint {
		at := metav1.NewTime(now.Add(-ago))
		return corev1.Taint{Key: key, Value: "v", Effect: corev1.TaintEffectNoExecute, TimeAdded: &at}
	}
	const forever = -1
	exists := func(key string, seconds int64) corev1.Toleration {
		t := corev1.Toleration{Key: key, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute}
		if seconds != forever {
			t.TolerationSeconds = &seconds
		}
		return t
	}
	for _, tc := range []struct {
		name        string
		taints      []corev1.Taint
		tolerations []corev1.Toleration
		evict       bool
		in          time.Duration // ignored when at once
		atOnce      bool
	}{
		{"no taint", nil, nil, false, 0, false},
		{"not tolerated", []corev1.Taint{taint("a", 0)}, nil, true, 0, true},
		{"tolerated for ever", []corev1.Taint{taint("a", 0)}, []corev1.Toleration{exists("a", forever)}, false, 0, false},
		{"everything tolerated", []corev1.Taint{taint("a", 0)}, []corev1.Toleration{{Operator: corev1.TolerationOpExists}}, false, 0, false},
		{"by value", []corev1.Taint{taint("a", 0)}, []corev1.Toleration{{Key: "a", Value: "v"}}, false, 0, false},
		{"another value", []corev1.Taint{taint("a", 0)}, []corev1.Toleration{{Key: "a", Value: "w"}}, true, 0, true},
		{"another effect", []corev1.Taint{taint("a", 0)}, []corev1.Toleration{{Key: "a", Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoSchedule}}, true, 0, true},
		{"for a while", []corev1.Taint{taint("a", time.Minute)}, []corev1.Toleration{exists("a", 300)}, true, 4 * time.Minute, false},
		{"the time is over", []corev1.Taint{taint("a", time.Hour)}, []corev1.Toleration{exists("a", 300)}, true, -55 * time.Minute, false},
		{"the first of two", []corev1.Taint{taint("a", 0)}, []corev1.Toleration{exists("a", 10), exists("a", forever)}, true, 10 * time.Second, false},
		{"not before the pod came", []corev1.Taint{taint("a", 24*time.Hour)}, []corev1.Toleration{exists("a", 3600)}, true, 0, false},
		{"a taint without a time", []corev1.Taint{{Key: "a", Effect: corev1.TaintEffectNoExecute}}, []corev1.Toleration{exists("a", 60)}, true, 30 * time.Second, false},
		{"no time at all", []corev1.Taint{taint("a", 0)}, []corev1.Toleration{exists("a", -5)}, true, 0, false},
		{"the stricter of two taints", []corev1.Taint{taint("a", 0), taint("b", 0)}, []corev1.Toleration{exists("a", 60), exists("b", 20)}, true, 20 * time.Second, false},
		{"one of two not tolerated", []corev1.Taint{taint("a", 0), taint("b", 0)}, []corev1.Toleration{exists("a", 60)}, true, 0, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			at, evict := due(tc.taints, tc.tolerations, span{arrived: now.Add(-time.Hour), noticed: now.Add(-30 * time.Second)})
			if evict != tc.evict || evict && at.IsZero() != tc.atOnce || evict && !tc.atOnce && at.Sub(now) != tc.in {
				t.Errorf("evict %v at %v (in %s)", evict, at, at.Sub(now))
			}
		})
	}
}

// TestNoticesAreOfOnePod: a pod that follows one of its name was never to be evicted, so that nobody is told it may stay.
func TestNoticesAreOfOnePod(t *testing.T) {
	t.Parallel()
	now := time.Now()
	pod := func(uid types.UID) *corev1.Pod {
		return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "apps", Name: "db-0", UID: uid}}
	}
	c := &Controller{noticed: map[types.NamespacedName]notice{}}
	c.remember(pod("first"), now)
	if c.spare(pod("second")) {
		t.Error("the second pod was not to be evicted")
	}
	c.remember(pod("second"), now)
	if !c.spare(pod("second")) || c.spare(pod("second")) {
		t.Error("a pod is spared once")
	}
	if len(c.noticed) > 0 {
		t.Errorf("%v is still noticed", c.noticed)
	}
}
