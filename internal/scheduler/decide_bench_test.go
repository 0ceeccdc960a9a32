package scheduler

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// BenchmarkSchedule measures scheduling without an API server: a pod comes to the queue, is decided on, and is confirmed or
// refused; one that preempts sees its victims go. Each iteration is one pod.
func BenchmarkSchedule(b *testing.B) {
	none := func(*corev1.Pod) {}
	zones := func(p *corev1.Pod) {
		p.Spec.TopologySpreadConstraints = []corev1.TopologySpreadConstraint{{MaxSkew: 5, TopologyKey: "zone", WhenUnsatisfiable: corev1.DoNotSchedule,
			LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "a"}}}}
	}
	for _, bench := range []struct {
		name string
		pod  func(i int) func(*corev1.Pod)
		fill func(*benchRig, int) // before the clock starts
	}{
		{"basic", func(int) func(*corev1.Pod) { return none }, nil},
		{"zone-spread", func(int) func(*corev1.Pod) { return zones }, nil},
		{"anti-affinity", func(i int) func(*corev1.Pod) {
			name := "g" + strconv.Itoa(i/100) // groups of 100, each pod on a node of its own
			return with(app(name), apart(means(name, corev1.LabelHostname)))
		}, nil},
		{"preferred-affinity", func(i int) func(*corev1.Pod) {
			return with(wish(10, means("a", "zone")), wish(-5, means("a", corev1.LabelHostname)))
		}, nil},
		{"unschedulable", func(int) func(*corev1.Pod) { return none }, func(r *benchRig, nodes int) {
			for i := range 10_000 { // too large for any node
				r.come(fmt.Sprintf("large%d", i), with(cpu("400"), func(p *corev1.Pod) { p.Labels["i"] = strconv.Itoa(i % 100) }))
				r.next()
			}
		}},
		{"preemption", func(int) func(*corev1.Pod) { return with(cpu("3"), priority(10)) }, func(r *benchRig, nodes int) {
			for i := range nodes * 4 {
				r.s.cluster.place(newPodInfo(testPod(fmt.Sprintf("low%d", i), cpu("900m"))), fmt.Sprintf("n%05d", i%nodes), false)
			}
		}},
	} {
		for _, nodes := range []int{1000, 5000} {
			b.Run(fmt.Sprintf("%s/nodes=%d", bench.name, nodes), func(b *testing.B) {
				r := newBenchRig(nodes)
				if bench.fill != nil {
					bench.fill(r, nodes)
				}
				b.ResetTimer()
				for i := range b.N {
					r.come(fmt.Sprintf("p%d", i), with(cpu("10m"), bench.pod(i)))
					r.next()
				}
				b.StopTimer()
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "pods/s")
				if r.bound == 0 {
					b.Fatal("no pod got a node")
				}
			})
		}
	}
}

// benchRig is a scheduler's state without the goroutines around it.
type benchRig struct {
	s     *Scheduler
	now   time.Time
	bound int
}

func newBenchRig(nodes int) *benchRig {
	s := &Scheduler{gangs: newGangs(), cluster: newCluster(), queue: newQueue(),
		options: options{rules: defaultRules(), rand: rand.New(rand.NewPCG(1, 2))}}
	for i := range nodes {
		s.cluster.setNode(testNode(fmt.Sprintf("n%05d", i), func(n *corev1.Node) {
			n.Labels["zone"] = strconv.Itoa(i % 3)
			n.Status.Allocatable[corev1.ResourcePods] = *quantity(1 << 20)
		}))
	}
	return &benchRig{s: s, now: time.Unix(0, 0)}
}

func (r *benchRig) come(name string, change func(*corev1.Pod)) {
	p := testPod(name, change)
	p.UID, p.Generation = types.UID(name), 1
	r.s.queue.set(r.s.cluster.pending(p), r.now)
}

// next decides on the pod that is next, and confirms the decision as the API server would.
func (r *benchRig) next() {
	w := r.s.queue.pop(r.now)
	c := r.s.cluster
	d := decide(c, w.info, r.s.options)
	if to := d.plan; to.node != nil {
		c.nominate(w.info, to.node.name)
		for _, v := range to.victims {
			at := c.placed[v.pod.UID]
			c.remove(v.pod.UID)
			r.s.queue.happened(c, &event{what: podGone, node: at.node, pod: v}, r.now)
		}
		d = decide(c, w.info, r.s.options)
	}
	if d.node == "" {
		r.s.queue.refuse(w, r.s.options.rules, d.blockers, r.now)
		_ = d.message()
		return
	}
	c.dismiss(w.info.pod.UID)
	c.place(w.info, d.node, true)
	bound := *w.info.pod
	bound.Spec.NodeName = d.node
	r.bound++
	e := event{what: podPlaced, was: w.info, pod: w.info.confirmed(&bound), node: c.nodes[d.node]}
	c.place(e.pod, d.node, false)
	r.s.queue.happened(c, &e, r.now)
}
