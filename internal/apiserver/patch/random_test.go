package patch

import (
	"encoding/json"
	"math/rand"
	"reflect"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/apitesting/fuzzer"
	metafuzzer "k8s.io/apimachinery/pkg/apis/meta/fuzzer"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/scheme"

	"canopus/internal/kinds"
	"canopus/internal/kinds/builtin"
)

// TestFastEqualsSlowOnRandomObjects takes every built-in kind in every version, creates objects whose every field is random,
// and turns one into another.
func TestFastEqualsSlowOnRandomObjects(t *testing.T) {
	t.Parallel()
	set := builtin.Set()
	for _, served := range set.Served() {
		if served.Kind.Virtual {
			continue
		}
		t.Run(served.GVK.String(), func(t *testing.T) {
			t.Parallel()
			o, err := NewOwners(OwnersConfig{Schemas: schemas, Versions: set, Served: served})
			if err != nil {
				t.Fatal(err)
			}
			empty := func() kinds.Object { return served.Kind.New().(kinds.Object) }
			hits := map[string]int{}
			for seed := range int64(40) {
				first, second := random(t, seed, empty), random(t, seed+1000, empty)
				quick := first.DeepCopyObject().(kinds.Object)
				hit := o.fastCreate(empty(), quick, "m")
				if err := o.slowUpdate(empty(), first, "m"); err != nil {
					continue // not an object that the schema allows; the fast way may be more generous
				}
				if hit {
					hits["create"]++
					sameManagersBut(t, seed, first, quick)
				}
				again := first.DeepCopyObject().(kinds.Object)
				vary(again, seed)
				again.SetManagedFields(nil)
				twin := again.DeepCopyObject().(kinds.Object)
				remembered := o.remembered(again, "m")
				if hit := remembered || o.fastCreate(empty(), again, "m"); hit && o.slowUpdate(empty(), twin, "m") == nil {
					if remembered {
						hits["remembered"]++
					}
					sameManagersBut(t, seed, twin, again)
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
			anything := served.GVK.Kind == "ControllerRevision" // its data has no schema: always slow
			if (hits["create"] == 0 || hits["update"] == 0 || hits["remembered"] == 0) && !anything {
				t.Errorf("%v of 40 were fast: the test does not try them", hits)
			}
		})
	}
}

// vary changes values all over an object: strings, numbers and a list or map here and there.
func vary(obj kinds.Object, seed int64) {
	r := rand.New(rand.NewSource(seed))
	var walk func(v reflect.Value)
	walk = func(v reflect.Value) {
		switch v.Kind() {
		case reflect.Pointer, reflect.Interface:
			if !v.IsNil() {
				walk(v.Elem())
			}
		case reflect.Struct:
			for i := range v.NumField() {
				if v.Type().Field(i).IsExported() && v.Type() != reflect.TypeFor[metav1.Time]() {
					walk(v.Field(i))
				}
			}
		case reflect.Slice:
			if r.Intn(40) == 0 {
				v.SetZero()
			}
			for i := range v.Len() {
				walk(v.Index(i))
			}
		case reflect.String:
			if v.CanSet() && r.Intn(20) == 0 {
				v.SetString([]string{"", "x"}[r.Intn(2)])
			}
		case reflect.Int32, reflect.Int64:
			if v.CanSet() && r.Intn(20) == 0 {
				v.SetInt(int64(r.Intn(2)))
			}
		case reflect.Bool:
			if v.CanSet() && r.Intn(20) == 0 {
				v.SetBool(r.Intn(2) == 0)
			}
		}
	}
	walk(reflect.ValueOf(obj))
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
