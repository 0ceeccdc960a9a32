package apiserver_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"canopus/internal/apiserver"
	"canopus/internal/apiserver/apitest"
	"canopus/internal/auth"

	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
)

func pod(name string) *corev1.Pod {
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.PodSpec{
		Containers: []corev1.Container{{Name: "c", Image: "i"}}}}
}

func bind(t *testing.T, s *apitest.Server, name, node string) error {
	t.Helper()
	return s.Client.CoreV1().Pods("n").Bind(t.Context(), &corev1.Binding{
		ObjectMeta: metav1.ObjectMeta{Name: name}, Target: corev1.ObjectReference{Kind: "Node", Name: node}}, metav1.CreateOptions{})
}

func mustCreate(t *testing.T, s *apitest.Server, p *corev1.Pod) *corev1.Pod {
	t.Helper()
	out, err := s.Client.CoreV1().Pods("n").Create(t.Context(), p, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestBinding(t *testing.T) {
	t.Parallel()
	s := apitest.Start(t)
	pods := s.Client.CoreV1().Pods("n")
	mustCreate(t, s, pod("a"))
	w, err := pods.Watch(t.Context(), metav1.ListOptions{FieldSelector: "spec.nodeName=n1"})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	if err := bind(t, s, "a", "n1"); err != nil {
		t.Fatal(err)
	}
	select {
	case e := <-w.ResultChan():
		if p, ok := e.Object.(*corev1.Pod); !ok || e.Type != watch.Added || p.Spec.NodeName != "n1" {
			t.Errorf("the node sees %s %+v", e.Type, e.Object)
		}
	case <-time.After(20 * time.Second):
		t.Error("the node does not see its pod")
	}
	got, err := pods.Get(t.Context(), "a", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Status.Conditions) != 1 || got.Status.Conditions[0].Type != corev1.PodScheduled || got.Status.Conditions[0].Status != corev1.ConditionTrue {
		t.Errorf("conditions after binding: %+v", got.Status.Conditions)
	}
	if err := bind(t, s, "a", "n2"); !apierrors.IsConflict(err) || !strings.Contains(err.Error(), `pod a is already assigned to node "n1"`) {
		t.Errorf("second binding: %v", err)
	}
	if err := bind(t, s, "absent", "n2"); !apierrors.IsNotFound(err) {
		t.Errorf("binding of nothing: %v", err)
	}
}

func TestGracefulDeletion(t *testing.T) {
	t.Parallel()
	s := apitest.Start(t)
	pods := s.Client.CoreV1().Pods("n")
	mustCreate(t, s, pod("unscheduled"))
	if err := pods.Delete(t.Context(), "unscheduled", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := pods.Get(t.Context(), "unscheduled", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("an unscheduled pod is gone at once: %v", err)
	}
	mustCreate(t, s, pod("a"))
	if err := bind(t, s, "a", "n1"); err != nil {
		t.Fatal(err)
	}
	if err := pods.Delete(t.Context(), "a", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	got, err := pods.Get(t.Context(), "a", metav1.GetOptions{})
	if err != nil || got.DeletionTimestamp == nil || *got.DeletionGracePeriodSeconds != 30 {
		t.Fatalf("a running pod gets its grace: %v %+v", err, got.ObjectMeta)
	}
	five, hundred := int64(5), int64(100)
	if err := pods.Delete(t.Context(), "a", metav1.DeleteOptions{GracePeriodSeconds: &hundred}); err != nil {
		t.Fatal(err)
	}
	if same, err := pods.Get(t.Context(), "a", metav1.GetOptions{}); err != nil || same.ResourceVersion != got.ResourceVersion {
		t.Errorf("a longer grace changes nothing: %v %+v", err, same.ObjectMeta)
	}
	if err := pods.Delete(t.Context(), "a", metav1.DeleteOptions{GracePeriodSeconds: &five}); err != nil {
		t.Fatal(err)
	}
	shorter, err := pods.Get(t.Context(), "a", metav1.GetOptions{})
	if err != nil || *shorter.DeletionGracePeriodSeconds != 5 || got.DeletionTimestamp.Sub(shorter.DeletionTimestamp.Time) != 25*time.Second {
		t.Errorf("a shorter grace counts from the same start: %v %+v", err, shorter.ObjectMeta)
	}
	if err := pods.Delete(t.Context(), "a", *metav1.NewDeleteOptions(0)); err != nil {
		t.Fatal(err)
	}
	if _, err := pods.Get(t.Context(), "a", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("no grace: %v", err)
	}
}

func TestFinalizersKeepAnObject(t *testing.T) {
	t.Parallel()
	s := apitest.Start(t)
	cms := s.Client.CoreV1().ConfigMaps("n")
	held := configMap("held")
	held.Finalizers = []string{"example.com/hold"}
	if _, err := cms.Create(t.Context(), held, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	foreground := metav1.DeletePropagationForeground
	if err := cms.Delete(t.Context(), "held", metav1.DeleteOptions{PropagationPolicy: &foreground}); err != nil {
		t.Fatal(err)
	}
	got, err := cms.Get(t.Context(), "held", metav1.GetOptions{})
	if err != nil || got.DeletionTimestamp == nil || fmt.Sprint(got.Finalizers) != "[example.com/hold foregroundDeletion]" {
		t.Fatalf("%v %+v", err, got.ObjectMeta)
	}
	got.Finalizers = append(got.Finalizers, "example.com/more")
	if _, err := cms.Update(t.Context(), got, metav1.UpdateOptions{}); !apierrors.IsInvalid(err) && !apierrors.IsForbidden(err) {
		t.Errorf("a new finalizer on an object that is being deleted: %v", err)
	}
	got.Finalizers = nil
	if _, err := cms.Update(t.Context(), got, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := cms.Get(t.Context(), "held", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("the object goes with its last finalizer: %v", err)
	}
}

func TestDryRunAndGeneratedNames(t *testing.T) {
	t.Parallel()
	s := apitest.Start(t)
	cms := s.Client.CoreV1().ConfigMaps("n")
	dry := []string{metav1.DryRunAll}
	made, err := cms.Create(t.Context(), configMap("dry"), metav1.CreateOptions{DryRun: dry})
	if err != nil || made.UID == "" || made.ResourceVersion != "" {
		t.Errorf("dry create: %v %+v", err, made)
	}
	if _, err := cms.Get(t.Context(), "dry", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("a dry create stores nothing: %v", err)
	}
	o := configMap("")
	o.GenerateName = "made-"
	one, err := cms.Create(t.Context(), o, metav1.CreateOptions{})
	if err != nil || len(one.Name) != len("made-")+5 {
		t.Fatalf("%v %+v", err, one)
	}
	if err := cms.Delete(t.Context(), one.Name, metav1.DeleteOptions{DryRun: dry}); err != nil {
		t.Fatal(err)
	}
	if _, err := cms.Patch(t.Context(), one.Name, types.MergePatchType, []byte(`{"data":{"k":"dry"}}`), metav1.PatchOptions{DryRun: dry}); err != nil {
		t.Fatal(err)
	}
	if got, err := cms.Get(t.Context(), one.Name, metav1.GetOptions{}); err != nil || got.ResourceVersion != one.ResourceVersion {
		t.Errorf("dry delete and patch change nothing: %v", err)
	}
	if err := cms.DeleteCollection(t.Context(), metav1.DeleteOptions{}, metav1.ListOptions{LabelSelector: "app=x"}); err != nil {
		t.Fatal(err)
	}
	if l, err := cms.List(t.Context(), metav1.ListOptions{}); err != nil || len(l.Items) != 0 {
		t.Errorf("after deletecollection: %v, %d left", err, len(l.Items))
	}
}

func TestTablesAndMetadata(t *testing.T) {
	t.Parallel()
	s := apitest.Start(t)
	mustCreate(t, s, pod("a"))
	const pods = "/api/v1/namespaces/n/pods"
	for _, path := range []string{pods, pods + "/a"} {
		_, text := send(t, s, "GET", path+"?includeObject=Metadata", "", "", "Accept", "application/json;as=Table;g=meta.k8s.io;v=v1")
		var table metav1.Table
		if err := json.Unmarshal([]byte(text), &table); err != nil || table.Kind != "Table" || len(table.Rows) != 1 || table.ColumnDefinitions[0].Name != "Name" {
			t.Fatalf("%s: %v %s", path, err, text)
		}
		var meta metav1.PartialObjectMetadata
		if err := json.Unmarshal(table.Rows[0].Object.Raw, &meta); err != nil || meta.Kind != "PartialObjectMetadata" || meta.Name != "a" {
			t.Errorf("%s: row object %s: %v", path, table.Rows[0].Object.Raw, err)
		}
	}
	mc, err := metadata.NewForConfig(s.Admin) // asks for PartialObjectMetadata in protobuf
	if err != nil {
		t.Fatal(err)
	}
	res := mc.Resource(corev1.SchemeGroupVersion.WithResource("pods")).Namespace("n")
	one, err := res.Get(t.Context(), "a", metav1.GetOptions{})
	if err != nil || one.Name != "a" || one.UID == "" {
		t.Errorf("metadata of one: %v %+v", err, one)
	}
	l, err := res.List(t.Context(), metav1.ListOptions{})
	if err != nil || len(l.Items) != 1 || l.Items[0].Name != "a" || l.ResourceVersion == "" {
		t.Errorf("metadata of all: %v %+v", err, l)
	}
	w, err := res.Watch(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	select {
	case e := <-w.ResultChan():
		if m, ok := e.Object.(*metav1.PartialObjectMetadata); !ok || m.Name != "a" {
			t.Errorf("metadata event: %+v", e.Object)
		}
	case <-time.After(20 * time.Second):
		t.Error("no metadata event")
	}
	_, yaml := send(t, s, "GET", pods+"/a", "", "", "Accept", "application/yaml")
	if !strings.Contains(yaml, "kind: Pod\n") || !strings.Contains(yaml, "  name: a\n") {
		t.Errorf("YAML: %s", yaml)
	}
	_, pretty := send(t, s, "GET", pods+"/a?pretty=true", "", "")
	if !strings.HasPrefix(pretty, "{\n  \"kind\": \"Pod\",\n  \"apiVersion\": \"v1\",\n  \"metadata\": {\n") {
		t.Errorf("pretty: %.200s", pretty)
	}
}

func TestServerSideApplyConflict(t *testing.T) {
	t.Parallel()
	s := apitest.Start(t)
	cms := s.Client.CoreV1().ConfigMaps("n")
	apply := func(manager, value string, force bool) (*corev1.ConfigMap, error) {
		body := fmt.Sprintf(`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a"},"data":{"k":%q}}`, value)
		return cms.Patch(t.Context(), "a", types.ApplyPatchType, []byte(body), metav1.PatchOptions{FieldManager: manager, Force: &force})
	}
	first, err := apply("one", "1", false)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := apply("one", "1", false); err != nil || again.ResourceVersion != first.ResourceVersion {
		t.Errorf("the same apply again: %v", err)
	}
	if _, err := apply("two", "2", false); !apierrors.IsConflict(err) || !strings.Contains(err.Error(), ".data.k") {
		t.Errorf("apply of another's field: %v", err)
	}
	if got, err := apply("two", "2", true); err != nil || got.Data["k"] != "2" {
		t.Errorf("forced apply: %v", err)
	}
}

func TestEviction(t *testing.T) {
	t.Parallel()
	s := apitest.Start(t)
	mustCreate(t, s, pod("a"))
	err := s.Client.CoreV1().Pods("n").EvictV1(t.Context(), &policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Name: "a"}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Client.CoreV1().Pods("n").Get(t.Context(), "a", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("evicted pod: %v", err)
	}
}

// TestEvictionAnnounces looks at a pod that is evicted and not gone yet: it says that it was evicted, also when the eviction
// was for one version of it only. An eviction that is refused or only tried out says nothing.
func TestEvictionAnnounces(t *testing.T) {
	t.Parallel()
	s := apitest.Start(t)
	for name, c := range map[string]struct {
		options   func(*corev1.Pod) *metav1.DeleteOptions
		announced bool
		check     func(error) bool
	}{
		"plain": {func(*corev1.Pod) *metav1.DeleteOptions { return nil }, true, func(err error) bool { return err == nil }},
		"this-version": {func(p *corev1.Pod) *metav1.DeleteOptions {
			return &metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &p.UID, ResourceVersion: &p.ResourceVersion}}
		}, true, func(err error) bool { return err == nil }},
		"another-pod": {func(*corev1.Pod) *metav1.DeleteOptions {
			return metav1.NewPreconditionDeleteOptions("another")
		}, false, apierrors.IsConflict},
		"dry-run": {func(*corev1.Pod) *metav1.DeleteOptions {
			return &metav1.DeleteOptions{DryRun: []string{metav1.DryRunAll}}
		}, false, func(err error) bool { return err == nil }},
	} {
		p := pod(name)
		p.Finalizers = []string{"test/keep"}
		mustCreate(t, s, p)
		made, err := s.Client.CoreV1().Pods("n").Get(t.Context(), name, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		err = s.Client.CoreV1().Pods("n").EvictV1(t.Context(), &policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Name: name}, DeleteOptions: c.options(made)})
		if !c.check(err) {
			t.Errorf("%s: %v", name, err)
		}
		got, err := s.Client.CoreV1().Pods("n").Get(t.Context(), name, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		announced := slices.ContainsFunc(got.Status.Conditions, func(x corev1.PodCondition) bool {
			return x.Type == corev1.DisruptionTarget && x.Status == corev1.ConditionTrue && x.Reason == "EvictionByEvictionAPI"
		})
		if announced != c.announced || (got.DeletionTimestamp != nil) != c.announced {
			t.Errorf("%s: deleted %v, conditions %+v", name, got.DeletionTimestamp, got.Status.Conditions)
		}
	}
}

// TestEvictionKeepsBudgets evicts ready pods of one budget until it is used up.
func TestEvictionKeepsBudgets(t *testing.T) {
	t.Parallel()
	s := apitest.Start(t)
	pods, budgets := s.Client.CoreV1().Pods("n"), s.Client.PolicyV1().PodDisruptionBudgets("n")
	for _, name := range []string{"a", "b"} {
		p := pod(name)
		p.Labels = map[string]string{"app": "web"}
		mustCreate(t, s, p)
		if err := bind(t, s, name, "n1"); err != nil {
			t.Fatal(err)
		}
		ready := []byte(`{"status":{"phase":"Running","conditions":[{"type":"Ready","status":"True"}]}}`)
		if _, err := pods.Patch(t.Context(), name, types.StrategicMergePatchType, ready, metav1.PatchOptions{}, "status"); err != nil {
			t.Fatal(err)
		}
	}
	one := intstr.FromInt32(1)
	b, err := budgets.Create(t.Context(), &policyv1.PodDisruptionBudget{ObjectMeta: metav1.ObjectMeta{Name: "web"}, Spec: policyv1.PodDisruptionBudgetSpec{
		MinAvailable: &one, Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}}}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	evict := func(name string) error {
		return pods.EvictV1(t.Context(), &policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Name: name}})
	}
	resp, text := send(t, s, "POST", "/api/v1/namespaces/n/pods/a/eviction", "application/json", `{"apiVersion":"policy/v1","kind":"Eviction","metadata":{"name":"a"}}`)
	if resp.StatusCode != 429 || resp.Header.Get("Retry-After") != "10" || !strings.Contains(text, "still being processed") {
		t.Errorf("before the budget's controller has seen it: %d %s", resp.StatusCode, text)
	}
	b.Status = policyv1.PodDisruptionBudgetStatus{ObservedGeneration: b.Generation, DisruptionsAllowed: 1, CurrentHealthy: 2, DesiredHealthy: 1, ExpectedPods: 2}
	if _, err := budgets.UpdateStatus(t.Context(), b, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := evict("a"); err != nil {
		t.Errorf("within the budget: %v", err)
	}
	if err := evict("b"); !apierrors.IsTooManyRequests(err) || !apierrors.HasStatusCause(err, policyv1.DisruptionBudgetCause) {
		t.Errorf("beyond the budget: %v", err)
	}
	got, err := budgets.Get(t.Context(), "web", metav1.GetOptions{})
	if err != nil || got.Status.DisruptionsAllowed != 0 || len(got.Status.DisruptedPods) != 1 {
		t.Errorf("the budget afterwards: %v %+v", err, got.Status)
	}
}

// getters lets a group read, and nothing else.
func getters(c *apiserver.Config) {
	c.Authorizer = auth.Union{auth.Masters{}, authorizerFunc(func(a *auth.Attributes) auth.Decision {
		if a.User.InGroup("getters") && a.Verb == "get" {
			return auth.Allow
		}
		return auth.NoOpinion
	})}
}

func TestAccess(t *testing.T) {
	t.Parallel()
	s := apitest.Start(t, getters)
	if _, err := s.Client.CoreV1().ConfigMaps("n").Create(t.Context(), configMap("a"), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	as := rest.CopyConfig(s.Admin)
	as.Impersonate = rest.ImpersonationConfig{UserName: "ann", Groups: []string{"getters"}}
	for name, c := range map[string]*rest.Config{"herself": s.As(&auth.User{Name: "ann", Groups: []string{"getters"}}), "impersonated": as} {
		t.Run(name, func(t *testing.T) {
			cs, err := kubernetes.NewForConfig(c)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := cs.CoreV1().ConfigMaps("n").Get(t.Context(), "a", metav1.GetOptions{}); err != nil {
				t.Errorf("get: %v", err)
			}
			_, err = cs.CoreV1().ConfigMaps("n").List(t.Context(), metav1.ListOptions{})
			want := `configmaps is forbidden: User "ann" cannot list resource "configmaps" in API group "" in the namespace "n"`
			if !apierrors.IsForbidden(err) || err.Error() != want {
				t.Errorf("list: %v\nwant %s", err, want)
			}
			err = cs.CoreV1().ConfigMaps("n").Delete(t.Context(), "a", metav1.DeleteOptions{})
			if !apierrors.IsForbidden(err) || !strings.HasPrefix(err.Error(), `configmaps "a" is forbidden: User "ann" cannot delete`) {
				t.Errorf("delete: %v", err)
			}
		})
	}
	ann, err := kubernetes.NewForConfig(s.As(&auth.User{Name: "ann", Groups: []string{"getters"}}))
	if err != nil {
		t.Fatal(err)
	}
	r, err := s.Client.AuthorizationV1().SubjectAccessReviews().Create(t.Context(), &authorizationv1.SubjectAccessReview{
		Spec: authorizationv1.SubjectAccessReviewSpec{User: "ann", Groups: []string{"getters"},
			ResourceAttributes: &authorizationv1.ResourceAttributes{Verb: "get", Resource: "pods"}}}, metav1.CreateOptions{})
	if err != nil || !r.Status.Allowed {
		t.Errorf("review of ann: %v %+v", err, r)
	}
	if _, err := ann.AuthorizationV1().SubjectAccessReviews().Create(t.Context(), r, metav1.CreateOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("review by ann: %v", err)
	}
}

// TestNodeAgentIsReached hands a log and an exec to a server that stands where a node agent would.
func TestNodeAgentIsReached(t *testing.T) {
	t.Parallel()
	agent := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "" {
			http.Error(w, "the client's token was handed on", http.StatusTeapot)
			return
		}
		if r.URL.Query().Get("tailLines") == "7" {
			http.Error(w, "container is waiting to start", http.StatusBadRequest)
			return
		}
		fmt.Fprintf(w, "%s %s?%s", r.Method, r.URL.Path, r.URL.RawQuery)
	}))
	t.Cleanup(agent.Close)
	s := apitest.Start(t, func(c *apiserver.Config) {
		c.Nodes.TLS = agent.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
		c.Nodes.TLS.ServerName = "example.com"
		c.Nodes.Dial = dialTo(agent.Listener.Addr().String())
	})
	mustCreate(t, s, pod("a"))
	if resp, text := send(t, s, "GET", "/api/v1/namespaces/n/pods/a/exec?command=ls", "", ""); resp.StatusCode != 400 || !strings.Contains(text, "does not have a host assigned") {
		t.Errorf("exec before binding: %d %s", resp.StatusCode, text)
	}
	if err := bind(t, s, "a", "n1"); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		"/log?tailLines=2&follow=true":            "GET /containerLogs/n/a/c?follow=true&tailLines=2",
		"/exec?command=ls&command=-l&stdout=true": "GET /exec/n/a/c?command=ls&command=-l&output=1",
		"/attach?container=c&stdin=true&tty=true": "GET /attach/n/a/c?input=1&tty=1",
		"/portforward?ports=80":                   "GET /portForward/n/a?port=80",
		"/log?container=nope":                     "container nope is not valid for pod a",
		"/log?tailLines=7":                        `"reason":"BadRequest"`,
		"/log?sinceSeconds=-1":                    "sinceSeconds",
		"/exec?stdout=true":                       "at least 1 command",
	} {
		if _, text := send(t, s, "GET", "/api/v1/namespaces/n/pods/a"+path, "", ""); !strings.Contains(text, want) {
			t.Errorf("%s: %s\nwant %s", path, text, want)
		}
	}
}
