package apiserver

import (
	"net/http"
	"net/url"
	"testing"

	"canopus/internal/auth"
	"canopus/internal/verdict"
)

// TestVerdictAttributes: reading a verdict is reading the pod; telling one is writing the status of any pod.
func TestVerdictAttributes(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		method, query string
		want          auth.Attributes
	}{
		{http.MethodGet, "namespace=ns&name=p", auth.Attributes{Verb: "get", Namespace: "ns", Name: "p"}},
		{http.MethodPut, "namespace=ns&name=p", auth.Attributes{Verb: "update", Subresource: "status"}},
		{http.MethodPost, "", auth.Attributes{Verb: "update", Subresource: "status"}},
	} {
		rq := &request{Request: &http.Request{Method: tt.method, URL: &url.URL{Path: verdict.Path, RawQuery: tt.query}}, user: &auth.User{Name: "u"}}
		got := rq.attributes()
		want := tt.want
		want.User, want.IsResource, want.Version, want.Resource, want.Path = rq.user, true, "v1", "pods", verdict.Path
		if got.Verb != want.Verb || got.Namespace != want.Namespace || got.Name != want.Name || got.Subresource != want.Subresource ||
			got.Resource != want.Resource || !got.IsResource || got.Group != "" {
			t.Errorf("%s: got %+v, want %+v", tt.method, got, want)
		}
	}
}
