package statefulset

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
)

// world is a StatefulSet with its pods, where controller, kubelets and users act in any order.
type world struct {
	set    *appsv1.StatefulSet
	update string
	pods   map[string]*corev1.Pod
	now    time.Time
	made   int
}

func newWorld(r *rand.Rand) *world {
	w := &world{set: setOf(int32(r.IntN(7))), update: "r0", pods: map[string]*corev1.Pod{}, now: epoch}
	s := &w.set.Spec
	if r.IntN(2) == 0 {
		parallel(s)
	}
	unavailable(intstr.FromInt32(int32(1 + r.IntN(3))))(s)
	partition(int32(r.IntN(2) * r.IntN(5)))(s)
	start(int32(r.IntN(2) * r.IntN(4)))(s)
	minReady(int32(r.IntN(2) * 5))(s)
	return w
}

func (w *world) observed() observed {
	o := observed{set: w.set, current: w.set.Status.CurrentRevision, update: w.update}
	if o.current == "" {
		o.current = w.update
	}
	for _, p := range w.pods {
		o.pods = append(o.pods, p)
	}
	return o
}

func (w *world) planner() *planner {
	p := &planner{observed: w.observed(), now: w.now, size: int(*w.set.Spec.Replicas), start: int(w.set.Spec.Ordinals.Start)}
	p.sort()
	return p
}

// step lets the controller act once.
func (w *world) step(t *testing.T) actions {
	t.Helper()
	a := plan(w.observed(), w.now)
	for _, p := range a.remove {
		if w.pods[p.Name] != p || p.DeletionTimestamp != nil {
			t.Fatalf("%s is removed, but has left: %s", p.Name, w)
		}
		leaving := p.DeepCopy()
		leaving.DeletionTimestamp = &metav1.Time{Time: w.now}
		w.pods[p.Name] = leaving
	}
	for _, b := range a.create {
		p := newPod(w.set, &w.set.Spec.Template, b)
		if w.pods[p.Name] != nil {
			t.Fatalf("a second pod %s: %s", p.Name, w)
		}
		w.made++
		p.UID, p.Status.Phase = types.UID(fmt.Sprint(w.made)), corev1.PodPending
		w.pods[p.Name] = p
	}
	w.set = w.set.DeepCopy()
	w.set.Status = a.status
	return a
}

func (w *world) names() []string {
	var out []string
	for name := range w.pods {
		out = append(out, name)
	}
	slices.Sort(out) // the order of a map would make histories differ
	return out
}

// move lets the kubelet of one pod act once: a leaving pod goes, another gets ready, or unready, or ends.
func (w *world) move(name string, how int) {
	p := w.pods[name].DeepCopy()
	status := corev1.ConditionTrue
	switch {
	case p.DeletionTimestamp != nil:
		delete(w.pods, name)
		return
	case p.Status.Phase == corev1.PodFailed:
		return
	case how == 0:
		p.Status.Phase = corev1.PodFailed
		status = corev1.ConditionFalse
	case how == 1:
		status = corev1.ConditionFalse
	}
	if p.Status.Phase == corev1.PodPending {
		p.Status.Phase = corev1.PodRunning
	}
	if len(p.Status.Conditions) == 0 || p.Status.Conditions[0].Status != status {
		p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: status, LastTransitionTime: metav1.NewTime(w.now)}}
	}
	w.pods[name] = p
}

func (w *world) edit(r *rand.Rand) {
	w.set = w.set.DeepCopy()
	w.set.Generation++
	s := &w.set.Spec
	switch r.IntN(4) {
	case 0:
		*s.Replicas = int32(r.IntN(7))
	case 1:
		w.update = fmt.Sprint("r", r.IntN(4))
	case 2:
		partition(int32(r.IntN(4)))(s)
	case 3:
		start(int32(r.IntN(4)))(s)
	}
}

func (w *world) String() string {
	s := w.set.Spec
	text := fmt.Sprintf("%s replicas=%d start=%d partition=%d update=%s:", s.PodManagementPolicy, *s.Replicas, s.Ordinals.Start, *s.UpdateStrategy.RollingUpdate.Partition, w.update)
	for _, name := range w.names() {
		p := w.pods[name]
		text += fmt.Sprintf(" [%s %s %s ready=%v leaving=%v]", name, revisionOf(p), p.Status.Phase, ready(p), p.DeletionTimestamp != nil)
	}
	return text
}

// checkStep compares one decision with what the set promises. before is the world that it was made in.
func checkStep(t *testing.T, before *planner, a actions, was string) {
	t.Helper()
	serving, birthsAndDeaths := 0, len(a.create)+len(a.remove)
	for _, p := range before.replicas {
		if before.serves(p) {
			serving++
		}
	}
	taken := 0 // serving pods that a rollout takes
	for _, p := range a.remove {
		n, _ := ordinalOf(before.set.Name, p.Name)
		wanted := n >= before.start && n < before.start+before.size
		switch {
		case !wanted || p.Status.Phase == corev1.PodFailed:
		case revisionOf(p) == before.update:
			t.Fatalf("%s is new and goes: %s", p.Name, was)
		case n-before.start < before.partition():
			t.Fatalf("%s is below the partition and goes: %s", p.Name, was)
		case before.serves(p):
			taken++
		}
	}
	if least := before.size - before.maxUnavailable(); taken > 0 && serving-taken < least {
		t.Fatalf("%d pods serve on, %d must: %s", serving-taken, least, was)
	}
	for _, b := range a.create {
		if b.ordinal < before.start || b.ordinal >= before.start+before.size {
			t.Fatalf("ordinal %d is created: %s", b.ordinal, was)
		}
		if before.ordered() {
			for i := range b.ordinal - before.start {
				if !before.serves(before.replicas[i]) {
					t.Fatalf("ordinal %d is created before %d serves: %s", b.ordinal, i+before.start, was)
				}
			}
		}
	}
	if before.ordered() && birthsAndDeaths > 1 && (len(a.create) > 0 || taken != len(a.remove)) {
		t.Fatalf("an ordered set takes %d steps at once: %s", birthsAndDeaths, was)
	}
	if len(a.remove) > 0 && before.ordered() && before.replicasServe() {
		first, _ := ordinalOf(before.set.Name, a.remove[0].Name)
		for _, p := range before.condemned {
			if n, _ := ordinalOf(before.set.Name, p.Name); n > first {
				t.Fatalf("%d goes before %d: %s", first, n, was)
			}
		}
	}
}

func (p *planner) replicasServe() bool {
	return !slices.ContainsFunc(p.replicas, func(pod *corev1.Pod) bool { return !p.serves(pod) })
}

// TestRandomHistories: whatever happens in whatever order, no ordinal has two pods, the order is kept and so are the
// bounds; and once nothing happens any more, the set reaches what it promises and rests.
func TestRandomHistories(t *testing.T) {
	t.Parallel()
	for seed := range uint64(150) {
		r := rand.New(rand.NewPCG(seed, 3))
		w := newWorld(r)
		for range 300 {
			w.now = w.now.Add(time.Duration(r.IntN(3000)) * time.Millisecond)
			switch n := r.IntN(100); {
			case n < 45:
				before, was := w.planner(), w.String()
				checkStep(t, before, w.step(t), was)
			case n < 96 && len(w.pods) > 0:
				name := w.names()[r.IntN(len(w.pods))]
				w.move(name, r.IntN(14))
			case n >= 96:
				w.edit(r)
			}
		}
		w.finish(t, seed)
	}
}

// finish lets all act in turn, every pod well.
func (w *world) finish(t *testing.T, seed uint64) {
	t.Helper()
	for range 200 {
		w.now = w.now.Add(6 * time.Second)
		for _, name := range w.names() {
			w.move(name, 9)
		}
		w.now = w.now.Add(6 * time.Second)
		before, was := w.planner(), w.String()
		checkStep(t, before, w.step(t), was)
	}
	if a := w.step(t); len(a.create)+len(a.remove) > 0 {
		t.Fatalf("seed %d: no rest: %+v\n%s", seed, a, w)
	}
	p := w.planner()
	if !p.replicasServe() || len(p.condemned) > 0 || len(w.pods) != p.size {
		t.Fatalf("seed %d: not all there: %s", seed, w)
	}
	for i, pod := range p.replicas {
		if i >= p.partition() && revisionOf(pod) != w.update {
			t.Fatalf("seed %d: %s is old: %s", seed, pod.Name, w)
		}
	}
	s := w.set.Status
	if n := int32(p.size); s.Replicas != n || s.AvailableReplicas != n || s.ReadyReplicas != n || p.partition() == 0 && s.CurrentRevision != w.update {
		t.Fatalf("seed %d: %+v", seed, s)
	}
}
