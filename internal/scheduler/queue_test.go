package scheduler

import (
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

func TestQueueOrder(t *testing.T) {
	t.Parallel()
	now := time.Unix(0, 0)
	q := newQueue()
	for i, priority := range []int32{0, 10, 0, 10} {
		q.set(newPending(testPod(fmt.Sprintf("p%d", i), func(p *corev1.Pod) { p.Spec.Priority = &priority })), now)
	}
	for _, want := range []string{"p1", "p3", "p0", "p2"} {
		if w := q.pop(now); w == nil || w.info.key.Name != want {
			t.Fatalf("got %v, want %s", w, want)
		}
	}
	if w := q.pop(now); w != nil {
		t.Fatalf("empty queue gave %s", w.info.key)
	}
}

func TestRefusedPodWaitsForWhatHelpsIt(t *testing.T) {
	t.Parallel()
	now := time.Unix(0, 0)
	q := newQueue()
	q.set(newPending(testPod("p", nil)), now)
	rules := []rule{{name: "r", turns: nodeLabels}}
	q.refuse(q.pop(now), rules, 1, now)

	q.happened(newCluster(), &event{what: podGone}, now)
	if w := q.pop(now.Add(time.Minute)); w != nil {
		t.Fatal("a change that cannot help woke the pod")
	}
	q.set(newPending(testPod("other", nil)), now)
	q.happened(newCluster(), &event{what: nodeLabels}, now)
	if w := q.pop(now); w == nil || w.info.key.Name != "other" {
		t.Fatal("the pod was tried before its back-off was over, although another was there")
	}
	if at, ok := q.next(); !ok || at != now.Add(firstBackoff) {
		t.Fatalf("next look at %v, want after the first back-off", at)
	}
	if w := q.pop(now.Add(firstBackoff / 2)); w == nil {
		t.Fatal("the pod was not tried although there was nothing else to do")
	}
}

func TestRefusedPodIsTriedAgainInTheEnd(t *testing.T) {
	t.Parallel()
	now := time.Unix(0, 0)
	q := newQueue()
	q.set(newPending(testPod("p", nil)), now)
	q.refuse(q.pop(now), nil, 0, now)
	at, ok := q.next()
	if !ok {
		t.Fatal("a refused pod would wait for ever")
	}
	q.expire(at)
	if q.pop(at) == nil {
		t.Fatal("the pod was not tried again")
	}
}

func TestBackoffGrowsToItsCeiling(t *testing.T) {
	t.Parallel()
	for attempts, want := range map[int]time.Duration{1: time.Second, 2: 2 * time.Second, 4: 8 * time.Second, 5: 10 * time.Second, 1000: 10 * time.Second} {
		if got := newQueue().backoffFor(attempts); got != want {
			t.Errorf("attempt %d: %v, want %v", attempts, got, want)
		}
	}
}

func TestRemoveFromEveryPlace(t *testing.T) {
	t.Parallel()
	now := time.Unix(0, 0)
	for name, arrange := range map[string]func(*queue){
		"active":  func(*queue) {},
		"backoff": func(q *queue) { q.retry(q.pop(now), now) },
		"refused": func(q *queue) { q.refuse(q.pop(now), nil, 0, now) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			q := newQueue()
			p := newPending(testPod("p", nil))
			q.set(p, now)
			arrange(q)
			q.remove(p.pod.UID)
			q.happened(newCluster(), &event{what: nodeAdded}, now)
			if q.pop(now.Add(time.Hour)) != nil || len(q.pods)+len(q.blocked)+q.count(active)+q.count(backoff)+q.count(failing)+q.count(refused) != 0 {
				t.Fatalf("the pod is still there: %+v", q)
			}
		})
	}
}

// TestVictimsWakeOnlyTheirPreemptor: while pods leave many nodes for the sake of others, each of those tries again when its own
// victims are gone, not with each one that goes.
func TestVictimsWakeOnlyTheirPreemptor(t *testing.T) {
	t.Parallel()
	const nodes = 20
	r := newBenchRig(t, nodes)
	c := r.s.cluster
	for i := range nodes * 4 {
		c.place(newPodInfo(testPod(fmt.Sprintf("low%d", i), cpu("900m"))), fmt.Sprintf("n%05d", i%nodes), false)
	}
	for i := range nodes {
		r.come(fmt.Sprintf("high%d", i), with(cpu("3"), priority(10)))
	}
	tries := 0
	try := func() {
		for w := r.s.queue.pop(r.clock.Now()); w != nil; w = r.s.queue.pop(r.clock.Now()) {
			tries++
			r.s.schedule(w)
		}
	}
	try()
	var victims []*corev1.Pod
	for _, at := range c.placed {
		if at.evicting {
			victims = append(victims, at.info.pod)
		}
	}
	if len(victims) != 3*nodes || tries != nodes {
		t.Fatalf("%d victims after %d tries, want %d after %d", len(victims), tries, 3*nodes, nodes)
	}
	for _, v := range victims {
		r.s.forgetPod(v)
		r.clock.Step(time.Minute)
		try()
	}
	for uid := range r.tried {
		if c.placed[uid] == nil {
			t.Errorf("pod %s has no node", uid)
		}
	}
	if tries != 2*nodes {
		t.Errorf("%d tries, want %d: one to find victims and one when they are gone", tries, 2*nodes)
	}
}
