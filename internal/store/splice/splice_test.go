package splice_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"canopus/internal/store/splice"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func pod(version string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Name: "web", Namespace: "default", UID: "u", ResourceVersion: version, Generation: 3,
			Annotations: map[string]string{"note": strings.Repeat("long ", 40)},
		},
		Spec: corev1.PodSpec{NodeName: "n1"},
	}
}

// The splice must give exactly the bytes that encoding the object with that version gives.
func TestProtobufEqualsEncoding(t *testing.T) {
	t.Parallel()
	for _, before := range []string{"", "7", "99999999999"} {
		p := pod(before)
		msg, err := p.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		for version, revision := range map[string]int64{"1": 1, "123456": 123456, "9223372036854775807": 1<<63 - 1} {
			got, err := splice.Protobuf(msg, revision)
			if err != nil {
				t.Fatal(err)
			}
			p.ResourceVersion = version
			want, err := p.Marshal()
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, want) {
				t.Errorf("from %q to %s: got\n%x\nwant\n%x", before, version, got, want)
			}
		}
	}
}

// TestSame compares encodings of objects that differ in one thing.
func TestSame(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(*corev1.Pod)
		same   bool
	}{
		"nothing":         {func(*corev1.Pod) {}, true},
		"version":         {func(p *corev1.Pod) { p.ResourceVersion = "12345678" }, true},
		"no version":      {func(p *corev1.Pod) { p.ResourceVersion = "" }, true},
		"before version":  {func(p *corev1.Pod) { p.UID = "v" }, false},
		"behind version":  {func(p *corev1.Pod) { p.Generation = 4 }, false},
		"longer metadata": {func(p *corev1.Pod) { p.Finalizers = []string{"a/b"} }, false},
		"spec":            {func(p *corev1.Pod) { p.Spec.NodeName = "n2" }, false},
		"status":          {func(p *corev1.Pod) { p.Status.Phase = "Running" }, false},
	} {
		a, b := pod("17"), pod("17")
		c.change(b)
		if got := splice.SameProtobuf(encoded(t, a.Marshal), encoded(t, b.Marshal)); got != c.same {
			t.Errorf("%s: protobuf: same is %v", name, got)
		}
		marshal := func(p *corev1.Pod) []byte { return encoded(t, func() ([]byte, error) { return json.Marshal(p) }) }
		if name == "no version" {
			continue // one encoder puts it where the other replaces it: members in another order are not compared
		}
		if got := splice.SameJSON(marshal(a), marshal(b)); got != c.same {
			t.Errorf("%s: JSON: same is %v", name, got)
		}
	}
	bare := []byte(`{"metadata":{"name":"a"},"spec":1}`)
	if versioned, err := splice.JSON(bare, 9); err != nil || !splice.SameJSON(bare, versioned) || splice.SameJSON(bare, []byte(`{"metadata":{"name":"a"}}`)) {
		t.Errorf("%s and %s: not told apart rightly (%v)", bare, versioned, err)
	}
	if splice.SameProtobuf([]byte{0x0a, 0x7f}, []byte{0x0a, 0x7f}) || splice.SameJSON([]byte("{"), []byte("{")) {
		t.Error("what cannot be read is the same")
	}
}

func encoded(t *testing.T, encode func() ([]byte, error)) []byte {
	t.Helper()
	b, err := encode()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestProtobufWithoutMetadata(t *testing.T) {
	t.Parallel()
	got, err := splice.Protobuf([]byte{0x12, 0x00}, 5) // only an empty spec
	if err != nil {
		t.Fatal(err)
	}
	var p corev1.Pod
	if err := p.Unmarshal(got); err != nil || p.ResourceVersion != "5" {
		t.Fatalf("got %q, %v", p.ResourceVersion, err)
	}
}

func TestJSON(t *testing.T) {
	t.Parallel()
	for _, doc := range []string{
		`{"metadata":{"name":"a"},"spec":{"x":[1,{"metadata":{}}]}}`,
		`{"metadata":{},"a":1}`,
		`{ "spec" : {"s":"}\"]"} , "metadata" : { "resourceVersion" : "12" , "name":"a" } }`,
		`{"apiVersion":"v1","n":-1.5e3,"t":true,"z":null,"metadata":{"labels":{"resourceVersion":"no"},"resourceVersion":""}}`,
	} {
		got, err := splice.JSON([]byte(doc), 42)
		if err != nil {
			t.Errorf("%s: %v", doc, err)
			continue
		}
		var before, after map[string]any
		if err := json.Unmarshal([]byte(doc), &before); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(got, &after); err != nil {
			t.Errorf("%s became %s: %v", doc, got, err)
			continue
		}
		before["metadata"].(map[string]any)["resourceVersion"] = "42"
		x, _ := json.Marshal(before)
		y, _ := json.Marshal(after)
		if !bytes.Equal(x, y) {
			t.Errorf("got %s, want %s", y, x)
		}
	}
}

func FuzzSplice(f *testing.F) {
	msg, err := pod("3").Marshal()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(msg)
	f.Add([]byte(`{"metadata":{"name":"a"}}`))
	f.Add([]byte(`{"metadata":{"resourceVersion":"`))
	f.Add([]byte{0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f})
	f.Fuzz(func(t *testing.T, data []byte) {
		_, _ = splice.Protobuf(data, 1<<40) // must not panic
		_ = splice.SameProtobuf(data, msg)
		if out, err := splice.JSON(data, 1<<40); err == nil && json.Valid(data) && !json.Valid(out) {
			t.Errorf("%q became %q", data, out)
		}
	})
}
