package client

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"canopus/internal/auth"
	"canopus/internal/kinds"
	"canopus/internal/kinds/core"
	"canopus/internal/store"
	"canopus/internal/store/etcdtest"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
	"k8s.io/utils/clock"
)

// fixture is a store of pods and a Local over it.
type fixture struct {
	store *store.Store
	pods  *store.Resource
	local *Local
}

// allowed lets one user do everything.
type allowed string

func (a allowed) Authorize(_ context.Context, at *auth.Attributes) (auth.Decision, string, error) {
	if at.User.Name == string(a) {
		return auth.Allow, "", nil
	}
	return auth.NoOpinion, "", nil
}

func newFixture(t *testing.T, history int64) *fixture {
	t.Helper()
	s, err := store.New(store.Config{Etcd: etcdtest.Start(t), Log: slog.New(slog.DiscardHandler), Clock: clock.RealClock{}, HistoryByte: history})
	if err != nil {
		t.Fatal(err)
	}
	kind := core.Pod()
	pods, err := s.Register(store.ResourceConfig{
		Name: schema.GroupResource{Resource: "pods"}, Prefix: "pods/", Namespaced: true, Codec: kinds.NewCodec(kind), KeepDecoded: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{store: s, pods: pods}
	f.local, err = NewLocal(LocalConfig{
		Handler: http.NotFoundHandler(), Authorizer: allowed("scheduler"), Log: slog.New(slog.DiscardHandler),
		Resource: func(gvk schema.GroupVersionKind) *store.Resource {
			if gvk == kind.GVK {
				return pods
			}
			return nil
		},
		Named: func(gr schema.GroupResource) *store.Resource {
			if gr == pods.Name() {
				return pods
			}
			return nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	runUntilEnd(t, s.Run)
	<-s.Ready()
	return f
}

// runUntilEnd runs f in the background, ends it with the test and waits for it.
func runUntilEnd(t *testing.T, f func(context.Context) error) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- f(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
	})
}

func (f *fixture) as(t *testing.T, name string) *Access {
	t.Helper()
	a, err := f.local.As(&auth.User{Name: name}, name)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func pod(name, note string) *corev1.Pod {
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, Annotations: map[string]string{"note": note}}}
}

func (f *fixture) write(t *testing.T, was *store.Entry, name, note string) *store.Entry {
	t.Helper()
	c := store.Change{Resource: f.pods, Namespace: "default", Name: name, Was: was}
	if note != "" {
		c.Now = pod(name, note)
	}
	entries, err := f.store.Commit(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return entries[0]
}

// eventually waits until cond holds.
func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	deadline := time.NewTimer(20 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("never: %s", what)
		}
	}
}

// handled records what an event handler is told.
type handled struct {
	mu     sync.Mutex
	events []string
}

func (h *handled) add(format string, args ...any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.events = append(h.events, fmt.Sprintf(format, args...))
}

func (h *handled) String() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return strings.Join(h.events, ", ")
}

func (h *handled) handler() cache.ResourceEventHandlerFuncs {
	note := func(obj any) string { return obj.(*corev1.Pod).Annotations["note"] }
	return cache.ResourceEventHandlerFuncs{
		AddFunc:    func(obj any) { h.add("add %s", note(obj)) },
		UpdateFunc: func(old, obj any) { h.add("update %s to %s", note(old), note(obj)) },
		DeleteFunc: func(obj any) { h.add("delete %s", note(obj)) },
	}
}

func TestInformerSharesTheStoresObjects(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 0)
	first := f.write(t, nil, "a", "one")

	access := f.as(t, "scheduler")
	pods := access.Informers.Core().V1().Pods()
	var seen handled
	if _, err := pods.Informer().AddEventHandler(seen.handler()); err != nil {
		t.Fatal(err)
	}
	if pods.Informer().GetIndexer() != f.as(t, "other").Informers.Core().V1().Pods().Informer().GetIndexer() {
		t.Error("two identities hold two copies")
	}
	if err := pods.Informer().SetTransform(func(o any) (any, error) { return o, nil }); err == nil {
		t.Error("a transform was accepted")
	}
	runUntilEnd(t, f.local.Run)
	access.Informers.Start(nil)
	if !cache.WaitForCacheSync(t.Context().Done(), pods.Informer().HasSynced) {
		t.Fatal("the informer did not sync")
	}
	got, err := pods.Lister().Pods("default").Get("a")
	if err != nil {
		t.Fatal(err)
	}
	if want, _ := first.Object(); runtime.Object(got) != want {
		t.Error("the lister has a copy of the store's object")
	}
	second := f.write(t, first, "a", "two")
	f.write(t, nil, "b", "three")
	f.write(t, second, "a", "")
	const want = "add one, update one to two, add three, delete two"
	eventually(t, want, func() bool { return seen.String() == want })
	list, err := pods.Lister().List(labels.Everything())
	if err != nil || len(list) != 1 || list[0].Name != "b" {
		t.Errorf("listed %v, %v", list, err)
	}
}

func TestInformerMadeWhileRunning(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 0)
	f.write(t, nil, "a", "one")
	access := f.as(t, "scheduler")
	access.Informers.Start(nil) // nothing asked for yet: nothing runs
	lister := access.Informers.Core().V1().Pods().Lister()
	access.Informers.StartWithContext(t.Context())
	runUntilEnd(t, f.local.Run) // perhaps later than the wait begins
	if res := access.Informers.WaitForCacheSyncWithContext(t.Context()); len(res.Synced) != 1 || res.Err != nil {
		t.Errorf("only what is asked for may run: %v", res)
	}
	if _, err := lister.Pods("default").Get("a"); err != nil {
		t.Error(err)
	}
}

func TestMissingPermissionShows(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 0)
	f.as(t, "scheduler").Informers.Core().V1().Pods().Informer()
	if err := f.local.Verify(t.Context()); err != nil {
		t.Error(err)
	}
	f.as(t, "nobody").Informers.Core().V1().Pods().Informer()
	err := f.local.Verify(t.Context())
	if err == nil || !strings.Contains(err.Error(), "nobody may not list pods") || !strings.Contains(err.Error(), "nobody may not watch pods") {
		t.Errorf("got %v", err)
	}
}

// stalling holds the first watch's events back until released, so that the ring overtakes it.
type stalling struct {
	*source
	release chan struct{}
	once    sync.Once
	watches int
	expired chan struct{} // closed when a watch has ended with 410
}

type stalled struct {
	watch.Interface
	events chan watch.Event
}

func (s *stalled) ResultChan() <-chan watch.Event { return s.events }

func (s *stalling) WatchWithContext(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
	w, err := s.source.WatchWithContext(ctx, o)
	if err != nil {
		return nil, err
	}
	out := &stalled{Interface: w, events: make(chan watch.Event)}
	s.watches++
	first := s.watches == 1
	go func() {
		defer close(out.events)
		for e := range w.ResultChan() {
			if status, ok := e.Object.(*metav1.Status); ok && apierrors.IsResourceExpired(apierrors.FromObject(status)) {
				s.once.Do(func() { close(s.expired) })
			}
			select {
			case out.events <- e:
			case <-ctx.Done():
				return
			}
			if p, ok := e.Object.(*corev1.Pod); ok && first && p.Name == "a" && p.Annotations["note"] == "hold" {
				<-s.release
			}
		}
	}()
	return out, nil
}

// A reflector that is slower than the history lists again, and ends with the store's state.
func TestRelistAfterOvertaken(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 30_000)
	hold := f.write(t, nil, "a", "begin")
	lw := &stalling{source: &source{local: f.local, object: &corev1.Pod{}}, release: make(chan struct{}), expired: make(chan struct{})}
	informer := cache.NewSharedIndexInformer(lw, &corev1.Pod{}, 0, cache.Indexers{})
	runUntilEnd(t, func(ctx context.Context) error { informer.RunWithContext(ctx); return nil })
	if !cache.WaitForCacheSync(t.Context().Done(), informer.HasSynced) {
		t.Fatal("the informer did not sync")
	}
	f.write(t, hold, "a", "hold")
	var last *store.Entry
	for i := range 1000 {
		last = f.write(t, last, "busy", fmt.Sprint(i))
	}
	gone := f.write(t, nil, "gone", "x")
	f.write(t, gone, "gone", "")
	close(lw.release)
	select {
	case <-lw.expired:
	case <-time.After(20 * time.Second):
		t.Fatal("the slow watch was not ended with 410")
	}
	want, _ := last.Object()
	eventually(t, "the informer has the store's state", func() bool {
		obj, ok, _ := informer.GetStore().GetByKey("default/busy")
		return ok && obj == any(want) && len(informer.GetStore().ListKeys()) == 2
	})
}

// Nothing that reads through informers may have changed a shared object.
func TestObjectsStayAsStored(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 0)
	for i := range 50 {
		f.write(t, nil, fmt.Sprint("p", i), "note")
	}
	access := f.as(t, "scheduler")
	informer := access.Informers.Core().V1().Pods().Informer()
	runUntilEnd(t, f.local.Run)
	if !cache.WaitForCacheSync(t.Context().Done(), informer.HasSynced) {
		t.Fatal("the informer did not sync")
	}
	l, err := f.pods.List(t.Context(), store.ListOptions{})
	if err != nil || len(l.Entries) != 50 {
		t.Fatalf("%d entries, %v", len(l.Entries), err)
	}
	for _, e := range l.Entries {
		obj, err := e.Object()
		if err != nil {
			t.Fatal(err)
		}
		if body, err := obj.(*corev1.Pod).Marshal(); err != nil || string(body) != string(e.Body()) {
			t.Errorf("%s differs from what is stored (%v)", e.Name, err)
		}
	}
}
