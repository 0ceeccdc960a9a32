package store

import (
	"fmt"
	"hash/maphash"
	"maps"
	"math/rand/v2"
	"reflect"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
)

func TestEqualLabelsAreOneSet(t *testing.T) {
	t.Parallel()
	s := labelSets{seed: maphash.MakeSeed()}
	a := s.share(labels.Set{"app": "web", "tier": "front"})
	for _, c := range []struct {
		labels labels.Set
		same   bool
	}{
		{labels.Set{"tier": "front", "app": "web"}, true},
		{labels.Set{"app": "web"}, false},
		{labels.Set{"app": "front", "tier": "web"}, false},
		{labels.Set{"web": "app", "front": "tier"}, false},
		{nil, false},
		{labels.Set{}, false},
	} {
		b := s.share(c.labels)
		if (a == b) != c.same || !maps.Equal(b.labels, c.labels) {
			t.Errorf("%v: one set: %v, with labels %v", c.labels, a == b, b.labels)
		}
	}
	many := labels.Set{}
	for i := range maxLabels + 1 {
		many[fmt.Sprint(i)] = ""
	}
	if a, b := s.share(many), s.share(maps.Clone(many)); a == b || !maps.Equal(a.labels, many) || !maps.Equal(b.labels, many) {
		t.Error("a set without limit is kept")
	}
	for i := range 3 * maxLabelSets {
		if got := s.share(labels.Set{"pod": fmt.Sprint(i)}); got.labels["pod"] != fmt.Sprint(i) {
			t.Fatalf("labels of %d are %v", i, got.labels)
		}
		if len(s.known) > maxLabelSets {
			t.Fatalf("%d sets are kept", len(s.known))
		}
	}
}

// TestSharedLabelsMatchAsTheirOwn compares what a selector says of shared sets, and of entries without one, with itself.
func TestSharedLabelsMatchAsTheirOwn(t *testing.T) {
	t.Parallel()
	s := labelSets{seed: maphash.MakeSeed()}
	r := rand.New(rand.NewPCG(1, 2))
	selector, err := labels.Parse("app in (a1,a2),tier!=t3,!gone")
	if err != nil {
		t.Fatal(err)
	}
	m := labelMatch{selector: selector}
	yes := 0
	for range 5000 {
		own := labels.Set{"app": fmt.Sprint("a", r.IntN(6)), "tier": fmt.Sprint("t", r.IntN(6))}
		if r.IntN(10) == 0 {
			own["gone"] = ""
		}
		e := &Entry{Labels: own}
		if r.IntN(5) > 0 {
			e.shared = s.share(own)
		}
		want := selector.Matches(own)
		if got := m.matches(e); got != want {
			t.Fatalf("%v: matches is %v", own, got)
		}
		if want {
			yes++
		}
	}
	if yes < 500 || yes > 4500 {
		t.Errorf("%d of 5000 match: the test does not tell", yes)
	}
}

func TestObjectsShowSharedLabels(t *testing.T) {
	t.Parallel()
	s := labelSets{seed: maphash.MakeSeed()}
	first := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": "web"}}}
	second := first.DeepCopy()
	for _, p := range []*corev1.Pod{first, second} {
		shareLabels(p, s.share(p.Labels))
	}
	if reflect.ValueOf(first.Labels).Pointer() != reflect.ValueOf(second.Labels).Pointer() {
		t.Error("two pods with equal labels keep a map each")
	}
	u := &unstructured.Unstructured{}
	u.SetLabels(map[string]string{"app": "web"})
	shareLabels(u, s.share(u.GetLabels()))
	shareLabels(&corev1.Pod{}, nil) // of an entry that could not be read
	if u.GetLabels()["app"] != "web" {
		t.Error("the labels of a custom resource are gone")
	}
}
