package daemonset

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
)

var epoch = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

func setOf(unavailable, surge int32) *appsv1.DaemonSet {
	return &appsv1.DaemonSet{
		ObjectMeta: metav1.ObjectMeta{Name: "ds", UID: "ds"},
		Spec: appsv1.DaemonSetSpec{UpdateStrategy: appsv1.DaemonSetUpdateStrategy{
			Type: appsv1.RollingUpdateDaemonSetStrategyType,
			RollingUpdate: &appsv1.RollingUpdateDaemonSet{
				MaxUnavailable: ptr.To(intstr.FromInt32(unavailable)), MaxSurge: ptr.To(intstr.FromInt32(surge)),
			},
		}},
	}
}

func TestWhichNodes(t *testing.T) {
	t.Parallel()
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n", Labels: map[string]string{"disk": "ssd"}}}
	for name, tc := range map[string]struct {
		edit      func(*corev1.PodSpec)
		taint     corev1.Taint
		run, stay bool
	}{
		"any":         {run: true, stay: true},
		"selected":    {edit: func(s *corev1.PodSpec) { s.NodeSelector = map[string]string{"disk": "ssd"} }, run: true, stay: true},
		"not":         {edit: func(s *corev1.PodSpec) { s.NodeSelector = map[string]string{"disk": "hdd"} }},
		"other name":  {edit: func(s *corev1.PodSpec) { s.NodeName = "m" }},
		"cordoned":    {taint: corev1.Taint{Key: corev1.TaintNodeUnschedulable, Effect: corev1.TaintEffectNoSchedule}, run: true, stay: true},
		"unreachable": {taint: corev1.Taint{Key: corev1.TaintNodeUnreachable, Effect: corev1.TaintEffectNoExecute}, run: true, stay: true},
		"reserved":    {taint: corev1.Taint{Key: "team", Effect: corev1.TaintEffectNoSchedule}, stay: true},
		"forbidden":   {taint: corev1.Taint{Key: "team", Effect: corev1.TaintEffectNoExecute}},
		"no network":  {taint: corev1.Taint{Key: corev1.TaintNodeNetworkUnavailable, Effect: corev1.TaintEffectNoSchedule}, stay: true},
		"own network": {edit: func(s *corev1.PodSpec) { s.HostNetwork = true },
			taint: corev1.Taint{Key: corev1.TaintNodeNetworkUnavailable, Effect: corev1.TaintEffectNoSchedule}, run: true, stay: true},
	} {
		ds, n := setOf(1, 0), node.DeepCopy()
		if tc.edit != nil {
			tc.edit(&ds.Spec.Template.Spec)
		}
		if tc.taint.Key != "" {
			n.Spec.Taints = []corev1.Taint{tc.taint}
		}
		run, stay := (&planner{observed: observed{ds: ds}}).fits(n)
		if run != tc.run || stay != tc.stay {
			t.Errorf("%s: run %v stay %v, want %v %v", name, run, stay, tc.run, tc.stay)
		}
	}
}

func TestPodIsPinned(t *testing.T) {
	t.Parallel()
	p := newPod(setOf(1, 0), "h", "n7")
	if target(p) != "n7" || p.Labels[appsv1.ControllerRevisionHashLabelKey] != "h" || len(p.Spec.Tolerations) != 6 {
		t.Errorf("%+v", p)
	}
	if other := newPod(&appsv1.DaemonSet{Spec: appsv1.DaemonSetSpec{Template: corev1.PodTemplateSpec{Spec: p.Spec}}}, "h", "n8"); len(other.Spec.Tolerations) != 6 || target(other) != "n8" {
		t.Errorf("tolerations and names pile up: %+v", other.Spec)
	}
	counted := setOf(1, 0)
	counted.Annotations = map[string]string{appsv1.DeprecatedTemplateGeneration: "4"}
	if p := newPod(counted, "h", "n7"); p.Labels["pod-template-generation"] != "4" {
		t.Errorf("labels of a pod of the fourth template: %v", p.Labels)
	}
}

// world is a DaemonSet, its nodes and its pods.
type world struct {
	ds    *appsv1.DaemonSet
	hash  string
	pods  []*corev1.Pod
	nodes []*corev1.Node
	now   time.Time
	made  int
}

func (w *world) step() actions {
	a := plan(observed{ds: w.ds, hash: w.hash, pods: slices.Clone(w.pods), nodes: w.nodes}, w.now)
	for _, x := range a.remove {
		x.DeletionTimestamp = &metav1.Time{Time: w.now}
		x.Status.Conditions = nil
	}
	for _, node := range a.create {
		w.made++
		p := newPod(w.ds, w.hash, node)
		p.Name, p.UID, p.CreationTimestamp = fmt.Sprint("p", w.made), types.UID(fmt.Sprint("p", w.made)), metav1.NewTime(w.now)
		w.pods = append(w.pods, p)
	}
	w.ds.Status = a.status
	return a
}

func (w *world) live(r *rand.Rand) {
	if len(w.pods) == 0 {
		return
	}
	i := r.IntN(len(w.pods))
	if p := w.pods[i]; p.DeletionTimestamp != nil {
		w.pods = slices.Delete(w.pods, i, i+1)
	} else {
		p.Status.Phase = corev1.PodRunning
		p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(w.now)}}
	}
}

func (w *world) available() int {
	nodes := map[string]bool{}
	for _, p := range w.pods {
		if p.DeletionTimestamp == nil && len(p.Status.Conditions) > 0 {
			nodes[target(p)] = true
		}
	}
	return len(nodes)
}

// twins is how many nodes run two pods, one of them old and available: pods that are not available need no budget.
func (w *world) twins() int {
	count, served := map[string]int{}, map[string]bool{}
	for _, p := range w.pods {
		if p.DeletionTimestamp == nil {
			count[target(p)]++
			served[target(p)] = served[target(p)] || len(p.Status.Conditions) > 0 && p.Labels[appsv1.ControllerRevisionHashLabelKey] != w.hash
		}
	}
	n := 0
	for node := range served {
		if served[node] && count[node] > 1 {
			n++
		}
	}
	return n
}

// TestRolloutBounds plays random histories: a step never takes an available node below what may be unavailable, never has
// more pods than nodes and surge allow, and in the end each node runs one pod of the last template.
func TestRolloutBounds(t *testing.T) {
	t.Parallel()
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 3))
		unavailable, surge := int32(1+r.IntN(3)), int32(0)
		if seed%2 == 1 {
			unavailable, surge = 0, int32(1+r.IntN(3))
		}
		w := &world{ds: setOf(unavailable, surge), hash: "v0", now: epoch}
		n := 1 + r.IntN(8)
		for i := range n {
			w.nodes = append(w.nodes, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint("n", i)}})
		}
		for round := range 1200 {
			w.now = w.now.Add(time.Second)
			switch k := r.IntN(100); {
			case k < 45:
				before, before2 := w.available(), w.twins()
				a := w.step()
				if least := min(before, n-int(unavailable)); w.available() < least {
					t.Fatalf("seed %d: %d available, at least %d needed", seed, w.available(), least)
				}
				if n := w.twins(); len(a.create) > 0 && n > before2 && n > int(surge) {
					t.Fatalf("seed %d: %d nodes run a second pod beside an available one, surge is %d", seed, n, surge)
				}
			case k < 98 || round > 800:
				w.live(r)
			default:
				w.hash = fmt.Sprint("v", r.IntN(9))
			}
		}
		if s := w.ds.Status; int(s.UpdatedNumberScheduled) != n || int(s.NumberAvailable) != n || len(w.pods) != n {
			t.Fatalf("seed %d: the rollout does not end: %+v, %d pods", seed, s, len(w.pods))
		}
		if a := w.step(); len(a.create)+len(a.remove) > 0 {
			t.Fatalf("seed %d: a finished rollout goes on: %+v", seed, a)
		}
	}
}

// TestSurgeIsNotOver is about a node where the new pod runs beside the old one: it counts as updated when the old one has left.
func TestSurgeIsNotOver(t *testing.T) {
	t.Parallel()
	w := &world{ds: setOf(0, 1), hash: "v0", now: epoch, nodes: []*corev1.Node{{ObjectMeta: metav1.ObjectMeta{Name: "n"}}}}
	r := rand.New(rand.NewPCG(1, 1))
	w.step()
	w.live(r)
	w.step()
	if s := w.ds.Status; s.UpdatedNumberScheduled != 1 || s.NumberAvailable != 1 {
		t.Fatalf("at rest: %+v", s)
	}
	w.hash, w.now = "v1", w.now.Add(time.Minute)
	w.step()
	w.step()
	if s := w.ds.Status; len(w.pods) != 2 || s.UpdatedNumberScheduled != 0 || s.NumberAvailable != 1 {
		t.Errorf("two pods: %+v", s)
	}
	w.pods[1].Status = w.pods[0].Status // it runs
	w.step()                            // the old one is told to go
	if s := w.ds.Status; s.UpdatedNumberScheduled != 0 || w.pods[0].DeletionTimestamp == nil {
		t.Errorf("the old pod leaves: %+v", s)
	}
	w.pods = w.pods[1:]
	w.step()
	if s := w.ds.Status; s.UpdatedNumberScheduled != 1 || s.NumberAvailable != 1 {
		t.Errorf("it has left: %+v", s)
	}
}

// TestEnded is what people are told of pods that have ended, which a daemon's should not.
func TestEnded(t *testing.T) {
	t.Parallel()
	for phase, want := range map[corev1.PodPhase]event{
		corev1.PodFailed:    {corev1.EventTypeWarning, "FailedDaemonPod", "Found failed daemon pod ns/p1 on node n, will try to kill it"},
		corev1.PodSucceeded: {corev1.EventTypeNormal, "SucceededDaemonPod", "Found succeeded daemon pod ns/p1 on node n, will try to delete it"},
	} {
		w := &world{ds: setOf(1, 0), hash: "v0", now: epoch, nodes: []*corev1.Node{{ObjectMeta: metav1.ObjectMeta{Name: "n"}}}}
		w.step()
		w.pods[0].Namespace, w.pods[0].Status.Phase = "ns", phase
		w.now = w.now.Add(time.Hour)
		if a := w.step(); !slices.Equal(a.events, []event{want}) {
			t.Errorf("%s: told %v, want %v", phase, a.events, want)
		}
	}
}
