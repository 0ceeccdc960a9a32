package apiserver

import (
	"net/http"
	"net/url"
	"testing"

	"canopus/internal/kinds/builtin"
)

// FuzzQuery reads any query as the parameters of a list and of a watch: selectors, revisions, limits, flags.
func FuzzQuery(f *testing.F) {
	for _, seed := range []string{
		"", "watch", "watch=1&resourceVersion=0", "limit=-1&continue=x", "labelSelector=a+in+(b,c),!d", "fieldSelector=spec.nodeName%3Da,metadata.name!%3Db",
		"sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=1", "resourceVersion=99999999999999999999", "timeoutSeconds=-1",
		"labelSelector=a%3D%3D%3Db", "fieldSelector=%5C", "limit=5&resourceVersion=7", "watch=&watch=0", "a;b=c", "%zz", "labelSelector=((((((((",
	} {
		f.Add(seed)
	}
	var endpoints []*endpoint
	for _, v := range builtin.Set().Served() {
		if p := v.Kind.Plural; p == "pods" || p == "configmaps" || p == "nodes" {
			endpoints = append(endpoints, newEndpoint(v, &stored{kind: v.Kind}))
		}
	}
	f.Fuzz(func(t *testing.T, raw string) {
		for _, ep := range endpoints {
			path := "/api/v1/" + ep.Kind.Plural
			rq := &request{Request: &http.Request{Method: http.MethodGet, URL: &url.URL{Path: path, RawQuery: raw}}}
			rq.route = parseRoute(http.MethodGet, path, path)
			rq.query = rq.URL.Query()
			rq.refineVerb()
			if v := rq.route.verb; v != "list" && v != "watch" {
				t.Fatalf("%q makes a list a %s", raw, v)
			}
			if name := rq.route.name; name != "" && !validSegment(name) {
				t.Fatalf("%q names %q, which no path could", raw, name)
			}
			_ = rq.attributes()
			_ = rq.tableOptions()
			o, _, err := rq.listOptions(ep)
			if err != nil {
				if code := statusOf(err).Code; code < 400 || code > 499 {
					t.Fatalf("%q: %d %v", raw, code, err)
				}
				continue
			}
			if lo, err := readOptions(o); err == nil && (lo.Limit < 0 || lo.Revision < 0) {
				t.Fatalf("%q: limit %d, revision %d", raw, lo.Limit, lo.Revision)
			}
			if wo, err := watchOptions(o); err == nil && wo.Revision < 0 {
				t.Fatalf("%q: revision %d", raw, wo.Revision)
			}
		}
	})
}
