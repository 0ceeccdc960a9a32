package scheduler

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	configv1 "k8s.io/kube-scheduler/config/v1"
	extenderv1 "k8s.io/kube-scheduler/extender/v1"
)

// victims is an answer: nodes with the UIDs of pods on them.
func victims(of map[string][]string) extenderv1.ExtenderPreemptionResult {
	out := extenderv1.ExtenderPreemptionResult{NodeNameToMetaVictims: map[string]*extenderv1.MetaVictims{}}
	for node, uids := range of {
		m := &extenderv1.MetaVictims{NumPDBViolations: int64(len(uids) - 1)}
		for _, uid := range uids {
			m.Pods = append(m.Pods, &extenderv1.MetaPod{UID: uid})
		}
		out.NodeNameToMetaVictims[node] = m
	}
	return out
}

// offered is what an extender was told, as nodes with the UIDs of victims.
func offered(in *extenderv1.ExtenderPreemptionArgs) map[string][]string {
	out := map[string][]string{}
	for node, v := range in.NodeNameToVictims {
		for _, p := range v.Pods {
			out[node] = append(out[node], string(p.UID))
		}
	}
	for node, v := range in.NodeNameToMetaVictims {
		for _, p := range v.Pods {
			out[node] = append(out[node], p.UID)
		}
	}
	return out
}

// choose is an extender that answers what f makes of the offers.
func choose(t *testing.T, f func(offers map[string][]string) map[string][]string) http.HandlerFunc {
	return answer(t, func(in extenderv1.ExtenderPreemptionArgs) any { return victims(f(offered(&in))) })
}

// wedge never answers.
func wedge(_ http.ResponseWriter, q *http.Request) {
	_, _ = io.Copy(io.Discard, q.Body) // or the server would not see that the client has gone
	<-q.Context().Done()
}

func TestExtenderPreemption(t *testing.T) {
	t.Parallel()
	give := func(of map[string][]string) http.HandlerFunc {
		return choose(t, func(map[string][]string) map[string][]string { return of })
	}
	write := func(text string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(text)) }
	}
	ignorable := func(e *configv1.Extender) { e.Ignorable = true }
	for name, tt := range map[string]struct {
		verb   http.HandlerFunc
		change func(*configv1.Extender)
		want   string // offers, or an error
	}{
		"all":                       {choose(t, func(all map[string][]string) map[string][]string { return all }), nil, "a: x y (1)|b: z (0)"},
		"one node":                  {give(map[string][]string{"b": {"z"}}), nil, "b: z (0)"},
		"fewer victims":             {give(map[string][]string{"a": {"y"}}), nil, "a: y (0) altered"},
		"another victim":            {give(map[string][]string{"b": {"w"}}), nil, "b: w (0) altered"},
		"one twice":                 {give(map[string][]string{"b": {"z", "z"}}), nil, "b: z (1)"},
		"none":                      {write(`{}`), nil, ""},
		"an unknown node":           {give(map[string][]string{"b": {"z"}, "d": {"z"}, "c": {"z"}}), nil, `claims to preempt on node "c", which is not one that it was asked about`},
		"an unknown pod":            {give(map[string][]string{"a": {"z"}}), nil, `claims to preempt pod (UID: z) on node "a", but the pod is not found on that node`},
		"an important pod":          {give(map[string][]string{"b": {"boss"}}), nil, `claims to preempt pod ns/boss on node "b", which is no less important than the pod that is scheduled`},
		"no pods":                   {give(map[string][]string{"a": {}, "b": {"z"}}), nil, `expected at least one victim pod on node "a"`},
		"no pods, may be ignored":   {give(map[string][]string{"a": {}, "b": {"z"}}), ignorable, "b: z (0)"},
		"a null node":               {write(`{"NodeNameToMetaVictims":{"a":null}}`), nil, `expected at least one victim pod on node "a"`},
		"a null pod":                {write(`{"NodeNameToMetaVictims":{"a":{"Pods":[null]}}}`), nil, `names no pod among the victims on node "a"`},
		"not JSON":                  {write(`all of them`), nil, "read the answer of extender at URL https://"},
		"cut off":                   {write(`{"NodeNameToMetaVictims":{"a":{"Pods":[{"UID":"x`), nil, "unexpected EOF"},
		"much":                      {write(`{"NodeNameToMetaVictims":{"` + strings.Repeat("a", 5000) + `":null}}`), nil, "is longer than 4096 bytes"},
		"another code":              {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) }, nil, "/x/preempt, code 418"},
		"no answer within its time": {wedge, func(e *configv1.Extender) { e.HTTPTimeout = metav1.Duration{Duration: 50 * time.Millisecond} }, "Client.Timeout exceeded"},
		"an authority it has not":   {give(nil), func(e *configv1.Extender) { e.TLSConfig = nil }, "certificate"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCluster()
			for _, n := range []string{"a", "b"} {
				c.setNode(testNode(n, nil))
			}
			for pod, node := range map[string]string{"x": "a", "y": "a", "z": "b", "w": "b"} {
				c.place(newPodInfo(testPod(pod, nil)), node, false)
			}
			c.place(newPodInfo(testPod("boss", priority(10))), "b", false)
			plans := []*plan{
				{node: c.nodes["a"], victims: []*podInfo{c.placed["x"].info, c.placed["y"].info}, violations: 1},
				{node: c.nodes["b"], victims: []*podInfo{c.placed["z"].info}},
			}
			for _, capable := range []bool{false, true} {
				list, err := newExtenders([]configv1.Extender{advice(t, map[string]http.HandlerFunc{"preempt": tt.verb}, func(e *configv1.Extender) {
					e.NodeCacheCapable = capable
					if tt.change != nil {
						tt.change(e)
					}
				})})
				if err != nil {
					t.Fatal(err)
				}
				list[0].most = 4096
				p := newPending(testPod("p", priority(10)))
				left, err := list[0].preempt(t.Context(), p, []*offer{newOffer(plans[0]), newOffer(plans[1])})
				got := told(left)
				if err != nil {
					got = err.Error()
				}
				if err == nil && got != tt.want || err != nil && (tt.want == "" || !strings.Contains(got, tt.want)) {
					t.Errorf("knows nodes %v: got %q, want %q", capable, got, tt.want)
				}
			}
		})
	}
}

// told writes offers as "node: victims (violations)".
func told(offers []*offer) string {
	var out []string
	for _, o := range offers {
		var names []string
		for _, q := range o.victims {
			names = append(names, q.key.Name)
		}
		text := fmt.Sprintf("%s: %s (%d)", o.node, strings.Join(names, " "), o.violations)
		if o.altered {
			text += " altered"
		}
		out = append(out, text)
	}
	return strings.Join(out, "|")
}

// TestExtenderIsTold: pods in full, or their identities to an extender that knows the rest.
func TestExtenderIsTold(t *testing.T) {
	t.Parallel()
	c := newCluster()
	c.setNode(testNode("a", nil))
	c.place(newPodInfo(testPod("x", cpu("2"))), "a", false)
	o := newOffer(&plan{node: c.nodes["a"], victims: []*podInfo{c.placed["x"].info}, violations: 3})
	e := &extender{}
	in := e.preemptionArgs(testPod("p", nil), []*offer{o})
	if v := in.NodeNameToVictims["a"]; in.Pod.Name != "p" || in.NodeNameToMetaVictims != nil || v.NumPDBViolations != 3 || len(v.Pods) != 1 || v.Pods[0] != c.placed["x"].info.pod {
		t.Errorf("told %+v", in)
	}
	e.NodeCacheCapable = true
	in = e.preemptionArgs(testPod("p", nil), []*offer{o})
	if v := in.NodeNameToMetaVictims["a"]; in.NodeNameToVictims != nil || v.NumPDBViolations != 3 || len(v.Pods) != 1 || v.Pods[0].UID != "x" {
		t.Errorf("told %+v", in)
	}
}

// contested starts a scheduler with extenders and three nodes full of pods, and brings a more important pod.
func contested(t *testing.T, list ...configv1.Extender) *rig {
	t.Helper()
	r := advised(t, list...)
	for i, n := range []string{"a", "b", "c"} {
		r.pod("on-"+n, with(cpu("3"), priority(int32(i+1)), func(p *corev1.Pod) { p.Spec.NodeSelector = map[string]string{corev1.LabelHostname: n} }))
		r.bound("on-"+n, n)
	}
	r.pod("high", with(cpu("3"), priority(10)))
	return r
}

func without(offers map[string][]string, node string) map[string][]string {
	out := maps.Clone(offers)
	delete(out, node)
	return out
}

// TestExtendersChooseVictims: of what the first leaves, the second leaves some, and the least evil of that is done. One that fails
// and may be ignored is, one that is not interested is not asked.
func TestExtendersChooseVictims(t *testing.T) {
	t.Parallel()
	seen := make(chan []string, 8)
	fail := func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", http.StatusInternalServerError) }
	r := contested(t,
		advice(t, map[string]http.HandlerFunc{"preempt": fail}, func(e *configv1.Extender) { e.Ignorable = true }),
		advice(t, map[string]http.HandlerFunc{"preempt": fail}, func(e *configv1.Extender) {
			e.ManagedResources = []configv1.ExtenderManagedResource{{Name: "x.io/licence"}}
		}),
		advice(t, map[string]http.HandlerFunc{"preempt": choose(t, func(all map[string][]string) map[string][]string { return without(all, "a") })},
			func(e *configv1.Extender) { e.NodeCacheCapable = true }),
		advice(t, map[string]http.HandlerFunc{"preempt": choose(t, func(all map[string][]string) map[string][]string {
			seen <- slices.Sorted(maps.Keys(all))
			return all
		})}, nil))
	r.condemned("on-b")
	r.gone("on-b")
	r.bound("high", "b")
	if got := <-seen; !slices.Equal(got, []string{"b", "c"}) {
		t.Errorf("the last extender was asked about %v", got)
	}
	for _, n := range []string{"a", "c"} {
		if p, err := r.CoreV1().Pods("ns").Get(t.Context(), "on-"+n, metav1.GetOptions{}); err != nil || p.DeletionTimestamp != nil {
			t.Errorf("the pod on %s was evicted (%v)", n, err)
		}
	}
}

func TestExtendersAllowNoVictims(t *testing.T) {
	t.Parallel()
	r := contested(t, advice(t, map[string]http.HandlerFunc{"preempt": choose(t, func(map[string][]string) map[string][]string { return nil })}, nil))
	r.refused("high", "0/3 nodes are available: 3 Insufficient cpu. preemption: no candidate node for preemption")
	r.gone("on-c")
	r.bound("high", "c")
}

// TestExtendersChooseTooFew: victims that would not make room are not evicted, and it is said.
func TestExtendersChooseTooFew(t *testing.T) {
	t.Parallel()
	r := advised(t, advice(t, map[string]http.HandlerFunc{"preempt": choose(t, func(all map[string][]string) map[string][]string {
		out := map[string][]string{}
		for node, uids := range all {
			out[node] = uids[:1]
		}
		return out
	})}, nil))
	for _, n := range []string{"a", "b", "c"} {
		for i := range 2 {
			name := fmt.Sprintf("on-%s-%d", n, i)
			r.pod(name, with(cpu("2"), func(p *corev1.Pod) { p.Spec.NodeSelector = map[string]string{corev1.LabelHostname: n} }))
			r.bound(name, n)
		}
	}
	r.pod("high", with(cpu("3"), priority(10)))
	r.eventually("the trouble shows", func(ctx context.Context) (string, error) {
		p, err := r.CoreV1().Pods("ns").Get(ctx, "high", metav1.GetOptions{})
		if err != nil {
			return "", err
		}
		for _, c := range p.Status.Conditions {
			if c.Reason == corev1.PodReasonSchedulerError && strings.HasPrefix(c.Message, "evicting what extenders chose on node ") &&
				strings.HasSuffix(c.Message, " would not make room: Insufficient cpu") {
				return "", nil
			}
		}
		return fmt.Sprintf("%+v", p.Status.Conditions), nil
	})
	list, err := r.CoreV1().Pods("ns").List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for i := range list.Items {
		if list.Items[i].DeletionTimestamp != nil {
			t.Errorf("pod %s was evicted in vain", list.Items[i].Name)
		}
	}
}
