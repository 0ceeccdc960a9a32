package apiserver_test

import (
	"context"
	"encoding/json"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	metricsv1beta1 "k8s.io/metrics/pkg/apis/metrics/v1beta1"

	"canopus/internal/apiserver"
	"canopus/internal/apiserver/apitest"
	"canopus/internal/kinds"
)

// measured computes the metrics of two pods.
type measured struct{}

func (measured) all() []*metricsv1beta1.PodMetrics {
	var out []*metricsv1beta1.PodMetrics
	for _, name := range []string{"a", "b"} {
		out = append(out, &metricsv1beta1.PodMetrics{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default", Labels: map[string]string{"app": name}}})
	}
	return out
}

// Get implements apiserver.Computed.
func (m measured) Get(_ context.Context, namespace, name string) (kinds.Object, error) {
	for _, p := range m.all() {
		if p.Namespace == namespace && p.Name == name {
			return p, nil
		}
	}
	return nil, apierrors.NewNotFound(schema.GroupResource{Group: "metrics.k8s.io", Resource: "pods"}, name)
}

// List implements apiserver.Computed.
func (m measured) List(_ context.Context, namespace string, selector labels.Selector) ([]kinds.Object, error) {
	var out []kinds.Object
	for _, p := range m.all() {
		if (namespace == "" || p.Namespace == namespace) && selector.Matches(labels.Set(p.Labels)) {
			out = append(out, p)
		}
	}
	return out, nil
}

func TestComputedKinds(t *testing.T) {
	t.Parallel()
	server := apitest.Start(t, func(c *apiserver.Config) {
		c.Computed = map[schema.GroupResource]apiserver.Computed{{Group: "metrics.k8s.io", Resource: "pods"}: measured{}}
	})
	client, err := kubernetes.NewForConfig(rest.CopyConfig(server.Admin))
	if err != nil {
		t.Fatal(err)
	}
	const base = "/apis/metrics.k8s.io/v1beta1"
	read := func(path, accept string) (int, []byte) {
		code := 0
		body, _ := client.Discovery().RESTClient().Get().RequestURI(path).SetHeader("Accept", accept).Do(t.Context()).StatusCode(&code).Raw()
		return code, body
	}
	for path, want := range map[string]int{
		base + "/pods": 2, base + "/namespaces/default/pods": 2, base + "/namespaces/other/pods": 0,
		base + "/namespaces/default/pods?labelSelector=app%3Da": 1, base + "/pods?fieldSelector=metadata.name%3Db": 1,
	} {
		var list metricsv1beta1.PodMetricsList
		code, body := read(path, "application/json")
		if err := json.Unmarshal(body, &list); code != 200 || err != nil || len(list.Items) != want || list.Kind != "PodMetricsList" || list.Items == nil {
			t.Errorf("%s: %d %v %s", path, code, err, body)
		}
	}
	var table metav1.Table
	code, body := read(base+"/pods", "application/json;as=Table;v=v1;g=meta.k8s.io")
	if err := json.Unmarshal(body, &table); code != 200 || err != nil || len(table.Rows) != 2 || len(table.ColumnDefinitions) != 4 || table.Rows[1].Cells[0] != "b" {
		t.Errorf("table: %d %v %s", code, err, body)
	}
	var one metricsv1beta1.PodMetrics
	code, body = read(base+"/namespaces/default/pods/a", "application/json")
	if err := json.Unmarshal(body, &one); code != 200 || err != nil || one.Name != "a" || one.Kind != "PodMetrics" {
		t.Errorf("one: %d %v %s", code, err, body)
	}
	for path, want := range map[string]int{
		base + "/namespaces/default/pods/x": 404, base + "/nodes": 501, base + "/pods?watch=1": 405, base + "/pods?labelSelector=%21%21": 400,
	} {
		if code, body := read(path, "application/json"); code != want {
			t.Errorf("%s: %d, want %d: %s", path, code, want, body)
		}
	}
	if code, body := read(base+"/pods", "application/vnd.kubernetes.protobuf"); code != 200 || string(body[:4]) != "k8s\x00" {
		t.Errorf("protobuf: %d %q", code, body)
	}
	if err := client.Discovery().RESTClient().Post().AbsPath(base + "/namespaces/default/pods").Body([]byte("{}")).Do(t.Context()).Error(); !apierrors.IsMethodNotSupported(err) {
		t.Errorf("a create: %v", err)
	}
}
