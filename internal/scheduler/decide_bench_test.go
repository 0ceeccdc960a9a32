package scheduler

import (
	"fmt"
	"log/slog"
	"strconv"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	schedulingv1beta1 "k8s.io/api/scheduling/v1beta1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	clocktesting "k8s.io/utils/clock/testing"

	"canopus/internal/verdict"
)

// BenchmarkSchedule measures scheduling without an API server: a pod comes to the queue, is decided on, and is confirmed or
// refused; one that preempts sees its victims go. Each iteration is one pod. The rows have the names that test/bench has for
// them, which measures the same through the API.
func BenchmarkSchedule(b *testing.B) {
	none := func(int) func(*corev1.Pod) { return func(*corev1.Pod) {} }
	for _, bench := range []struct {
		name string
		pod  func(i int) func(*corev1.Pod)
		fill func(*benchRig) // before the clock starts
		once bool            // there is room for one pod on each node
	}{
		{name: "basic", pod: none},
		{name: "zone-spread", pod: func(int) func(*corev1.Pod) {
			return func(p *corev1.Pod) {
				p.Spec.TopologySpreadConstraints = []corev1.TopologySpreadConstraint{{MaxSkew: 5, TopologyKey: corev1.LabelTopologyZone,
					WhenUnsatisfiable: corev1.DoNotSchedule, LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "a"}}}}
			}
		}},
		{name: "anti-affinity", pod: func(i int) func(*corev1.Pod) {
			name := "g" + strconv.Itoa(i/100) // groups of 100, each pod on a node of its own
			return with(app(name), apart(means(name, corev1.LabelHostname)))
		}},
		{name: "preferred-affinity", pod: func(int) func(*corev1.Pod) {
			return with(wish(10, means("a", corev1.LabelTopologyZone)), wish(-5, means("a", corev1.LabelHostname)))
		}},
		{name: "unschedulable", pod: none, fill: func(r *benchRig) {
			for i := range 10_000 { // too large for any node
				r.come(fmt.Sprintf("large%d", i), with(cpu("400"), app("large"+strconv.Itoa(i%100))))
			}
			r.run()
		}},
		{name: "gangs", pod: func(i int) func(*corev1.Pod) { return inGroup("gang" + strconv.Itoa(i/benchGang)) }},
		{name: "preemption", once: true, pod: func(int) func(*corev1.Pod) { return with(cpu("3"), priority(10)) }, fill: func(r *benchRig) {
			for i := range r.nodes * 4 {
				r.s.cluster.place(newPodInfo(testPod(fmt.Sprintf("low%d", i), cpu("900m"))), fmt.Sprintf("n%05d", i%r.nodes), false)
			}
		}},
	} {
		for _, nodes := range []int{1000, 5000} {
			b.Run(fmt.Sprintf("%s/nodes=%d", bench.name, nodes), func(b *testing.B) {
				var r *benchRig
				bound, before := 0, cpuTime(b)
				for i := range b.N {
					if i == 0 || bench.once && i%nodes == 0 {
						b.StopTimer()
						began := cpuTime(b)
						r = newBenchRig(b, nodes)
						if bench.fill != nil {
							bench.fill(r)
						}
						before += cpuTime(b) - began
						b.StartTimer()
					}
					was := r.bound
					r.come(fmt.Sprintf("p%d", i), with(cpu("10m"), bench.pod(i)))
					r.run()
					bound += r.bound - was
				}
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "pods/s")
				b.ReportMetric(float64((cpuTime(b)-before).Microseconds())/float64(b.N), "cpu-µs/pod") // tells on a busy machine, too
				if bound < b.N/benchGang*benchGang {
					b.Fatalf("%d of %d pods got nodes", bound, b.N)
				}
			})
		}
	}
}

const benchGang = 10 // pods of a gang

// cpuTime is what this process has used.
func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// benchRig is a scheduler without the goroutines around it, and what the API server would do with its decisions.
type benchRig struct {
	s     *Scheduler
	clock *clocktesting.FakeClock
	nodes int
	bound int
	tried map[types.UID]*corev1.Pod // not yet confirmed
	gone  bool                      // victims, so that a pod has become worth another try
}

func newBenchRig(b testing.TB, nodes int) *benchRig {
	b.Helper()
	client, err := kubernetes.NewForConfig(&rest.Config{}) // nothing is sent
	if err != nil {
		b.Fatal(err)
	}
	r := &benchRig{nodes: nodes, clock: clocktesting.NewFakeClock(time.Unix(0, 0)), tried: map[types.UID]*corev1.Pod{}}
	if r.s, err = New(Config{Client: client, Informers: informers.NewSharedInformerFactory(client, 0), Clock: r.clock,
		Log: slog.New(slog.DiscardHandler), PodGroups: true, Seed: 1, Verdicts: verdict.NewBook()}); err != nil {
		b.Fatal(err)
	}
	for i := range nodes {
		r.s.observeNode(testNode(fmt.Sprintf("n%05d", i), func(n *corev1.Node) {
			n.Labels[corev1.LabelTopologyZone] = strconv.Itoa(i % 3)
			n.Status.Allocatable[corev1.ResourcePods] = *quantity(1 << 20)
		}))
	}
	return r
}

// come brings a pod, and with the first of a gang its group.
func (r *benchRig) come(name string, change func(*corev1.Pod)) {
	p := testPod(name, change)
	p.UID, p.Generation, p.Spec.SchedulerName = types.UID(name), 1, corev1.DefaultSchedulerName
	if key, ok := groupOf(p); ok && r.s.gangs.groups[key] == nil {
		g := &schedulingv1beta1.PodGroup{ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name}}
		g.Spec.SchedulingPolicy.Gang = &schedulingv1beta1.GangSchedulingPolicy{MinCount: benchGang}
		r.s.observeGroup(g)
	}
	r.tried[p.UID] = p
	r.s.observePod(p)
}

// run schedules until nothing is left to try.
func (r *benchRig) run() {
	for {
		w := r.s.queue.pop(r.clock.Now())
		switch {
		case w != nil:
			r.s.schedule(w)
			clear(r.s.outbox.items) // what would be written
			r.s.outbox.items = r.s.outbox.items[:0]
			r.answer(w)
		case r.gone:
			r.gone = false
			r.clock.Step(10 * time.Second) // the longest back-off
		default:
			return
		}
	}
}

// answer is what follows from the decision on w: its binding or that of its gang, or that its victims go.
func (r *benchRig) answer(w *queued) {
	c := r.s.cluster
	if n := c.nodes[c.nominated(w.info.pod.UID)]; n != nil {
		for _, q := range n.pods {
			if c.placed[q.pod.UID].evicting {
				r.s.forgetPod(q.pod)
				r.gone = true
			}
		}
	}
	if len(r.tried) > benchGang { // pods that wait for good: only this one can have got a node
		r.confirm(w.info.pod)
		return
	}
	for _, p := range r.tried {
		r.confirm(p)
	}
}

// confirm shows a pod as bound, with the labels that it gets with its node.
func (r *benchRig) confirm(p *corev1.Pod) {
	at := r.s.cluster.placed[p.UID]
	if at == nil {
		return
	}
	now := *p
	now.Labels = map[string]string{"app": p.Labels["app"], corev1.LabelTopologyZone: at.node.object.Labels[corev1.LabelTopologyZone]}
	now.Spec.NodeName = at.node.name
	delete(r.tried, p.UID)
	r.bound++
	r.s.observePod(&now)
}
