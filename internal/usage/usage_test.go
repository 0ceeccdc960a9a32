package usage

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	metricsv1beta1 "k8s.io/metrics/pkg/apis/metrics/v1beta1"
	testclock "k8s.io/utils/clock/testing"
)

func noon() time.Time { return time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC) }

func TestParse(t *testing.T) {
	t.Parallel()
	const text = `# HELP node_cpu_usage_seconds_total Cumulative
# TYPE node_cpu_usage_seconds_total counter
node_cpu_usage_seconds_total 12.5 1732190400000
node_memory_working_set_bytes 1.073741824e+09 1732190400000
container_cpu_usage_seconds_total{container="c",namespace="a",pod="p"} 3.25 1732190400123
container_memory_working_set_bytes{pod="p",namespace="a",container="c",} 4096
container_start_time_seconds{container="c",namespace="a",pod="p"} 1.7321903e+09
container_cpu_usage_seconds_total{container="odd\"\\}",namespace="a",pod="q"} 1
pod_cpu_usage_seconds_total{namespace="a",pod="p"} 4
container_of_another_kind{x="y"} 7
resource_scrape_error 0
`
	r, err := parse(strings.NewReader(text), noon())
	if err != nil {
		t.Fatal(err)
	}
	if n := r.node; n.cpu != 12.5 || n.memory != 1<<30 || !n.at.Equal(time.UnixMilli(1732190400000)) || !n.whole() {
		t.Errorf("node %+v", n)
	}
	p := r.pods[types.NamespacedName{Namespace: "a", Name: "p"}]["c"]
	if p.cpu != 3.25 || p.memory != 4096 || !p.at.Equal(time.UnixMilli(1732190400123)) || !p.started.Equal(time.Unix(1732190300, 0)) || !p.whole() {
		t.Errorf("container %+v", p)
	}
	q := r.pods[types.NamespacedName{Namespace: "a", Name: "q"}][`odd"\}`]
	if q == nil || q.whole() || !q.at.Equal(noon()) {
		t.Errorf("a container without memory: %+v", q)
	}
	for _, bad := range []string{
		"node_cpu_usage_seconds_total", "node_cpu_usage_seconds_total x", "node_cpu_usage_seconds_total NaN", "node_cpu_usage_seconds_total -1",
		"container_x{a 1", `container_x{a="b 1`, `container_x{a="b\`, "container_x{a=b} 1", "container_x 1 2 3", "container_x 1 late",
	} {
		if _, err := parse(strings.NewReader(bad), noon()); err == nil {
			t.Errorf("%q was read", bad)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(`container_cpu_usage_seconds_total{container="c",namespace="a",pod="p"} 3.25 1732190400123`)
	f.Add("node_memory_working_set_bytes 1\ncontainer_start_time_seconds{} 1e300")
	f.Fuzz(func(t *testing.T, text string) {
		r, err := parse(strings.NewReader(text), noon())
		if err != nil {
			return
		}
		for _, c := range advance(advance(nil, r), r).pods {
			for _, one := range c {
				if u, ok := one.use(); ok && (u.nanoCores < 0 || u.memory < 0) {
					t.Errorf("%q uses %+v", text, u)
				}
			}
		}
	})
}

func TestPairs(t *testing.T) {
	t.Parallel()
	started := noon().Add(-time.Hour)
	at := func(s int, cpu float64) point {
		return point{at: noon().Add(time.Duration(s) * time.Second), started: started, cpu: cpu, memory: 100, hasCPU: true, hasMem: true}
	}
	young := func(age int, cpu float64) point {
		p := at(0, cpu)
		p.started = p.at.Add(-time.Duration(age) * time.Second)
		return p
	}
	for name, c := range map[string]struct {
		points []point
		nano   int64
		window time.Duration
	}{
		"one says nothing":           {[]point{at(0, 5)}, -1, 0},
		"two":                        {[]point{at(0, 5), at(15, 8)}, 200e6, 15 * time.Second},
		"the last two":               {[]point{at(0, 5), at(15, 8), at(25, 8.5)}, 50e6, 10 * time.Second},
		"the same again":             {[]point{at(0, 5), at(15, 8), at(15, 8)}, 200e6, 15 * time.Second},
		"half of one":                {[]point{at(0, 5), at(15, 8), {}}, 200e6, 15 * time.Second},
		"the clock was set back":     {[]point{at(20, 5), at(15, 8)}, -1, 0},
		"a counter that began again": {[]point{at(0, 5), at(15, 1)}, -1, 0},
		"a container that began again": {[]point{{at: noon().Add(-time.Minute), started: started, cpu: 0.5, hasCPU: true, hasMem: true}, young(12, 6)},
			500e6, 12 * time.Second},
		"too young":            {[]point{young(5, 2)}, -1, 0},
		"young but old enough": {[]point{young(10, 2)}, 200e6, 10 * time.Second},
		"no longer young":      {[]point{young(20, 2)}, -1, 0},
	} {
		var p pair
		for _, next := range c.points {
			p = p.then(next)
		}
		u, ok := p.use()
		if ok != (c.nano >= 0) || ok && (math.Abs(float64(u.nanoCores-c.nano)) > 1 || u.window != c.window) {
			t.Errorf("%s: %+v, %v", name, u, ok)
		}
	}
}

// agents answers for nodes with what it is told to.
type agents struct {
	mu      sync.Mutex
	answers map[string]string
	asked   map[string]int
}

// RoundTrip implements http.RoundTripper.
func (a *agents) RoundTrip(r *http.Request) (*http.Response, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	node := r.URL.Hostname()
	a.asked[node]++
	body, ok := a.answers[node]
	if !ok {
		return nil, fmt.Errorf("no way to %s", r.URL)
	}
	if r.URL.String() != "https://"+node+":10250/metrics/resource" {
		return nil, fmt.Errorf("asked for %s", r.URL)
	}
	code := http.StatusOK
	if body == "" {
		code = http.StatusForbidden
	}
	return &http.Response{StatusCode: code, Status: http.StatusText(code), Body: io.NopCloser(strings.NewReader(body)), Request: r}, nil
}

// rig is a Meter over informers that are filled by hand.
type rig struct {
	*Meter
	*agents
	clock *testclock.FakeClock
}

func newRig(t *testing.T) *rig {
	t.Helper()
	client, err := kubernetes.NewForConfig(&rest.Config{Host: "http://never.called"})
	if err != nil {
		t.Fatal(err)
	}
	f := informers.NewSharedInformerFactory(client, 0)
	r := &rig{agents: &agents{answers: map[string]string{}, asked: map[string]int{}}, clock: testclock.NewFakeClock(noon())}
	r.Meter, err = New(Config{Informers: f, Agents: r.agents, Clock: r.clock, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"n1", "n2"} {
		if err := f.Core().V1().Nodes().Informer().GetStore().Add(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"name": name}}}); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"p", "q"} {
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "a", Labels: map[string]string{"app": name}}, Spec: corev1.PodSpec{NodeName: "n1"}}
		if err := f.Core().V1().Pods().Informer().GetStore().Add(pod); err != nil {
			t.Fatal(err)
		}
	}
	return r
}

// turn reads whatever is due.
func (r *rig) turn(ctx context.Context) {
	for _, node := range r.due() {
		r.read(ctx, node)
	}
	r.clock.Step(resolution)
}

// tell makes a node's agent say how much CPU time was used, in all and by container c of pod p, and q's containers c and d.
func (r *rig) tell(node string, seconds float64) {
	ms := r.clock.Now().UnixMilli()
	var b strings.Builder
	fmt.Fprintf(&b, "node_cpu_usage_seconds_total %g %d\nnode_memory_working_set_bytes 1048576 %d\n", seconds*10, ms, ms)
	for _, c := range [][2]string{{"p", "c"}, {"q", "c"}, {"q", "d"}} {
		fmt.Fprintf(&b, "container_cpu_usage_seconds_total{container=%q,namespace=\"a\",pod=%q} %g %d\n", c[1], c[0], seconds, ms)
		fmt.Fprintf(&b, "container_memory_working_set_bytes{container=%q,namespace=\"a\",pod=%q} 2048 %d\n", c[1], c[0], ms)
	}
	r.locked(func() { r.answers[node] = b.String() })
}

func (r *rig) locked(f func()) {
	r.agents.mu.Lock()
	defer r.agents.mu.Unlock()
	f()
}

func TestAnswers(t *testing.T) {
	t.Parallel()
	r, ctx := newRig(t), t.Context()
	r.tell("n1", 1)
	r.turn(ctx)
	if _, err := r.Nodes().Get(ctx, "", "n1"); !apierrors.IsNotFound(err) {
		t.Errorf("after one reading: %v", err)
	}
	r.tell("n1", 4)
	r.turn(ctx)
	n, err := r.Nodes().Get(ctx, "", "n1")
	if err != nil {
		t.Fatal(err)
	}
	node := n.(*metricsv1beta1.NodeMetrics)
	if node.Usage.Cpu().String() != "2" || node.Usage.Memory().String() != "1Mi" || node.Window.Duration != resolution || node.Labels["name"] != "n1" {
		t.Errorf("node: %+v", node)
	}
	pods, err := r.Pods().List(ctx, "a", labels.SelectorFromSet(labels.Set{"app": "q"}))
	if err != nil || len(pods) != 1 {
		t.Fatalf("%v, %v", pods, err)
	}
	q := pods[0].(*metricsv1beta1.PodMetrics)
	if len(q.Containers) != 2 || q.Containers[1].Name != "d" || q.Containers[1].Usage.Cpu().String() != "200m" || q.Containers[1].Usage.Memory().String() != "2Ki" {
		t.Errorf("pod: %+v", q)
	}
	if _, err := r.Pods().Get(ctx, "a", "x"); !apierrors.IsNotFound(err) || err.Error() != `pods.metrics.k8s.io "a/x" not found` {
		t.Error(err)
	}
	all, err := r.Nodes().List(ctx, "", labels.Everything())
	if err != nil || len(all) != 1 {
		t.Errorf("a node that never answered is told of: %v, %v", all, err)
	}
	r.locked(func() { delete(r.answers, "n1") })
	for range int(stale / resolution) {
		r.turn(ctx)
	}
	r.clock.Step(time.Second)
	if _, err := r.Nodes().Get(ctx, "", "n1"); !apierrors.IsNotFound(err) {
		t.Errorf("old readings are told as new: %v", err)
	}
}

// TestSilentNodesAreAskedLess: and at once again every round when they answer.
func TestSilentNodesAreAskedLess(t *testing.T) {
	t.Parallel()
	r, ctx := newRig(t), t.Context()
	r.locked(func() { r.answers["n2"] = "" })
	var when []int
	for round := range 20 {
		before := r.asked["n2"]
		r.turn(ctx)
		if r.asked["n2"] > before {
			when = append(when, round)
		}
	}
	if diff := cmp.Diff([]int{0, 1, 3, 7, 12, 17}, when); diff != "" {
		t.Error(diff)
	}
	r.tell("n2", 1)
	for range maxSkip + 1 {
		r.turn(ctx)
	}
	before := r.asked["n2"]
	r.turn(ctx)
	r.turn(ctx)
	if r.asked["n2"] != before+2 {
		t.Errorf("asked %d times in two rounds", r.asked["n2"]-before)
	}
}

// TestGoneNodesAreForgotten: nothing is kept of a node that was removed.
func TestGoneNodesAreForgotten(t *testing.T) {
	t.Parallel()
	r, ctx := newRig(t), t.Context()
	r.tell("n1", 1)
	r.turn(ctx)
	if err := r.c.Informers.Core().V1().Nodes().Informer().GetStore().Delete(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}}); err != nil {
		t.Fatal(err)
	}
	r.turn(ctx)
	if r.known["n1"] != nil || r.known["n2"] == nil {
		t.Errorf("known: %v", r.known)
	}
}

func BenchmarkScrape(b *testing.B) {
	var text strings.Builder
	for i := range 110 {
		for _, m := range []string{"container_cpu_usage_seconds_total", "container_memory_working_set_bytes", "container_start_time_seconds"} {
			fmt.Fprintf(&text, "%s{container=\"web\",namespace=\"default\",pod=\"web-%d\"} 1732190.25 1732190400123\n", m, i)
		}
	}
	b.ReportAllocs()
	var known *nodeUse
	for b.Loop() {
		r, err := parse(strings.NewReader(text.String()), noon())
		if err != nil {
			b.Fatal(err)
		}
		known = advance(known, r)
	}
}
