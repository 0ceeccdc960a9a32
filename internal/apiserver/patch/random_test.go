package patch

import (
	"encoding/json"
	"math/rand"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/apitesting/fuzzer"
	metafuzzer "k8s.io/apimachinery/pkg/apis/meta/fuzzer"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes/scheme"

	"canopus/internal/kinds"
)

// TestFastEqualsSlowOnRandomObjects creates objects whose every field is random, and turns one into another.
func TestFastEqualsSlowOnRandomObjects(t *testing.T) {
	t.Parallel()
	for _, k := range []struct {
		gvk  schema.GroupVersionKind
		make func() kinds.Object
	}{
		{podGVK, func() kinds.Object { return &corev1.Pod{} }},
		{configMapGVK, func() kinds.Object { return &corev1.ConfigMap{} }},
		{deploymentGVK, func() kinds.Object { return &appsv1.Deployment{} }},
	} {
		t.Run(k.gvk.Kind, func(t *testing.T) {
			t.Parallel()
			o := owners(t, k.gvk, "")
			hits := map[string]int{}
			for seed := range int64(150) {
				first, second := random(t, seed, k.make), random(t, seed+1000, k.make)
				quick := first.DeepCopyObject().(kinds.Object)
				hit := o.fastCreate(k.make(), quick, "m")
				if err := o.slowUpdate(k.make(), first, "m"); err != nil {
					continue // not an object that the schema allows; the fast way may be more generous
				}
				if hit {
					hits["create"]++
					sameManagersBut(t, seed, first, quick)
				}
				first.SetUID("1")
				quick = second.DeepCopyObject().(kinds.Object)
				hit = o.fastUpdate(first, quick, "n")
				if err := o.slowUpdate(first, second, "n"); err != nil {
					continue
				}
				if hit {
					hits["update"]++
					sameManagersBut(t, seed, second, quick)
				}
			}
			if hits["create"] < 15 || hits["update"] < 5 {
				t.Errorf("%v were fast: the test hardly tries them", hits)
			}
		})
	}
}

// random fills an object and brings it into the form that it has after decoding.
func random(t *testing.T, seed int64, empty func() kinds.Object) kinds.Object {
	t.Helper()
	obj, out := empty(), empty()
	fuzzer.FuzzerFor(metafuzzer.Funcs, rand.NewSource(seed), scheme.Codecs).
		NilChance(.7).NumElements(0, 3).MaxDepth(12).Fill(obj)
	obj.SetManagedFields(nil)
	data, err := json.Marshal(obj)
	if err == nil {
		err = json.Unmarshal(data, out)
	}
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func sameManagersBut(t *testing.T, seed int64, slow, quick kinds.Object) {
	t.Helper()
	long := metav1.NewTime(time.Unix(1, 0))
	before := []metav1.ManagedFieldsEntry{{Time: &long}}
	if diff := differentManagers(slow.GetManagedFields(), quick.GetManagedFields(), before); diff != "" {
		t.Fatalf("seed %d: %s", seed, diff)
	}
}
