package e2e

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"canopus/test/harness"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
)

// wrong is a request that must be refused, and how.
type wrong struct {
	name, method, path string
	header             map[string]string
	body               string
	code               int
	reason             metav1.StatusReason
	message            string // part of it
}

// badInput: whatever is sent, the answer is the documented Status, and the server lives.
func badInput(t *testing.T, s *scenario) {
	client, err := rest.HTTPClientFor(s.Config)
	if err != nil {
		t.Fatal(err)
	}
	pid := s.Server().Pid()
	s.Input(t, manifest(t, "config.yaml"), s.args([]string{"create", "-f", "-"})...)
	for _, w := range wrongs(s.ns) {
		t.Run(w.name, func(t *testing.T) { s.refused(t, client, w) })
	}
	t.Run("truncated-body", func(t *testing.T) { s.truncated(t) })
	t.Run("not-http", func(t *testing.T) { s.garbage(t) })
	t.Run("wrong-token", func(t *testing.T) {
		config := rest.AnonymousClientConfig(s.Config)
		config.BearerToken, config.Dial = "eyJhbGciOiJub25lIn0.e30.", s.Control.Dial
		stranger, err := rest.HTTPClientFor(config)
		if err != nil {
			t.Fatal(err)
		}
		s.refused(t, stranger, wrong{method: http.MethodGet, path: "/api/v1/nodes", code: 401, reason: metav1.StatusReasonUnauthorized, message: "Unauthorized"})
	})
	if now := s.Server().Pid(); now != pid {
		t.Errorf("the server was restarted: its process id was %d and is %d", pid, now)
	}
	s.serves(t)
}

func wrongs(ns string) []wrong {
	maps := "/api/v1/namespaces/" + ns + "/configmaps"
	pods := "/api/v1/namespaces/" + ns + "/pods"
	asJSON, asYAML := map[string]string{"Content-Type": "application/json"}, map[string]string{"Content-Type": "application/yaml"}
	patch := func(kind string) map[string]string { return map[string]string{"Content-Type": "application/" + kind} }
	object := func(rest string) string {
		return `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"x"}` + rest + `}`
	}
	big := object(`,"data":{"x":"` + strings.Repeat("x", 5<<20) + `"}`)
	large := object(`,"data":{"x":"` + strings.Repeat("x", 1<<20+1) + `"}`)
	deep := object(`,"data":` + strings.Repeat(`{"a":`, 20000) + `1` + strings.Repeat(`}`, 20000))
	const bad, invalid = metav1.StatusReasonBadRequest, metav1.StatusReasonInvalid
	return []wrong{
		{"malformed-json", "POST", maps, asJSON, `{"apiVersion":"v1",`, 400, bad, ""},
		{"malformed-yaml", "POST", maps, asYAML, "a: [b\nc: d", 400, bad, ""},
		{"malformed-protobuf", "POST", maps, map[string]string{"Content-Type": "application/vnd.kubernetes.protobuf"}, "k8s\x00\xff\xff\xff\xff", 400, bad, ""},
		{"empty", "POST", maps, asJSON, "", 400, bad, ""},
		{"media-type", "POST", maps, map[string]string{"Content-Type": "text/html"}, "<p>", 415, metav1.StatusReasonUnsupportedMediaType, ""},
		{"accept", "GET", maps, map[string]string{"Accept": "image/png"}, "", 406, metav1.StatusReasonNotAcceptable, ""},
		{"unknown-field", "POST", maps + "?fieldValidation=Strict", asJSON, object(`,"colour":"red"`), 400, bad, `unknown field "colour"`},
		{"duplicate-field", "POST", maps + "?fieldValidation=Strict", asJSON, object(`,"data":{"a":"1","a":"2"}`), 400, bad, `duplicate field "data.a"`},
		{"wrong-type", "POST", maps, asJSON, object(`,"data":["a"]`), 400, bad, "ConfigMap"},
		{"wrong-kind", "POST", maps, asJSON, `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"x"}}`, 400, bad, ""},
		{"other-namespace", "POST", maps, asJSON, `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"x","namespace":"default"}}`, 400, bad, "namespace"},
		{"bad-name", "POST", maps, asJSON, `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"Not_A_Name"}}`, 422, invalid, "RFC 1123"},
		{"no-name", "POST", maps, asJSON, `{"apiVersion":"v1","kind":"ConfigMap"}`, 422, invalid, "name or generateName is required"},
		{"invalid-pod", "POST", pods, asJSON, `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"x"},"spec":{"containers":[]}}`, 422, invalid, "spec.containers: Required value"},
		{"5-MB", "POST", maps, asJSON, big, 413, metav1.StatusReasonRequestEntityTooLarge, ""},
		{"too-large-for-its-kind", "POST", maps, asJSON, large, 422, invalid, "Too long"},
		{"deep-nesting", "POST", maps, asJSON, deep, 400, bad, ""},
		{"conflict", "PUT", maps + "/settings", asJSON, `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"settings","resourceVersion":"1"}}`, 409, metav1.StatusReasonConflict, "the object has been modified"},
		{"exists", "POST", maps, asJSON, `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"settings"}}`, 409, metav1.StatusReasonAlreadyExists, `configmaps "settings" already exists`},
		{"other-name", "PUT", maps + "/settings", asJSON, object(""), 400, bad, "does not match the name on the URL"},
		{"json-patch", "PATCH", maps + "/settings", patch("json-patch+json"), `[{"op":"remove","path":"/nothing"}]`, 422, invalid, ""},
		{"json-patch-malformed", "PATCH", maps + "/settings", patch("json-patch+json"), `{"op":"remove"}`, 400, bad, ""},
		{"merge-patch-malformed", "PATCH", maps + "/settings", patch("merge-patch+json"), `[`, 400, bad, ""},
		{"patch-type", "PATCH", maps + "/settings", asJSON, `{}`, 415, metav1.StatusReasonUnsupportedMediaType, ""},
		{"apply-without-manager", "PATCH", maps + "/settings", patch("apply-patch+yaml"), object(""), 422, invalid, "fieldManager"},
		{"not-there", "GET", maps + "/nothing", nil, "", 404, metav1.StatusReasonNotFound, `configmaps "nothing" not found`},
		{"no-such-resource", "GET", "/api/v1/nothings", nil, "", 404, metav1.StatusReasonNotFound, ""},
		{"no-such-path", "GET", "/apis/../..//%2e%2e/etc/passwd", nil, "", 404, metav1.StatusReasonNotFound, ""},
		{"method", "POST", maps + "/settings", asJSON, "{}", 405, metav1.StatusReasonMethodNotAllowed, ""},
		{"selector", "GET", maps + "?labelSelector=a%3D%3D%3Db", nil, "", 400, bad, ""},
		{"field-selector", "GET", maps + "?fieldSelector=spec.nothing%3Dx", nil, "", 400, bad, "is not a known field selector"},
		{"limit", "GET", maps + "?limit=many", nil, "", 400, bad, ""},
		{"continue", "GET", maps + "?limit=1&continue=rubbish", nil, "", 400, bad, "continue"},
		{"resource-version", "GET", maps + "?resourceVersion=abc", nil, "", 400, bad, ""},
		{"initial-events", "GET", maps + "?watch=1&sendInitialEvents=true", nil, "", 422, invalid, "resourceVersionMatch"},
		{"precondition", "DELETE", maps + "/settings", asJSON, `{"preconditions":{"uid":"not-its-uid"}}`, 409, metav1.StatusReasonConflict, "Precondition failed"},
	}
}

// refused sends w and checks the answer: its code, and a Status that says why.
func (s *scenario) refused(t *testing.T, client *http.Client, w wrong) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, w.method, s.Config.Host+w.path, strings.NewReader(w.body))
	if err != nil {
		t.Fatal(err)
	}
	for k, v := range w.header {
		request.Header.Set(k, v)
	}
	resp, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	body := readAll(resp)
	if resp.StatusCode != w.code {
		t.Fatalf("%s %s: %s, want %d: %.400s", w.method, w.path, resp.Status, w.code, body)
	}
	var status metav1.Status
	if err := json.Unmarshal([]byte(body), &status); err != nil || status.Kind != "Status" {
		if w.code == http.StatusNotFound && body == "404 page not found\n" {
			return // not a path of the API
		}
		t.Fatalf("%s %s: the answer is no Status: %.400q", w.method, w.path, body)
	}
	if status.Reason != w.reason || !strings.Contains(status.Message, w.message) || status.Status != metav1.StatusFailure || int(status.Code) != w.code {
		t.Errorf("%s %s: %.600s; want reason %q and %q", w.method, w.path, body, w.reason, w.message)
	}
}

// dialTLS opens a connection to the API server as nobody.
func (s *scenario) dialTLS(t *testing.T) *tls.Conn {
	t.Helper()
	conn, err := s.Control.Dial(t.Context(), "tcp", strings.TrimPrefix(s.Config.Host, "https://"))
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := tls.X509KeyPair(s.Config.CertData, s.Config.KeyData)
	if err != nil {
		t.Fatal(err)
	}
	//nolint:gosec // the server's identity is not what is tested here
	secured := tls.Client(conn, &tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{certificate}})
	t.Cleanup(func() { _ = secured.Close() })
	if err := secured.SetDeadline(time.Now().Add(15 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return secured
}

// truncated promises a body and goes away in the middle of it: nothing may be stored.
func (s *scenario) truncated(t *testing.T) {
	conn := s.dialTLS(t)
	body := `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"half"}}`
	fmt.Fprintf(conn, "POST /api/v1/namespaces/%s/configmaps HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", s.ns, len(body)+10, body)
	if err := conn.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	answer, err := io.ReadAll(conn)
	if err == nil && len(answer) > 0 && !bytes.HasPrefix(answer, []byte("HTTP/1.1 4")) {
		t.Errorf("answer to half a body: %.300q", answer)
	}
	if r := s.Try(t, "", s.args([]string{"get", "configmap", "half"})...); r.Code == 0 {
		t.Error("half a body was stored")
	}
}

// garbage sends what is no HTTP.
func (s *scenario) garbage(t *testing.T) {
	conn := s.dialTLS(t)
	if _, err := conn.Write(bytes.Repeat([]byte("\x00\xffgarbage\r\n"), 1000)); err != nil {
		t.Logf("write: %v", err) // the server may hang up at once
	}
	answer, err := io.ReadAll(conn)
	if err == nil && len(answer) > 0 && !bytes.HasPrefix(answer, []byte("HTTP/1.1 400")) {
		t.Errorf("answer to garbage: %.300q", answer)
	}
	plain, err := s.Control.Dial(t.Context(), "tcp", strings.TrimPrefix(s.Config.Host, "https://"))
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	if err := plain.SetDeadline(time.Now().Add(15 * time.Second)); err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(plain, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
	answer, err = io.ReadAll(plain)
	if err == nil && bytes.HasPrefix(answer, []byte("HTTP/1.1 2")) {
		t.Errorf("plain HTTP is answered: %.300q", answer)
	}
	harness.Until(t, patience, "the server to answer others", func() error {
		return s.Client.Discovery().RESTClient().Get().AbsPath("/healthz").Do(t.Context()).Error()
	})
}
