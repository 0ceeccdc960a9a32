package patch

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// managers writes entries as "manager/operation/subresource fields" lines.
func managers(entries []metav1.ManagedFieldsEntry) string {
	var out []string
	for _, e := range entries {
		out = append(out, e.Manager+" "+string(e.Operation)+" "+e.Subresource+" "+string(e.FieldsV1.GetRawBytes()))
	}
	return strings.Join(out, "\n")
}

func TestOwnersOfAConfigMap(t *testing.T) {
	t.Parallel()
	o := owners(t, configMapGVK, "")
	live := stored(t, o, &corev1.ConfigMap{Data: map[string]string{"a": "1", "b": "1"}}, "kubectl")
	if got, want := managers(live.ManagedFields), `kubectl Update  {"f:data":{".":{},"f:a":{},"f:b":{}}}`; got != want {
		t.Errorf("after the create:\n%s\nwant\n%s", got, want)
	}

	next := live.DeepCopy()
	next.Data["b"] = "2"
	if err := o.Update(live, next, ""); err != nil {
		t.Fatal(err)
	}
	want := `kubectl Update  {"f:data":{".":{},"f:a":{}}}` + "\n" + `unknown Update  {"f:data":{"f:b":{}}}`
	if got := managers(next.ManagedFields); got != want {
		t.Errorf("after another's update:\n%s\nwant\n%s", got, want)
	}

	same := next.DeepCopy()
	if err := o.Update(next, same, "third"); err != nil {
		t.Fatal(err)
	}
	if got := managers(same.ManagedFields); got != want {
		t.Errorf("an update that changes nothing gave\n%s", got)
	}

	for _, reset := range [][]metav1.ManagedFieldsEntry{{}, {{}}} {
		fresh := next.DeepCopy()
		fresh.ManagedFields = reset
		if err := o.Update(next, fresh, "third"); err != nil {
			t.Fatal(err)
		}
		if len(fresh.ManagedFields) != 0 {
			t.Errorf("after a reset with %v:\n%s", reset, managers(fresh.ManagedFields))
		}
	}
}

func TestApplyConflict(t *testing.T) {
	t.Parallel()
	o := owners(t, configMapGVK, "")
	live := stored(t, o, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "c"}, Data: map[string]string{"a": "1", "b": "1"}}, "kubectl")
	wish := Wish{Body: []byte("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata: {a: '2', c: '3'}\n"), Manager: "gitops", Validation: Strict}

	_, _, err := o.Apply(live, wish)
	var status apierrors.APIStatus
	if !errors.As(err, &status) || !apierrors.IsConflict(err) {
		t.Fatalf("error is %v, want a conflict", err)
	}
	causes := status.Status().Details.Causes
	if len(causes) != 1 || causes[0].Type != metav1.CauseTypeFieldManagerConflict || causes[0].Field != ".data.a" {
		t.Errorf("causes are %+v", causes)
	}
	if !strings.HasPrefix(err.Error(), `Apply failed with 1 conflict: conflict with "kubectl" using v1`) {
		t.Errorf("message is %q", err)
	}

	wish.Force = true
	out, _, err := o.Apply(live, wish)
	if err != nil {
		t.Fatal(err)
	}
	got := out.(*corev1.ConfigMap)
	if got.Data["a"] != "2" || got.Data["b"] != "1" || got.Data["c"] != "3" {
		t.Errorf("data is %v", got.Data)
	}
	want := `gitops Apply  {"f:data":{"f:a":{},"f:c":{}}}` + "\n" + `kubectl Update  {"f:data":{".":{},"f:b":{}}}`
	if m := managers(got.ManagedFields); m != want {
		t.Errorf("managers:\n%s\nwant\n%s", m, want)
	}

	wish.Body = []byte(`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"c"},"data":{"a":"2"}}`)
	out, _, err = o.Apply(got, wish)
	if err != nil {
		t.Fatal(err)
	}
	if _, still := out.(*corev1.ConfigMap).Data["c"]; still {
		t.Error("a field that is no longer wished for stayed")
	}
}

func TestApplyRefuses(t *testing.T) {
	t.Parallel()
	o := owners(t, deploymentGVK, "")
	head := "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d}\n"
	for name, c := range map[string]struct{ body, say string }{
		"unknown field":  {head + "spec: {foo: 1}\n", ".spec.foo: field not declared in schema"},
		"wrong type":     {head + "spec: {replicas: many}\n", ".spec.replicas"},
		"fraction":       {head + "spec: {replicas: 1.5}\n", "cannot convert float64 to int32"},
		"other version":  {"apiVersion: v1\nkind: Deployment\n", "invalid object type"},
		"managers":       {head + "spec: {}\n" + "x: 1\n", "field not declared in schema"},
		"managed fields": {"apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d, managedFields: [{manager: x}]}\n", "metadata.managedFields must be nil"},
		"not yaml":       {"a: [", "error decoding YAML"},
		"a list":         {"[1]", "error decoding YAML"},
		"null":           {"null", "error decoding YAML"},
		"twice":          {head + "spec: {replicas: 1, replicas: 2}\n", `key "replicas" already set in map`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, _, err := o.Apply(&appsv1.Deployment{}, Wish{Body: []byte(c.body), Manager: "m", Validation: Strict})
			wantStatus(t, err, http.StatusBadRequest, c.say)
		})
	}
}

func TestStatusAndObjectHaveTheirOwnOwners(t *testing.T) {
	t.Parallel()
	main, status := owners(t, podGVK, ""), owners(t, podGVK, "status")
	live := stored(t, main, withStatus(testPod()), "kubectl")
	if strings.Contains(managers(live.ManagedFields), "f:status\":{\"f:phase") {
		t.Errorf("a create came to own status:\n%s", managers(live.ManagedFields))
	}
	next := live.DeepCopy()
	next.Status.Phase, next.Spec.NodeName = corev1.PodFailed, "n1"
	next.ManagedFields = nil
	if err := status.Update(live, next, "node"); err != nil {
		t.Fatal(err)
	}
	if got := managers(next.ManagedFields); !strings.Contains(got, `node Update status {"f:status":{"f:phase":{}}}`) {
		t.Errorf("managers:\n%s", got)
	}
}

func TestScaleOwnsReplicas(t *testing.T) {
	t.Parallel()
	set := testSet(t)
	served, _ := set.Kind(deploymentGVK)
	three := int32(3)
	d := stored(t, owners(t, deploymentGVK, ""), &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: "d"}, Spec: appsv1.DeploymentSpec{Replicas: &three, Paused: true},
	}, "kubectl")
	o, err := NewScaleOwners(schemas, set, served)
	if err != nil {
		t.Fatal(err)
	}
	live := &autoscalingv1.Scale{ObjectMeta: metav1.ObjectMeta{Name: "d", UID: d.UID}, Spec: autoscalingv1.ScaleSpec{Replicas: 3}}
	next := live.DeepCopy()
	next.Spec.Replicas = 5
	entries, err := o.Update(d.ManagedFields, live, next, "autoscaler")
	if err != nil {
		t.Fatal(err)
	}
	got := managers(entries)
	if !strings.Contains(got, `autoscaler Update scale {"f:spec":{"f:replicas":{}}}`) || strings.Count(got, "f:replicas") != 1 {
		t.Errorf("managers:\n%s", got)
	}
	_, _, _, err = o.Apply(entries, next, Wish{
		Body:    []byte("apiVersion: autoscaling/v1\nkind: Scale\nmetadata: {name: d}\nspec: {replicas: 7}\n"),
		Manager: "gitops",
	})
	if !apierrors.IsConflict(err) {
		t.Errorf("error is %v, want a conflict with the autoscaler", err)
	}
}

func TestOwnersOfACustomResource(t *testing.T) {
	t.Parallel()
	o := owners(t, widgetGVK, "")
	widget := &unstructured.Unstructured{Object: map[string]any{"spec": map[string]any{"size": int64(1)}}}
	widget.SetGroupVersionKind(widgetGVK)
	live := stored(t, o, widget, "kubectl")
	if got, want := managers(live.GetManagedFields()), `kubectl Update  {"f:spec":{".":{},"f:size":{}}}`; got != want {
		t.Errorf("managers:\n%s\nwant\n%s", got, want)
	}
	out, _, err := o.Apply(live, Wish{Body: []byte("apiVersion: example.com/v1\nkind: Widget\nspec: {color: red}\n"), Manager: "gitops"})
	if err != nil {
		t.Fatal(err)
	}
	spec := out.(*unstructured.Unstructured).Object["spec"].(map[string]any)
	if spec["size"] != int64(1) || spec["color"] != "red" {
		t.Errorf("spec is %v", spec)
	}
}
