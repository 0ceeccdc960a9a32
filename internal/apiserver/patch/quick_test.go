package patch

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/strategicpatch"

	"canopus/internal/kinds"
	"canopus/internal/kinds/builtin"
)

// TestQuickEqualsWhole patches field by field, and by way of JSON, and compares. What is refused or warned of is not for
// the quick way.
func TestQuickEqualsWhole(t *testing.T) {
	t.Parallel()
	pod := withStatus(stored(t, owners(t, podGVK, ""), testPod(), "controller"))
	before := pod.DeepCopy()
	both := []types.PatchType{types.MergePatchType, types.StrategicMergePatchType}
	for _, c := range []struct {
		kinds  []types.PatchType
		quick  bool
		bodies []string
	}{
		{both, true, []string{
			`{}`, `{"status":null}`, `{"metadata":null}`, `{"kind":"Pod","apiVersion":"v1","metadata":{"uid":"u"}}`,
			`{"status":{"phase":"Running","podIP":"10.0.0.1","startTime":"2026-11-21T10:00:00Z"}}`,
			`{"spec":{"nodeName":"n"},"metadata":{"labels":{"a":"b","tier":null}}}`,
			`{"metadata":{"annotations":{"x":"y"},"finalizers":["a/b"]}}`,
			`{"metadata":{"labels":{"$patch":"replace"}}}`,
			`{"spec":{"containers":[{"name":"web","image":"demo:9"}]}}`,
			`{"spec":{"containers":[{"name":"web","resources":{"limits":{"cpu":"1"}}}],"overhead":{"cpu":1}}}`,
			`{"spec":{"securityContext":{"runAsUser":7,"seLinuxOptions":{"level":"s0"}},"affinity":{}}}`,
			`{"spec":{"priority":3,"enableServiceLinks":false,"terminationGracePeriodSeconds":null,"activeDeadlineSeconds":9}}`,
			`{"spec":{"dnsConfig":{"options":[{"name":"a"}],"searches":["b"]},"nodeSelector":{"z":null},"volumes":[{"name":"v","emptyDir":{}}]}}`,
			`{"status":{"conditions":[{"type":"Ready","status":"True","lastTransitionTime":null}],"containerStatuses":null}}`,
		}},
		{both, false, []string{
			`{"unknown":1,"spec":{"also":{"unknown":true}}}`, `{"spec":{"containers":[{"name":"web","imagine":"demo:9"}]}}`,
			`{"kind":"Node"}`, `{"spec":7}`, `{"spec":{"priority":"1"}}`, `{"spec":{"priority":1.5}}`, `{"status":{"startTime":"yesterday"}}`,
			`{"status":{"phase":{"is":"Running"}}}`, `{"metadata":{"labels":{"a":1}}}`, `{"metadata":{"labels":["a"]}}`,
			`{"metadata":{"labels":{"a":"1","a":"2"}}}`, `{"$patch":"replace","metadata":{"name":"x"}}`,
			`{"metadata":{"managedFields":[]}}`, `{"metadata":{"managedFields":null}}`, `{"metadata":{"managed\u0046ields":[{}]}}`, `{"spec":{"nodeName":`, `[]`, `null`,
			`{"status":{"conditions":[{"type":7}]}}`, `{"Status":{"phase":"Running"}}`, `{"$setElementOrder/containers":[{"name":"w"}]}`,
		}},
		{both[:1], false, []string{`{"spec":{"priority":99999999999}}`, `{"metadata":{"$retainKeys":["name"]}}`}},
		{both[1:], false, []string{ // a directive for what is no list, or for a list that is not there
			`{"metadata":{"$deleteFromPrimitiveList/namespace":"x"}}`, `{"metadata":{"$setElementOrder/labels":["a"],"labels":{"a":"b"}}}`,
			`{"metadata":{"$setElementOrder/finalizers":["a/b"],"finalizers":null}}`,
			`{"status":{"$setElementOrder/conditions":[{"type":"Ready"}],"conditions":null}}`,
		}},
		{both[1:], true, []string{
			`{"metadata":{"$retainKeys":["name"]}}`,
			`{"status":{"conditions":[{"type":"Ready","$patch":"delete"}]}}`,
			`{"status":{"$setElementOrder/conditions":[{"type":"Initialized"},{"type":"Ready"}],"conditions":[{"type":"Ready","status":"True"}],"phase":"Failed"}}`,
			`{"spec":{"$setElementOrder/containers":[{"name":"web"}]}}`,
			`{"metadata":{"$deleteFromPrimitiveList/finalizers":["a/b"],"finalizers":["c/d"]}}`,
			`{"spec":{"securityContext":{"$patch":"replace","runAsUser":7}}}`,
			`{"spec":{"affinity":{"nodeAffinity":{"$patch":"delete"}}}}`,
		}},
	} {
		for _, body := range c.bodies {
			for _, kind := range c.kinds {
				p := Patch{Type: kind, Body: []byte(body), GVK: podGVK, Validation: Warn}
				if hit := sameAsWhole(t, p, pod); hit != c.quick {
					t.Errorf("%s %s: quick is %v", kind, body, hit)
				}
			}
		}
	}
	if !equality.Semantic.DeepEqual(before, pod) {
		t.Error("a patch has changed the object that it was applied to")
	}
}

// TestQuickEqualsWholeOnRandomObjects makes patches between random objects of every built-in kind, and applies them to those
// that they were made for and to others.
func TestQuickEqualsWholeOnRandomObjects(t *testing.T) {
	t.Parallel()
	for _, k := range builtin.Set().Kinds() {
		if k.Virtual {
			continue
		}
		t.Run(k.GVK.String(), func(t *testing.T) {
			t.Parallel()
			empty := func() kinds.Object { return k.New().(kinds.Object) }
			hits, all := 0, 0
			for seed := range int64(8) {
				a, other := random(t, seed, empty), random(t, seed+1000, empty)
				b := a.DeepCopyObject().(kinds.Object)
				vary(b, seed)
				for _, to := range []kinds.Object{b, other} {
					for kind, body := range between(t, a, to) {
						for _, on := range []kinds.Object{a, other, empty()} {
							p := Patch{Type: kind, Body: body, GVK: k.GVK, Validation: Warn}
							all++
							if sameAsWhole(t, p, on) {
								hits++
							}
						}
					}
				}
			}
			if hits < all/3 {
				t.Errorf("%d of %d patches were quick: the test does not try them", hits, all)
			}
		})
	}
}

// between returns the patches that lead from one object to another.
func between(t *testing.T, from, to kinds.Object) map[types.PatchType][]byte {
	t.Helper()
	a, errA := json.Marshal(from)
	b, errB := json.Marshal(to)
	merge, errMerge := jsonpatch.CreateMergePatch(a, b)
	if errA != nil || errB != nil || errMerge != nil {
		t.Fatal(errA, errB, errMerge)
	}
	out := map[types.PatchType][]byte{types.MergePatchType: merge}
	if strategic, err := strategicpatch.CreateTwoWayMergePatch(a, b, from); err == nil { // not where two items have one key
		out[types.StrategicMergePatchType] = strategic
	}
	return out
}

// sameAsWhole reports whether the quick way takes p, and fails the test if it makes something else of it.
func sameAsWhole(t *testing.T, p Patch, on runtime.Object) bool {
	t.Helper()
	quick := p.quickly(on)
	if quick == nil {
		return false
	}
	apply := p.applyMerge
	if p.Type == types.StrategicMergePatchType {
		apply = p.applyStrategic
	}
	whole, strict, err := apply(on)
	if err != nil || len(strict) > 0 {
		t.Errorf("%s %s: quick takes it, whole says %v %v", p.Type, p.Body, err, strict)
		return true
	}
	if want, got := fieldsOf(t, managed(whole, on)), fieldsOf(t, managed(quick, on)); !equality.Semantic.DeepEqual(want, got) {
		t.Errorf("%s %s: -whole +quick\n%s", p.Type, p.Body, cmp.Diff(want, got))
	}
	return true
}

// fieldsOf is obj as a client reads it: raw JSON within keeps its order in one way and not in the other.
func fieldsOf(t *testing.T, obj runtime.Object) (out map[string]any) {
	t.Helper()
	data, err := json.Marshal(obj)
	if err == nil {
		err = json.Unmarshal(data, &out)
	}
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// managed fills in the managers where a patch has dropped all: an update that names none leaves them be.
func managed(obj, from runtime.Object) runtime.Object {
	if m := obj.(metav1.Object); m.GetManagedFields() == nil {
		m.SetManagedFields(from.(metav1.Object).GetManagedFields())
	}
	return obj
}

// BenchmarkPatchPodStatus is the patch that a node sends most.
func BenchmarkPatchPodStatus(b *testing.B) {
	pod := withStatus(stored(b, owners(b, podGVK, ""), testPod(), "controller"))
	for name, body := range map[string]string{
		"scalars":    `{"status":{"phase":"Running","podIP":"10.0.0.1","startTime":"2026-11-21T10:00:00Z"}}`,
		"conditions": `{"status":{"$setElementOrder/conditions":[{"type":"Initialized"},{"type":"Ready"}],"conditions":[{"type":"Ready","status":"True"}]}}`,
	} {
		p := Patch{Type: types.StrategicMergePatchType, Body: []byte(body), GVK: corev1.SchemeGroupVersion.WithKind("Pod"), Validation: Warn}
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, _, err := Apply(pod, p); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
