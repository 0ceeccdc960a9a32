package apiserver_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"canopus/internal/apiserver"
	"canopus/internal/apiserver/apitest"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
)

const (
	jsonType  = "application/json"
	yamlType  = "application/yaml"
	protoType = "application/vnd.kubernetes.protobuf"
	mergeType = "application/merge-patch+json"
	stratType = "application/strategic-merge-patch+json"
	pathType  = "application/json-patch+json"
	applyType = "application/apply-patch+yaml"
)

// aliasBomb is a YAML document of ten short lines that stands for 9⁹ words.
func aliasBomb() string {
	b := &strings.Builder{}
	b.WriteString("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: there}\na0: &a0 [x,x,x,x,x,x,x,x,x]\n")
	for i := 1; i < 9; i++ {
		fmt.Fprintf(b, "a%d: &a%d [%s]\n", i, i, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*a%d,", i-1), 9), ","))
	}
	return b.String()
}

// copyBomb is a JSON patch whose every operation doubles the object.
func copyBomb() string {
	b := &strings.Builder{}
	b.WriteString(`[{"op":"add","path":"/data/a","value":"x"}`)
	for i := range 40 {
		fmt.Fprintf(b, `,{"op":"copy","from":"/data","path":"/data/b%d"}`, i)
	}
	return b.String() + "]"
}

// refusal is a request that must be refused, and how.
type refusal struct {
	name, method, path, contentType, body string
	code                                  int
	message                               string // part of it
}

func refusals() []refusal {
	deep := strings.Repeat(`{"a":`, 500_000) + "1" + strings.Repeat("}", 500_000)
	there := inNS + "/there"
	return []refusal{
		{"deep JSON", "POST", inNS, jsonType, deep, 400, "exceeded max depth"},
		{"deep JSON array", "POST", inNS, jsonType, strings.Repeat("[", 1<<20), 400, ""},
		{"deep YAML", "POST", inNS, yamlType, "metadata: " + strings.Repeat("[", 100_000), 400, "exceeded max depth"},
		{"YAML aliases", "POST", inNS, yamlType, aliasBomb(), 400, "excessive aliasing"},
		{"YAML aliases, apply", "PATCH", there + "?fieldManager=m", applyType, aliasBomb(), 400, "excessive aliasing"},
		{"deep merge patch", "PATCH", there, mergeType, `{"data":` + deep + "}", 400, "exceeded max depth"},
		{"deep strategic patch", "PATCH", there, stratType, `{"data":` + deep + "}", 400, "exceeded max depth"},
		{"deep apply", "PATCH", there + "?fieldManager=m", applyType, strings.Repeat("{a: ", 20_000), 400, ""},
		{"many operations", "PATCH", there, pathType, "[" + strings.Repeat(`{"op":"test","path":"/kind","value":"ConfigMap"},`, 10_001) + `{}]`, 413, "10000"},
		{"copies of copies", "PATCH", there, pathType, copyBomb(), 413, ""},
		{"failing test", "PATCH", there, pathType, `[{"op":"test","path":"/data/k","value":"other"}]`, 422, ""},
		{"removing nothing", "PATCH", there, pathType, `[{"op":"remove","path":"/data/none"}]`, 422, ""},
		{"no operation", "PATCH", there, pathType, `[{"op":"dance","path":"/data"}]`, 422, ""},
		{"patch is no object", "PATCH", there, mergeType, `"x"`, 400, ""},
		{"patch is null", "PATCH", there, stratType, `null`, 0, ""},
		{"patch of the kind", "PATCH", there, mergeType, `{"kind":"Secret"}`, 400, ""},
		{"patch of the name", "PATCH", there, mergeType, `{"metadata":{"name":"x"}}`, 400, "does not match the name on the URL"},
		{"patch of the uid", "PATCH", there, mergeType, `{"metadata":{"uid":"x"}}`, 422, "field is immutable"},
		{"patch to wrong types", "PATCH", there, mergeType, `{"data":[1]}`, 422, "patch: Invalid value"},
		{"stale patch", "PATCH", there, mergeType, `{"metadata":{"resourceVersion":"1"},"data":{"a":"b"}}`, 409, "the object has been modified"},
		{"strategic directive", "PATCH", there, stratType, `{"data":{"$patch":"explode"}}`, 400, ""},
		{"apply of another kind", "PATCH", there + "?fieldManager=m", applyType, "apiVersion: v1\nkind: Secret\nmetadata: {name: there}", 400, ""},
		{"apply of another name", "PATCH", there + "?fieldManager=m", applyType, "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: other}", 400, "does not match the name on the URL"},
		{"apply with managers", "PATCH", there + "?fieldManager=m", applyType, "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: there, managedFields: [{manager: x}]}", 400, "managedFields must be nil"},
		{"apply of nothing", "PATCH", there + "?fieldManager=m", applyType, "", 400, ""},
		{"a list in place of an object", "POST", inNS, jsonType, `[]`, 400, ""},
		{"null", "POST", inNS, jsonType, `null`, 422, ""},
		{"two documents", "POST", inNS, jsonType, `{"metadata":{"name":"a"}}{"metadata":{"name":"b"}}`, 400, ""},
		{"empty", "POST", inNS, jsonType, ``, 400, ""},
		{"empty protobuf", "POST", inNS, protoType, ``, 400, ""},
		{"protobuf of nothing", "POST", inNS, protoType, "k8s\x00", 422, ""},
		{"protobuf length beyond the end", "POST", inNS, protoType, "k8s\x00\x12\xff\xff\xff\xff\x7f", 400, ""},
		{"protobuf groups", "POST", inNS, protoType, "k8s\x00\x12\x04\x0b\x0b\x0b\x0b", 400, ""},
		{"JSON called protobuf", "POST", inNS, protoType, `{"metadata":{"name":"a"}}`, 400, ""},
		{"number too large", "POST", "/api/v1/namespaces/n/pods", jsonType, `{"metadata":{"name":"a"},"spec":{"activeDeadlineSeconds":1e400}}`, 400, ""},
		{"fraction", "POST", "/api/v1/namespaces/n/pods", jsonType, `{"metadata":{"name":"a"},"spec":{"activeDeadlineSeconds":1.5}}`, 400, ""},
		{"bad quantity", "POST", "/api/v1/namespaces/n/pods", jsonType, `{"metadata":{"name":"a"},"spec":{"containers":[{"name":"c","image":"i","resources":{"limits":{"cpu":"lots"}}}]}}`, 400, ""},
		{"bad time", "POST", inNS, jsonType, `{"metadata":{"name":"a","creationTimestamp":"yesterday"}}`, 400, ""},
		{"NUL in a name", "POST", inNS, jsonType, `{"metadata":{"name":"a\u0000b"}}`, 422, ""},
		{"slash in a name", "POST", inNS, jsonType, `{"metadata":{"name":"../secrets/x"}}`, 422, ""},
		{"long name", "POST", inNS, jsonType, `{"metadata":{"name":"` + strings.Repeat("a", 254) + `"}}`, 422, ""},
		{"dots in a path", "GET", inNS + "/%2e%2e", "", "", 404, `configmaps ".." not found`},
		{"NUL in a path", "GET", inNS + "/a%00b", "", "", 404, ""},
		{"long path", "GET", inNS + "/" + strings.Repeat("a", 64<<10), "", "", 404, ""},
		{"slash in a segment", "GET", inNS + "/a%2Fb", "", "", 404, "the server could not find the requested resource"},
		{"unknown resource", "GET", "/api/v1/namespaces/n/nonsense", "", "", 404, "the server could not find the requested resource"},
		{"unknown subresource", "GET", there + "/nonsense", "", "", 404, "the server could not find the requested resource"},
		{"unnamed update", "PUT", there, jsonType, `{}`, 400, "the name of the object (there based on URL) was undeterminable: name must be provided"},
		{"negative revision", "GET", inNS + "?resourceVersion=-1", "", "", 400, ""},
		{"huge limit", "GET", inNS + "?limit=99999999999999999999", "", "", 400, "value out of range"},
		{"wordy timeout", "GET", inNS + "?timeoutSeconds=x", "", "", 400, "invalid syntax"},
		{"selector of labels", "GET", inNS + "?labelSelector=" + url.QueryEscape("a in (b"), "", "", 400, "unable to parse requirement: found '', expected: ',' or ')'"},
		{"selector of fields", "GET", inNS + "?fieldSelector=spec.x%3Db", "", "", 400, `"spec.x" is not a known field selector: only "metadata.name", "metadata.namespace"`},
		{"selector of a pod's fields", "GET", "/api/v1/namespaces/n/pods?fieldSelector=spec.x%3Db", "", "", 400, "field label not supported: spec.x"},
		{"forged continue", "GET", inNS + "?continue=eyJ2IjoibWV0YS5rOHMuaW8vdjEiLCJydiI6LTUsInN0YXJ0IjoieCJ9", "", "", 400, ""},
		{"method override", "POST", there, jsonType, `{}`, 405, ""},
		{"unknown method", "BREW", there, "", "", 405, ""},
		{"options", "OPTIONS", inNS, "", "", 405, ""},
		{"fieldValidation", "POST", inNS + "?fieldValidation=Maybe", jsonType, `{"metadata":{"name":"a"}}`, 422, "fieldValidation"},
		{"propagation policy", "DELETE", there + "?propagationPolicy=Maybe", "", "", 422, "propagationPolicy"},
		{"grace period", "DELETE", there + "?gracePeriodSeconds=x", "", "", 400, ""},
		{"deletion of another version", "DELETE", there, jsonType, `{"preconditions":{"resourceVersion":"1"}}`, 409, ""},
	}
}

// TestHostileRequests sends what no client should. Each is refused with the documented Status, and afterwards the server
// is as it was: it serves, and holds neither goroutines nor memory.
func TestHostileRequests(t *testing.T) {
	t.Parallel()
	s := apitest.Start(t)
	if _, err := s.Client.CoreV1().ConfigMaps("n").Create(t.Context(), configMap("there"), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, c := range refusals() {
		t.Run(c.name, func(t *testing.T) {
			resp, text := send(t, s, c.method, c.path, c.contentType, c.body, "X-HTTP-Method-Override", "DELETE")
			if c.code == 0 && resp.StatusCode < 500 {
				return
			}
			var st metav1.Status
			if err := json.Unmarshal([]byte(text), &st); err != nil {
				t.Fatalf("%d %.200q is no Status: %v", resp.StatusCode, text, err)
			}
			if resp.StatusCode != c.code || !strings.Contains(st.Message, c.message) || st.Kind != "Status" || st.Reason == "" || int(st.Code) != c.code {
				t.Errorf("%d %.400s\nwant %d %q", resp.StatusCode, text, c.code, c.message)
			}
		})
	}
	got, err := s.Client.CoreV1().ConfigMaps("n").Get(t.Context(), "there", metav1.GetOptions{})
	if err != nil || len(got.Data) != 1 || got.Data["k"] != "v" {
		t.Errorf("the object after all that: %v %v", err, got)
	}
}

// TestHostileRequestsLeaveNothing repeats the worst requests and looks for goroutines and memory that stay. It runs alone,
// because it looks at the whole process.
func TestHostileRequestsLeaveNothing(t *testing.T) { //nolint:paralleltest // see above
	s := apitest.Start(t)
	if _, err := s.Client.CoreV1().ConfigMaps("n").Create(t.Context(), configMap("there"), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	round := func() {
		for _, c := range refusals() {
			send(t, s, c.method, c.path, c.contentType, c.body)
		}
	}
	round()
	goroutines, heap := settled()
	for range 5 {
		round()
	}
	deadline := time.Now().Add(20 * time.Second)
	for {
		g, h := settled()
		if g <= goroutines+5 && h <= heap+16<<20 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d goroutines and %d bytes before, %d and %d after", goroutines, heap, g, h)
		}
	}
}

// settled counts goroutines and live bytes after a collection.
func settled() (goroutines int, heap uint64) {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return runtime.NumGoroutine(), m.HeapAlloc
}

// TestFieldValidation sends unknown and repeated fields by every verb in every mode.
func TestFieldValidation(t *testing.T) {
	t.Parallel()
	s := apitest.Start(t)
	if _, err := s.Client.CoreV1().ConfigMaps("n").Create(t.Context(), configMap("there"), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, method, path, contentType, body, want string
	}{
		{"create", "POST", inNS, jsonType, `{"metadata":{"generateName":"x"},"foo":1}`, `unknown field "foo"`},
		{"create nested", "POST", inNS, jsonType, `{"metadata":{"generateName":"x","bar":1}}`, `unknown field "metadata.bar"`},
		{"create twice", "POST", inNS, jsonType, `{"metadata":{"generateName":"x"},"data":{"a":"1","a":"2"}}`, `duplicate field "data.a"`},
		{"create YAML", "POST", inNS, yamlType, "metadata: {generateName: x}\nfoo: 1\n", `unknown field "foo"`},
		{"create YAML twice", "POST", inNS, yamlType, "metadata: {generateName: x}\ndata:\n  a: b\n  a: c\n", `key "a" already set in map`},
		{"update", "PUT", inNS + "/there", jsonType, `{"metadata":{"name":"there"},"foo":1}`, `unknown field "foo"`},
		{"merge patch", "PATCH", inNS + "/there", mergeType, `{"foo":1}`, `unknown field "foo"`},
		{"merge patch twice", "PATCH", inNS + "/there", mergeType, `{"data":{"a":"1","a":"2"}}`, `duplicate field "data.a"`},
		{"strategic patch", "PATCH", inNS + "/there", stratType, `{"foo":1}`, `unknown field "foo"`},
		{"JSON patch", "PATCH", inNS + "/there", pathType, `[{"op":"add","path":"/foo","value":1}]`, `unknown field "foo"`},
		{"JSON patch operation", "PATCH", inNS + "/there", pathType, `[{"op":"add","path":"/data/z","value":"1","foo":2}]`, `json patch unknown field "[0].foo"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, mode := range []string{"Strict", "Warn", "Ignore", ""} {
				path := c.path + "?dryRun=All"
				if mode != "" {
					path += "&fieldValidation=" + mode
				}
				resp, text := send(t, s, c.method, path, c.contentType, c.body)
				warned := strings.Join(resp.Header.Values("Warning"), "\n")
				escaped := strings.ReplaceAll(c.want, `"`, `\"`)
				switch mode {
				case "Strict":
					if resp.StatusCode != 400 && resp.StatusCode != 422 || !strings.Contains(text, strings.ReplaceAll(c.want, `"`, `\"`)) || !strings.Contains(text, "strict decoding error") {
						t.Errorf("Strict: %d %s", resp.StatusCode, text)
					}
				case "Ignore":
					if resp.StatusCode/100 != 2 || warned != "" {
						t.Errorf("Ignore: %d %q %s", resp.StatusCode, warned, text)
					}
				default:
					if resp.StatusCode/100 != 2 || !strings.Contains(warned, escaped) {
						t.Errorf("%q: %d, warnings %q, want %q", mode, resp.StatusCode, warned, escaped)
					}
				}
			}
		})
	}
	// Apply has one mode: a field that is not in the schema cannot be owned.
	for _, mode := range []string{"Strict", "Warn", "Ignore"} {
		resp, text := send(t, s, "PATCH", inNS+"/there?fieldManager=m&force=true&dryRun=All&fieldValidation="+mode, applyType,
			"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: there}\nfoo: 1\n")
		if resp.StatusCode/100 == 2 || resp.StatusCode >= 500 && !strings.Contains(text, "field not declared in schema") {
			t.Errorf("apply, %s: %d %s", mode, resp.StatusCode, text)
		}
	}
}

// dial opens a bare TLS connection to s.
func dial(t *testing.T, s *apitest.Server) net.Conn {
	t.Helper()
	u, err := url.Parse(s.Admin.Host)
	if err != nil {
		t.Fatal(err)
	}
	c, err := tls.Dial("tcp", u.Host, &tls.Config{InsecureSkipVerify: true}) //nolint:gosec // what is tested is not the certificate
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if err := c.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return c
}

// answerTo sends raw bytes and reads one answer.
func answerTo(t *testing.T, c net.Conn, raw string) (*http.Response, string) {
	t.Helper()
	if _, err := io.WriteString(c, raw); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
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

func TestOldAndOddHTTP(t *testing.T) {
	t.Parallel()
	s := apitest.Start(t)
	token := "Authorization: Bearer " + s.Admin.BearerToken + "\r\n"
	for name, c := range map[string]struct {
		raw  string
		code int
	}{
		"HTTP/1.0":             {"GET " + inNS + " HTTP/1.0\r\n" + token + "\r\n", 200},
		"HTTP/1.0, no token":   {"GET " + inNS + " HTTP/1.0\r\n\r\n", 401},
		"no host":              {"GET " + inNS + " HTTP/1.1\r\n" + token + "\r\n", 400},
		"two lengths":          {"POST " + inNS + " HTTP/1.1\r\nHost: x\r\n" + token + "Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}", 400},
		"length and chunks":    {"POST " + inNS + " HTTP/1.1\r\nHost: x\r\n" + token + "Content-Length: x\r\n\r\n{}", 400},
		"garbage":              {"\x00\x01\x02\r\n\r\n", 400},
		"absolute URL":         {"GET https://elsewhere" + inNS + " HTTP/1.1\r\nHost: x\r\n" + token + "Connection: close\r\n\r\n", 200},
		"CONNECT":              {"CONNECT elsewhere:443 HTTP/1.1\r\nHost: elsewhere:443\r\n" + token + "Connection: close\r\n\r\n", 404},
		"asterisk":             {"OPTIONS * HTTP/1.1\r\nHost: x\r\n" + token + "Connection: close\r\n\r\n", 200},
		"a megabyte of header": {"GET / HTTP/1.1\r\nHost: x\r\nX-A: " + strings.Repeat("a", 2<<20) + "\r\n\r\n", 431},
		"body shorter than said, then closed": {"POST " + inNS + " HTTP/1.1\r\nHost: x\r\n" + token +
			"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\nzz\r\n", 400},
	} {
		t.Run(name, func(t *testing.T) {
			conn := dial(t, s)
			var resp *http.Response
			done := make(chan struct{})
			if len(c.raw) > 1<<20 { // the server answers before it has read everything
				go func() { defer close(done); _, _ = io.WriteString(conn, c.raw) }()
				var err error
				if resp, err = http.ReadResponse(bufio.NewReader(conn), nil); err != nil {
					t.Fatal(err)
				}
				_ = resp.Body.Close()
				_ = conn.Close()
				<-done
			} else {
				resp, _ = answerTo(t, conn, c.raw)
			}
			if resp.StatusCode != c.code {
				t.Errorf("%d, want %d", resp.StatusCode, c.code)
			}
		})
	}
	if _, err := s.Client.CoreV1().ConfigMaps("n").List(t.Context(), metav1.ListOptions{}); err != nil {
		t.Error(err)
	}
}

// TestSlowBodiesAreCut sends bodies that never end: they end with their request's time, not with the client's patience.
func TestSlowBodiesAreCut(t *testing.T) {
	t.Parallel()
	s := apitest.Start(t, func(c *apiserver.Config) { c.RequestTimeout, c.MaxWrites = time.Second, 2 })
	head := "POST " + inNS + " HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + s.Admin.BearerToken + "\r\nContent-Type: application/json\r\n"
	for _, framing := range []string{"Content-Length: 1000\r\n\r\n{", "Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n"} {
		resp, text := answerTo(t, dial(t, s), head+framing)
		if resp.StatusCode != 504 || !strings.Contains(text, `"reason":"Timeout"`) {
			t.Errorf("HTTP/1: %d %s", resp.StatusCode, text)
		}
	}
	hc, err := rest.HTTPClientFor(s.Admin)
	if err != nil {
		t.Fatal(err)
	}
	pr, pw := io.Pipe()
	defer pw.Close()
	r, err := http.NewRequestWithContext(t.Context(), "POST", s.Admin.Host+inNS, pr)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", jsonType)
	go func() { _, _ = pw.Write([]byte("{")) }()
	resp, err := hc.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != 504 || resp.ProtoMajor != 2 {
		t.Errorf("HTTP/2: %s %d", resp.Proto, resp.StatusCode)
	}
}

// TestManyHeadersAndSelectors sends large but lawful requests.
func TestManyHeadersAndSelectors(t *testing.T) {
	t.Parallel()
	s := apitest.Start(t)
	var terms []string
	for i := range 3000 {
		terms = append(terms, fmt.Sprintf("key-%d notin (a,b,c,d)", i))
	}
	resp, text := send(t, s, "GET", inNS+"?labelSelector="+url.QueryEscape(strings.Join(terms, ",")), "", "")
	if resp.StatusCode != 200 {
		t.Errorf("selector: %d %.300s", resp.StatusCode, text)
	}
	var header []string
	for i := range 1000 {
		header = append(header, fmt.Sprintf("X-H%d", i), strings.Repeat("v", 100))
	}
	if resp, text = send(t, s, "GET", inNS, "", "", header...); resp.StatusCode != 200 {
		t.Errorf("headers: %d %.300s", resp.StatusCode, text)
	}
}

// TestGeneratedNamesRunOut lets every name that generateName leads to be taken: the server gives up as documented.
func TestGeneratedNamesRunOut(t *testing.T) {
	t.Parallel()
	tried := &takenNames{}
	s := apitest.Start(t, func(c *apiserver.Config) { c.Claims = tried })
	tried.s = s
	_, err := s.Client.CoreV1().ConfigMaps("n").Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{GenerateName: "g-"}}, metav1.CreateOptions{})
	want := "the server was not able to generate a unique name for the object"
	if err == nil || !strings.Contains(err.Error(), want) || tried.n != 8 {
		t.Errorf("%v after %d names, want %q after 8", err, tried.n, want)
	}
}

// TestWatchParameter sends the watch parameter in the ways that clients do.
func TestWatchParameter(t *testing.T) {
	t.Parallel()
	s := apitest.Start(t)
	if _, err := s.Client.CoreV1().ConfigMaps("n").Create(t.Context(), configMap("there"), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	for query, watches := range map[string]bool{"watch": true, "watch=": true, "watch=1": true, "watch=True": true, "watch=yes": true, "watch=0": false, "watch=false": false, "watch=FALSE": false} {
		_, text := send(t, s, "GET", inNS+"?timeoutSeconds=1&"+query, "", "")
		if got := strings.HasPrefix(text, `{"type":"ADDED"`); got != watches {
			t.Errorf("%s: %.80s", query, text)
		}
	}
	if _, text := send(t, s, "GET", inNS+"/there?watch=1&timeoutSeconds=1", "", ""); !strings.Contains(text, `"kind":"ConfigMap"`) || bytes.Contains([]byte(text), []byte("ADDED")) {
		t.Errorf("a get with ?watch: %s", text)
	}
}

// TestGoneClients sends requests whose senders leave at once: nothing touches a connection that is over.
func TestGoneClients(t *testing.T) {
	t.Parallel()
	s := apitest.Start(t)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for n := range 100 {
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(n*20)*time.Microsecond)
				_, _ = s.Client.CoreV1().ConfigMaps("n").Create(ctx, configMap(fmt.Sprintf("c-%d-%d", i, n)), metav1.CreateOptions{})
				cancel()
			}
		})
	}
	wg.Wait()
	if _, err := s.Client.CoreV1().ConfigMaps("n").List(t.Context(), metav1.ListOptions{}); err != nil {
		t.Error(err)
	}
}
