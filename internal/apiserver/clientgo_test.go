package apiserver_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"canopus/internal/apiserver/apitest"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/dynamic/dynamicinformer"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/metadata/metadatainformer"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	"k8s.io/client-go/tools/pager"
)

var configMaps = schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}

// eventually waits for what a cache will know soon.
func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	err := wait.PollUntilContextTimeout(t.Context(), 10*time.Millisecond, 20*time.Second, true, func(context.Context) (bool, error) { return cond(), nil })
	if err != nil {
		t.Errorf("%s: %v", what, err)
	}
}

// caches makes an informer of each sort that client-go has.
func caches(t *testing.T, s *apitest.Server) map[string]cache.SharedIndexInformer {
	t.Helper()
	dyn, err := dynamic.NewForConfig(s.Admin)
	if err != nil {
		t.Fatal(err)
	}
	md, err := metadata.NewForConfig(s.Admin)
	if err != nil {
		t.Fatal(err)
	}
	proto := rest.CopyConfig(s.Admin)
	proto.ContentType, proto.AcceptContentTypes = protoType, protoType
	pcs, err := kubernetes.NewForConfig(proto)
	if err != nil {
		t.Fatal(err)
	}
	return map[string]cache.SharedIndexInformer{
		"typed":    informers.NewSharedInformerFactory(s.Client, 0).Core().V1().ConfigMaps().Informer(),
		"protobuf": informers.NewSharedInformerFactory(pcs, 0).Core().V1().ConfigMaps().Informer(),
		"dynamic":  dynamicinformer.NewDynamicSharedInformerFactory(dyn, 0).ForResource(configMaps).Informer(),
		"metadata": metadatainformer.NewSharedInformerFactory(md, 0).ForResource(configMaps).Informer(),
	}
}

// TestInformers follows objects with every sort of informer, which begin with a streamed list.
func TestInformers(t *testing.T) {
	t.Parallel()
	s := apitest.Start(t)
	cms := s.Client.CoreV1().ConfigMaps("n")
	for i := range 20 {
		if _, err := cms.Create(t.Context(), configMap(fmt.Sprintf("before-%d", i)), metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	all := caches(t, s)
	for name, inf := range all {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); inf.RunWithContext(ctx) }()
		t.Cleanup(func() { cancel(); <-done })
		if !cache.WaitForCacheSync(ctx.Done(), inf.HasSynced) || len(inf.GetStore().List()) != 20 {
			t.Fatalf("%s: %d objects after the sync, want 20", name, len(inf.GetStore().List()))
		}
	}
	if _, err := cms.Create(t.Context(), configMap("after"), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := cms.Delete(t.Context(), "before-3", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	changed, err := cms.Update(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "before-4"}, Data: map[string]string{"new": "1"}}, metav1.UpdateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for name, inf := range all {
		eventually(t, name, func() bool {
			_, added, _ := inf.GetStore().GetByKey("n/after")
			_, left, _ := inf.GetStore().GetByKey("n/before-3")
			o, _, _ := inf.GetStore().GetByKey("n/before-4")
			m, err := meta.Accessor(o)
			return added && !left && err == nil && m.GetResourceVersion() == changed.ResourceVersion
		})
	}
}

// TestPagesOfAPager lists more than a page with client-go's pager.
func TestPagesOfAPager(t *testing.T) {
	t.Parallel()
	s := apitest.Start(t)
	cms := s.Client.CoreV1().ConfigMaps("n")
	for i := range 23 {
		if _, err := cms.Create(t.Context(), configMap(fmt.Sprintf("c-%02d", i)), metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	pages := 0
	p := pager.New(func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
		pages++
		return cms.List(ctx, o)
	})
	p.PageSize = 5
	o, paged, err := p.List(t.Context(), metav1.ListOptions{})
	if err != nil || !paged || meta.LenList(o) != 23 || pages != 5 {
		t.Errorf("%v: paged %v, %d objects on %d pages, want 23 on 5", err, paged, meta.LenList(o), pages)
	}
}

// TestExpiredHistory compacts what a client stands on: its watch hears so in its stream, and its paged list gets a token
// that goes on with the present state.
func TestExpiredHistory(t *testing.T) {
	t.Parallel()
	s := apitest.Start(t)
	cms := s.Client.CoreV1().ConfigMaps("n")
	first, err := cms.Create(t.Context(), configMap("c-0"), metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 5 {
		if _, err := cms.Create(t.Context(), configMap(fmt.Sprintf("c-%d", i+1)), metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	page, err := cms.List(t.Context(), metav1.ListOptions{Limit: 2})
	if err != nil {
		t.Fatal(err)
	}
	last, err := cms.Create(t.Context(), configMap("c-9"), metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	compact(t, s, last.ResourceVersion)
	// The store may still have in memory what etcd has forgotten: then answers are as good as ever.
	w, err := cms.Watch(t.Context(), metav1.ListOptions{ResourceVersion: first.ResourceVersion})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	select {
	case e := <-w.ResultChan():
		if err := apierrors.FromObject(e.Object); e.Type == watch.Error && !apierrors.IsResourceExpired(err) && !apierrors.IsGone(err) {
			t.Errorf("watch of compacted history: %v", err)
		} else if e.Type != watch.Error && e.Type != watch.Added {
			t.Errorf("watch of compacted history: %v", e.Type)
		}
	case <-time.After(20 * time.Second):
		t.Error("watch of compacted history: nothing in 20 s")
	}
	rest, err := cms.List(t.Context(), metav1.ListOptions{Limit: 10, Continue: page.Continue})
	if apierrors.IsResourceExpired(err) {
		var st apierrors.APIStatus
		if !errors.As(err, &st) || st.Status().Continue == "" {
			t.Fatalf("no token to go on with: %v", err)
		}
		rest, err = cms.List(t.Context(), metav1.ListOptions{Limit: 10, Continue: st.Status().Continue})
	}
	if err != nil || len(rest.Items) < 4 {
		t.Errorf("the rest of a list: %v, %d objects", err, len(rest.Items))
	}
}

func compact(t *testing.T, s *apitest.Server, revision string) {
	t.Helper()
	n, err := strconv.ParseInt(revision, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Etcd.Compact(t.Context(), n); err != nil {
		t.Fatal(err)
	}
}

// TestLeaderElection lets two candidates hold a Lease in turn.
func TestLeaderElection(t *testing.T) {
	t.Parallel()
	s := apitest.Start(t)
	var leaders atomic.Int32
	var order []string
	stand := func(ctx context.Context, name string, won chan<- string) {
		lock, err := resourcelock.New(resourcelock.LeasesResourceLock, "n", "boss", s.Client.CoreV1(), s.Client.CoordinationV1(), resourcelock.ResourceLockConfig{Identity: name})
		if err != nil {
			t.Error(err)
			return
		}
		le, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
			Lock: lock, LeaseDuration: 3 * time.Second, RenewDeadline: 2 * time.Second, RetryPeriod: 100 * time.Millisecond, ReleaseOnCancel: true,
			Callbacks: leaderelection.LeaderCallbacks{
				OnStartedLeading: func(ctx context.Context) {
					if leaders.Add(1) != 1 {
						t.Error("two lead at once")
					}
					won <- name
					<-ctx.Done()
				},
				OnStoppedLeading: func() {},
			},
		})
		if err != nil {
			t.Error(err)
			return
		}
		le.Run(ctx)
	}
	won := make(chan string)
	for _, name := range []string{"a", "b"} {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); stand(ctx, name, won) }()
		select {
		case w := <-won:
			order = append(order, w)
		case <-time.After(20 * time.Second):
			t.Fatalf("%s never leads", name)
		}
		leaders.Add(-1)
		cancel()
		<-done
	}
	if strings.Join(order, " ") != "a b" {
		t.Errorf("leaders: %v", order)
	}
	lease, err := s.Client.CoordinationV1().Leases("n").Get(t.Context(), "boss", metav1.GetOptions{})
	if err != nil || lease.Spec.LeaseTransitions == nil || *lease.Spec.LeaseTransitions < 1 {
		t.Errorf("lease: %v %+v", err, lease.Spec)
	}
}

// TestTableWatch watches rows, as kubectl get --watch does: the first frame names the columns.
func TestTableWatch(t *testing.T) {
	t.Parallel()
	s := apitest.Start(t)
	for _, name := range []string{"a", "b"} {
		if _, err := s.Client.CoreV1().ConfigMaps("n").Create(t.Context(), configMap(name), metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	_, text := send(t, s, "GET", inNS+"?watch=1&timeoutSeconds=1&allowWatchBookmarks=true", "", "", "Accept", "application/json;as=Table;v=v1;g=meta.k8s.io,application/json")
	frames := strings.Split(strings.TrimSpace(text), "\n")
	if len(frames) < 2 || !strings.Contains(frames[0], `"columnDefinitions":[{`) || strings.Contains(frames[1], `"columnDefinitions":[{`) {
		t.Errorf("frames: %s", text)
	}
	for _, f := range frames {
		if !strings.Contains(f, `"kind":"Table"`) {
			t.Errorf("no table: %s", f)
		}
	}
	_, text = send(t, s, "GET", inNS+"?watch=1&timeoutSeconds=1", "", "", "Accept", "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io")
	if !strings.Contains(text, `"kind":"PartialObjectMetadata"`) || strings.Contains(text, `"data"`) {
		t.Errorf("metadata: %s", text)
	}
}

// TestDynamicClient does all verbs without knowing the kind.
func TestDynamicClient(t *testing.T) {
	t.Parallel()
	s := apitest.Start(t)
	dyn, err := dynamic.NewForConfig(s.Admin)
	if err != nil {
		t.Fatal(err)
	}
	c := dyn.Resource(configMaps).Namespace("n")
	o := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "ConfigMap", "metadata": map[string]any{"name": "a"}, "data": map[string]any{"k": "v"}}}
	if _, err := c.Create(t.Context(), o, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	o.SetManagedFields(nil)
	got, err := c.Apply(t.Context(), "a", o, metav1.ApplyOptions{FieldManager: "m", Force: true})
	if err != nil || len(got.GetManagedFields()) != 2 {
		t.Fatalf("apply: %v %v", err, got)
	}
	got.Object["data"] = map[string]any{"k": "w"}
	if _, err = c.Update(t.Context(), got, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	if list, err := c.List(t.Context(), metav1.ListOptions{FieldSelector: "metadata.name=a"}); err != nil || len(list.Items) != 1 || list.Items[0].GetKind() != "ConfigMap" {
		t.Errorf("list: %v %v", err, list)
	}
	if err := c.DeleteCollection(t.Context(), metav1.DeleteOptions{}, metav1.ListOptions{LabelSelector: "!nothing"}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Get(t.Context(), "a", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("after deletecollection: %v", err)
	}
}
