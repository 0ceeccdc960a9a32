package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	schedulingv1beta1 "k8s.io/api/scheduling/v1beta1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"

	"canopus/test/plane"
)

const (
	gangSize      = 10
	neverFit      = 10_000 // pods that wait for a node larger than any
	lowPerNode    = 4      // pods to be evicted, three of which make room for one
	importantPods = "important"
)

// row is a kind of pods whose scheduling is measured.
type row struct {
	name  string
	floor float64 // pods per second
	flags []string
	node  func(*corev1.Node)                   // changes each node
	fill  func(context.Context, *rowRun) error // before the clock starts
	pod   func(i int, p *corev1.Pod)           // makes pod i what it is
}

// rows are measured in process, under the same names, by the scheduler's own benchmark.
func rows() []row {
	app := func(p *corev1.Pod, name string) { p.Labels["app"] = name }
	means := func(app, topology string) corev1.PodAffinityTerm {
		return corev1.PodAffinityTerm{LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": app}}, TopologyKey: topology}
	}
	return []row{
		{name: "basic", floor: 5000, pod: func(int, *corev1.Pod) {}},
		{name: "zone-spread", floor: 3000, pod: func(_ int, p *corev1.Pod) {
			p.Spec.TopologySpreadConstraints = []corev1.TopologySpreadConstraint{{MaxSkew: 5, TopologyKey: corev1.LabelTopologyZone,
				WhenUnsatisfiable: corev1.DoNotSchedule, LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "bench"}}}}
		}},
		{name: "anti-affinity", floor: 3000, pod: func(i int, p *corev1.Pod) { // groups of 100, each pod on a node of its own
			name := "g" + strconv.Itoa(i/100)
			app(p, name)
			p.Spec.Affinity = &corev1.Affinity{PodAntiAffinity: &corev1.PodAntiAffinity{
				RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{means(name, corev1.LabelHostname)}}}
		}},
		{name: "preferred-affinity", floor: 3000, pod: func(_ int, p *corev1.Pod) {
			p.Spec.Affinity = &corev1.Affinity{
				PodAffinity: &corev1.PodAffinity{PreferredDuringSchedulingIgnoredDuringExecution: []corev1.WeightedPodAffinityTerm{
					{Weight: 10, PodAffinityTerm: means("bench", corev1.LabelTopologyZone)}}},
				PodAntiAffinity: &corev1.PodAntiAffinity{PreferredDuringSchedulingIgnoredDuringExecution: []corev1.WeightedPodAffinityTerm{
					{Weight: 5, PodAffinityTerm: means("bench", corev1.LabelHostname)}}},
			}
		}},
		{name: "unschedulable", floor: 3000, fill: fillQueue, pod: func(int, *corev1.Pod) {}},
		{name: "gangs", floor: 1000, flags: []string{"--runtime-config", "scheduling.k8s.io/v1beta1=true"}, fill: makeGroups, pod: func(i int, p *corev1.Pod) {
			group := groupName(i / gangSize)
			p.Spec.SchedulingGroup = &corev1.PodSchedulingGroup{PodGroupName: &group}
		}},
		{name: "preemption", floor: 1000, node: func(n *corev1.Node) {
			n.Status.Capacity[corev1.ResourceCPU] = resource.MustParse("4")
			n.Status.Allocatable = n.Status.Capacity
		}, fill: fillNodes, pod: func(_ int, p *corev1.Pod) {
			p.Spec.PriorityClassName = importantPods
			p.Spec.Containers[0].Resources.Requests[corev1.ResourceCPU] = resource.MustParse("3")
		}},
	}
}

// rowRun is a row on its way.
type rowRun struct {
	*bench
	row
	nodes  int
	pods   int
	limit  float64 // pods that the same clients create per second when nobody schedules them
	server *plane.Server
	ns     string
}

// measureScheduler is, for each row and each size of a cluster, pods per second from the first create until the last pod has a
// node. Each has a control plane of its own, so that none pays for what another left behind.
func measureScheduler(ctx context.Context, b *bench) error {
	chosen, err := chooseRows(b.rows)
	if err != nil {
		return err
	}
	var sizes []int
	for text := range strings.SplitSeq(b.sizes, ",") {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 {
			return fmt.Errorf("-sizes %q: numbers of nodes, by comma", b.sizes)
		}
		sizes = append(sizes, n)
	}
	if err := b.inProcess(ctx, chosen, sizes); err != nil {
		return err
	}
	limit, err := b.creations(ctx)
	if err != nil {
		return err
	}
	b.say("sched.create-only", limit, "pod/s", 0)
	for _, r := range chosen {
		for _, nodes := range sizes {
			run := &rowRun{bench: b, row: r, nodes: nodes, pods: b.pods, limit: limit}
			if r.name == "preemption" {
				run.pods = min(run.pods, nodes) // there is room for one on each
			}
			if err := run.measure(ctx); err != nil {
				return fmt.Errorf("%s on %d nodes: %w", r.name, nodes, err)
			}
		}
	}
	return nil
}

// creations is what creating the pods alone allows: each pod that is scheduled takes two writes more.
func (b *bench) creations(ctx context.Context) (float64, error) {
	s, err := b.controlPlane(ctx)
	if err != nil {
		return 0, err
	}
	defer s.Down()
	ns, err := plane.Namespace(ctx, s.Proto)
	if err != nil {
		return 0, err
	}
	rate, _, err := plane.Parallel(ctx, b.pods, b.clients, func(ctx context.Context, i int) error {
		_, err := s.Proto.CoreV1().Pods(ns).Create(ctx, pod(fmt.Sprintf("p-%06d", i), nobody), metav1.CreateOptions{})
		return err
	})
	return rate, err
}

// rowOf is the row that a rate belongs to, in process or through the API.
func rowOf(figure string) *row {
	part := strings.Split(figure, ".")
	if len(part) != 4 || part[0] != "sched" {
		return nil
	}
	for _, r := range rows() {
		if r.name == part[1] {
			return &r
		}
	}
	return nil
}

func chooseRows(only string) ([]row, error) {
	if only == "" {
		return rows(), nil
	}
	var chosen []row
	for name := range strings.SplitSeq(only, ",") {
		i := slices.IndexFunc(rows(), func(r row) bool { return r.name == name })
		if i < 0 {
			return nil, fmt.Errorf("-rows %q: there is none of that name", name)
		}
		chosen = append(chosen, rows()[i])
	}
	return chosen, nil
}

func (r *rowRun) measure(ctx context.Context) error {
	var err error
	if r.server, err = r.controlPlane(ctx, r.flags...); err != nil {
		return err
	}
	defer r.server.Down()
	if r.ns, err = plane.Namespace(ctx, r.server.Proto); err != nil {
		return err
	}
	if _, _, err := plane.Parallel(ctx, r.nodes, r.clients, makeNode(r.server, r.node)); err != nil {
		return err
	}
	if err := plane.Until(ctx, patience, nodesSettled(r.server, r.nodes)); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if r.fill != nil {
		if err := r.fill(ctx, r); err != nil {
			return err
		}
	}
	return r.clock(ctx)
}

// clock creates the pods and waits until all have nodes.
func (r *rowRun) clock(ctx context.Context) error {
	before, err := plane.CPUOf(r.server.PID())
	if err != nil {
		return err
	}
	began := time.Now()
	err = r.createAndSee(ctx, r.pods, func(i int) *corev1.Pod {
		p := pod(fmt.Sprintf("p-%06d", i), corev1.DefaultSchedulerName)
		p.Spec.Containers[0].Resources.Requests[corev1.ResourceCPU] = resource.MustParse("10m")
		r.pod(i, p)
		return p
	}, func(p *corev1.Pod) bool { return p.Spec.NodeName != "" && strings.HasPrefix(p.Name, "p-") })
	if err != nil {
		return err
	}
	took := time.Since(began)
	after, err := plane.CPUOf(r.server.PID())
	if err != nil {
		return err
	}
	name := fmt.Sprintf("sched.%s.%d", r.name, r.nodes)
	r.say(name+".api", float64(r.pods)/took.Seconds(), "pod/s", r.limit)
	r.say(name+".api.cpu", float64((after-before).Microseconds())/float64(r.pods), "µs/pod", 0) // of the server, all in
	fmt.Fprintln(os.Stderr, "  load average:", load())
	return nil
}

// createAndSee creates n pods and waits until a watch has shown each of them to be as is says.
func (r *rowRun) createAndSee(ctx context.Context, n int, one func(i int) *corev1.Pod, is func(*corev1.Pod) bool) error {
	pods := r.server.Proto.CoreV1().Pods(r.ns)
	w, err := pods.Watch(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	seen := asyncDistinct(w, n, is)
	if _, _, err := plane.Parallel(ctx, n, r.clients, func(ctx context.Context, i int) error {
		_, err := pods.Create(ctx, one(i), metav1.CreateOptions{})
		return err
	}); err != nil {
		w.Stop()
		<-seen
		return err
	}
	return <-seen
}

// asyncDistinct is distinct in a goroutine that ends with w.
func asyncDistinct(w watch.Interface, n int, is func(*corev1.Pod) bool) <-chan error {
	done := make(chan error, 1)
	go func() { done <- distinct(w, n, is) }()
	return done
}

// fillQueue makes pods that fit nowhere, and waits until the scheduler has said so of each.
func fillQueue(ctx context.Context, r *rowRun) error {
	return r.createAndSee(ctx, neverFit, func(i int) *corev1.Pod {
		p := pod(fmt.Sprintf("large-%06d", i), corev1.DefaultSchedulerName)
		p.Labels["app"] = "large" + strconv.Itoa(i%100) // of a hundred workloads
		p.Spec.Containers[0].Resources.Requests[corev1.ResourceCPU] = resource.MustParse("400")
		return p
	}, func(p *corev1.Pod) bool {
		return slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool {
			return c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse
		})
	})
}

func groupName(i int) string { return fmt.Sprintf("gang-%05d", i) }

func makeGroups(ctx context.Context, r *rowRun) error {
	_, _, err := plane.Parallel(ctx, (r.pods+gangSize-1)/gangSize, r.clients, func(ctx context.Context, i int) error {
		g := &schedulingv1beta1.PodGroup{ObjectMeta: metav1.ObjectMeta{Name: groupName(i)}}
		g.Spec.SchedulingPolicy.Gang = &schedulingv1beta1.GangSchedulingPolicy{MinCount: int32(min(gangSize, r.pods-i*gangSize))}
		_, err := r.server.Proto.SchedulingV1beta1().PodGroups(r.ns).Create(ctx, g, metav1.CreateOptions{})
		return err
	})
	return err
}

// fillNodes takes nine tenths of each node for pods that nobody misses.
func fillNodes(ctx context.Context, r *rowRun) error {
	class := &schedulingv1.PriorityClass{ObjectMeta: metav1.ObjectMeta{Name: importantPods}, Value: 1000}
	if _, err := r.server.Proto.SchedulingV1().PriorityClasses().Create(ctx, class, metav1.CreateOptions{}); err != nil {
		return err
	}
	_, _, err := plane.Parallel(ctx, r.nodes*lowPerNode, r.clients, func(ctx context.Context, i int) error {
		p := pod(fmt.Sprintf("low-%06d", i), corev1.DefaultSchedulerName)
		p.Spec.NodeName = nodeName(i % r.nodes)
		p.Spec.Containers[0].Resources.Requests[corev1.ResourceCPU] = resource.MustParse("900m")
		_, err := r.server.Proto.CoreV1().Pods(r.ns).Create(ctx, p, metav1.CreateOptions{})
		return err
	})
	return err
}

// load is the machine's, over one, five and fifteen minutes.
func load() string {
	data, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return err.Error()
	}
	return strings.Join(strings.Fields(string(data))[:3], " ")
}

// makeNode makes a node and reports its status, as a node's agent would.
func makeNode(s *plane.Server, change func(*corev1.Node)) func(context.Context, int) error {
	return func(ctx context.Context, i int) error {
		n := hollow(i)
		if change != nil {
			change(n)
		}
		if _, err := s.Proto.CoreV1().Nodes().Create(ctx, n, metav1.CreateOptions{}); err != nil {
			return err
		}
		status, err := json.Marshal(map[string]any{"status": n.Status})
		if err != nil {
			return err
		}
		_, err = s.Proto.CoreV1().Nodes().Patch(ctx, n.Name, types.StrategicMergePatchType, status, metav1.PatchOptions{}, "status")
		return err
	}
}
