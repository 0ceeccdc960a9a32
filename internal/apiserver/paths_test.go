package apiserver_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"canopus/internal/apiserver/apitest"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// TestLegacyWatchPaths watches by the deprecated prefix, which old clients still use.
func TestLegacyWatchPaths(t *testing.T) {
	t.Parallel()
	s := apitest.Start(t)
	for _, name := range []string{"a", "b"} {
		if _, err := s.Client.CoreV1().ConfigMaps("n").Create(t.Context(), configMap(name), metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	for path, want := range map[string]int{"/api/v1/watch/configmaps": 2, "/api/v1/watch/namespaces/n/configmaps": 2, "/api/v1/watch/namespaces/n/configmaps/b": 1, "/api/v1/watch/namespaces/other/configmaps": 0} {
		resp, text := send(t, s, "GET", path+"?timeoutSeconds=1", "", "")
		if got := strings.Count(text, `{"type":"ADDED"`); resp.StatusCode != 200 || got != want {
			t.Errorf("%s: %d, %d events, want %d", path, resp.StatusCode, got, want)
		}
	}
	if resp, _ := send(t, s, "DELETE", "/api/v1/watch/namespaces/n/configmaps/b", "", ""); resp.StatusCode != 405 {
		t.Errorf("delete below /watch: %d, want 405", resp.StatusCode)
	}
	if _, err := s.Client.CoreV1().ConfigMaps("n").Get(t.Context(), "b", metav1.GetOptions{}); err != nil {
		t.Errorf("after a delete below /watch: %v", err)
	}
}

// TestDeleteCollection deletes many objects at once, and only those that are selected.
func TestDeleteCollection(t *testing.T) {
	t.Parallel()
	s := apitest.Start(t)
	cms := s.Client.CoreV1().ConfigMaps("n")
	for i := range 60 {
		cm := configMap(fmt.Sprintf("c-%02d", i))
		cm.Labels["half"] = fmt.Sprint(i % 2)
		if i == 0 {
			cm.Finalizers = []string{"example.com/hold"}
		}
		if _, err := cms.Create(t.Context(), cm, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	if err := cms.DeleteCollection(t.Context(), metav1.DeleteOptions{DryRun: []string{"All"}}, metav1.ListOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := cms.DeleteCollection(t.Context(), metav1.DeleteOptions{}, metav1.ListOptions{LabelSelector: "half=0"}); err != nil {
		t.Fatal(err)
	}
	left, err := cms.List(t.Context(), metav1.ListOptions{})
	if err != nil || len(left.Items) != 31 {
		t.Fatalf("%v: %d left, want 30 of the other half and the one with a finalizer", err, len(left.Items))
	}
	if held := left.Items[0]; held.Name != "c-00" || held.DeletionTimestamp == nil {
		t.Errorf("the held one: %s %v", held.Name, held.DeletionTimestamp)
	}
}

// TestScale reads and writes the replicas of a Deployment in every way.
func TestScale(t *testing.T) {
	t.Parallel()
	s := apitest.Start(t)
	ds := s.Client.AppsV1().Deployments("n")
	labels := map[string]string{"app": "web"}
	if _, err := ds.Create(t.Context(), &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Name: "d"}, Spec: appsv1.DeploymentSpec{
		Selector: &metav1.LabelSelector{MatchLabels: labels},
		Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: pod("x").Spec},
	}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	sc, err := ds.GetScale(t.Context(), "d", metav1.GetOptions{})
	if err != nil || sc.Spec.Replicas != 1 || sc.Status.Selector != "app=web" || sc.UID == "" {
		t.Fatalf("%v %+v", err, sc)
	}
	stale := sc.DeepCopy()
	sc.Spec.Replicas = 4
	if sc, err = ds.UpdateScale(t.Context(), "d", sc, metav1.UpdateOptions{}); err != nil || sc.Spec.Replicas != 4 {
		t.Fatalf("update: %v %+v", err, sc)
	}
	if _, err := ds.UpdateScale(t.Context(), "d", stale, metav1.UpdateOptions{}); !apierrors.IsConflict(err) {
		t.Errorf("stale update: %v", err)
	}
	sc.Spec.Replicas = -1
	if _, err := ds.UpdateScale(t.Context(), "d", sc, metav1.UpdateOptions{}); !apierrors.IsInvalid(err) || !strings.Contains(err.Error(), "spec.replicas") {
		t.Errorf("negative: %v", err)
	}
	if _, err := ds.Patch(t.Context(), "d", types.MergePatchType, []byte(`{"spec":{"replicas":2}}`), metav1.PatchOptions{}, "scale"); err != nil {
		t.Errorf("patch: %v", err)
	}
	d, err := ds.Get(t.Context(), "d", metav1.GetOptions{})
	if err != nil || *d.Spec.Replicas != 2 || d.Generation != 3 {
		t.Errorf("%v: replicas %d, generation %d, want 2 and 3", err, *d.Spec.Replicas, d.Generation)
	}
	if _, err := ds.GetScale(t.Context(), "none", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("scale of nothing: %v", err)
	}
}

// TestFinalizeNamespace takes a namespace's last finalizer away, which only this path can.
func TestFinalizeNamespace(t *testing.T) {
	t.Parallel()
	s := apitest.Start(t)
	nss := s.Client.CoreV1().Namespaces()
	ns, err := nss.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "gone"}}, metav1.CreateOptions{})
	if err != nil || len(ns.Spec.Finalizers) != 1 {
		t.Fatalf("%v %+v", err, ns.Spec)
	}
	ns.Spec.Finalizers = nil
	if ns, err = nss.Update(t.Context(), ns, metav1.UpdateOptions{}); err != nil || len(ns.Spec.Finalizers) != 1 {
		t.Fatalf("an update took the finalizer: %v %+v", err, ns)
	}
	if err := nss.Delete(t.Context(), "gone", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if ns, err = nss.Get(t.Context(), "gone", metav1.GetOptions{}); err != nil || ns.Status.Phase != corev1.NamespaceTerminating {
		t.Fatalf("%v %+v", err, ns)
	}
	ns.Spec.Finalizers = nil
	if _, err := nss.Finalize(t.Context(), ns, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := nss.Get(t.Context(), "gone", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("after finalize: %v", err)
	}
}

// TestProxies refuses what a proxy path must not reach.
func TestProxies(t *testing.T) {
	t.Parallel()
	s := apitest.Start(t)
	mustCreate(t, s, pod("a"))
	status := func(ip string) {
		t.Helper()
		if _, err := s.Client.CoreV1().Pods("n").Patch(t.Context(), "a", types.MergePatchType, []byte(`{"status":{"podIP":"`+ip+`","podIPs":[{"ip":"`+ip+`"}]}}`), metav1.PatchOptions{}, "status"); err != nil {
			t.Fatal(err)
		}
	}
	get := func(path string) (*http.Response, string) {
		t.Helper()
		resp, text := send(t, s, "GET", path, "", "")
		return resp, text
	}
	for path, code := range map[string]int{
		"/api/v1/namespaces/n/pods/a/proxy/":         400, // no address yet
		"/api/v1/namespaces/n/pods/none/proxy/":      404,
		"/api/v1/namespaces/n/pods/ftp:a:21/proxy/":  400,
		"/api/v1/namespaces/n/services/none/proxy/":  404,
		"/api/v1/nodes/none/proxy/":                  501, // no client certificate for node agents
		"/api/v1/namespaces/n/configmaps/none/proxy": 404,
	} {
		resp, text := get(path)
		var st metav1.Status
		if err := json.Unmarshal([]byte(text), &st); err != nil || resp.StatusCode != code {
			t.Errorf("%s: %d %s, want %d", path, resp.StatusCode, text, code)
		}
	}
	for _, ip := range []string{"127.0.0.1", "169.254.169.254", "::1"} {
		status(ip)
		if resp, text := get("/api/v1/namespaces/n/pods/a:80/proxy/"); resp.StatusCode != 400 || !strings.Contains(text, "address not allowed") {
			t.Errorf("proxy to %s: %d %s", ip, resp.StatusCode, text)
		}
	}
}
