package scheduler

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// TestExplanationsComeNotTooLate: a pod that gets a node while it is written why it has none keeps its condition; one that others
// write to meanwhile is told all the same.
func TestExplanationsComeNotTooLate(t *testing.T) {
	t.Parallel()
	var api atomic.Pointer[kubernetes.Clientset]
	meanwhile := func(ctx context.Context, pod string) error {
		pods := api.Load().CoreV1().Pods("ns")
		if pod == "bound" {
			return pods.Bind(ctx, &corev1.Binding{ObjectMeta: metav1.ObjectMeta{Name: pod}, Target: corev1.ObjectReference{Kind: "Node", Name: "elsewhere"}}, metav1.CreateOptions{})
		}
		p, err := pods.Get(ctx, pod, metav1.GetOptions{})
		if err != nil {
			return err
		}
		p.Annotations = map[string]string{"a": "b"}
		_, err = pods.Update(ctx, p, metav1.UpdateOptions{})
		return err
	}
	var patches [2]atomic.Int32
	done := make(chan struct{}, 8)
	r := start(t, func(_ *Config, writes *rest.Config) {
		writes.Wrap(func(next http.RoundTripper) http.RoundTripper {
			return roundTripper(func(q *http.Request) (*http.Response, error) {
				for i, pod := range []string{"bound", "other"} {
					if q.Method != http.MethodPatch || !strings.HasSuffix(q.URL.Path, "/"+pod+"/status") {
						continue
					}
					if patches[i].Add(1) == 1 {
						if err := meanwhile(q.Context(), pod); err != nil {
							return nil, err
						}
					}
					a, err := next.RoundTrip(q)
					done <- struct{}{}
					return a, err
				}
				return next.RoundTrip(q)
			})
		})
	})
	api.Store(r.Clientset)
	r.pod("bound", nil)
	<-done
	r.pod("other", nil)
	r.waits("other", "no nodes available to schedule pods")
	p, err := r.CoreV1().Pods("ns").Get(t.Context(), "bound", metav1.GetOptions{})
	if err != nil || p.Spec.NodeName != "elsewhere" {
		t.Fatalf("%v, the pod is on %q", err, p.Spec.NodeName)
	}
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodScheduled && c.Status != corev1.ConditionTrue {
			t.Errorf("a pod that has a node says %+v", c)
		}
	}
	if got := fmt.Sprint(patches[0].Load(), patches[1].Load()); got != "1 2" {
		t.Errorf("statuses were written %s times, want 1 and 2", got)
	}
}
