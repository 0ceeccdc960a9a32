package apiserver_test

import (
	"encoding/json"
	"net/url"
	"slices"
	"strings"
	"testing"

	"canopus/internal/apiserver"
	"canopus/internal/apiserver/apitest"
	"canopus/internal/kinds"
	"canopus/internal/kinds/builtin"
	"canopus/internal/store"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// TestEveryKind does with every kind that is stored, in every version, what can be done with any: tables of it are asked for, it
// is selected by each of its fields, and a part of a collection is deleted. The objects are put into the store as they are:
// what makes one valid is another test's.
func TestEveryKind(t *testing.T) {
	t.Parallel()
	set := builtin.Whole()
	s := apitest.Start(t, func(c *apiserver.Config) { c.Kinds = set })
	for _, v := range set.Served() {
		if v.Kind.Virtual {
			continue
		}
		t.Run(v.GVR().String(), func(t *testing.T) {
			defer put(t, s, v)()
			showEvery(t, s, v)
			selectEvery(t, s, v)
			deleteSome(t, s, v)
		})
	}
}

// put stores three objects, of which two have the label go, and where there are namespaces a fourth, with it, in another. What it
// returns takes away what is left of them, so that the next version starts from nothing.
func put(t *testing.T, s *apitest.Server, v kinds.Served) func() {
	t.Helper()
	resource := s.API.Resource(v.Kind.GroupResource())
	add := func(namespace, name string, labels map[string]string) {
		t.Helper()
		obj := v.Kind.New().(kinds.Object)
		obj.SetNamespace(namespace)
		obj.SetName(name)
		obj.SetUID(types.UID(namespace + name))
		obj.SetLabels(labels)
		obj.SetCreationTimestamp(metav1.Now().Rfc3339Copy())
		v.Kind.Default(obj)
		if _, err := s.Store.Commit(t.Context(), store.Change{Resource: resource, Namespace: namespace, Name: name, Now: obj}); err != nil {
			t.Fatal(err)
		}
	}
	namespace, leaves := "", map[string]string{"go": ""}
	if v.Kind.Namespaced {
		namespace = "n"
		add("other", "d", leaves)
	}
	add(namespace, "a", leaves)
	add(namespace, "b", leaves)
	add(namespace, "c", nil)
	return func() {
		all, err := resource.List(t.Context(), store.ListOptions{})
		if err != nil {
			t.Error(err)
		}
		for _, e := range all.Entries {
			if _, err := s.Store.Commit(t.Context(), store.Change{Resource: resource, Namespace: e.Namespace, Name: e.Name, Was: e}); err != nil {
				t.Error(err)
			}
		}
	}
}

// collection is the path of v's objects, in the namespace n if there are namespaces.
func collection(v kinds.Served) string {
	path := "/apis/" + v.GVK.Group + "/" + v.GVK.Version
	if v.GVK.Group == "" {
		path = "/api/" + v.GVK.Version
	}
	if v.Kind.Namespaced {
		path += "/namespaces/n"
	}
	return path + "/" + v.Kind.Plural
}

func showEvery(t *testing.T, s *apitest.Server, v kinds.Served) {
	t.Helper()
	_, text := send(t, s, "GET", collection(v), "", "", "Accept", "application/json;as=Table;v=v1;g=meta.k8s.io")
	var table metav1.Table
	if err := json.Unmarshal([]byte(text), &table); err != nil || table.Kind != "Table" {
		t.Fatalf("asked for a table: %v: %.300s", err, text)
	}
	if !slices.Equal(table.ColumnDefinitions, v.Kind.Columns) {
		t.Errorf("columns %+v", table.ColumnDefinitions)
	}
	if len(table.Rows) != 3 {
		t.Errorf("%d rows of 3", len(table.Rows))
	}
	for _, row := range table.Rows {
		if len(row.Cells) != len(v.Kind.Columns) || !slices.Contains(row.Cells, any(rowName(t, row))) {
			t.Errorf("cells %v", row.Cells)
		}
	}
}

// rowName is the name of the object in a row.
func rowName(t *testing.T, row metav1.TableRow) string {
	t.Helper()
	var part metav1.PartialObjectMetadata
	if err := json.Unmarshal(row.Object.Raw, &part); err != nil {
		t.Fatal(err)
	}
	return part.Name
}

// names lists what is left of a collection.
func names(t *testing.T, s *apitest.Server, path string) string {
	t.Helper()
	resp, text := send(t, s, "GET", path, "", "")
	var list metav1.PartialObjectMetadataList
	if err := json.Unmarshal([]byte(text), &list); err != nil || resp.StatusCode != 200 {
		t.Fatalf("%s: %d %v: %.300s", path, resp.StatusCode, err, text)
	}
	var out []string
	for _, item := range list.Items {
		out = append(out, item.Name)
	}
	return strings.Join(out, " ")
}

func selectEvery(t *testing.T, s *apitest.Server, v kinds.Served) {
	t.Helper()
	for name := range v.Kind.Fields {
		if got := names(t, s, collection(v)+"?fieldSelector="+url.QueryEscape(name+"!=nothing has this")); got != "a b c" {
			t.Errorf("selected by %s: %s", name, got)
		}
		if got := names(t, s, collection(v)+"?fieldSelector="+url.QueryEscape(name+"=nothing has this")); got != "" {
			t.Errorf("selected by %s: %s, want none", name, got)
		}
	}
	if got := names(t, s, collection(v)+"?fieldSelector=metadata.name%3Db"); got != "b" {
		t.Errorf("selected by name: %s", got)
	}
	if resp, _ := send(t, s, "GET", collection(v)+"?fieldSelector=spec.nobody%3Db", "", ""); resp.StatusCode != 400 {
		t.Errorf("selected by a field that no kind has: %d", resp.StatusCode)
	}
}

func deleteSome(t *testing.T, s *apitest.Server, v kinds.Served) {
	t.Helper()
	resp, text := send(t, s, "DELETE", collection(v)+"?labelSelector=go", "application/json", `{"kind":"DeleteOptions","apiVersion":"v1","propagationPolicy":"Background"}`)
	if !slices.Contains(v.Kind.Verbs, "deletecollection") {
		if resp.StatusCode != 405 {
			t.Errorf("the verb is not there, and yet %d: %.300s", resp.StatusCode, text)
		}
		return
	}
	if resp.StatusCode != 200 {
		t.Fatalf("deleting two of three: %d %.300s", resp.StatusCode, text)
	}
	if got := names(t, s, collection(v)); got != "c" {
		t.Errorf("after two of three were deleted: %s", got)
	}
	if v.Kind.Namespaced {
		if got := names(t, s, strings.Replace(collection(v), "/n/", "/other/", 1)); got != "d" {
			t.Errorf("in another namespace: %s", got)
		}
	}
}

// TestPut: to some kinds a PUT to a name that is not taken is a create, of some an update must say what it has seen.
func TestPut(t *testing.T) {
	t.Parallel()
	s := apitest.Start(t)
	const budget = `{"apiVersion":"policy/v1","kind":"PodDisruptionBudget","metadata":{"name":"a"},"spec":{"minAvailable":1}}`
	if resp, text := send(t, s, "POST", "/apis/policy/v1/namespaces/n/poddisruptionbudgets", "application/json", budget); resp.StatusCode != 201 {
		t.Fatalf("%d %s", resp.StatusCode, text)
	}
	for path, tc := range map[string]struct {
		body string
		want int
		says string
	}{
		"/api/v1/namespaces/n/configmaps/a": {`{"metadata":{"name":"a"}}`, 404, `configmaps \"a\" not found`},
		"/api/v1/namespaces/n/services/a":   {`{"metadata":{"name":"a"},"spec":{"ports":[{"port":80}]}}`, 201, `"name":"a"`},
		"/api/v1/namespaces/n/limitranges/a": {
			`{"metadata":{"name":"a"},"spec":{"limits":[{"type":"Pod","max":{"cpu":"1"}}]}}`, 201, `"name":"a"`},
		"/apis/rbac.authorization.k8s.io/v1/namespaces/n/roles/a":     {`{"metadata":{"name":"a"}}`, 201, `"name":"a"`},
		"/apis/coordination.k8s.io/v1/namespaces/n/leases/a":          {`{"metadata":{"name":"a"}}`, 201, `"name":"a"`},
		"/apis/policy/v1/namespaces/n/poddisruptionbudgets/a":         {budget, 422, `"field":"metadata.resourceVersion"`},
		"/apis/rbac.authorization.k8s.io/v1/namespaces/n/roles/other": {`{"metadata":{"name":"a"}}`, 400, "does not match the name on the URL"},
	} {
		resp, text := send(t, s, "PUT", path, "application/json", tc.body)
		if resp.StatusCode != tc.want || !strings.Contains(text, tc.says) {
			t.Errorf("%s: %d, want %d and %s: %s", path, resp.StatusCode, tc.want, tc.says, text)
		}
	}
	// A patch is laid over what is there, and so has seen it.
	for contentType, body := range map[string]string{
		"application/merge-patch+json":           `{"spec":{"minAvailable":2}}`,
		"application/strategic-merge-patch+json": `{"spec":{"minAvailable":3}}`,
		"application/json-patch+json":            `[{"op":"replace","path":"/spec/minAvailable","value":4}]`,
		"application/apply-patch+yaml":           strings.Replace(budget, `"minAvailable":1`, `"minAvailable":5`, 1),
	} {
		path := "/apis/policy/v1/namespaces/n/poddisruptionbudgets/a?fieldManager=x"
		if strings.Contains(contentType, "apply") {
			path += "&force=true"
		}
		if resp, text := send(t, s, "PATCH", path, contentType, body); resp.StatusCode != 200 {
			t.Errorf("%s: %d %s", contentType, resp.StatusCode, text)
		}
	}
}
