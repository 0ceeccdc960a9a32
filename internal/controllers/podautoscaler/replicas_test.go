package podautoscaler

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func noon() time.Time { return time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC) }

// podOf is a pod that has been ready for an hour and requests cpu (thousandths).
func podOf(name string, cpu int64, edit func(*corev1.Pod)) *corev1.Pod {
	long := metav1.NewTime(noon().Add(-time.Hour))
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default", Labels: map[string]string{"app": "web"}},
		Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Resources: corev1.ResourceRequirements{
			Requests: corev1.ResourceList{corev1.ResourceCPU: *resource.NewMilliQuantity(cpu, resource.DecimalSI)}}}}},
		Status: corev1.PodStatus{Phase: corev1.PodRunning, StartTime: &long, Conditions: []corev1.PodCondition{
			{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: long}}},
	}
	if edit != nil {
		edit(p)
	}
	return p
}

func unreadySince(ago time.Duration) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		at := metav1.NewTime(noon().Add(-ago))
		p.Status.StartTime = &at
		p.Status.Conditions[0].Status, p.Status.Conditions[0].LastTransitionTime = corev1.ConditionFalse, at
	}
}

// load makes n pods that request 100m, with the uses that are given for the first of them; -1 stands for no metric.
func load(edits map[int]func(*corev1.Pod), uses ...int64) (*workload, map[string]podUse) {
	w := &workload{tolerance: tolerance{defaultTolerance, defaultTolerance}, now: noon()}
	metrics := map[string]podUse{}
	for i, use := range uses {
		name := fmt.Sprintf("web-%d", i)
		w.pods = append(w.pods, podOf(name, 100, edits[i]))
		if use >= 0 {
			metrics[name] = podUse{at: noon(), window: 15 * time.Second, milli: use}
		}
	}
	w.wanted = int32(len(w.pods))
	return w, metrics
}

func TestByUtilization(t *testing.T) {
	t.Parallel()
	pending := func(p *corev1.Pod) { p.Status.Phase = corev1.PodPending }
	deleted := func(p *corev1.Pod) { p.DeletionTimestamp = &metav1.Time{Time: noon()} }
	young := unreadySince(time.Minute)
	never := unreadySince(time.Hour)
	for name, c := range map[string]struct {
		edits map[int]func(*corev1.Pod)
		uses  []int64
		want  int32
		util  int32
		err   string
	}{
		"double":                                {nil, []int64{100, 100}, 4, 100, ""},
		"on target":                             {nil, []int64{50, 50}, 2, 50, ""},
		"within tolerance":                      {nil, []int64{54, 55}, 2, 54, ""},
		"half":                                  {nil, []int64{25, 25, 25, 25}, 2, 25, ""},
		"idle":                                  {nil, []int64{0, 0, 0}, 0, 0, ""},
		"up, missing counts as idle":            {nil, []int64{100, 100, -1}, 4, 100, ""},
		"up, missing turns it around":           {nil, []int64{60, -1, -1}, 3, 60, ""},
		"down, missing counts as full":          {nil, []int64{10, 10, 10, 10, -1}, 3, 10, ""},
		"down, missing makes it no longer so":   {nil, []int64{25, -1, -1}, 3, 25, ""},
		"up, young pod counts as idle":          {map[int]func(*corev1.Pod){2: young}, []int64{100, 100, 900}, 4, 100, ""},
		"down, young pod does not count":        {map[int]func(*corev1.Pod){2: young}, []int64{10, 10, 900}, 1, 10, ""},
		"a pod that was never ready is no load": {map[int]func(*corev1.Pod){1: never}, []int64{100, 100}, 2, 100, ""},
		"pending pod counts as idle":            {map[int]func(*corev1.Pod){2: pending}, []int64{150, 150, -1}, 6, 150, ""},
		"a pod on its way out does not count":   {map[int]func(*corev1.Pod){2: deleted}, []int64{100, 100, 900}, 4, 100, ""},
		"no pods":                               {nil, nil, 0, 0, "no pods returned by selector"},
		"nobody measured":                       {nil, []int64{-1, -1}, 0, 0, "did not receive metrics for targeted pods"},
		"only young ones":                       {map[int]func(*corev1.Pod){0: young}, []int64{100}, 0, 0, "did not receive metrics for targeted pods"},
	} {
		w, uses := load(c.edits, c.uses...)
		before := len(uses)
		got, err := w.byUtilization(uses, corev1.ResourceCPU, "", 50)
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%s: error %v, want %q", name, err, c.err)
			}
			continue
		}
		if err != nil || got.replicas != c.want || got.utilization != c.util {
			t.Errorf("%s: %+v, %v; want %d replicas at %d%%", name, got, err, c.want, c.util)
		}
		if len(uses) != before {
			t.Errorf("%s: the uses were changed", name)
		}
	}
}

func TestRequests(t *testing.T) {
	t.Parallel()
	always := corev1.ContainerRestartPolicyAlways
	p := podOf("a", 100, func(p *corev1.Pod) {
		side := p.Spec.Containers[0]
		side.Name, side.RestartPolicy = "side", &always
		p.Spec.InitContainers = []corev1.Container{{Name: "setup"}, side}
	})
	got, err := requestsOf([]*corev1.Pod{p}, corev1.ResourceCPU, "")
	if err != nil || got["a"] != 200 {
		t.Errorf("with a sidecar: %v, %v", got, err)
	}
	if got, err = requestsOf([]*corev1.Pod{p}, corev1.ResourceCPU, "c"); err != nil || got["a"] != 100 {
		t.Errorf("one container: %v, %v", got, err)
	}
	_, err = requestsOf([]*corev1.Pod{p}, corev1.ResourceMemory, "c")
	if err == nil || err.Error() != "missing request for memory in container c of Pod a" {
		t.Error(err)
	}
	p.Spec.Resources = &corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("1")}}
	if got, err = requestsOf([]*corev1.Pod{p}, corev1.ResourceMemory, ""); err != nil || got["a"] != 1000 {
		t.Errorf("of the pod: %v, %v", got, err)
	}
}

func TestWholeWorkload(t *testing.T) {
	t.Parallel()
	w, _ := load(nil, 0, 0, 0, 0)
	for value, want := range map[int64]int32{100: 4, 109: 4, 200: 8, 50: 2, 0: 0} {
		if got, err := w.byValue(value, 100); err != nil || got != want {
			t.Errorf("value %d of 100: %d, %v; want %d", value, got, err, want)
		}
	}
	w.there = 4
	for value, want := range map[int64]int32{400: 4, 430: 4, 450: 5, 100: 1, 0: 0} {
		if got := w.perPod(value, 100); got.replicas != want {
			t.Errorf("%d for pods of 100: %d, want %d", value, got.replicas, want)
		}
	}
	w.wanted, w.there, w.pods = 0, 0, nil
	if got, err := w.byValue(250, 100); err != nil || got != 3 {
		t.Errorf("from zero: %d, %v", got, err)
	}
	if got := w.perPod(250, 100); got.replicas != 3 || got.average != 250 {
		t.Errorf("from zero: %+v", got)
	}
}

// TestProposalProperties: whatever pods show, a proposal goes the way of their mean, is no more than doubt allows, and
// adding doubt about a pod never makes the change larger.
func TestProposalProperties(t *testing.T) {
	t.Parallel()
	for seed := range uint64(5000) {
		r := rand.New(rand.NewPCG(seed, 1))
		n := 1 + r.IntN(8)
		uses := make([]int64, n)
		for i := range uses {
			uses[i] = r.Int64N(200)
		}
		target := int32(1 + r.IntN(150))
		w, metrics := load(nil, uses...)
		sure, err := w.byUtilization(metrics, corev1.ResourceCPU, "", target)
		if err != nil {
			t.Fatal(err)
		}
		if sure.utilization > target && sure.replicas < w.wanted || sure.utilization < target && sure.replicas > w.wanted {
			t.Fatalf("seed %d: %d%% of %d%%: from %d to %d", seed, sure.utilization, target, w.wanted, sure.replicas)
		}
		if n == 1 {
			continue
		}
		blind := r.IntN(n)
		uses[blind] = -1
		w, metrics = load(nil, uses...)
		doubt, err := w.byUtilization(metrics, corev1.ResourceCPU, "", target)
		if err != nil {
			t.Fatal(err)
		}
		up, down := doubt.replicas > w.wanted, doubt.replicas < w.wanted
		if up && doubt.utilization <= target || down && doubt.utilization >= target {
			t.Fatalf("seed %d: with a pod unseen, %d%% of %d%%: from %d to %d", seed, doubt.utilization, target, w.wanted, doubt.replicas)
		}
		uses[blind] = 0 // what is unseen is at best idle when scaling up …
		w, metrics = load(nil, uses...)
		if least, _ := w.byUtilization(metrics, corev1.ResourceCPU, "", target); up && doubt.replicas > max(least.replicas, w.wanted) {
			t.Fatalf("seed %d: unseen asks for %d, idle for %d", seed, doubt.replicas, least.replicas)
		}
	}
}

func TestCeil(t *testing.T) {
	t.Parallel()
	for in, want := range map[float64]int32{0: 0, -3: 0, 0.1: 1, 2: 2, 2.0001: 3, 1e300: 1<<31 - 1} {
		if got := ceil(in); got != want {
			t.Errorf("%v: %d, want %d", in, got, want)
		}
	}
}
