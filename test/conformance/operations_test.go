package conformance

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/util/retry"
)

// endpoint is one kind's, for what is asked of all kinds alike.
type endpoint struct {
	s   *space
	gvr schema.GroupVersionResource
	dynamic.ResourceInterface
}

// resource is the endpoint in the test's namespace.
func (s *space) resource(gv schema.GroupVersion, plural string) *endpoint {
	gvr := gv.WithResource(plural)
	return &endpoint{s, gvr, s.dynamic.Resource(gvr).Namespace(s.ns)}
}

// global is the endpoint of a kind without namespaces.
func (s *space) global(gv schema.GroupVersion, plural string) *endpoint {
	gvr := gv.WithResource(plural)
	return &endpoint{s, gvr, s.dynamic.Resource(gvr)}
}

// object is a typed object as the dynamic client takes it.
func object(t testing.TB, o runtime.Object) *unstructured.Unstructured {
	t.Helper()
	kinds, _, err := scheme.Scheme.ObjectKinds(o)
	check(t, err)
	content := must(runtime.DefaultUnstructuredConverter.ToUnstructured(o))(t)
	u := &unstructured.Unstructured{Object: content}
	u.SetGroupVersionKind(kinds[0])
	return u
}

func (e *endpoint) get(t testing.TB, name string, subresources ...string) *unstructured.Unstructured {
	t.Helper()
	return must(e.Get(t.Context(), name, metav1.GetOptions{}, subresources...))(t)
}

// edit updates an object or its subresource, again when somebody else was faster.
func (e *endpoint) edit(t testing.TB, name string, edit func(*unstructured.Unstructured), subresources ...string) *unstructured.Unstructured {
	t.Helper()
	var out *unstructured.Unstructured
	check(t, retry.RetryOnConflict(retry.DefaultBackoff, func() error {
		u, err := e.Get(t.Context(), name, metav1.GetOptions{}, subresources...)
		if err != nil {
			return err
		}
		edit(u)
		out, err = e.Update(t.Context(), u, metav1.UpdateOptions{}, subresources...)
		return err
	}))
	return out
}

// merge patches an object or its subresource with a merge patch.
func (e *endpoint) merge(t testing.TB, name string, patch map[string]any, subresources ...string) *unstructured.Unstructured {
	t.Helper()
	data := must(json.Marshal(patch))(t)
	return must(e.Patch(t.Context(), name, types.MergePatchType, data, metav1.PatchOptions{}, subresources...))(t)
}

// names of the objects that a label selector picks.
func (e *endpoint) names(t testing.TB, selector string) []string {
	t.Helper()
	list := must(e.List(t.Context(), metav1.ListOptions{LabelSelector: selector}))(t)
	out := []string{}
	for _, u := range list.Items {
		out = append(out, u.GetName())
	}
	return out
}

// expect waits until a selector picks n objects: deletion takes its time where there are finalizers.
func (e *endpoint) expect(t testing.TB, selector string, n int) {
	t.Helper()
	until(t, fmt.Sprintf("%d %s with %s", n, e.gvr.Resource, selector), func() error {
		list, err := e.List(t.Context(), metav1.ListOptions{LabelSelector: selector})
		if err == nil && len(list.Items) != n {
			err = fmt.Errorf("%d are there", len(list.Items))
		}
		return err
	})
}

// collection deletes three objects with a label by one request, and only those: a fourth without it stays.
func (e *endpoint) collection(t testing.TB, make func(name string) runtime.Object) {
	t.Helper()
	for _, name := range []string{"one", "two", "three", "other"} {
		u := object(t, make(name))
		if name != "other" {
			u.SetLabels(map[string]string{"collection": "yes"})
		}
		must(e.Create(t.Context(), u, metav1.CreateOptions{}))(t)
	}
	if got := fmt.Sprint(e.names(t, "collection=yes")); got != "[one three two]" {
		t.Errorf("the list by label has %s", got)
	}
	e.deleteAll(t, "collection=yes")
	e.expect(t, "collection=yes", 0)
	if u := e.get(t, "other"); u.GetDeletionTimestamp() != nil {
		t.Error("an object that the selector does not pick was deleted too")
	}
}

func (e *endpoint) deleteAll(t testing.TB, selector string) {
	t.Helper()
	policy := metav1.DeletePropagationBackground
	check(t, e.DeleteCollection(t.Context(), metav1.DeleteOptions{PropagationPolicy: &policy}, metav1.ListOptions{LabelSelector: selector}))
}

// conditions of an object, by type.
func conditions(u *unstructured.Unstructured) map[string]map[string]any {
	list, _, _ := unstructured.NestedSlice(u.Object, "status", "conditions")
	out := map[string]map[string]any{}
	for _, c := range list {
		if m, ok := c.(map[string]any); ok {
			kind, _ := m["type"].(string)
			out[kind] = m
		}
	}
	return out
}

// newCondition is a condition that no controller writes, and none may take away.
func newCondition(kind string) map[string]any {
	return map[string]any{
		"type": kind, "status": string(corev1.ConditionTrue), "reason": "Tested", "message": "set by a test",
		"lastTransitionTime": "2026-01-02T03:04:05Z",
	}
}

// status reads, updates and patches a status subresource. What was written must be seen by later reads and by a watch,
// what is not status must not change by way of it, and the status not by way of the object.
func (e *endpoint) status(t testing.TB, name string) {
	t.Helper()
	first := e.get(t, name, "status")
	if first.GetName() != name {
		t.Fatalf("status of %s: %v", name, first)
	}
	if _, found, _ := unstructured.NestedMap(first.Object, "status"); !found {
		t.Errorf("there is no status in %v", first)
	}
	w := must(e.Watch(t.Context(), metav1.ListOptions{FieldSelector: "metadata.name=" + name, ResourceVersion: first.GetResourceVersion()}))(t)
	defer w.Stop()
	add := func(kind string) func(*unstructured.Unstructured) {
		return func(u *unstructured.Unstructured) {
			list, _, _ := unstructured.NestedSlice(u.Object, "status", "conditions")
			check(t, unstructured.SetNestedSlice(u.Object, append(list, newCondition(kind)), "status", "conditions"))
			raiseNumbers(t, u)
		}
	}
	e.edit(t, name, add("StatusUpdate"), "status")
	awaitCondition(t, w, "StatusUpdate")
	if _, ok := conditions(e.get(t, name))["StatusUpdate"]; !ok {
		t.Error("a read does not show the condition that was written by an update of the status")
	}
	e.patchStatus(t, name)
	awaitCondition(t, w, "StatusPatch")
	now := e.get(t, name)
	if _, ok := conditions(now)["StatusPatch"]; !ok {
		t.Error("a read does not show the condition that was written by a patch of the status")
	}
	if !sameSpec(first, now) {
		t.Errorf("the status endpoint changed the spec from %v to %v", first.Object["spec"], now.Object["spec"])
	}
	e.edit(t, name, func(u *unstructured.Unstructured) {
		check(t, unstructured.SetNestedSlice(u.Object, []any{newCondition("Smuggled")}, "status", "conditions"))
	})
	if got := conditions(e.get(t, name)); got["Smuggled"] != nil || got["StatusPatch"] == nil {
		t.Errorf("an update of the object wrote the status: %v", got)
	}
}

// raiseNumbers changes every number of a spec; each kind has one.
func raiseNumbers(t testing.TB, u *unstructured.Unstructured) {
	t.Helper()
	spec, _, _ := unstructured.NestedMap(u.Object, "spec")
	raised := false
	for key, v := range spec {
		if n, ok := v.(int64); ok {
			check(t, unstructured.SetNestedField(u.Object, n+1, "spec", key))
			raised = true
		}
	}
	if !raised {
		t.Fatalf("no number in %v", spec)
	}
}

// patchStatus adds a condition and an annotation by a merge patch, again when the conditions changed meanwhile.
func (e *endpoint) patchStatus(t testing.TB, name string) {
	t.Helper()
	check(t, retry.RetryOnConflict(retry.DefaultBackoff, func() error {
		u := e.get(t, name)
		list, _, _ := unstructured.NestedSlice(u.Object, "status", "conditions")
		data := must(json.Marshal(map[string]any{
			"metadata": map[string]any{"annotations": map[string]any{"patched": "yes"}, "resourceVersion": u.GetResourceVersion()},
			"status":   map[string]any{"conditions": append(list, newCondition("StatusPatch"))},
		}))(t)
		patched, err := e.Patch(t.Context(), name, types.MergePatchType, data, metav1.PatchOptions{}, "status")
		if err == nil && patched.GetAnnotations()["patched"] != "yes" {
			t.Errorf("the annotation of a patch of the status is not there: %v", patched.GetAnnotations())
		}
		return err
	}))
}

func sameSpec(a, b *unstructured.Unstructured) bool {
	return fmt.Sprint(a.Object["spec"]) == fmt.Sprint(b.Object["spec"])
}

// awaitCondition waits for an event that shows the condition.
func awaitCondition(t testing.TB, w watch.Interface, kind string) {
	t.Helper()
	awaitEvent(t, w, "the condition "+kind, func(event watch.Event) bool {
		u, ok := event.Object.(*unstructured.Unstructured)
		return ok && conditions(u)[kind] != nil
	})
}

// scale reads, updates and patches a scale subresource. settled waits until so many replicas run.
func (e *endpoint) scale(t testing.TB, name string, settled func(n int)) {
	t.Helper()
	expect := func(n int64) {
		t.Helper()
		settled(int(n))
		until(t, fmt.Sprintf("the scale to say %d", n), func() error {
			u, err := e.Get(t.Context(), name, metav1.GetOptions{}, "scale")
			if err != nil {
				return err
			}
			want, _, _ := unstructured.NestedInt64(u.Object, "spec", "replicas")
			have, _, _ := unstructured.NestedInt64(u.Object, "status", "replicas")
			if u.GetKind() != "Scale" || want != n || have != n {
				return fmt.Errorf("%s %d of %d", u.GetKind(), have, want)
			}
			return nil
		})
		if got, _, _ := unstructured.NestedInt64(e.get(t, name).Object, "spec", "replicas"); got != n {
			t.Errorf("spec.replicas is %d, the scale was set to %d", got, n)
		}
	}
	expect(1)
	e.edit(t, name, func(u *unstructured.Unstructured) {
		check(t, unstructured.SetNestedField(u.Object, int64(2), "spec", "replicas"))
	}, "scale")
	expect(2)
	e.merge(t, name, map[string]any{"spec": map[string]any{"replicas": 3}}, "scale")
	expect(3)
}

// operations creates, reads, lists, watches, updates, patches and deletes an object, and asks discovery for its kind.
func (e *endpoint) operations(t testing.TB, o runtime.Object) {
	t.Helper()
	e.discovered(t)
	empty := must(e.List(t.Context(), metav1.ListOptions{LabelSelector: "operations=yes"}))(t)
	w := must(e.Watch(t.Context(), metav1.ListOptions{LabelSelector: "operations=yes", ResourceVersion: empty.GetResourceVersion()}))(t)
	defer w.Stop()
	u := object(t, o)
	u.SetLabels(map[string]string{"operations": "yes"})
	name := must(e.Create(t.Context(), u, metav1.CreateOptions{}))(t).GetName()
	awaitAnnotation(t, w, watch.Added, "")
	if got := e.names(t, "operations=yes"); fmt.Sprint(got) != "["+name+"]" {
		t.Errorf("list: %v", got)
	}
	if everywhere := must(e.s.dynamic.Resource(e.gvr).List(t.Context(), metav1.ListOptions{LabelSelector: "operations=yes"}))(t); !contains(everywhere, e.get(t, name)) {
		t.Errorf("the list of all namespaces lacks %s", name)
	}
	updated := e.edit(t, name, func(u *unstructured.Unstructured) { u.SetAnnotations(map[string]string{"was": "updated"}) })
	awaitAnnotation(t, w, watch.Modified, "updated")
	patched := e.merge(t, name, map[string]any{"metadata": map[string]any{"annotations": map[string]any{"was": "patched"}}})
	awaitAnnotation(t, w, watch.Modified, "patched")
	if updated.GetResourceVersion() == patched.GetResourceVersion() || e.get(t, name).GetAnnotations()["was"] != "patched" {
		t.Errorf("after a patch: %v", e.get(t, name))
	}
	updated.SetAnnotations(map[string]string{"was": "late"})
	if _, err := e.Update(t.Context(), updated, metav1.UpdateOptions{}); !apierrors.IsConflict(err) {
		t.Errorf("an update of an old version: %v, want a conflict", err)
	}
	check(t, e.Delete(t.Context(), name, metav1.DeleteOptions{}))
	awaitAnnotation(t, w, watch.Deleted, "patched")
	gone(t, name, func() (*unstructured.Unstructured, error) { return e.Get(t.Context(), name, metav1.GetOptions{}) })
}

func contains(list *unstructured.UnstructuredList, u *unstructured.Unstructured) bool {
	for _, x := range list.Items {
		if x.GetUID() == u.GetUID() {
			return true
		}
	}
	return false
}

// discovered asks the server for the kind in its groups, its version and there its resources and verbs.
func (e *endpoint) discovered(t testing.TB) {
	t.Helper()
	groups := must(e.s.Client.Discovery().ServerGroups())(t)
	found := e.gvr.Group == "" // the core group is not among the named ones
	for _, g := range groups.Groups {
		for _, v := range g.Versions {
			found = found || g.Name == e.gvr.Group && v.GroupVersion == e.gvr.GroupVersion().String()
		}
	}
	if !found {
		t.Errorf("%s is not among the groups", e.gvr.GroupVersion())
	}
	list := must(e.s.Client.Discovery().ServerResourcesForGroupVersion(e.gvr.GroupVersion().String()))(t)
	for _, x := range list.APIResources {
		if x.Name != e.gvr.Resource {
			continue
		}
		for _, verb := range []string{"create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"} {
			if !slices.Contains(x.Verbs, verb) {
				t.Errorf("%s lacks the verb %s", x.Name, verb)
			}
		}
		return
	}
	t.Errorf("%s is not among the resources of %s", e.gvr.Resource, list.GroupVersion)
}

func awaitAnnotation(t testing.TB, w watch.Interface, what watch.EventType, was string) {
	t.Helper()
	awaitEvent(t, w, fmt.Sprintf("%s with annotation %q", what, was), func(e watch.Event) bool {
		u, ok := e.Object.(*unstructured.Unstructured)
		return ok && e.Type == what && u.GetAnnotations()["was"] == was
	})
}
