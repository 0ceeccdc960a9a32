package backends

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// cluster is pods and Services in the stores of informers that never run.
func cluster(t *testing.T) informers.SharedInformerFactory {
	t.Helper()
	k, err := kubernetes.NewForConfig(&rest.Config{Host: "https://127.0.0.1:1"})
	if err != nil {
		t.Fatal(err)
	}
	return informers.NewSharedInformerFactory(k, 0)
}

func someLabels(r *rand.Rand) map[string]string {
	m := map[string]string{}
	for _, key := range []string{"app", "tier", "a/b"} {
		if r.IntN(3) > 0 {
			m[key] = fmt.Sprint(r.IntN(3))
		}
	}
	return m
}

// TestSelectionAgreesWithSelectors compares what Services select with a look at every pod, while pods come, change and go.
func TestSelectionAgreesWithSelectors(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 2))
	core := cluster(t).Core().V1()
	if err := Index(core.Pods().Informer()); err != nil {
		t.Fatal(err)
	}
	pods, services := core.Pods().Informer().GetIndexer(), core.Services().Informer().GetIndexer()
	for i := range 40 {
		err := services.Add(&corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Namespace: fmt.Sprint(i % 2), Name: fmt.Sprint(i)}, Spec: corev1.ServiceSpec{Selector: someLabels(r)},
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	selected := 0
	for range 200 {
		for range 5 {
			name := fmt.Sprint(r.IntN(30))
			p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: fmt.Sprint(r.IntN(2)), Name: name, UID: types.UID(name), Labels: someLabels(r)}}
			change := pods.Update
			if r.IntN(4) == 0 {
				change = pods.Delete
			}
			if err := change(p); err != nil {
				t.Fatal(err)
			}
		}
		for _, o := range services.List() {
			svc := o.(*corev1.Service)
			var want []string
			for _, o := range pods.List() {
				if p := o.(*corev1.Pod); p.Namespace == svc.Namespace && labels.SelectorFromSet(svc.Spec.Selector).Matches(labels.Set(p.Labels)) {
					want = append(want, p.Name)
				}
			}
			got, err := Selected(core.Pods().Informer(), svc)
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(names(got), slices.Sorted(slices.Values(want))) {
				t.Fatalf("selector %v selects %v, want %v", svc.Spec.Selector, names(got), want)
			}
			selected += len(got)
		}
	}
	if selected == 0 {
		t.Error("nothing was ever selected: the test shows nothing")
	}
}

func names(pods []*corev1.Pod) []string {
	var all []string
	for _, p := range pods {
		all = append(all, p.Name)
	}
	slices.Sort(all)
	return all
}

// TestServices finds those that select a pod as it is or as it was, and none with an empty selector.
func TestServices(t *testing.T) {
	t.Parallel()
	core := cluster(t).Core().V1()
	for name, selector := range map[string]map[string]string{"a": {"app": "a"}, "b": {"app": "b"}, "ab": {"app": "a", "tier": "b"}, "all": {}, "none": nil} {
		svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "n", Name: name}, Spec: corev1.ServiceSpec{Selector: selector}}
		if err := core.Services().Informer().GetIndexer().Add(svc); err != nil {
			t.Fatal(err)
		}
	}
	pod := func(set map[string]string) *corev1.Pod {
		return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "n", Name: "p", Labels: set}}
	}
	for _, c := range []struct {
		name     string
		old, pod *corev1.Pod
		want     []string
	}{
		{"new", nil, pod(map[string]string{"app": "a"}), []string{"a"}},
		{"gone", pod(map[string]string{"app": "b", "tier": "b"}), nil, []string{"b"}},
		{"both labels", nil, pod(map[string]string{"app": "a", "tier": "b"}), []string{"a", "ab"}},
		{"changed hands", pod(map[string]string{"app": "a"}), pod(map[string]string{"app": "b"}), []string{"a", "b"}},
		{"not changed", pod(map[string]string{"app": "a"}), pod(map[string]string{"app": "a"}), nil},
		{"no labels", nil, pod(nil), nil},
	} {
		got := map[string]bool{}
		for _, key := range Services(core.Services().Lister(), c.old, c.pod) {
			got[key.Name] = true
		}
		if !slices.Equal(slices.Sorted(maps.Keys(got)), c.want) {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}
