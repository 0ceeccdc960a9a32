package patch

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
)

// TestPartEqualsWhole patches the part that a patch speaks of, and the whole object, and compares.
func TestPartEqualsWhole(t *testing.T) {
	t.Parallel()
	pod := withStatus(stored(t, owners(t, podGVK, ""), testPod(), "controller"))
	before := pod.DeepCopy()
	for _, body := range []string{
		`{}`, `{"status":{"phase":"Running","podIP":"10.0.0.1"}}`, `{"status":null}`, `{"spec":{"nodeName":"n"},"metadata":{"labels":{"a":"b","tier":null}}}`,
		`{"metadata":null}`, `{"metadata":{"annotations":{"x":"y"},"finalizers":["a/b"]}}`, `{"kind":"Pod","apiVersion":"v1","metadata":{"uid":"u"}}`,
		`{"spec":{"containers":[{"name":"web","image":"demo:9"}]}}`, `{"unknown":1,"spec":{"also":{"unknown":true}}}`, `{"kind":"Node"}`, `{"spec":7}`,
		`{"$patch":"replace","metadata":{"name":"x"}}`, `{"metadata":{"managedFields":[]}}`, `{"metadata":{"managedFields":null}}`, `{"spec":{"nodeName":`,
		`{"status":{"conditions":[{"type":"Ready","$patch":"delete"}]}}`, `{"spec":{"$setElementOrder/containers":[{"name":"web"}]}}`, `[]`, `null`,
	} {
		for _, kind := range []types.PatchType{types.MergePatchType, types.StrategicMergePatchType} {
			p := Patch{Type: kind, Body: []byte(body), GVK: podGVK, Validation: Warn}
			apply := p.applyMerge
			if kind == types.StrategicMergePatchType {
				apply = p.applyStrategic
			}
			whole, wholeStrict, wholeErr := apply(pod)
			part, join := p.narrow(pod)
			joined, partStrict, partErr := join(apply(part))
			if (wholeErr == nil) != (partErr == nil) || len(wholeStrict) != len(partStrict) {
				t.Errorf("%s %s: whole %v %v, part %v %v", kind, body, wholeErr, wholeStrict, partErr, partStrict)
				continue
			}
			if wholeErr == nil && !equality.Semantic.DeepEqual(managed(whole, pod), managed(joined, pod)) {
				t.Errorf("%s %s: whole\n%v\npart\n%v", kind, body, whole, joined)
			}
		}
	}
	if !equality.Semantic.DeepEqual(before, pod) {
		t.Error("a patch has changed the object that it was applied to")
	}
}

// managed fills in the managers where a patch has dropped all: an update that names none leaves them be.
func managed(obj runtime.Object, from *corev1.Pod) *corev1.Pod {
	p := obj.(*corev1.Pod)
	if p.ManagedFields == nil {
		p.ManagedFields = from.ManagedFields
	}
	return p
}
