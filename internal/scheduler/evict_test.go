package scheduler

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	corev1 "k8s.io/api/core/v1"
	schedulingv1beta1 "k8s.io/api/scheduling/v1beta1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
)

// condemned waits until a pod is on its way out for another, and returns what it was told.
func (r *rig) condemned(name string) {
	r.t.Helper()
	r.eventually(name+" is evicted", func(ctx context.Context) (string, error) {
		p, err := r.CoreV1().Pods("ns").Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return "", err
		}
		for _, c := range p.Status.Conditions {
			if p.DeletionTimestamp != nil && c.Type == corev1.DisruptionTarget && c.Status == corev1.ConditionTrue && c.Reason == corev1.PodReasonPreemptionByScheduler &&
				c.Message == "default-scheduler: preempting to accommodate a higher priority pod" {
				return "", nil
			}
		}
		return fmt.Sprintf("%v %+v", p.DeletionTimestamp, p.Status.Conditions), nil
	})
}

func (r *rig) nominated(name, node string) {
	r.t.Helper()
	r.eventually(name+" is nominated", func(ctx context.Context) (string, error) {
		p, err := r.CoreV1().Pods("ns").Get(ctx, name, metav1.GetOptions{})
		if err != nil || p.Status.NominatedNodeName == node {
			return "", err
		}
		return "nominated: " + p.Status.NominatedNodeName, nil
	})
}

func TestPreempts(t *testing.T) {
	t.Parallel()
	r := start(t, nil)
	r.node("a", nil)
	for name, change := range map[string]func(*corev1.Pod){"low": with(cpu("2"), priority(1)), "middle": with(cpu("2"), priority(2))} {
		r.pod(name, change)
		r.bound(name, "a")
	}
	r.pod("high", with(cpu("1500m"), priority(10)))
	r.condemned("low")
	r.refused("high", "0/1 nodes are available: 1 Insufficient cpu.")
	r.nominated("high", "a")
	high, err := r.CoreV1().Pods("ns").Get(t.Context(), "high", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	r.event("low", corev1.EventTypeNormal, "Preempted", fmt.Sprintf("Preempted by pod %s on node a", high.UID))

	r.gone("low") // as its node agent would say in the end
	r.bound("high", "a")
	middle, err := r.CoreV1().Pods("ns").Get(t.Context(), "middle", metav1.GetOptions{})
	if err != nil || middle.DeletionTimestamp != nil {
		t.Fatalf("a pod that could stay was evicted (%v)", err)
	}
}

func TestFailedEvictionIsTriedAgain(t *testing.T) {
	t.Parallel()
	var tries atomic.Int32
	r := start(t, func(_ *Config, writes *rest.Config) {
		writes.Wrap(func(next http.RoundTripper) http.RoundTripper {
			return roundTripper(func(q *http.Request) (*http.Response, error) {
				if q.Method == http.MethodDelete && tries.Add(1) == 1 {
					return nil, http.ErrHandlerTimeout
				}
				return next.RoundTrip(q)
			})
		})
	})
	r.node("a", nil)
	r.pod("low", cpu("3"))
	r.bound("low", "a")
	r.pod("high", with(cpu("3"), priority(10)))
	r.condemned("low")
	r.gone("low")
	r.bound("high", "a")
	if tries.Load() != 2 {
		t.Errorf("%d evictions were sent, want 2", tries.Load())
	}
}

// TestWholeGroupIsEvicted: all pods of a group go for one more important pod, on other nodes too, and the group says why.
func TestWholeGroupIsEvicted(t *testing.T) {
	t.Parallel()
	r := withGroups(t)
	r.node("a", nil)
	r.node("b", nil)
	g := testGroup("v", schedulingv1beta1.DisruptionMode{All: &schedulingv1beta1.AllDisruptionMode{}})
	g.Spec.SchedulingPolicy.Basic = &schedulingv1beta1.BasicSchedulingPolicy{}
	if _, err := r.SchedulingV1beta1().PodGroups("ns").Create(t.Context(), g, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	on := func(node string) func(*corev1.Pod) {
		return func(p *corev1.Pod) { p.Spec.NodeSelector = map[string]string{corev1.LabelHostname: node} }
	}
	for _, node := range []string{"a", "b"} {
		r.pod("on-"+node, with(inGroup("v"), cpu("3"), on(node)))
		r.bound("on-"+node, node)
	}
	r.pod("high", with(cpu("3"), priority(10), on("a")))
	for _, node := range []string{"a", "b"} {
		r.condemned("on-" + node)
		r.gone("on-" + node)
	}
	r.bound("high", "a")
	r.eventually("the group is told", func(ctx context.Context) (string, error) {
		g, err := r.SchedulingV1beta1().PodGroups("ns").Get(ctx, "v", metav1.GetOptions{})
		if err != nil {
			return "", err
		}
		c := meta.FindStatusCondition(g.Status.Conditions, schedulingv1beta1.DisruptionTarget)
		if c != nil && c.Status == metav1.ConditionTrue && c.Reason == "PreemptionByScheduler" && c.Message == "default-scheduler: preempting to accommodate a higher priority pod" {
			return "", nil
		}
		return fmt.Sprintf("%+v", g.Status), nil
	})
}

// TestPreemptionWritesNoMoreThanItMust: each victim is marked and deleted once, and the status of the pod that they go for is
// written once, its condition with the nomination.
func TestPreemptionWritesNoMoreThanItMust(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	got := map[string]int{}
	r := start(t, func(_ *Config, writes *rest.Config) {
		writes.Wrap(func(next http.RoundTripper) http.RoundTripper {
			return roundTripper(func(q *http.Request) (*http.Response, error) {
				if _, path, ok := strings.Cut(q.URL.Path, "/pods/"); ok {
					mu.Lock()
					got[q.Method+" "+path]++
					mu.Unlock()
				}
				return next.RoundTrip(q)
			})
		})
	})
	r.node("a", nil)
	want := map[string]int{"POST high/binding": 1, "PATCH high/status": 1}
	victims := []string{"v0", "v1", "v2"}
	for _, v := range victims {
		r.pod(v, cpu("1"))
		r.bound(v, "a")
		want["POST "+v+"/binding"], want["PATCH "+v+"/status"], want["DELETE "+v] = 1, 1, 1
	}
	r.pod("high", with(cpu("4"), priority(10)))
	r.nominated("high", "a")
	for _, v := range victims {
		r.condemned(v)
	}
	for _, v := range victims {
		r.gone(v)
	}
	r.bound("high", "a")
	mu.Lock()
	defer mu.Unlock()
	if !maps.Equal(got, want) {
		t.Errorf("requests: %v, want %v", got, want)
	}
}
