package slicepack

import (
	"math/rand/v2"
	"reflect"
	"testing"

	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"sigs.k8s.io/randfill"
)

// mix takes over one field in twelve, whatever fields there are.
func mix(r *rand.Rand, into, from reflect.Value) {
	for i := range into.NumField() {
		if r.IntN(12) == 0 {
			into.Field(i).Set(from.Field(i))
		}
	}
}

// TestSame holds the comparison against the one by reflection, for endpoints that differ in one field and for those that do not:
// a field that a newer API adds must not be forgotten.
func TestSame(t *testing.T) {
	t.Parallel()
	fill := randfill.NewWithSeed(3).NilChance(0.3).NumElements(0, 2)
	r := rand.New(rand.NewPCG(1, 2))
	differ := 0
	for range 5000 {
		var a, other discoveryv1.Endpoint
		fill.Fill(&a)
		fill.Fill(&other)
		b := *a.DeepCopy()
		mix(r, reflect.ValueOf(&b.Conditions).Elem(), reflect.ValueOf(other.Conditions))
		conditions := b.Conditions
		mix(r, reflect.ValueOf(&b).Elem(), reflect.ValueOf(other))
		b.Conditions = conditions
		want := equality.Semantic.DeepEqual(&a, &b)
		if got := same(&a, &b); got != want {
			t.Fatalf("same says %v of\n%+v\n%+v", got, a, b)
		}
		if !want {
			differ++
		}
	}
	if differ < 1000 || differ > 4500 {
		t.Errorf("%d of 5000 pairs differ: the test compares too little", differ)
	}
}
