package openapi

import (
	"bytes"
	"compress/gzip"
	"crypto/sha512"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"

	openapiv2 "github.com/google/gnostic-models/openapiv2"
	openapiv3 "github.com/google/gnostic-models/openapiv3"
	"google.golang.org/protobuf/proto"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"canopus/internal/apiserver/openapi/operations"
	"canopus/internal/kinds/builtin"
)

func documents(t *testing.T) *Documents {
	t.Helper()
	d, err := New(builtin.Whole())
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func ask(t *testing.T, path string, header ...string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequest(http.MethodGet, path, nil)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	documents(t).ServeHTTP(w, r)
	return w
}

func unpack(t *testing.T, packed []byte) []byte {
	t.Helper()
	z, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// v3 is the part of an OpenAPI document that the tests look at.
type v3 struct {
	Paths      map[string]map[string]json.RawMessage `json:"paths"`
	Components struct {
		Schemas map[string]struct {
			Properties map[string]any                          `json:"properties"`
			GVKs       []struct{ Group, Version, Kind string } `json:"x-kubernetes-group-version-kind"`
		} `json:"schemas"`
	} `json:"components"`
}

// TestDocumentsMatchTheServedKinds fails when a kind, a subresource or a field has come or gone since `make generate`.
func TestDocumentsMatchTheServedKinds(t *testing.T) {
	t.Parallel()
	known := documents(t).hashes
	var wanted []string
	for _, doc := range operations.Documents(builtin.Whole()) {
		wanted = append(wanted, doc.Name)
		if known[doc.Name] == "" {
			t.Errorf("there is no document %s: run `make generate`", doc.Name)
			continue
		}
		t.Run(doc.Name, func(t *testing.T) {
			t.Parallel()
			var got v3
			data := ask(t, "/openapi/v3/"+doc.Name).Body.Bytes()
			if err := json.Unmarshal(data, &got); err != nil {
				t.Fatal(err)
			}
			if sum := fmt.Sprintf("%X", sha512.Sum512(data)); sum != known[doc.Name] {
				t.Error("the hash in the index is another document's")
			}
			operationsMatch(t, doc, got)
			schemasMatch(t, doc, got)
			kindsMatch(t, doc, got)
			for _, ref := range strings.Split(string(data), `"$ref":"#/components/schemas/`)[1:] {
				name, _, _ := strings.Cut(ref, `"`)
				if _, ok := got.Components.Schemas[name]; !ok {
					t.Fatalf("schema %s is referred to and absent", name)
				}
			}
		})
	}
	var index map[string]string
	data, err := files.ReadFile("data/index.json")
	if err != nil || json.Unmarshal(data, &index) != nil {
		t.Fatal("the index cannot be read")
	}
	if len(index) != len(wanted)+1 { // and v2
		t.Errorf("%d documents are committed, %d are served: run `make generate`", len(index)-1, len(wanted))
	}
}

// operationsMatch compares methods, ids and parameters.
func operationsMatch(t *testing.T, doc operations.Document, got v3) {
	t.Helper()
	count := 0
	for path, item := range got.Paths {
		for key := range item {
			if key != "parameters" {
				count++
			}
		}
		_ = path
	}
	if count != len(doc.Operations) {
		t.Errorf("%d operations are published, %d served: run `make generate`", count, len(doc.Operations))
	}
	for _, op := range doc.Operations {
		type parameter struct{ Name, In string }
		var published struct {
			ID         string      `json:"operationId"`
			Parameters []parameter `json:"parameters"`
		}
		if err := json.Unmarshal(got.Paths[op.Path][strings.ToLower(op.Method)], &published); err != nil {
			t.Errorf("%s %s is not published: run `make generate`", op.Method, op.Path)
			continue
		}
		var common []parameter
		if raw, ok := got.Paths[op.Path]["parameters"]; ok {
			if err := json.Unmarshal(raw, &common); err != nil {
				t.Fatal(err)
			}
		}
		if published.ID != op.ID || len(published.Parameters)+len(common) != len(op.Params) {
			t.Errorf("%s %s is published as %s with %d parameters, served as %s with %d: run `make generate`",
				op.Method, op.Path, published.ID, len(published.Parameters)+len(common), op.ID, len(op.Params))
		}
	}
}

// kindsMatch finds the schema of every kind by its group, version and kind, as kubectl explain and apply do.
func kindsMatch(t *testing.T, doc operations.Document, got v3) {
	t.Helper()
	described := map[schema.GroupVersionKind]bool{}
	for _, s := range got.Components.Schemas {
		for _, gvk := range s.GVKs {
			described[schema.GroupVersionKind(gvk)] = true
		}
	}
	for _, v := range builtin.Whole().Served() {
		if v.GVK.GroupVersion() == doc.GV && !described[v.GVK] {
			t.Errorf("no schema says that it is of %s: run `make generate`", v.GVK)
		}
	}
}

// schemasMatch compares the fields of every object that is sent or answered with its Go struct.
func schemasMatch(t *testing.T, doc operations.Document, got v3) {
	t.Helper()
	for _, op := range doc.Operations {
		for _, model := range []any{op.Body, op.Response} {
			namer, ok := model.(interface{ OpenAPIModelName() string })
			if !ok {
				continue
			}
			schema, ok := got.Components.Schemas[namer.OpenAPIModelName()]
			if !ok {
				t.Errorf("%s is not described: run `make generate`", namer.OpenAPIModelName())
				continue
			}
			for _, field := range jsonFields(reflect.TypeOf(model)) {
				if _, ok := schema.Properties[field]; !ok {
					t.Errorf("%s lacks field %s: run `make generate`", namer.OpenAPIModelName(), field)
				}
			}
		}
	}
}

func jsonFields(t reflect.Type) []string {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t.Name() == "Patch" || t.Kind() != reflect.Struct {
		return nil
	}
	var out []string
	for i := range t.NumField() {
		if name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ","); name != "" && name != "-" {
			out = append(out, name)
		}
	}
	return out
}

func TestIndexLeadsToDocuments(t *testing.T) {
	t.Parallel()
	w := ask(t, "/openapi/v3")
	var index struct {
		Paths map[string]struct{ ServerRelativeURL string }
	}
	if err := json.Unmarshal(w.Body.Bytes(), &index); err != nil {
		t.Fatal(err)
	}
	entry, ok := index.Paths["api/v1"]
	if !ok {
		t.Fatalf("no api/v1 in %s", w.Body)
	}
	if w := ask(t, entry.ServerRelativeURL); w.Code != 200 || w.Header().Get("Cache-Control") != "public, immutable" {
		t.Errorf("status %d, cache control %q", w.Code, w.Header().Get("Cache-Control"))
	}
	w = ask(t, "/openapi/v3/api/v1?hash=OLD")
	if w.Code != http.StatusMovedPermanently || w.Header().Get("Location") != entry.ServerRelativeURL {
		t.Errorf("an old hash leads to %d %s", w.Code, w.Header().Get("Location"))
	}
	if w := ask(t, "/openapi/v3", "If-None-Match", ask(t, "/openapi/v3").Header().Get("ETag")); w.Code != http.StatusNotModified {
		t.Errorf("status %d for a known index", w.Code)
	}
}

func TestForms(t *testing.T) {
	t.Parallel()
	const old2, old3 = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf", "application/com.github.proto-openapi.spec.v3@v1.0+protobuf"
	for _, c := range []struct {
		name, path, accept string
		into               proto.Message // nil: JSON
		code               int
	}{
		{"v3", "/openapi/v3/api/v1", "", nil, 200},
		{"v3 any", "/openapi/v3/api/v1", "text/html,*/*;q=0.1", nil, 200},
		{"v3 protobuf", "/openapi/v3/api/v1", old3, &openapiv3.Document{}, 200},
		{"v3 protobuf, new name", "/openapi/v3/api/v1", "application/com.github.proto-openapi.spec.v3.v1.0+protobuf", &openapiv3.Document{}, 200},
		{"v2", "/openapi/v2", "application/json", nil, 200},
		{"v2 protobuf", "/openapi/v2", old2, &openapiv2.Document{}, 200},
		{"neither", "/openapi/v2", "text/html", nil, 406},
		{"refused by quality", "/openapi/v2", "application/json;q=0", nil, 406},
		{"absent", "/openapi/v3/apis/nobody/v1", "", nil, 404},
		{"v2 is not below v3", "/openapi/v3/v2", "", nil, 404},
		{"climbing", "/openapi/v3/../../index", "", nil, 404},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			plain, packed := ask(t, c.path, "Accept", c.accept), ask(t, c.path, "Accept", c.accept, "Accept-Encoding", "gzip")
			if plain.Code != c.code || packed.Code != c.code {
				t.Fatalf("status %d and %d, want %d", plain.Code, packed.Code, c.code)
			}
			if c.code != 200 {
				return
			}
			if !bytes.Equal(plain.Body.Bytes(), unpack(t, packed.Body.Bytes())) {
				t.Error("the packed answer is another one")
			}
			var err error
			if c.into == nil {
				err = json.Unmarshal(plain.Body.Bytes(), &map[string]any{})
			} else {
				err = proto.Unmarshal(plain.Body.Bytes(), c.into)
			}
			if err != nil {
				t.Error(err)
			}
			if w := ask(t, c.path, "Accept", c.accept, "If-None-Match", plain.Header().Get("ETag")); w.Code != http.StatusNotModified {
				t.Errorf("status %d for a known document", w.Code)
			}
		})
	}
}
