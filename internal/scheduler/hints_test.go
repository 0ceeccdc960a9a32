package scheduler

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/clock"
)

// TestNoEventLeavesAPodAsleep runs random histories of nodes, namespaces and placed pods past pods that were refused: whoever
// still waits for an event after each step fits nowhere, says the twin.
func TestNoEventLeavesAPodAsleep(t *testing.T) {
	t.Parallel()
	for seed := range uint64(100) {
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
			t.Parallel()
			r := rand.New(rand.NewPCG(seed, 11))
			s := &Scheduler{Config: Config{Clock: clock.RealClock{}}, cluster: newCluster(), queue: newQueue(), gangs: newGangs()}
			placed := map[string]*corev1.Pod{}
			for step := range 200 {
				switch r.IntN(8) {
				case 0, 1:
					s.observeNode(randomNode(r))
				case 2:
					if n := s.cluster.nodes[fmt.Sprintf("n%d", r.IntN(8))]; n != nil && n.object != nil {
						s.forgetNode(n.object)
					}
				case 3:
					s.observeNamespace(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: []string{"ns", "other"}[r.IntN(2)],
						Labels: []map[string]string{nil, {"team": "o"}, {"team": "t"}}[r.IntN(3)]}})
				case 4, 5:
					for _, p := range placed { // any one
						s.forgetPod(p)
						delete(placed, string(p.UID))
						break
					}
				case 6:
					for _, p := range placed { // any one has other labels now
						p = p.DeepCopy()
						p.Labels = map[string]string{"app": string(rune('a' + r.IntN(2)))}
						placed[string(p.UID)] = p
						s.observePlaced(p)
						break
					}
				default:
					p := randomPod(r, step)
					p.Spec.NodeName = fmt.Sprintf("n%d", r.IntN(8))
					placed[string(p.UID)] = p
					s.observePlaced(p)
				}
				checkAsleep(t, s)
				tryNext(s, randomPod(r, step+1000))
			}
			if len(s.queue.pods) == 0 {
				t.Fatal("no pod was refused in all that time: this tests nothing")
			}
		})
	}
}

func checkAsleep(t *testing.T, s *Scheduler) {
	t.Helper()
	w := twinOf(s.cluster)
	for _, waiting := range s.queue.pods {
		if waiting.place != refused {
			continue
		}
		for _, n := range w.nodes {
			if w.fits(n, waiting.info.pod) {
				t.Fatalf("pod %s waits although it fits on %s; it was refused by %b", waiting.info.key, n.Name, waiting.blockers)
			}
		}
	}
}

// tryNext brings one more pod, and tries whoever is awake; those that fit are forgotten.
func tryNext(s *Scheduler, more *corev1.Pod) {
	now := s.Clock.Now()
	s.queue.set(s.cluster.pending(more), now)
	for w := s.queue.pop(now); w != nil; w = s.queue.pop(now) {
		o := testOptions()
		d := decide(s.cluster, w.info, o)
		if d.node != "" {
			s.release(w.info.pod.UID)
			continue
		}
		if to := d.plan; to.node != nil {
			s.release(w.info.pod.UID)
			s.cluster.nominate(w.info, to.node.name)
			for _, v := range to.victims { // they take their time
				s.cluster.placed[v.pod.UID].evicting = true
			}
		}
		nominee := s.cluster.nominations[w.info.pod.UID]
		w.awaiting = nominee != nil && s.cluster.vacates(nominee)
		s.queue.refuse(w, o.rules, d.blockers, now)
	}
}
