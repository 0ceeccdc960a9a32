package scheduler

import (
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	clocktesting "k8s.io/utils/clock/testing"
)

func TestAnnouncerKeepsOrderAndBound(t *testing.T) {
	t.Parallel()
	a := newAnnouncer(&Config{Clock: clocktesting.NewFakeClock(time.Unix(1, 0))})
	pod := func(i int) *corev1.Pod { return testPod(fmt.Sprint(i), nil) }
	next := 0
	for i := range 300 { // comes faster than it goes, so that the ring turns and grows
		a.bound(pod(i), "n")
		if i%3 == 0 {
			p, ok, _ := a.take()
			if !ok || p.pod.Name != fmt.Sprint(next) {
				t.Fatalf("got %v, want pod %d", p.pod, next)
			}
			next++
		}
	}
	for i := a.count; i < maxAnnounced+5; i++ {
		a.bound(pod(300), "n")
	}
	if a.count != maxAnnounced {
		t.Fatalf("%d wait", a.count)
	}
	lost := 0
	for ; a.count > 0; next++ {
		var p announcement
		if p, _, lost = a.take(); p.pod.Name != fmt.Sprint(min(next, 300)) {
			t.Fatalf("got pod %s, want %d", p.pod.Name, min(next, 300))
		}
	}
	if _, ok, _ := a.take(); ok || lost != 5 || a.waiting != nil {
		t.Errorf("%d lost, want 5; room for %d is kept", lost, len(a.waiting))
	}
}

func TestEventOfPlacement(t *testing.T) {
	t.Parallel()
	a := newAnnouncer(&Config{Clock: clocktesting.NewFakeClock(time.Unix(1, 0))})
	p := testPod("p", func(p *corev1.Pod) { p.Spec.SchedulerName, p.ResourceVersion = "mine", "7" })
	a.bound(p, "n")
	told, _, _ := a.take()
	e := a.event(told)
	if e.Name != "p.3b9aca00" || e.Namespace != p.Namespace || e.Reason != "Scheduled" || e.Action != "Binding" || e.Type != "Normal" ||
		e.ReportingController != "mine" || e.ReportingInstance != "mine"+a.instance || e.Note != "Successfully assigned "+p.Namespace+"/p to n" ||
		e.Regarding.UID != p.UID || e.Regarding.Kind != "Pod" || e.Regarding.APIVersion != "v1" || e.Regarding.ResourceVersion != "7" {
		t.Errorf("%+v", e)
	}
}

func TestEventOfEviction(t *testing.T) {
	t.Parallel()
	a := newAnnouncer(&Config{Clock: clocktesting.NewFakeClock(time.Unix(1, 0))})
	victim := testPod("v", func(p *corev1.Pod) { p.Spec.SchedulerName = "another" })
	by := testPod("p", func(p *corev1.Pod) { p.Spec.SchedulerName, p.Namespace = "mine", "ours" })
	a.evicted(victim, by, "n")
	told, _, _ := a.take()
	e := a.event(told)
	if e.Namespace != victim.Namespace || e.Reason != "Preempted" || e.Action != "Preempting" || e.Type != "Normal" || e.ReportingController != "mine" ||
		e.Note != "Preempted by pod "+string(by.UID)+" on node n" || e.Regarding.UID != victim.UID || e.Related == nil || e.Related.UID != by.UID || e.Related.Namespace != "ours" {
		t.Errorf("%+v", e)
	}
}
