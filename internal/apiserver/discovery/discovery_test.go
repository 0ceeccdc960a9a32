package discovery

import (
	"flag"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"

	"canopus/internal/kinds"
)

var update = flag.Bool("update", false, "write the golden files again")

// testSet has a kind of each sort: with and without namespace, with subresources of its own and other kinds, served in
// two groups, never stored.
func testSet(t *testing.T) *kinds.Set {
	t.Helper()
	core, apps := corev1.SchemeGroupVersion, appsv1.SchemeGroupVersion
	set, err := kinds.NewSet(
		kinds.New(kinds.Spec[corev1.Node, *corev1.Node]{
			GVK: core.WithKind("Node"), Plural: "nodes", ShortNames: []string{"no"},
			NewList:      func() runtime.Object { return &corev1.NodeList{} },
			Subresources: []kinds.Subresource{{Name: "proxy", GVK: core.WithKind("NodeProxyOptions"), Verbs: []string{"get", "create"}}},
		}),
		kinds.New(kinds.Spec[corev1.Event, *corev1.Event]{
			GVK: core.WithKind("Event"), Plural: "events", Namespaced: true,
			NewList: func() runtime.Object { return &corev1.EventList{} },
			Versions: []kinds.Version{{
				Group: "events.k8s.io", Version: "v1",
				New:     func() runtime.Object { return &eventsv1.Event{} },
				NewList: func() runtime.Object { return &eventsv1.EventList{} },
			}},
		}),
		kinds.New(kinds.Spec[corev1.Binding, *corev1.Binding]{
			GVK: core.WithKind("Binding"), Plural: "bindings", Namespaced: true, Virtual: true,
			NewList: func() runtime.Object { return nil },
		}),
		kinds.New(kinds.Spec[appsv1.Deployment, *appsv1.Deployment]{
			GVK: apps.WithKind("Deployment"), Plural: "deployments", Namespaced: true,
			ShortNames: []string{"deploy"}, Categories: []string{"all"},
			NewList: func() runtime.Object { return &appsv1.DeploymentList{} },
			Subresources: []kinds.Subresource{
				{Name: "status", Verbs: []string{"update", "get", "patch"}},
				{Name: "scale", GVK: autoscalingv1.SchemeGroupVersion.WithKind("Scale"), Verbs: []string{"get", "patch", "update"}},
			},
		}),
	)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

func ask(t *testing.T, path string, header ...string) *httptest.ResponseRecorder {
	t.Helper()
	docs, err := New(testSet(t), "192.0.2.1:6443")
	if err != nil {
		t.Fatal(err)
	}
	page := docs.Page(path)
	if page == nil {
		t.Fatalf("nothing at %s", path)
	}
	r := httptest.NewRequest(http.MethodGet, path, nil)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	page.ServeHTTP(w, r)
	return w
}

func TestDocuments(t *testing.T) {
	t.Parallel()
	const v2 = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
	for name, c := range map[string]struct{ path, accept string }{
		"api": {"/api", ""}, "apis": {"/apis/", ""}, "apps": {"/apis/apps", ""},
		"apps-v1": {"/apis/apps/v1", "*/*"}, "core-v1": {"/api/v1", ""}, "events-v1": {"/apis/events.k8s.io/v1", ""},
		"aggregated-api": {"/api", v2 + ",application/json"}, "aggregated-apis": {"/apis", v2 + ",application/json"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := ask(t, c.path, "Accept", c.accept)
			got, err := yaml.JSONToYAML(w.Body.Bytes())
			if err != nil {
				t.Fatal(err)
			}
			file := filepath.Join("testdata", name+".yaml")
			if *update {
				if err := os.WriteFile(file, got, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if string(got) != string(want) {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		})
	}
}

func TestNegotiation(t *testing.T) {
	t.Parallel()
	const v2 = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
	for _, c := range []struct {
		name, path, accept string
		code               int
		contentType        string
	}{
		{"as client-go 0.37 asks", "/apis", v2 + ";profile=nopeer," + v2 + ",application/json", 200, v2},
		{"an older client", "/apis", "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json", 200, "application/json"},
		{"not aggregated below the roots", "/apis/apps/v1", v2 + ",application/json", 200, "application/json"},
		{"protobuf", "/apis", "application/vnd.kubernetes.protobuf", 200, "application/vnd.kubernetes.protobuf"},
		{"aggregated protobuf", "/apis", strings.Replace(v2, "json", "vnd.kubernetes.protobuf", 1), 200, strings.Replace(v2, "json", "vnd.kubernetes.protobuf", 1)},
		{"yaml", "/api", "application/yaml", 200, "application/yaml"},
		{"quality", "/apis", v2 + ";q=0.5,application/json", 200, "application/json"},
		{"nothing we have", "/apis", "text/html", 406, "application/json"},
		{"garbage", "/apis", ";;;,=", 406, "application/json"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := ask(t, c.path, "Accept", c.accept)
			if w.Code != c.code || w.Header().Get("Content-Type") != c.contentType {
				t.Errorf("status %d as %q, want %d as %q", w.Code, w.Header().Get("Content-Type"), c.code, c.contentType)
			}
			if c.code == 200 && strings.Contains(c.contentType, "protobuf") != strings.HasPrefix(w.Body.String(), "k8s\x00") {
				t.Errorf("body starts with %q", w.Body.String()[:4])
			}
		})
	}
}

func TestUnchangedIsNotSentAgain(t *testing.T) {
	t.Parallel()
	const v2 = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
	tag := ask(t, "/apis", "Accept", v2).Header().Get("ETag")
	if len(tag) != 130 {
		t.Fatalf("ETag is %q", tag)
	}
	w := ask(t, "/apis", "Accept", v2, "If-None-Match", tag)
	if w.Code != http.StatusNotModified || w.Body.Len() != 0 {
		t.Errorf("status %d with %d bytes", w.Code, w.Body.Len())
	}
	if w := ask(t, "/apis", "Accept", v2, "If-None-Match", `"old"`); w.Code != http.StatusOK {
		t.Errorf("status %d for another tag", w.Code)
	}
}

// TestStorageHash compares with hashes that upstream publishes: clients may have them cached.
func TestStorageHash(t *testing.T) {
	t.Parallel()
	served, _ := testSet(t).Kind(eventsv1.SchemeGroupVersion.WithKind("Event"))
	if got := storageHash(served.Kind); got != "r2yiGXH7wu8=" {
		t.Errorf("hash of events is %s", got)
	}
}
