package store_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"testing"
	"time"

	"canopus/internal/store"
	"canopus/internal/store/splice"

	clientv3 "go.etcd.io/etcd/client/v3"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/utils/clock"
)

// message is a protobuf object.
type message interface {
	runtime.Object
	metav1.Object
	Marshal() ([]byte, error)
	Unmarshal([]byte) error
}

// protoCodec stores the bare message behind a marker, which is all the store needs to know of a format.
type protoCodec struct{ fresh func() message }

var marker = []byte("m\x00")

func (c protoCodec) Encode(obj runtime.Object) (stored, served []byte, err error) {
	b, err := obj.(message).Marshal()
	return append(bytes.Clone(marker), b...), b, err
}

func (c protoCodec) Decode(stored []byte) (runtime.Object, error) {
	b, ok := bytes.CutPrefix(stored, marker)
	if !ok {
		return nil, errors.New("no marker")
	}
	return c.Parse(b)
}

func (c protoCodec) Serve(obj runtime.Object) ([]byte, error) { return obj.(message).Marshal() }

func (c protoCodec) WithRevision(served []byte, rev int64) ([]byte, error) {
	return splice.Protobuf(served, rev)
}

func (c protoCodec) Same(a, b []byte) bool { return splice.SameProtobuf(a, b) }

func (c protoCodec) Parse(served []byte) (runtime.Object, error) {
	obj := c.fresh()
	return obj, obj.Unmarshal(served)
}

func (c protoCodec) JSON(obj runtime.Object) ([]byte, error) { return json.Marshal(obj) }

func podConfig() store.ResourceConfig {
	return store.ResourceConfig{
		Name: schema.GroupResource{Resource: "pods"}, Prefix: "pods/", Namespaced: true,
		Codec:       protoCodec{func() message { return &corev1.Pod{} }},
		KeepDecoded: true, Indexed: []string{"spec.nodeName"},
		Fields: func(obj runtime.Object) fields.Set {
			p := obj.(*corev1.Pod)
			return fields.Set{"spec.nodeName": p.Spec.NodeName, "status.phase": string(p.Status.Phase)}
		},
	}
}

func configMapConfig() store.ResourceConfig {
	return store.ResourceConfig{
		Name: schema.GroupResource{Resource: "configmaps"}, Prefix: "configmaps/", Namespaced: true,
		Codec: protoCodec{func() message { return &corev1.ConfigMap{} }},
	}
}

func pod(namespace, name string, labels map[string]string, note string) *corev1.Pod {
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
		Namespace: namespace, Name: name, Labels: labels, Annotations: map[string]string{"note": note},
	}}
}

func configMap(name, value string) *corev1.ConfigMap {
	return &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name},
		Data:       map[string]string{"key": value},
	}
}

// running is a store that runs until the test ends, or stop.
type running struct {
	*store.Store
	pods, maps *store.Resource
	stop       func()
}

func config(etcd *clientv3.Client) store.Config {
	return store.Config{Etcd: etcd, Log: slog.New(slog.NewTextHandler(io.Discard, nil)), Clock: clock.RealClock{}}
}

func run(t testing.TB, c store.Config) *running {
	t.Helper()
	return runWith(t, c, podConfig())
}

func runWith(t testing.TB, c store.Config, pods store.ResourceConfig) *running {
	t.Helper()
	s, err := store.New(c)
	if err != nil {
		t.Fatal(err)
	}
	r := &running{Store: s}
	if r.pods, err = s.Register(pods); err != nil {
		t.Fatal(err)
	}
	if r.maps, err = s.Register(configMapConfig()); err != nil {
		t.Fatal(err)
	}
	r.stop = start(t, s)
	return r
}

// start runs s until stop is called or the test ends.
func start(t testing.TB, s *store.Store) (stop func()) {
	t.Helper()
	ctx, cancel := contextWithCancel(t)
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("run: %v", err)
			}
		case <-time.After(30 * time.Second):
			t.Error("Run does not return")
		}
	}
	t.Cleanup(stop)
	select {
	case <-s.Ready():
	case <-time.After(30 * time.Second):
		t.Fatal("the store is not ready")
	}
	return stop
}

func (r *running) create(t testing.TB, obj runtime.Object) *store.Entry {
	t.Helper()
	return r.write(t, nil, obj)
}

// write stores obj over was.
func (r *running) write(t testing.TB, was *store.Entry, obj runtime.Object) *store.Entry {
	t.Helper()
	entries, err := r.Commit(t.Context(), r.change(was, obj))
	if err != nil {
		t.Fatal(err)
	}
	return entries[0]
}

func (r *running) change(was *store.Entry, obj runtime.Object) store.Change {
	m := obj.(metav1.Object)
	res := r.maps
	if _, ok := obj.(*corev1.Pod); ok {
		res = r.pods
	}
	return store.Change{Resource: res, Namespace: m.GetNamespace(), Name: m.GetName(), Was: was, Now: obj}
}

func (r *running) remove(t testing.TB, res *store.Resource, was *store.Entry) *store.Entry {
	t.Helper()
	entries, err := r.Commit(t.Context(), store.Change{Resource: res, Namespace: was.Namespace, Name: was.Name, Was: was})
	if err != nil {
		t.Fatal(err)
	}
	return entries[0]
}

// consistent checks that an entry's forms agree with each other, and returns the note that tells its states apart.
func consistent(t testing.TB, e *store.Entry) string {
	t.Helper()
	obj, err := e.Object()
	if err != nil {
		t.Fatal(err)
	}
	m := obj.(metav1.Object)
	if m.GetName() != e.Name || m.GetNamespace() != e.Namespace || m.GetResourceVersion() != strconv.FormatInt(e.Revision, 10) {
		t.Fatalf("entry %s/%s@%d holds object %s/%s@%s", e.Namespace, e.Name, e.Revision, m.GetNamespace(), m.GetName(), m.GetResourceVersion())
	}
	want, err := obj.(message).Marshal()
	if err != nil || !bytes.Equal(want, e.Body()) {
		t.Fatalf("body of %s/%s@%d is not the encoding of its object (%v)", e.Namespace, e.Name, e.Revision, err)
	}
	return m.GetAnnotations()["note"]
}

func must[T any](t testing.TB) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func describe(e store.Event) string {
	if e.Entry == nil {
		return fmt.Sprintf("%s@%d initial=%v", e.Type, e.Revision, e.Initial)
	}
	return fmt.Sprintf("%s %s/%s@%d", e.Type, e.Entry.Namespace, e.Entry.Name, e.Revision)
}
