package builtin_test

import (
	"bytes"
	"encoding/json"
	"math/rand"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metafuzzer "k8s.io/apimachinery/pkg/apis/meta/fuzzer"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/intstr"
	metricsv1beta1 "k8s.io/metrics/pkg/apis/metrics/v1beta1"
	"sigs.k8s.io/randfill"

	"canopus/internal/kinds"
	"canopus/internal/kinds/builtin"
)

// eachKind runs f for every built-in kind in parallel.
func eachKind(t *testing.T, f func(t *testing.T, k *kinds.Kind)) {
	for _, k := range builtin.Whole().Kinds() {
		t.Run(k.GroupResource().String(), func(t *testing.T) {
			t.Parallel()
			f(t, k)
		})
	}
}

func filler(seed uint64) *randfill.Filler {
	codecs := serializer.NewCodecFactory(runtime.NewScheme())
	f := randfill.New().NilChance(.3).NumElements(0, 3).MaxDepth(12).Funcs(
		func(q *intstr.IntOrString, c randfill.Continue) {
			if c.Bool() {
				*q = intstr.FromInt32(int32(c.Uint32() >> 1))
				return
			}
			*q = intstr.FromString(c.String(8))
		},
	)
	raw := func(r *runtime.RawExtension, c randfill.Continue) {
		if c.Bool() {
			r.Raw = []byte(`{"a":"b"}`)
		}
	}
	for _, fn := range metafuzzer.Funcs(codecs) {
		f.Funcs(fn)
	}
	f.Funcs(raw)
	f.Funcs(shapes()...)
	return f.RandSource(rand.NewSource(int64(seed)))
}

// bare is obj as the store gives it back: without kind, apiVersion and resourceVersion.
func bare(obj runtime.Object) runtime.Object {
	obj.GetObjectKind().SetGroupVersionKind(schema.GroupVersionKind{})
	return obj
}

func TestEveryKindRoundTrips(t *testing.T) {
	t.Parallel()
	eachKind(t, func(t *testing.T, k *kinds.Kind) {
		codec := kinds.NewCodec(k)
		for seed := range uint64(20) {
			obj := k.New().(kinds.Object)
			filler(seed).Fill(obj)
			obj.SetResourceVersion("")
			k.Default(obj)
			want := bare(obj.DeepCopyObject())

			stored, beside, err := codec.Encode(obj)
			if err != nil {
				t.Fatal(err)
			}
			got, err := codec.Decode(stored)
			if err != nil {
				t.Fatal(err)
			}
			if !apiequality.Semantic.DeepEqual(want, got) {
				t.Fatalf("seed %d: stored form changed the object:\n%s", seed, cmp.Diff(want, got))
			}
			served, err := codec.Serve(obj)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(beside, served) {
				t.Fatalf("seed %d: Encode serves\n%x\nServe\n%x", seed, beside, served)
			}
			parsed, err := codec.Parse(served)
			if err != nil {
				t.Fatal(err)
			}
			if !apiequality.Semantic.DeepEqual(want, parsed) {
				t.Fatalf("seed %d: served form changed the object:\n%s", seed, cmp.Diff(want, parsed))
			}
		}
	})
}

func TestJSONStoredValuesAreRead(t *testing.T) {
	t.Parallel()
	eachKind(t, func(t *testing.T, k *kinds.Kind) {
		codec := kinds.NewCodec(k)
		obj := k.New().(kinds.Object)
		obj.SetName("a")
		k.Default(obj)
		want := bare(obj.DeepCopyObject())
		obj.GetObjectKind().SetGroupVersionKind(k.GVK)
		data, err := json.Marshal(obj)
		if err != nil {
			t.Fatal(err)
		}
		got, err := codec.Decode(data)
		if err != nil {
			t.Fatal(err)
		}
		if !apiequality.Semantic.DeepEqual(want, got) {
			t.Fatal(cmp.Diff(want, got))
		}
		plain, err := codec.JSON(obj)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(plain), `"apiVersion":"`+k.GVK.GroupVersion().String()) {
			t.Fatalf("JSON of a list item names its version: %s", plain)
		}
	})
}

func TestDefaultsAreIdempotent(t *testing.T) {
	t.Parallel()
	eachKind(t, func(t *testing.T, k *kinds.Kind) {
		for seed := range uint64(20) {
			obj := k.New().(kinds.Object)
			filler(seed).Fill(obj)
			k.Default(obj)
			once := obj.DeepCopyObject()
			k.Default(obj)
			if !apiequality.Semantic.DeepEqual(once, obj) {
				t.Fatalf("seed %d: a second defaulting changed the object:\n%s", seed, cmp.Diff(once, obj))
			}
		}
	})
}

// TestNothingPanics drives every function of every kind with empty and with random objects, defaulted and not.
func TestNothingPanics(t *testing.T) {
	t.Parallel()
	eachKind(t, func(t *testing.T, k *kinds.Kind) {
		empty, old := k.New().(kinds.Object), k.New().(kinds.Object)
		drive(t, k, empty, old)
		for seed := range uint64(30) {
			driveRandom(t, k, seed)
		}
	})
}

// FuzzRules is TestNothingPanics for as long as one likes.
func FuzzRules(f *testing.F) {
	all := builtin.Whole().Kinds()
	for i := range all {
		f.Add(uint16(i), uint64(0))
	}
	f.Fuzz(func(t *testing.T, kind uint16, seed uint64) { driveRandom(t, all[int(kind)%len(all)], seed) })
}

func driveRandom(t *testing.T, k *kinds.Kind, seed uint64) {
	t.Helper()
	f := filler(seed)
	obj, old := k.New().(kinds.Object), k.New().(kinds.Object)
	f.Fill(obj)
	f.Fill(old)
	if seed%2 == 0 {
		k.Default(obj)
		k.Default(old)
	}
	drive(t, k, obj, old)
}

func drive(t *testing.T, k *kinds.Kind, obj, old kinds.Object) {
	t.Helper()
	clone := func(o kinds.Object) kinds.Object { return o.DeepCopyObject().(kinds.Object) }
	now := time.Unix(1_700_000_000, 0)
	before := clone(old)
	k.Validate(clone(obj))
	k.ValidateUpdate(clone(obj), old)
	for _, v := range k.Versions {
		if v.Validate != nil {
			v.Validate(clone(obj))
		}
		if v.ValidateUpdate != nil {
			v.ValidateUpdate(clone(obj), old)
		}
	}
	k.Warnings(clone(obj), nil)
	k.Warnings(clone(obj), old)
	k.PrepareCreate(clone(obj))
	updated := clone(obj)
	k.PrepareUpdate(updated, old)
	k.ValidateUpdate(updated, old)
	if cells := k.Cells(obj, now); len(cells) != len(k.Columns) {
		t.Fatalf("%d cells for %d columns", len(cells), len(k.Columns))
	}
	for name, get := range k.Fields {
		_ = get(obj)
		_ = name
	}
	if k.TTL != nil {
		k.TTL(obj)
	}
	if k.Grace != nil {
		k.Grace(obj, nil)
	}
	if s := k.Scale; s != nil {
		s.Replicas(obj)
		s.Selector(obj)
		s.SetReplicas(clone(obj), 3)
	}
	for _, s := range k.Subresources {
		changed := clone(obj)
		if s.PrepareUpdate != nil {
			s.PrepareUpdate(changed, old)
		}
		if s.ValidateUpdate != nil {
			s.ValidateUpdate(changed, old)
		}
	}
	for i := range k.Versions {
		v := &k.Versions[i]
		out, err := v.FromHub(obj)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := v.ToHub(out); err != nil {
			t.Fatal(err)
		}
	}
	if !apiequality.Semantic.DeepEqual(before, old) {
		t.Fatalf("the old object was changed:\n%s", cmp.Diff(before, old))
	}
}

// TestOtherVersionsConvertBothWays: nothing is lost between a version and the hub.
func TestOtherVersionsConvertBothWays(t *testing.T) {
	t.Parallel()
	eachKind(t, func(t *testing.T, k *kinds.Kind) {
		for _, v := range k.Versions {
			for seed := range uint64(20) {
				hub := k.New()
				filler(seed).Fill(hub)
				bare(hub)
				out, err := v.FromHub(hub.DeepCopyObject())
				if err != nil {
					t.Fatal(err)
				}
				back, err := v.ToHub(out)
				if err != nil {
					t.Fatal(err)
				}
				if !apiequality.Semantic.DeepEqual(hub, back) {
					t.Fatalf("%s: %s", v.Version, cmp.Diff(hub, back))
				}
			}
		}
	})
}

// TestPublishedExamplesDecode reads the examples that k8s.io/api publishes of every version that is served.
func TestPublishedExamplesDecode(t *testing.T) {
	t.Parallel()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "k8s.io/api").Output()
	if err != nil {
		t.Skipf("no go command to find the examples with: %v", err)
	}
	dir := filepath.Join(strings.TrimSpace(string(out)), "testdata", "HEAD")
	set := builtin.Whole()
	for _, served := range set.Served() {
		if served.GVK.Group == metricsv1beta1.GroupName {
			continue // not of k8s.io/api: there are no examples
		}
		group := served.GVK.Group
		if group == "" {
			group = "core"
		}
		t.Run(served.GVK.String(), func(t *testing.T) {
			t.Parallel()
			base := filepath.Join(dir, group+"."+served.GVK.Version+"."+served.GVK.Kind)
			if diff := cmp.Diff(decodeExample(t, served.Kind, base+".json"), decodeExample(t, served.Kind, base+".pb")); diff != "" {
				t.Fatalf("JSON and protobuf of the example differ:\n%s", diff)
			}
		})
	}
}

// decodeExample returns the example as JSON, which is the same whatever form it was read from.
func decodeExample(t *testing.T, k *kinds.Kind, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	obj, err := kinds.NewCodec(k).Decode(data)
	if err != nil {
		t.Fatal(err)
	}
	out, err := kinds.NewCodec(k).JSON(obj)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// TestKindsAreWhole checks what New cannot: names that clients use, and that what changes has a generation.
func TestKindsAreWhole(t *testing.T) {
	t.Parallel()
	eachKind(t, func(t *testing.T, k *kinds.Kind) {
		if k.Plural != strings.ToLower(k.Plural) || k.Singular == "" {
			t.Errorf("names %q, %q", k.Plural, k.Singular)
		}
		if !slices.IsSorted(k.Verbs) {
			t.Errorf("verbs are not sorted as discovery shows them: %v", k.Verbs)
		}
		names := map[string]bool{}
		for _, c := range k.Columns {
			if names[c.Name] || c.Description == "" || c.Type == "" {
				t.Errorf("column %+v", c)
			}
			names[c.Name] = true
		}
		if !k.Virtual {
			if _, ok := k.NewList().(metav1.ListInterface); !ok {
				t.Errorf("%T is no list", k.NewList())
			}
		}
	})
}

func FuzzDecode(f *testing.F) {
	set := builtin.Whole().Kinds()
	for _, k := range set {
		obj := k.New().(kinds.Object)
		obj.SetName("seed")
		if data, _, err := kinds.NewCodec(k).Encode(obj); err == nil {
			f.Add(data)
		}
	}
	f.Add([]byte(`{"kind":"Pod","apiVersion":"v1","spec":{"containers":[{}]}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, k := range set {
			obj, err := kinds.NewCodec(k).Decode(data)
			if err != nil {
				continue
			}
			hub := obj.(kinds.Object)
			k.Validate(hub)
			k.Cells(hub, time.Unix(0, 0))
		}
	})
}
