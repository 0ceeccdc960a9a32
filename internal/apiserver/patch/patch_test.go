package patch

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
)

func TestApply(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		kind types.PatchType
		body string
		mode Validation
		code int    // of the error; 0: none
		say  string // part of the error, or of the one warning
		want string // image of the first container afterwards
		envs string // names of its environment variables afterwards
	}{
		{name: "json replace", kind: types.JSONPatchType, body: `[{"op":"replace","path":"/spec/containers/0/image","value":"x:2"}]`, want: "x:2", envs: "A B"},
		{name: "json test holds", kind: types.JSONPatchType, body: `[{"op":"test","path":"/spec/containers/0/image","value":"demo:1"},{"op":"remove","path":"/spec/containers/0/env/0"}]`, want: "demo:1", envs: "B"},
		{name: "json test fails", kind: types.JSONPatchType, body: `[{"op":"test","path":"/spec/containers/0/image","value":"y"}]`, code: http.StatusUnprocessableEntity},
		{name: "json absent path", kind: types.JSONPatchType, body: `[{"op":"remove","path":"/spec/nothing"}]`, code: http.StatusUnprocessableEntity},
		{name: "json malformed", kind: types.JSONPatchType, body: `[{"op":`, code: http.StatusBadRequest, say: "error decoding patch"},
		{name: "json not a list", kind: types.JSONPatchType, body: `{"op":"remove"}`, code: http.StatusBadRequest},
		{name: "json too many", kind: types.JSONPatchType, body: "[" + strings.Repeat(`{"op":"test","path":"/kind","value":"Pod"},`, 10_000) + `{"op":"test","path":"/kind","value":"Pod"}]`, code: http.StatusRequestEntityTooLarge, say: "maximum operations in a JSON patch is 10000, got 10001"},
		{name: "json grows", kind: types.JSONPatchType, body: doublings(40), code: http.StatusRequestEntityTooLarge},
		{name: "json unknown member", kind: types.JSONPatchType, body: `[{"op":"test","path":"/kind","value":"Pod","why":1}]`, mode: Strict, code: 422, say: `json patch unknown field \"[0].why\"`},
		{name: "merge", kind: types.MergePatchType, body: `{"spec":{"containers":[{"name":"web","image":"x:2"}]}}`, want: "x:2"},
		{name: "merge malformed", kind: types.MergePatchType, body: `{"spec":`, code: http.StatusBadRequest},
		{name: "merge not an object", kind: types.MergePatchType, body: `[1]`, code: http.StatusBadRequest},
		{name: "merge null", kind: types.MergePatchType, body: `null`, code: http.StatusBadRequest},
		{name: "merge wrong type", kind: types.MergePatchType, body: `{"spec":{"containers":3}}`, code: 422, say: "cannot unmarshal number"},
		{name: "merge other version", kind: types.MergePatchType, body: `{"apiVersion":"v2"}`, code: http.StatusBadRequest, say: "the API version in the data (v2) does not match the expected API version (v1)"},
		{name: "merge other kind", kind: types.MergePatchType, body: `{"kind":"Node"}`, code: http.StatusBadRequest},
		{name: "merge unknown strict", kind: types.MergePatchType, body: `{"spec":{"foo":1}}`, mode: Strict, code: 422, say: `strict decoding error: unknown field \"spec.foo\"`},
		{name: "merge unknown warn", kind: types.MergePatchType, body: `{"spec":{"foo":1}}`, mode: Warn, say: `unknown field "spec.foo"`, want: "demo:1", envs: "A B"},
		{name: "merge unknown ignore", kind: types.MergePatchType, body: `{"spec":{"foo":1}}`, mode: Ignore, want: "demo:1", envs: "A B"},
		{name: "merge twice", kind: types.MergePatchType, body: `{"metadata":{"labels":{"a":"1"}},"metadata":{"labels":{"a":"2"}}}`, mode: Warn, say: `duplicate field "metadata"`, want: "demo:1", envs: "A B"},
		{name: "strategic by key", kind: types.StrategicMergePatchType, body: `{"spec":{"containers":[{"name":"web","env":[{"name":"B","$patch":"delete"},{"name":"C","value":"3"}]}]}}`, want: "demo:1", envs: "C A"},
		{name: "strategic no key", kind: types.StrategicMergePatchType, body: `{"spec":{"containers":[{"image":"x"}]}}`, code: http.StatusBadRequest, say: "does not contain declared merge key: name"},
		{name: "strategic directive", kind: types.StrategicMergePatchType, body: `{"spec":{"$patch":"nonsense"}}`, code: http.StatusBadRequest},
		{name: "strategic unknown", kind: types.StrategicMergePatchType, body: `{"spec":{"foo":1}}`, mode: Strict, code: 422, say: `strict decoding error: unknown field \"spec.foo\"`},
		{name: "unknown type", kind: "application/x", body: `{}`, code: http.StatusBadRequest},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			before := testPod()
			if c.mode == "" {
				c.mode = Strict
			}
			out, warnings, err := Apply(before, Patch{Type: c.kind, Body: []byte(c.body), GVK: podGVK, Validation: c.mode})
			if c.code != 0 {
				wantStatus(t, err, c.code, c.say)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			pod := out.(*corev1.Pod)
			if got := pod.Spec.Containers[0].Image; got != c.want {
				t.Errorf("image is %q, want %q", got, c.want)
			}
			var envs []string
			for _, e := range pod.Spec.Containers[0].Env {
				envs = append(envs, e.Name)
			}
			if got := strings.Join(envs, " "); got != c.envs {
				t.Errorf("environment is %q, want %q", got, c.envs)
			}
			if got := strings.Join(warnings, "; "); got != c.say {
				t.Errorf("warnings are %q, want %q", got, c.say)
			}
			if fmt.Sprint(before) != fmt.Sprint(testPod()) {
				t.Error("the current object was changed")
			}
		})
	}
}

// doublings is a patch that doubles the object n times.
func doublings(n int) string {
	var ops []string
	for i := range n {
		ops = append(ops, fmt.Sprintf(`{"op":"copy","from":"/spec","path":"/spec/x%d"}`, i))
	}
	return "[" + strings.Join(ops, ",") + "]"
}

func wantStatus(t *testing.T, err error, code int, say string) {
	t.Helper()
	var status apierrors.APIStatus
	if !errors.As(err, &status) {
		t.Fatalf("error %v is not a status", err)
	}
	if got := int(status.Status().Code); got != code {
		t.Errorf("code %d, want %d: %v", got, code, err)
	}
	if !strings.Contains(err.Error(), say) {
		if !strings.Contains(strings.ReplaceAll(err.Error(), `"`, `\"`), say) {
			t.Errorf("error %q does not say %q", err, say)
		}
	}
}

func TestApplyToCustomResource(t *testing.T) {
	t.Parallel()
	widget := &unstructured.Unstructured{Object: map[string]any{"spec": map[string]any{"size": int64(1), "big": int64(1) << 60}}}
	widget.SetGroupVersionKind(widgetGVK)
	p := Patch{Type: types.MergePatchType, Body: []byte(`{"spec":{"size":2}}`), GVK: widgetGVK, Validation: Strict}
	out, _, err := Apply(widget, p)
	if err != nil {
		t.Fatal(err)
	}
	spec := out.(*unstructured.Unstructured).Object["spec"].(map[string]any)
	if spec["size"] != int64(2) || spec["big"] != int64(1)<<60 {
		t.Errorf("spec is %v", spec)
	}
	if widget.Object["spec"].(map[string]any)["size"] != int64(1) {
		t.Error("the current object was changed")
	}
	p.Type = types.StrategicMergePatchType
	_, _, err = Apply(widget, p)
	wantStatus(t, err, http.StatusUnsupportedMediaType, "")
}

func TestDecode(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, body string
		enc        Encoding
		mode       Validation
		code       int
		say        string
	}{
		{name: "json", body: `{"data":{"a":"b"}}`, mode: Strict},
		{name: "yaml", body: "data:\n  a: b\n", enc: YAML, mode: Strict},
		{name: "unknown strict", body: `{"kind":"ConfigMap","apiVersion":"v1","spec":{}}`, mode: Strict, code: 400, say: `ConfigMap in version "v1" cannot be handled as a ConfigMap: strict decoding error: unknown field "spec"`},
		{name: "twice strict", body: `{"data":{"a":"1"},"data":{"a":"2"}}`, mode: Strict, code: 400, say: `strict decoding error: duplicate field "data"`},
		{name: "unknown yaml", body: "spec: 1\n", enc: YAML, mode: Strict, code: 400, say: `unknown field "spec"`},
		{name: "twice yaml", body: "data:\n  a: v\n  a: w\n", enc: YAML, mode: Strict, code: 400, say: `key "a" already set in map`},
		{name: "unknown warn", body: `{"spec":1}`, mode: Warn, say: `unknown field "spec"`},
		{name: "unknown ignore", body: `{"spec":1,"spec":2}`, mode: Ignore},
		{name: "case matters", body: `{"Data":{}}`, mode: Warn, say: `unknown field "Data"`},
		{name: "wrong type", body: `{"data":3}`, mode: Ignore, code: 400, say: "cannot unmarshal number into Go struct field ConfigMap.data"},
		{name: "malformed", body: `{"data":`, mode: Ignore, code: 400},
		{name: "malformed yaml", body: "a: [", enc: YAML, mode: Ignore, code: 400},
		{name: "empty", body: ``, mode: Ignore, code: 400},
		{name: "other kind", body: `{"kind":"Secret","apiVersion":"v1"}`, mode: Ignore, code: 400, say: "Secret"},
		{name: "other version", body: `{"kind":"ConfigMap","apiVersion":"v2"}`, mode: Ignore, code: 400, say: "the API version in the data (v2) does not match the expected API version (v1)"},
		{name: "bad version", body: `{"kind":"ConfigMap","apiVersion":"a/b/c"}`, mode: Ignore, code: 400},
		{name: "deep", body: strings.Repeat("[", 100_000), mode: Ignore, code: 400},
		{name: "deep yaml", body: strings.Repeat("[", 100_000), enc: YAML, mode: Ignore, code: 400},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			obj := &corev1.ConfigMap{}
			warnings, err := Decode([]byte(c.body), c.enc, configMapGVK, obj, c.mode)
			if c.code != 0 {
				wantStatus(t, err, c.code, c.say)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := strings.Join(warnings, "; "); got != c.say {
				t.Errorf("warnings are %q, want %q", got, c.say)
			}
			if obj.GroupVersionKind() != configMapGVK {
				t.Errorf("kind is %s", obj.GroupVersionKind())
			}
		})
	}
}

func FuzzApply(f *testing.F) {
	for _, body := range []string{
		`[{"op":"copy","from":"/spec","path":"/spec/x"},{"op":"move","from":"/metadata","path":""}]`,
		`[{"op":"add","path":"/spec/containers/-","value":null},{"op":"test","path":"","value":null}]`,
		`{"spec":{"containers":[{"name":"web","$retainKeys":["name"],"env":[{"$patch":"replace"}]}],"$setElementOrder/containers":[{"name":"web"}]}}`,
		`{"metadata":null,"spec":{"$patch":"delete"},"$deleteFromPrimitiveList/finalizers":["a"]}`,
	} {
		f.Add(body)
	}
	f.Fuzz(func(t *testing.T, body string) {
		for _, kind := range []types.PatchType{types.JSONPatchType, types.MergePatchType, types.StrategicMergePatchType} {
			out, _, err := Apply(testPod(), Patch{Type: kind, Body: []byte(body), GVK: podGVK, Validation: Warn})
			var status apierrors.APIStatus
			if err != nil && !errors.As(err, &status) {
				t.Errorf("%s: a defect of ours: %v", kind, err)
			}
			if err == nil && out.GetObjectKind().GroupVersionKind() != podGVK {
				t.Errorf("%s: the kind changed to %s", kind, out.GetObjectKind().GroupVersionKind())
			}
		}
	})
}

func FuzzDecode(f *testing.F) {
	f.Add("data: {a: b}\n", true)
	f.Add("a: &a [*a]\n", true)
	f.Add(`{"data":{"a":"b"},"data":null}`, false)
	f.Fuzz(func(t *testing.T, body string, asYAML bool) {
		enc := JSON
		if asYAML {
			enc = YAML
		}
		strict := &corev1.ConfigMap{}
		_, err := Decode([]byte(body), enc, configMapGVK, strict, Strict)
		lax := &corev1.ConfigMap{}
		if _, laxErr := Decode([]byte(body), enc, configMapGVK, lax, Ignore); err == nil && laxErr != nil {
			t.Errorf("strict takes what lenient refuses: %v", laxErr)
		}
		var status apierrors.APIStatus
		if err != nil && !errors.As(err, &status) {
			t.Errorf("a defect of ours: %v", err)
		}
	})
}
