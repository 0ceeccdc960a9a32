package apiserver

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"canopus/internal/kinds/builtin"
)

func TestParseRoute(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		method, path string
		want         route
	}{
		{"GET", "/api/v1/pods", route{resource: true, verb: "list", version: "v1", plural: "pods"}},
		{"GET", "/api/v1/namespaces", route{resource: true, verb: "list", version: "v1", plural: "namespaces"}},
		{"GET", "/api/v1/namespaces/n", route{resource: true, verb: "get", version: "v1", plural: "namespaces", namespace: "n", name: "n"}},
		{"PUT", "/api/v1/namespaces/n/finalize", route{resource: true, verb: "update", version: "v1", plural: "namespaces", namespace: "n", name: "n", subresource: "finalize"}},
		{"PATCH", "/api/v1/namespaces/n/status", route{resource: true, verb: "patch", version: "v1", plural: "namespaces", namespace: "n", name: "n", subresource: "status"}},
		{"POST", "/api/v1/namespaces/n/pods/", route{resource: true, verb: "create", version: "v1", plural: "pods", namespace: "n"}},
		{"GET", "/api/v1/namespaces/n/status/x", route{resource: true, verb: "get", version: "v1", plural: "status", namespace: "n", name: "x"}},
		{"DELETE", "/apis/apps/v1/namespaces/n/deployments", route{resource: true, verb: "deletecollection", group: "apps", version: "v1", plural: "deployments", namespace: "n"}},
		{"DELETE", "/apis/apps/v1/namespaces/n/deployments/d", route{resource: true, verb: "delete", group: "apps", version: "v1", plural: "deployments", namespace: "n", name: "d"}},
		{"GET", "/apis/apps/v1/watch/namespaces/n/deployments", route{resource: true, verb: "watch", watchPath: true, group: "apps", version: "v1", plural: "deployments", namespace: "n"}},
		{"GET", "/api/v1/namespaces/n/pods/p/proxy/a%2Fb/c", route{resource: true, verb: "get", version: "v1", plural: "pods", namespace: "n", name: "p", subresource: "proxy", tail: "/a%2Fb/c"}},
		{"GET", "/api/v1/nodes/x/proxy/", route{resource: true, verb: "get", version: "v1", plural: "nodes", name: "x", subresource: "proxy", tail: "/"}},
		{"GET", "/api/v1", route{verb: "get"}},
		{"GET", "/apis/apps/v1", route{verb: "get"}},
		{"POST", "/healthz", route{verb: "post"}},
	} {
		u, err := url.Parse(c.path)
		if err != nil {
			t.Fatal(err)
		}
		if got := parseRoute(c.method, u.Path, u.EscapedPath()); got != c.want {
			t.Errorf("%s %s\ngot  %+v\nwant %+v", c.method, c.path, got, c.want)
		}
	}
}

func FuzzParseRoute(f *testing.F) {
	for _, seed := range []string{"/", "", "//", "/api", "/api/v1/namespaces/n/pods/p/exec", "/apis///", "/api/v1/watch/x", "/api/v1/namespaces//pods", "/api/v1/nodes/n/proxy/%2f/"} {
		f.Add("GET", seed)
	}
	f.Fuzz(func(t *testing.T, method, path string) {
		u, err := url.Parse(path)
		if err != nil {
			return
		}
		rt := parseRoute(method, u.Path, u.EscapedPath())
		if !rt.resource && (rt.plural != "" || rt.name != "" || rt.tail != "") {
			t.Errorf("%q is no resource path but names one: %+v", path, rt)
		}
		for _, part := range []string{rt.group, rt.version, rt.plural, rt.namespace, rt.name, rt.subresource} {
			if strings.Contains(part, "/") {
				t.Errorf("%q: a segment has a slash: %+v", path, rt)
			}
		}
	})
}

func FuzzDecodeBody(f *testing.F) {
	f.Add(byte(0), []byte(`{"kind":"Pod","apiVersion":"v1","metadata":{"name":"a"},"spec":{"containers":[{"name":"c"}]}}`))
	f.Add(byte(1), []byte("metadata: {name: a}\nspec: {containers: [{name: c, image: i}]}\n"))
	f.Add(byte(2), []byte("k8s\x00\x0a\x09\x0a\x02v1\x12\x03Pod\x12\x05\x0a\x03\x0a\x01a"))
	f.Add(byte(0), []byte(strings.Repeat("[", 20000)))
	f.Add(byte(2), []byte("k8s\x00\x12\xff\xff\xff\xff\xff\xff\xff\xff\x7f"))
	set := builtin.Set()
	f.Fuzz(func(t *testing.T, m byte, data []byte) {
		for _, v := range set.Served() {
			if v.Kind.Plural != "pods" && v.Kind.Plural != "configmaps" {
				continue
			}
			ep := newEndpoint(v, &stored{kind: v.Kind})
			b := &body{data: data, media: media(m % 3), check: "Strict"}
			obj := ep.New()
			if err := b.into(ep.GVK, obj, func(string) {}); err != nil {
				continue
			}
			hub, err := toHub(ep, obj)
			if err != nil {
				continue
			}
			_ = v.Kind.Validate(hub) // may refuse, may not panic
		}
	})
}

func TestParseAccept(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		accept string
		stream bool
		want   format
		ok     bool
	}{
		{"", false, format{}, true},
		{"*/*", false, format{}, true},
		{"application/vnd.kubernetes.protobuf,application/json", false, format{media: mediaProtobuf}, true},
		{"application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json", false, format{shape: shapeTable}, true},
		{"application/vnd.kubernetes.protobuf;as=Table;v=v1;g=meta.k8s.io", false, format{}, false},
		{"application/vnd.kubernetes.protobuf;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json", false, format{media: mediaProtobuf, shape: shapePartialList}, true},
		{"application/json;q=0.5, application/yaml", false, format{media: mediaYAML}, true},
		{"application/yaml", true, format{}, false},
		{"application/json;stream=watch", true, format{}, true},
		{"text/html", false, format{}, false},
		{"application/json;q=nonsense", false, format{}, false},
		{"application/cbor", false, format{}, false},
	} {
		r := &http.Request{Header: http.Header{"Accept": {c.accept}}, URL: &url.URL{}}
		if got, ok := formatFor(r, c.stream); ok != c.ok || ok && got != c.want {
			t.Errorf("%q: %+v %v, want %+v %v", c.accept, got, ok, c.want, c.ok)
		}
	}
}
