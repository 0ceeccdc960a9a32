package scheduler

import (
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
)

func TestBindsAndExplains(t *testing.T) {
	t.Parallel()
	r := start(t, nil)
	r.pod("early", nil)
	r.refused("early", "no nodes available to schedule pods")
	r.node("a", nil)
	r.bound("early", "a")
	r.event("early", corev1.EventTypeNormal, "Scheduled", "Successfully assigned ns/early to a")

	r.pod("large", cpu("3500m"))
	r.refused("large", "0/1 nodes are available: 1 Insufficient cpu. preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod.")
	r.gone("early")
	r.bound("large", "a")
}

func TestWakesWhenLabelsChange(t *testing.T) {
	t.Parallel()
	r := start(t, nil)
	r.node("a", nil)
	r.pod("picky", func(p *corev1.Pod) { p.Spec.NodeSelector = map[string]string{"disk": "ssd"} })
	r.refused("picky", "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector."+
		" preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling.")
	r.labelNode("a", `{"metadata":{"labels":{"disk":"ssd"}}}`)
	r.bound("picky", "a")

	term := means("a", corev1.LabelHostname)
	term.NamespaceSelector = &metav1.LabelSelector{MatchLabels: map[string]string{"team": "o"}}
	r.pod("social", with(app("b"), near(term)))
	r.refused("social", "0/1 nodes are available: 1 node(s) didn't match pod affinity rules."+
		" preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling.")
	if _, err := r.CoreV1().Namespaces().Patch(t.Context(), "ns", types.MergePatchType, []byte(`{"metadata":{"labels":{"team":"o"}}}`), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	r.bound("social", "a")
}

func TestUncordonedNodeTakesPods(t *testing.T) {
	t.Parallel()
	r := start(t, nil)
	r.node("a", func(n *corev1.Node) { n.Spec.Unschedulable = true })
	r.pod("p", nil)
	r.refused("p", "0/1 nodes are available: 1 node(s) were unschedulable. preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling.")
	r.labelNode("a", `{"spec":{"unschedulable":null}}`)
	r.bound("p", "a")
}

func TestLeavesPodsOfOthersAndGatedPodsAlone(t *testing.T) {
	t.Parallel()
	r := start(t, nil)
	r.node("a", nil)
	r.pod("others", func(p *corev1.Pod) { p.Spec.SchedulerName = "another" })
	r.pod("gated", func(p *corev1.Pod) { p.Spec.SchedulingGates = []corev1.PodSchedulingGate{{Name: "x.io/wait"}} })
	r.pod("ours", nil)
	r.bound("ours", "a")
	r.bound("others", "")
	r.bound("gated", "")
	if _, err := r.CoreV1().Pods("ns").Patch(t.Context(), "gated", types.MergePatchType, []byte(`{"spec":{"schedulingGates":null}}`), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	r.bound("gated", "a")
}

// TestFailedBindingIsTriedAgain loses the first binding on its way there, and the second one's answer.
func TestFailedBindingIsTriedAgain(t *testing.T) {
	t.Parallel()
	var tries atomic.Int32
	r := start(t, func(_ *Config, writes *rest.Config) {
		writes.Wrap(func(next http.RoundTripper) http.RoundTripper {
			return roundTripper(func(q *http.Request) (*http.Response, error) {
				if !strings.HasSuffix(q.URL.Path, "/binding") {
					return next.RoundTrip(q)
				}
				switch tries.Add(1) {
				case 1:
					return nil, http.ErrHandlerTimeout
				case 2:
					if answer, err := next.RoundTrip(q); err == nil {
						_ = answer.Body.Close()
					}
					return nil, http.ErrHandlerTimeout
				}
				return next.RoundTrip(q)
			})
		})
	})
	r.node("a", nil)
	r.pod("p", cpu("3"))
	r.bound("p", "a")
	if n := tries.Load(); n != 2 {
		t.Errorf("%d bindings were sent, want 2", n)
	}
	// What the failures counted on the node was taken back, what the API server knows was not.
	r.pod("q", cpu("1"))
	r.bound("q", "a")
	r.pod("one-too-many", cpu("1"))
	r.refused("one-too-many", "0/1 nodes are available: 1 Insufficient cpu. preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod.")
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(q *http.Request) (*http.Response, error) { return f(q) }
