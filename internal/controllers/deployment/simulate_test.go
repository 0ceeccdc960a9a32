package deployment

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

// world is a Deployment with its ReplicaSets and pods, where each part acts only when its turn comes.
type world struct {
	d    *appsv1.Deployment
	sets []*appsv1.ReplicaSet
	pods map[types.UID][]bool // by set; true: ready
	now  time.Time
	made int
}

const badImage = "bad" // its pods never become ready

func newWorld(r *rand.Rand) *world {
	replicas, deadline, history := int32(r.IntN(12)), int32(600), int32(2)
	surge, unavailable := fraction(r), fraction(r)
	l := map[string]string{"app": "web"}
	return &world{
		now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), pods: map[types.UID][]bool{},
		d: &appsv1.Deployment{
			ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "default", UID: "d", Generation: 1},
			Spec: appsv1.DeploymentSpec{
				Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: l}, ProgressDeadlineSeconds: &deadline,
				RevisionHistoryLimit: &history,
				Strategy: appsv1.DeploymentStrategy{
					Type:          appsv1.RollingUpdateDeploymentStrategyType,
					RollingUpdate: &appsv1.RollingUpdateDeployment{MaxSurge: &surge, MaxUnavailable: &unavailable},
				},
				Template: corev1.PodTemplateSpec{
					ObjectMeta: metav1.ObjectMeta{Labels: l},
					Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "main", Image: "v0"}}},
				},
			},
		},
	}
}

func fraction(r *rand.Rand) intstr.IntOrString {
	if r.IntN(2) == 0 {
		return intstr.FromInt32(int32(r.IntN(4)))
	}
	return intstr.FromString(fmt.Sprintf("%d%%", r.IntN(101)))
}

// oldPods is for Recreate.
func (w *world) oldPods() bool {
	for _, s := range w.sets {
		if !sameTemplate(&s.Spec.Template, &w.d.Spec.Template) && len(w.pods[s.UID]) > 0 {
			return true
		}
	}
	return false
}

// step lets the Deployment's controller act once.
func (w *world) step() {
	a := plan(observed{d: w.d, sets: w.sets, oldPods: w.oldPods()}, w.now)
	for _, s := range a.write {
		rs := s.ReplicaSet.DeepCopy()
		if s.was == nil {
			w.made++
			rs.UID, rs.Generation = types.UID(fmt.Sprint("rs", w.made)), 1
			rs.CreationTimestamp = metav1.NewTime(w.now)
			w.sets = append(w.sets, rs)
			continue
		}
		rs.Generation++
		w.sets[slices.Index(w.sets, s.was)] = rs
	}
	for _, s := range a.remove {
		w.sets = slices.DeleteFunc(w.sets, func(x *appsv1.ReplicaSet) bool { return x == s.was })
	}
	w.d = w.d.DeepCopy()
	if a.revision != "" {
		w.d.Annotations = map[string]string{revisionAnnotation: a.revision}
	}
	w.d.Status = a.status
}

// settle lets the controller of the i-th ReplicaSet act once: pods that are not ready go first.
func (w *world) settle(i int) {
	rs := w.sets[i].DeepCopy()
	pods := w.pods[rs.UID]
	slices.SortFunc(pods, func(a, b bool) int {
		switch {
		case a == b:
			return 0
		case a:
			return -1
		}
		return 1
	})
	for len(pods) < int(*rs.Spec.Replicas) {
		pods = append(pods, false)
	}
	pods = pods[:*rs.Spec.Replicas]
	w.pods[rs.UID] = pods
	rs.Status = appsv1.ReplicaSetStatus{Replicas: int32(len(pods)), ObservedGeneration: rs.Generation}
	for _, ready := range pods {
		if ready {
			rs.Status.ReadyReplicas++
			rs.Status.AvailableReplicas++
		}
	}
	w.sets[i] = rs
}

// start makes one pod of the i-th ReplicaSet ready.
func (w *world) start(i int) {
	rs := w.sets[i]
	if rs.Spec.Template.Spec.Containers[0].Image == badImage {
		return
	}
	if at := slices.Index(w.pods[rs.UID], false); at >= 0 {
		w.pods[rs.UID][at] = true
	}
}

func (w *world) edit(change func(*appsv1.DeploymentSpec)) {
	w.d = w.d.DeepCopy()
	w.d.Generation++
	change(&w.d.Spec)
}

// wanted is the number of pods that the sets ask for; safe is how many of those known to be available are sure to stay.
// More may be ready than is known: such a pod can go before its set's status tells of it.
func (w *world) wanted() (wanted, safe int32) {
	for _, s := range w.sets {
		wanted += *s.Spec.Replicas
		safe += min(s.Status.AvailableReplicas, *s.Spec.Replicas)
	}
	return wanted, safe
}

func (w *world) String() string {
	b := boundsOf(w.d)
	text := fmt.Sprintf("%+v paused=%v %s image=%s:", b, w.d.Spec.Paused, w.d.Spec.Strategy.Type, w.d.Spec.Template.Spec.Containers[0].Image)
	for _, s := range w.sets {
		text += fmt.Sprintf(" [%s %d/%d %v]", s.Spec.Template.Spec.Containers[0].Image, s.Status.AvailableReplicas, *s.Spec.Replicas, w.pods[s.UID])
	}
	return text
}

// TestRolloutBounds plays random histories: whatever happens in whatever order, a step of the controller never asks for
// more than replicas + maxSurge pods, and never gives up an available pod below replicas - maxUnavailable.
func TestRolloutBounds(t *testing.T) {
	t.Parallel()
	for seed := range uint64(80) {
		r := rand.New(rand.NewPCG(seed, 1))
		w := newWorld(r)
		for range 300 {
			w.now = w.now.Add(time.Duration(r.IntN(3000)) * time.Millisecond)
			switch n := r.IntN(100); {
			case n < 40:
				before, safeBefore := w.wanted()
				was := w.String()
				rescaled := begin(observed{d: w.d, sets: w.sets}, w.now).resized()
				w.step()
				after, safe := w.wanted()
				b := boundsOf(w.d)
				if most := max(before, b.replicas+b.surge); after > most {
					t.Fatalf("seed %d: %d pods wanted, at most %d allowed\nbefore %s\nafter  %s", seed, after, most, was, w)
				}
				if least := min(safeBefore, b.replicas-b.unavailable); !rescaled && safe < least {
					t.Fatalf("seed %d: %d available pods kept, at least %d needed\nbefore %s\nafter  %s", seed, safe, least, was, w)
				}
			case n < 65 && len(w.sets) > 0:
				w.settle(r.IntN(len(w.sets)))
			case n < 92 && len(w.sets) > 0:
				w.start(r.IntN(len(w.sets)))
			case n < 95:
				w.edit(func(s *appsv1.DeploymentSpec) {
					s.Template.Spec.Containers[0].Image = []string{"v0", "v1", "v2", "v3", "v4", badImage}[r.IntN(6)]
				})
			case n < 97:
				size := int32(r.IntN(15))
				w.edit(func(s *appsv1.DeploymentSpec) { s.Replicas = &size })
			case n < 98:
				w.edit(func(s *appsv1.DeploymentSpec) { s.Paused = !s.Paused })
			}
		}
		w.edit(func(s *appsv1.DeploymentSpec) {
			s.Paused, s.Template.Spec.Containers[0].Image = false, "final"
			if seed%4 == 0 {
				s.Strategy = appsv1.DeploymentStrategy{Type: appsv1.RecreateDeploymentStrategyType}
			}
		})
		w.finish(t, seed)
	}
}

// finish lets all parts act in turn: the rollout must end, whatever state it was in.
func (w *world) finish(t *testing.T, seed uint64) {
	t.Helper()
	quiet := 0
	for round := 0; round < 400 && quiet < 3; round++ {
		if complete(w.d, w.d.Status) {
			quiet++
		}
		w.now = w.now.Add(time.Second)
		w.step()
		running := map[string]bool{}
		for i := range w.sets {
			w.settle(i)
			w.start(i)
			if len(w.pods[w.sets[i].UID]) > 0 {
				running[w.sets[i].Spec.Template.Spec.Containers[0].Image] = true
			}
		}
		if w.d.Spec.Strategy.Type == appsv1.RecreateDeploymentStrategyType && running["final"] && len(running) > 1 {
			t.Fatalf("seed %d: recreate runs two templates at once: %s", seed, w)
		}
	}
	if !complete(w.d, w.d.Status) {
		t.Fatalf("seed %d: the rollout does not end: %s\n%+v", seed, w, w.d.Status)
	}
	if n := len(w.sets); n > int(*w.d.Spec.RevisionHistoryLimit)+1 {
		t.Fatalf("seed %d: %d replicasets are left, the history limit is %d", seed, n, *w.d.Spec.RevisionHistoryLimit)
	}
	progressing := (&conditionSet{list: w.d.Status.Conditions}).get(appsv1.DeploymentProgressing)
	if progressing == nil || progressing.Reason != reasonComplete {
		t.Fatalf("seed %d: progressing is %+v", seed, progressing)
	}
	if a := plan(observed{d: w.d, sets: w.sets}, w.now); len(a.write)+len(a.remove) > 0 || a.revision != "" {
		t.Fatalf("seed %d: a finished rollout goes on: %+v", seed, a)
	}
}
