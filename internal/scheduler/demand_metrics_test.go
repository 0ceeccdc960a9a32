package scheduler

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
)

// demandsOf is what the page says of one pod, without comments.
func demandsOf(t *testing.T, p *corev1.Pod) []string {
	t.Helper()
	pods := cache.NewIndexer(cache.MetaNamespaceKeyFunc, cache.Indexers{})
	if err := pods.Add(p); err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	ResourceMetrics(corelisters.NewPodLister(pods)).ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, ResourcesPath, nil))
	if w.Code != http.StatusOK {
		t.Fatalf("status %d: %s", w.Code, w.Body)
	}
	var lines []string
	for line := range strings.Lines(w.Body.String()) {
		if !strings.HasPrefix(line, "#") {
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	slices.Sort(lines)
	return lines
}

func amounts(pairs ...string) corev1.ResourceList {
	list := corev1.ResourceList{}
	for i := 0; i < len(pairs); i += 2 {
		list[corev1.ResourceName(pairs[i])] = resource.MustParse(pairs[i+1])
	}
	return list
}

func TestResourceMetrics(t *testing.T) {
	t.Parallel()
	made := func(change func(*corev1.Pod)) *corev1.Pod {
		p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "p"}, Spec: corev1.PodSpec{NodeName: "n", SchedulerName: "s", Priority: new(int32(7))}}
		p.Spec.Containers = []corev1.Container{{Name: "c", Resources: corev1.ResourceRequirements{Requests: amounts("cpu", "1500m")}}}
		change(p)
		return p
	}
	line := func(of, node, priority, name, unit, value string) string {
		return "kube_pod_resource_" + of + `{namespace="ns",node="` + node + `",pod="p",priority="` + priority + `",resource="` + name + `",scheduler="s",unit="` + unit + `"} ` + value
	}
	cpu := line("request", "n", "7", "cpu", "cores", "1.5")
	for _, tt := range []struct {
		name string
		pod  *corev1.Pod
		want []string
	}{
		{"a request", made(func(*corev1.Pod) {}), []string{cpu}},
		{"waiting, without priority", made(func(p *corev1.Pod) { p.Spec.NodeName, p.Spec.Priority = "", nil }), []string{line("request", "", "", "cpu", "cores", "1.5")}},
		{"ended", made(func(p *corev1.Pod) { p.Status.Phase = corev1.PodSucceeded }), nil},
		{"failed", made(func(p *corev1.Pod) { p.Status.Phase = corev1.PodFailed }), nil},
		{"zero is nothing", made(func(p *corev1.Pod) { p.Spec.Containers[0].Resources.Limits = amounts("cpu", "0") }), []string{cpu}},
		{"the sum of containers, or the largest of those before them", made(func(p *corev1.Pod) {
			p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: "d", Resources: corev1.ResourceRequirements{Requests: amounts("cpu", "1")}})
			p.Spec.InitContainers = []corev1.Container{{Name: "i", Resources: corev1.ResourceRequirements{Requests: amounts("cpu", "2", "memory", "1Ki")}}}
		}), []string{line("request", "n", "7", "cpu", "cores", "2.5"), line("request", "n", "7", "memory", "bytes", "1024")}},
		{"units", made(func(p *corev1.Pod) {
			p.Spec.Containers[0].Resources = corev1.ResourceRequirements{Limits: amounts("ephemeral-storage", "1", "hugepages-2Mi", "2Mi", "example.com/a", "3", "attachable-volumes-x", "4")}
		}), []string{
			line("limit", "n", "7", "attachable-volumes-x", "integer", "4"), line("limit", "n", "7", "ephemeral-storage", "bytes", "1"),
			line("limit", "n", "7", "example.com/a", "", "3"), line("limit", "n", "7", "hugepages-2Mi", "bytes", "2.097152e+06"),
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := demandsOf(t, tt.pod); !slices.Equal(got, tt.want) {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(tt.want, "\n"))
			}
		})
	}
}
