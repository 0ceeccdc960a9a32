package replicaset

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"canopus/internal/controllers/podstate"
	"canopus/internal/controllers/reconcile"
)

var epoch = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

func setOf(replicas int32) *appsv1.ReplicaSet {
	return &appsv1.ReplicaSet{
		ObjectMeta: metav1.ObjectMeta{Name: "rs", UID: "rs", Generation: 4},
		Spec: appsv1.ReplicaSetSpec{Replicas: &replicas, Template: corev1.PodTemplateSpec{
			ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": "web"}},
		}},
	}
}

// podOf parses "name node phase ready age cost restarts", the last ones optional; node "-" is none, ready "+" or "-".
func podOf(t *testing.T, text string) *corev1.Pod {
	t.Helper()
	f := append(strings.Fields(text), "-", "Pending", "-", "0s", "0", "0")
	n := len(strings.Fields(text))
	field := func(i int, other string) string {
		if i < n {
			return f[i]
		}
		return other
	}
	age, err := time.ParseDuration(field(4, "10m"))
	if err != nil {
		t.Fatal(err)
	}
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
		Name: f[0], UID: types.UID(f[0]), CreationTimestamp: metav1.NewTime(epoch.Add(-age)), Labels: map[string]string{"app": "web"},
		Annotations: map[string]string{corev1.PodDeletionCost: field(5, "0")},
	}}
	if node := field(1, "-"); node != "-" {
		p.Spec.NodeName = node
	}
	p.Status.Phase = corev1.PodPhase(field(2, "Pending"))
	if field(3, "-") == "+" {
		p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(epoch.Add(-age))}}
	}
	var restarts int32
	if _, err := fmt.Sscan(field(6, "0"), &restarts); err != nil {
		t.Fatal(err)
	}
	p.Status.ContainerStatuses = []corev1.ContainerStatus{{RestartCount: restarts}}
	return p
}

// TestWhoGoesFirst: each line loses against the next, in any order they come.
func TestWhoGoesFirst(t *testing.T) {
	t.Parallel()
	lines := []string{
		"unassigned - Pending",
		"pending n1 Pending",
		"unknown n1 Unknown",
		"unready n1 Running -",
		"cheap n1 Running + 10m -5",
		"crowded n3 Running + 10m",
		"young n2 Running + 1m",
		"restarted n2 Running + 10m 0 7",
		"old n2 Running + 20h",
		"dear n1 Running + 1m 100",
	}
	related := map[string]int{"n3": 5, "n1": 2, "n2": 2}
	var want []string
	var pods []*corev1.Pod
	for _, l := range lines {
		p := podOf(t, l)
		pods, want = append(pods, p), append(want, p.Name)
	}
	for seed := range uint64(50) {
		rand.New(rand.NewPCG(seed, 0)).Shuffle(len(pods), func(i, j int) { pods[i], pods[j] = pods[j], pods[i] })
		for n := range pods {
			var got []string
			for _, p := range cheapest(pods, n, ranking{related, epoch}) {
				got = append(got, p.Name)
			}
			if !slices.Equal(got, want[:n]) {
				t.Fatalf("%d to go: got %v, want %v", n, got, want[:n])
			}
		}
	}
}

func TestPlan(t *testing.T) {
	t.Parallel()
	pods := func(n int) []*corev1.Pod {
		var out []*corev1.Pod
		for i := range n {
			out = append(out, podOf(t, fmt.Sprintf("p%04d n1 Running +", i)))
		}
		return out
	}
	finished, leaving := podOf(t, "f n1 Failed -"), podOf(t, "l n1 Running +")
	leaving.DeletionTimestamp = &metav1.Time{Time: epoch}
	deleted := setOf(3)
	deleted.DeletionTimestamp = &metav1.Time{Time: epoch}
	for _, tc := range []struct {
		name           string
		rs             *appsv1.ReplicaSet
		pods           []*corev1.Pod
		create, remove int
		more           bool
	}{
		{"none yet", setOf(3), nil, 3, 0, false},
		{"right", setOf(3), pods(3), 0, 0, false},
		{"one too many", setOf(3), pods(4), 0, 1, false},
		{"finished and leaving pods are replaced", setOf(3), append(pods(1), finished, leaving), 2, 0, false},
		{"a burst at a time", setOf(1200), pods(1), burst, 0, true},
		{"the same down", setOf(0), pods(700), 0, burst, true},
		{"being deleted", deleted, pods(1), 0, 0, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			a := plan(observed{rs: tc.rs, pods: tc.pods}, epoch)
			if a.create != tc.create || len(a.remove) != tc.remove || a.more != tc.more {
				t.Errorf("create %d, remove %d, more %v; want %d, %d, %v", a.create, len(a.remove), a.more, tc.create, tc.remove, tc.more)
			}
		})
	}
}

func TestStatus(t *testing.T) {
	t.Parallel()
	rs := setOf(5)
	rs.Spec.MinReadySeconds = 120
	leaving, other := podOf(t, "leaving n1 Running +"), podOf(t, "other n1 Running -")
	leaving.DeletionTimestamp = &metav1.Time{Time: epoch}
	other.Labels = map[string]string{"app": "other"}
	pods := []*corev1.Pod{podOf(t, "a n1 Running + 10m"), podOf(t, "b n1 Running + 30s"), podOf(t, "c n1 Failed - 1m"), leaving, other}
	s, after := status(observed{rs: rs, pods: pods}, &failure{failedCreate, "quota"}, epoch)
	if s.Replicas != 3 || s.ReadyReplicas != 2 || s.AvailableReplicas != 1 || s.FullyLabeledReplicas != 2 || *s.TerminatingReplicas != 1 || s.ObservedGeneration != 4 {
		t.Errorf("%+v", s)
	}
	if after != 90*time.Second {
		t.Errorf("look again after %s, want 1m30s: then b is available", after)
	}
	if len(s.Conditions) != 1 || s.Conditions[0].Reason != failedCreate {
		t.Errorf("conditions %+v", s.Conditions)
	}
	rs.Status = s
	if s, _ = status(observed{rs: rs, pods: pods}, &failure{failedCreate, "later"}, epoch); s.Conditions[0].Message != "quota" {
		t.Errorf("the first failure stays: %+v", s.Conditions)
	}
	if s, _ = status(observed{rs: rs, pods: pods}, nil, epoch); len(s.Conditions) != 0 {
		t.Errorf("a success takes the failure away: %+v", s.Conditions)
	}
}

// TestStaleCache: a cache that shows our writes late, in any order, never makes us create or delete one pod too many.
func TestStaleCache(t *testing.T) {
	t.Parallel()
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 2))
		server, cache := map[types.UID]*corev1.Pod{}, map[types.UID]*corev1.Pod{}
		written := reconcile.NewWritten[*corev1.Pod]()
		type event struct {
			rv  int
			pod *corev1.Pod
			del bool
		}
		var events []event
		rv, seen, made := 1, 1, 0
		rs := setOf(5)
		for range 200 {
			switch n := r.IntN(10); {
			case n < 4: // reconcile
				var cached []*corev1.Pod
				for _, p := range cache {
					cached = append(cached, p)
				}
				a := plan(observed{rs: rs, pods: written.View(rs.UID, cached, fmt.Sprint(seen))}, epoch)
				for range a.create {
					rv++
					made++
					p := podOf(t, fmt.Sprintf("p%d n1 Running +", made))
					p.ResourceVersion = fmt.Sprint(rv)
					server[p.UID] = p
					events = append(events, event{rv, p, false})
					written.Created(rs.UID, p)
				}
				for _, p := range a.remove {
					if server[p.UID] == nil {
						t.Fatalf("seed %d: deletes %s, which is gone", seed, p.Name)
					}
					rv++
					delete(server, p.UID)
					events = append(events, event{rv, p, true})
					written.Deleted(rs.UID, p.UID)
				}
				if want := int(*rs.Spec.Replicas); len(server) != want {
					t.Fatalf("seed %d: %d pods after a reconcile, want %d", seed, len(server), want)
				}
			case n < 8: // the cache sees one more event
				if len(events) > 0 {
					e := events[0]
					events = events[1:]
					seen = e.rv
					if e.del {
						delete(cache, e.pod.UID)
					} else {
						cache[e.pod.UID] = e.pod
					}
				}
			default:
				size := int32(r.IntN(9))
				rs = setOf(size)
			}
		}
		if pods := written.View(rs.UID, nil, fmt.Sprint(rv)); len(pods) != 0 {
			t.Fatalf("seed %d: %d pods remembered that a caught-up cache does not show", seed, len(pods))
		}
	}
}

func TestNewPod(t *testing.T) {
	t.Parallel()
	p := newPod(setOf(1), appsv1.SchemeGroupVersion.WithKind("ReplicaSet"))
	if p.GenerateName != "rs-" || p.Labels["app"] != "web" || !metav1.IsControlledBy(p, setOf(1)) || !podstate.Active(p) {
		t.Errorf("%+v", p.ObjectMeta)
	}
}
