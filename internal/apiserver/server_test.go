package apiserver_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"canopus/internal/apiserver/apitest"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// clients returns a client for each encoding.
func clients(t *testing.T, s *apitest.Server) map[string]*kubernetes.Clientset {
	t.Helper()
	out := map[string]*kubernetes.Clientset{}
	for _, ct := range []string{"application/json", "application/vnd.kubernetes.protobuf"} {
		c := rest.CopyConfig(s.Admin)
		c.ContentType = ct
		c.AcceptContentTypes = ct
		cs, err := kubernetes.NewForConfig(c)
		if err != nil {
			t.Fatal(err)
		}
		out[ct] = cs
	}
	return out
}

func configMap(name string) *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"app": "x"}}, Data: map[string]string{"k": "v"}}
}

func TestLifeOfAnObject(t *testing.T) {
	t.Parallel()
	s := apitest.Start(t)
	for ct, cs := range clients(t, s) {
		t.Run(ct, func(t *testing.T) {
			ns := "life-" + strings.ReplaceAll(strings.TrimPrefix(ct, "application/"), ".", "-")
			cms := cs.CoreV1().ConfigMaps(ns)
			made, err := cms.Create(t.Context(), configMap("a"), metav1.CreateOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if made.UID == "" || made.ResourceVersion == "" || made.CreationTimestamp.IsZero() || made.Namespace != ns {
				t.Errorf("created object lacks metadata: %+v", made.ObjectMeta)
			}
			if len(made.ManagedFields) != 1 || made.ManagedFields[0].Operation != metav1.ManagedFieldsOperationUpdate {
				t.Errorf("managedFields of a created object: %+v", made.ManagedFields)
			}
			if _, err := cms.Create(t.Context(), configMap("a"), metav1.CreateOptions{}); !apierrors.IsAlreadyExists(err) || err.Error() != `configmaps "a" already exists` {
				t.Errorf("second create: %v", err)
			}
			got, err := cms.Get(t.Context(), "a", metav1.GetOptions{})
			if err != nil || got.Data["k"] != "v" || got.ResourceVersion != made.ResourceVersion {
				t.Fatalf("get: %v %+v", err, got)
			}
			same, err := cms.Update(t.Context(), got, metav1.UpdateOptions{})
			if err != nil || same.ResourceVersion != got.ResourceVersion {
				t.Errorf("an update without change: %v, resourceVersion %s -> %s", err, got.ResourceVersion, same.ResourceVersion)
			}
			got.Data["k"] = "w"
			updated, err := cms.Update(t.Context(), got, metav1.UpdateOptions{})
			if err != nil || updated.ResourceVersion == got.ResourceVersion {
				t.Fatalf("update: %v %+v", err, updated)
			}
			got.Data["k"] = "late"
			if _, err := cms.Update(t.Context(), got, metav1.UpdateOptions{}); !apierrors.IsConflict(err) {
				t.Errorf("update with an old resourceVersion: %v", err)
			}
			patched, err := cms.Patch(t.Context(), "a", types.MergePatchType, []byte(`{"data":{"p":"1"}}`), metav1.PatchOptions{})
			if err != nil || patched.Data["p"] != "1" || patched.Data["k"] != "w" {
				t.Fatalf("patch: %v %+v", err, patched)
			}
			list, err := cms.List(t.Context(), metav1.ListOptions{LabelSelector: "app=x"})
			if err != nil || len(list.Items) != 1 || list.Items[0].Name != "a" || list.ResourceVersion == "" {
				t.Fatalf("list: %v %+v", err, list)
			}
			if err := cms.Delete(t.Context(), "a", metav1.DeleteOptions{}); err != nil {
				t.Fatal(err)
			}
			if _, err := cms.Get(t.Context(), "a", metav1.GetOptions{}); !apierrors.IsNotFound(err) || err.Error() != `configmaps "a" not found` {
				t.Errorf("get after delete: %v", err)
			}
		})
	}
}

func TestWatchSeesEveryChange(t *testing.T) {
	t.Parallel()
	s := apitest.Start(t)
	for ct, cs := range clients(t, s) {
		t.Run(ct, func(t *testing.T) {
			ns := "watch-" + fmt.Sprint(len(ct))
			cms := cs.CoreV1().ConfigMaps(ns)
			first, err := cms.Create(t.Context(), configMap("a"), metav1.CreateOptions{})
			if err != nil {
				t.Fatal(err)
			}
			yes := true
			w, err := cms.Watch(t.Context(), metav1.ListOptions{SendInitialEvents: &yes, AllowWatchBookmarks: true,
				ResourceVersionMatch: metav1.ResourceVersionMatchNotOlderThan})
			if err != nil {
				t.Fatal(err)
			}
			defer w.Stop()
			next(t, w, watch.Added, "a", first.ResourceVersion)
			mark := next(t, w, watch.Bookmark, "", "")
			if mark.Annotations[metav1.InitialEventsAnnotationKey] != "true" || mark.ResourceVersion == "" {
				t.Errorf("closing bookmark: %+v", mark.ObjectMeta)
			}
			first.Data["k"] = "2"
			second, err := cms.Update(t.Context(), first, metav1.UpdateOptions{})
			if err != nil {
				t.Fatal(err)
			}
			next(t, w, watch.Modified, "a", second.ResourceVersion)
			if err := cms.Delete(t.Context(), "a", metav1.DeleteOptions{}); err != nil {
				t.Fatal(err)
			}
			gone := next(t, w, watch.Deleted, "a", "")
			if gone.ResourceVersion == second.ResourceVersion || gone.Data["k"] != "2" {
				t.Errorf("deleted event: %+v", gone)
			}
		})
	}
}

// next returns the next event's object and checks what is known of it.
func next(t *testing.T, w watch.Interface, want watch.EventType, name, rv string) *corev1.ConfigMap {
	t.Helper()
	select {
	case e, ok := <-w.ResultChan():
		if !ok {
			t.Fatalf("watch ended, want %s %s", want, name)
		}
		cm, ok := e.Object.(*corev1.ConfigMap)
		if !ok || e.Type != want || cm.Name != name || rv != "" && cm.ResourceVersion != rv {
			t.Fatalf("event %s %+v, want %s %s at %s", e.Type, e.Object, want, name, rv)
		}
		return cm
	case <-time.After(20 * time.Second):
		t.Fatalf("no event, want %s %s", want, name)
	}
	return nil
}

func TestPagesOfAList(t *testing.T) {
	t.Parallel()
	s := apitest.Start(t)
	cms := s.Client.CoreV1().ConfigMaps("pages")
	for i := range 7 {
		if _, err := cms.Create(t.Context(), configMap(fmt.Sprintf("c%d", i)), metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	var names []string
	o := metav1.ListOptions{Limit: 3}
	for {
		l, err := cms.List(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		for i := range l.Items {
			names = append(names, l.Items[i].Name)
		}
		if o.Continue = l.Continue; o.Continue == "" {
			break
		}
	}
	if got := strings.Join(names, " "); got != "c0 c1 c2 c3 c4 c5 c6" {
		t.Errorf("pages: %s", got)
	}
}

// send performs a request as the administrator and returns the answer.
func send(t *testing.T, s *apitest.Server, method, path, contentType, body string, header ...string) (*http.Response, string) {
	t.Helper()
	hc, err := rest.HTTPClientFor(s.Admin)
	if err != nil {
		t.Fatal(err)
	}
	return sendWith(t, hc, s.Admin.Host, method, path, contentType, body, header...)
}

func sendWith(t *testing.T, hc *http.Client, host, method, path, contentType, body string, header ...string) (*http.Response, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, host+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if contentType != "" {
		r.Header.Set("Content-Type", contentType)
	}
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	resp, err := hc.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(text)
}

const inNS = "/api/v1/namespaces/n/configmaps"

func TestRefusals(t *testing.T) {
	t.Parallel()
	s := apitest.Start(t)
	if _, err := s.Client.CoreV1().ConfigMaps("n").Create(t.Context(), configMap("there"), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	jsonType := "application/json"
	for _, c := range []struct {
		name, method, path, contentType, body string
		code                                  int
		reason                                metav1.StatusReason
		message                               string // part of it
	}{
		{"malformed JSON", "POST", inNS, jsonType, `{"metadata":`, 400, metav1.StatusReasonBadRequest, ""},
		{"malformed YAML", "POST", inNS, "application/yaml", "a: [", 400, metav1.StatusReasonBadRequest, ""},
		{"malformed protobuf", "POST", inNS, "application/vnd.kubernetes.protobuf", "k8s\x00\x0a\xff", 400, metav1.StatusReasonBadRequest, ""},
		{"no protobuf", "POST", inNS, "application/vnd.kubernetes.protobuf", "hello", 400, metav1.StatusReasonBadRequest, ""},
		{"wrong type", "POST", inNS, jsonType, `{"metadata":{"name":1}}`, 400, metav1.StatusReasonBadRequest, ""},
		{"another kind", "POST", inNS, jsonType, `{"kind":"Pod","apiVersion":"v1","metadata":{"name":"x"}}`, 400, metav1.StatusReasonBadRequest, "cannot be handled as a ConfigMap"},
		{"another version", "POST", inNS, jsonType, `{"kind":"ConfigMap","apiVersion":"v2","metadata":{"name":"x"}}`, 400, metav1.StatusReasonBadRequest, "does not match the expected API version (v1)"},
		{"another namespace", "POST", inNS, jsonType, `{"metadata":{"name":"x","namespace":"other"}}`, 400, metav1.StatusReasonBadRequest, "the namespace of the provided object does not match"},
		{"no name", "POST", inNS, jsonType, `{}`, 422, metav1.StatusReasonInvalid, "name or generateName is required"},
		{"bad name", "POST", inNS, jsonType, `{"metadata":{"name":"A_b"}}`, 422, metav1.StatusReasonInvalid, "metadata.name"},
		{"resourceVersion on create", "POST", inNS, jsonType, `{"metadata":{"name":"x","resourceVersion":"3"}}`, 400, metav1.StatusReasonBadRequest, "resourceVersion should not be set"},
		{"unknown field, strict", "POST", inNS + "?fieldValidation=Strict", jsonType, `{"metadata":{"name":"x"},"foo":1}`, 400, metav1.StatusReasonBadRequest, `unknown field "foo"`},
		{"unknown media type", "POST", inNS, "text/csv", "a,b", 415, metav1.StatusReasonUnsupportedMediaType, ""},
		{"CBOR", "POST", inNS, "application/cbor", "x", 415, metav1.StatusReasonUnsupportedMediaType, ""},
		{"bad dry run", "POST", inNS + "?dryRun=Some", jsonType, `{"metadata":{"name":"x"}}`, 422, metav1.StatusReasonInvalid, "dryRun"},
		{"too large", "POST", inNS, jsonType, strings.Repeat("x", 4<<20), 413, metav1.StatusReasonRequestEntityTooLarge, ""},
		{"name mismatch", "PUT", inNS + "/there", jsonType, `{"metadata":{"name":"x"}}`, 400, metav1.StatusReasonBadRequest, "does not match the name on the URL"},
		{"update of nothing", "PUT", inNS + "/absent", jsonType, `{"metadata":{"name":"absent"}}`, 404, metav1.StatusReasonNotFound, `configmaps "absent" not found`},
		{"other uid", "PUT", inNS + "/there", jsonType, `{"metadata":{"name":"there","uid":"u"}}`, 409, metav1.StatusReasonConflict, "Precondition failed: UID in precondition: u"},
		{"old resourceVersion", "PUT", inNS + "/there", jsonType, `{"metadata":{"name":"there","resourceVersion":"1"}}`, 409, metav1.StatusReasonConflict,
			`Operation cannot be fulfilled on configmaps "there": the object has been modified; please apply your changes to the latest version and try again`},
		{"odd resourceVersion", "PUT", inNS + "/there", jsonType, `{"metadata":{"name":"there","resourceVersion":"x"}}`, 400, metav1.StatusReasonBadRequest, ""},
		{"patch type", "PATCH", inNS + "/there", jsonType, `{}`, 415, metav1.StatusReasonUnsupportedMediaType, "application/merge-patch+json"},
		{"malformed patch", "PATCH", inNS + "/there", "application/merge-patch+json", `{`, 400, metav1.StatusReasonBadRequest, ""},
		{"apply without manager", "PATCH", inNS + "/there", "application/apply-patch+yaml", `{}`, 422, metav1.StatusReasonInvalid, "fieldManager"},
		{"method", "POST", inNS + "/there", jsonType, `{}`, 405, metav1.StatusReasonMethodNotAllowed, ""},
		{"create without namespace", "POST", "/api/v1/configmaps", jsonType, `{}`, 405, metav1.StatusReasonMethodNotAllowed, ""},
		{"list match without version", "GET", inNS + "?resourceVersionMatch=Exact", "", "", 422, metav1.StatusReasonInvalid, "resourceVersionMatch"},
		{"list with initial events", "GET", inNS + "?sendInitialEvents=true", "", "", 422, metav1.StatusReasonInvalid, "sendInitialEvents is forbidden for list"},
		{"watch initial events without match", "GET", inNS + "?watch=1&sendInitialEvents=true", "", "", 422, metav1.StatusReasonInvalid, "sendInitialEvents requires"},
		{"watch initial events without bookmarks", "GET", inNS + "?watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan", "", "", 422, metav1.StatusReasonInvalid, "allowWatchBookmarks"},
		{"continue with version", "GET", inNS + "?continue=x&resourceVersion=5", "", "", 400, metav1.StatusReasonBadRequest, "not allowed when using continue"},
		{"bad continue", "GET", inNS + "?continue=x", "", "", 400, metav1.StatusReasonBadRequest, "continue"},
		{"odd list version", "GET", inNS + "?resourceVersion=x", "", "", 400, metav1.StatusReasonBadRequest, ""},
		{"future version", "GET", inNS + "?resourceVersion=99999999", "", "", 504, metav1.StatusReasonTimeout, "Too large resource version"},
		{"label selector", "GET", inNS + "?labelSelector=a%3D%3D%3Db", "", "", 400, metav1.StatusReasonBadRequest, ""},
		{"field selector", "GET", inNS + "?fieldSelector=spec.x%3Db", "", "", 400, metav1.StatusReasonBadRequest, `"spec.x" is not a known field selector`},
		{"timeout", "GET", inNS + "?timeout=soon", "", "", 400, metav1.StatusReasonBadRequest, "timeout"},
		{"delete options", "DELETE", inNS + "/there", jsonType, `{"kind":"Pod"}`, 400, metav1.StatusReasonBadRequest, ""},
		{"delete precondition", "DELETE", inNS + "/there", jsonType, `{"preconditions":{"uid":"u"}}`, 409, metav1.StatusReasonConflict, "Precondition failed"},
		{"delete policies", "DELETE", inNS + "/there", jsonType, `{"orphanDependents":true,"propagationPolicy":"Orphan"}`, 422, metav1.StatusReasonInvalid, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			resp, text := send(t, s, c.method, c.path, c.contentType, c.body)
			var st metav1.Status
			if err := json.Unmarshal([]byte(text), &st); err != nil {
				t.Fatalf("%d %q is no Status: %v", resp.StatusCode, text, err)
			}
			if resp.StatusCode != c.code || st.Reason != c.reason || !strings.Contains(st.Message, c.message) || st.Kind != "Status" || st.APIVersion != "v1" || int(st.Code) != c.code {
				t.Errorf("%d %s\nwant %d %s %q", resp.StatusCode, text, c.code, c.reason, c.message)
			}
		})
	}
	if resp, text := send(t, s, "GET", "/apis/nonsense/v1/namespaces/n/nonsense", "", ""); resp.StatusCode != 404 || text != "404 page not found\n" {
		t.Errorf("unknown resource: %d %q", resp.StatusCode, text)
	}
	if resp, text := send(t, s, "GET", inNS+"/there", "", "", "Accept", "text/csv"); resp.StatusCode != 406 {
		t.Errorf("not acceptable: %d %q", resp.StatusCode, text)
	}
	if _, err := s.Client.CoreV1().ConfigMaps("n").Get(t.Context(), "there", metav1.GetOptions{}); err != nil {
		t.Errorf("the server after all that: %v", err)
	}
}

func TestWhoMayPass(t *testing.T) {
	t.Parallel()
	s := apitest.Start(t)
	nobody, err := rest.HTTPClientFor(s.Anonymous())
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/healthz", "/livez", "/readyz", "/readyz?verbose", "/version"} {
		if resp, text := sendWith(t, nobody, s.Admin.Host, "GET", path, "", ""); resp.StatusCode != 200 {
			t.Errorf("%s: %d %s", path, resp.StatusCode, text)
		}
	}
	for _, path := range []string{"/api", "/apis", "/metrics", "/", inNS, "/healthz/etcd", "/openapi/v3", "/debug/pprof/", "/debug/pprof/heap"} {
		if resp, text := sendWith(t, nobody, s.Admin.Host, "GET", path, "", ""); resp.StatusCode != 401 || !strings.Contains(text, `"Unauthorized"`) {
			t.Errorf("%s: %d %s", path, resp.StatusCode, text)
		}
	}
}

func TestUnknownFieldsAreWarnedOf(t *testing.T) {
	t.Parallel()
	s := apitest.Start(t)
	resp, text := send(t, s, "POST", inNS, "application/json", `{"metadata":{"name":"x"},"foo":1}`)
	if resp.StatusCode != 201 || resp.Header.Get("Warning") != `299 - "unknown field \"foo\""` {
		t.Errorf("%d %q %s", resp.StatusCode, resp.Header.Values("Warning"), text)
	}
	resp, _ = send(t, s, "POST", inNS+"?fieldValidation=Ignore", "application/json", `{"metadata":{"name":"y"},"foo":1}`)
	if resp.StatusCode != 201 || resp.Header.Get("Warning") != "" {
		t.Errorf("%d %q", resp.StatusCode, resp.Header.Values("Warning"))
	}
}

func TestConcurrentPatchesAllCount(t *testing.T) {
	t.Parallel()
	s := apitest.Start(t)
	cms := s.Client.CoreV1().ConfigMaps("n")
	if _, err := cms.Create(t.Context(), configMap("a"), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			body := fmt.Sprintf(`{"data":{"k%d":"1"}}`, i)
			if _, err := cms.Patch(context.WithoutCancel(t.Context()), "a", types.MergePatchType, []byte(body), metav1.PatchOptions{}); err != nil {
				t.Errorf("patch %d: %v", i, err)
			}
		})
	}
	wg.Wait()
	got, err := cms.Get(t.Context(), "a", metav1.GetOptions{})
	if err != nil || len(got.Data) != 17 {
		t.Errorf("%v: %d keys, want 17", err, len(got.Data))
	}
}
