package scheduler

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	configv1 "k8s.io/kube-scheduler/config/v1"
	extenderv1 "k8s.io/kube-scheduler/extender/v1"

	"canopus/internal/scheduler/config"
)

// advice serves an extender's verbs over HTTPS.
func advice(t *testing.T, verbs map[string]http.HandlerFunc, change func(*configv1.Extender)) configv1.Extender {
	t.Helper()
	mux := http.NewServeMux()
	for verb, handler := range verbs {
		mux.HandleFunc("POST /x/"+verb, handler)
	}
	server := httptest.NewTLSServer(mux)
	t.Cleanup(server.Close)
	e := configv1.Extender{
		URLPrefix: server.URL + "/x", EnableHTTPS: true, Weight: 1, HTTPTimeout: metav1.Duration{Duration: patience},
		TLSConfig: &configv1.ExtenderTLSConfig{CAData: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})},
	}
	if verbs["filter"] != nil {
		e.FilterVerb = "filter"
	}
	if verbs["prioritize"] != nil {
		e.PrioritizeVerb = "prioritize"
	}
	if verbs["bind"] != nil {
		e.BindVerb = "bind"
	}
	if verbs["preempt"] != nil {
		e.PreemptVerb = "preempt"
	}
	if change != nil {
		change(&e)
	}
	return e
}

// answer decodes a request of one type, and encodes what f says.
func answer[T any](t *testing.T, f func(T) any) http.HandlerFunc {
	return func(w http.ResponseWriter, q *http.Request) {
		var in T
		if err := json.NewDecoder(q.Body).Decode(&in); err != nil {
			t.Error(err)
		}
		if err := json.NewEncoder(w).Encode(f(in)); err != nil {
			t.Error(err)
		}
	}
}

// keep is a filter that lets pods have nodes of some names, refusing the others with a reason.
func keep(t *testing.T, names ...string) http.HandlerFunc {
	return answer(t, func(in extenderv1.ExtenderArgs) any {
		out := extenderv1.ExtenderFilterResult{FailedNodes: extenderv1.FailedNodesMap{}}
		if in.NodeNames != nil {
			kept := slices.DeleteFunc(slices.Clone(*in.NodeNames), func(n string) bool { return !slices.Contains(names, n) })
			out.NodeNames = &kept
			return out
		}
		out.Nodes = &corev1.NodeList{}
		for _, n := range in.Nodes.Items {
			if slices.Contains(names, n.Name) {
				out.Nodes.Items = append(out.Nodes.Items, n)
			} else {
				out.FailedNodes[n.Name] = "no licence left"
			}
		}
		return out
	})
}

// advised starts a scheduler with extenders and three nodes.
func advised(t *testing.T, list ...configv1.Extender) *rig {
	t.Helper()
	r := start(t, func(c *Config, _ *rest.Config) {
		c.Configuration = config.Default()
		c.Configuration.Extenders = list
	})
	for _, n := range []string{"a", "b", "c"} {
		r.node(n, nil)
	}
	return r
}

func TestExtendersFilterAndRate(t *testing.T) {
	t.Parallel()
	rate := answer(t, func(in extenderv1.ExtenderArgs) any {
		out := extenderv1.HostPriorityList{}
		for _, n := range *in.NodeNames {
			points := map[string]int64{"b": 10, "c": 9}
			out = append(out, extenderv1.HostPriority{Host: n, Score: points[n]})
		}
		return out
	})
	r := advised(t,
		advice(t, map[string]http.HandlerFunc{"filter": keep(t, "b", "c"), "prioritize": rate}, func(e *configv1.Extender) { e.NodeCacheCapable = true; e.Weight = 50 }),
		advice(t, map[string]http.HandlerFunc{"filter": keep(t, "a", "c")}, nil))
	r.pod("p", nil)
	r.bound("p", "c")
}

func TestExtenderRefusesAll(t *testing.T) {
	t.Parallel()
	r := advised(t, advice(t, map[string]http.HandlerFunc{"filter": keep(t, "d")}, nil))
	r.pod("p", nil)
	r.refused("p", "0/3 nodes are available: 3 no licence left. preemption: 0/3 nodes are available: 3 Preemption is not helpful for scheduling.")
	r.node("d", nil)
	r.bound("p", "d")
}

// TestSlowExtenderDelaysNobodyElse: while it thinks about one pod, others are scheduled; what it then says of a node that has
// become too full does not count.
func TestSlowExtenderDelaysNobodyElse(t *testing.T) {
	t.Parallel()
	think := make(chan struct{})
	asked := make(chan struct{}, 8)
	slow := func(w http.ResponseWriter, q *http.Request) {
		asked <- struct{}{}
		select {
		case <-think:
		case <-q.Context().Done():
			return
		}
		keep(t, "a", "b", "c")(w, q)
	}
	r := advised(t, advice(t, map[string]http.HandlerFunc{"filter": slow}, func(e *configv1.Extender) {
		e.ManagedResources = []configv1.ExtenderManagedResource{{Name: "x.io/licence", IgnoredByScheduler: true}}
	}))
	r.pod("slow", with(cpu("3"), func(p *corev1.Pod) {
		limits := corev1.ResourceList{"x.io/licence": resource.MustParse("1")}
		p.Spec.Containers[0].Resources.Limits = limits
		p.Spec.Containers[0].Resources.Requests["x.io/licence"] = limits["x.io/licence"]
	}))
	<-asked
	for _, n := range []string{"a", "b"} {
		r.pod("quick-"+n, with(cpu("3"), func(p *corev1.Pod) { p.Spec.NodeSelector = map[string]string{corev1.LabelHostname: n} }))
		r.bound("quick-"+n, n)
	}
	r.bound("slow", "")
	close(think)
	r.bound("slow", "c")
}

// TestNothingIsMissedWhileExtendersThink: what happens meanwhile wakes the pod that they then refuse.
func TestNothingIsMissedWhileExtendersThink(t *testing.T) {
	t.Parallel()
	think, asked := make(chan struct{}), make(chan struct{}, 8)
	var calls atomic.Int32
	r := advised(t, advice(t, map[string]http.HandlerFunc{"filter": func(w http.ResponseWriter, q *http.Request) {
		if calls.Add(1) == 1 {
			asked <- struct{}{}
			<-think
		}
		keep(t, "d")(w, q)
	}}, func(e *configv1.Extender) {
		e.ManagedResources = []configv1.ExtenderManagedResource{{Name: "x.io/licence", IgnoredByScheduler: true}}
	}))
	r.pod("slow", func(p *corev1.Pod) {
		limits := corev1.ResourceList{"x.io/licence": resource.MustParse("1")}
		p.Spec.Containers[0].Resources = corev1.ResourceRequirements{Limits: limits, Requests: limits}
	})
	<-asked
	r.node("d", nil)
	r.pod("quick", func(p *corev1.Pod) { p.Spec.NodeSelector = map[string]string{corev1.LabelHostname: "d"} })
	r.bound("quick", "d") // the node is known
	close(think)
	r.bound("slow", "d")
}

func TestFailingExtenders(t *testing.T) {
	t.Parallel()
	fail := func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", http.StatusTeapot) }
	var ill atomic.Bool
	ill.Store(true)
	sometimes := func(w http.ResponseWriter, q *http.Request) {
		if ill.Load() {
			fail(w, q)
			return
		}
		keep(t, "b")(w, q)
	}
	r := advised(t,
		advice(t, map[string]http.HandlerFunc{"filter": fail}, func(e *configv1.Extender) { e.Ignorable = true }),
		advice(t, map[string]http.HandlerFunc{"filter": sometimes, "prioritize": fail}, nil))
	r.pod("p", nil)
	r.eventually("the failure shows", func(ctx context.Context) (string, error) {
		p, err := r.CoreV1().Pods("ns").Get(ctx, "p", metav1.GetOptions{})
		if err != nil {
			return "", err
		}
		for _, c := range p.Status.Conditions {
			if c.Reason == corev1.PodReasonSchedulerError && strings.Contains(c.Message, "failed filter with extender at URL") && strings.HasSuffix(c.Message, "code 418") {
				return "", nil
			}
		}
		return fmt.Sprintf("%+v", p.Status.Conditions), nil
	})
	ill.Store(false)
	r.bound("p", "b")
}

func TestExtenderBinds(t *testing.T) {
	t.Parallel()
	var api *kubernetes.Clientset
	ready := make(chan struct{})
	bind := answer(t, func(in extenderv1.ExtenderBindingArgs) any {
		<-ready
		err := api.CoreV1().Pods(in.PodNamespace).Bind(t.Context(), &corev1.Binding{
			ObjectMeta: metav1.ObjectMeta{Namespace: in.PodNamespace, Name: in.PodName, UID: in.PodUID, Annotations: map[string]string{"by": "extender"}},
			Target:     corev1.ObjectReference{Kind: "Node", Name: in.Node},
		}, metav1.CreateOptions{})
		if err != nil {
			return extenderv1.ExtenderBindingResult{Error: err.Error()}
		}
		return extenderv1.ExtenderBindingResult{}
	})
	r := advised(t, advice(t, map[string]http.HandlerFunc{"bind": bind}, nil))
	api = r.Clientset
	close(ready)
	r.pod("p", func(p *corev1.Pod) { p.Spec.NodeSelector = map[string]string{corev1.LabelHostname: "b"} })
	r.bound("p", "b")
	p, err := r.CoreV1().Pods("ns").Get(t.Context(), "p", metav1.GetOptions{})
	if err != nil || p.Annotations["by"] != "extender" {
		t.Errorf("%v, annotations %v: somebody else bound it", err, p.Annotations)
	}
}

func TestExtenderConfiguration(t *testing.T) {
	t.Parallel()
	for want, e := range map[string]configv1.Extender{
		"tlsConfig.caFile: open /nonexistent/ca":     {URLPrefix: "https://x", FilterVerb: "f", TLSConfig: &configv1.ExtenderTLSConfig{CAFile: "/nonexistent/ca"}},
		"the authority has no PEM certificate in it": {URLPrefix: "https://x", FilterVerb: "f", TLSConfig: &configv1.ExtenderTLSConfig{CAData: []byte("x")}},
		"tlsConfig: tls: failed to find":             {URLPrefix: "https://x", FilterVerb: "f", TLSConfig: &configv1.ExtenderTLSConfig{CertData: []byte("x"), KeyData: []byte("y")}},
	} {
		if _, err := newExtenders([]configv1.Extender{e}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	list, err := newExtenders([]configv1.Extender{{URLPrefix: "http://x", FilterVerb: "f"}})
	if err != nil || list[0].client.Timeout != 5*time.Second {
		t.Errorf("%v, timeout %v", err, list[0].client.Timeout)
	}
}
