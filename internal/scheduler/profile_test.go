package scheduler

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"canopus/internal/scheduler/config"
)

// rulesOf reads a profile from YAML and makes its rules.
func rulesOf(t *testing.T, body string) []rule {
	t.Helper()
	rules, err := profileRules(&configOf(t, body).Profiles[0], nil)
	if err != nil {
		t.Fatal(err)
	}
	return rules
}

func configOf(t *testing.T, body string) *config.Configuration {
	t.Helper()
	c, err := config.Parse([]byte("apiVersion: kubescheduler.config.k8s.io/v1\nkind: KubeSchedulerConfiguration\n" + body))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func args(plugin, args string) string {
	return "profiles: [{pluginConfig: [{name: " + plugin + ", args: " + args + "}]}]"
}

// TestDefaultProfileIsTheDefaultRules: no rule is lost or gained on the way through the configuration, and none changes.
func TestDefaultProfileIsTheDefaultRules(t *testing.T) {
	t.Parallel()
	got := map[string]rule{}
	for _, r := range rulesOf(t, "") {
		got[r.name] = r
	}
	for _, want := range defaultRules() {
		r, ok := got[want.name]
		if !ok || r.weight != want.weight || (r.filter == nil) != (want.filter == nil) || (r.score == nil) != (want.score == nil) ||
			(r.refuse == nil) != (want.refuse == nil) || r.turns != want.turns || r.local != want.local {
			t.Errorf("%s is not as by default", want.name)
		}
		delete(got, want.name)
	}
	if len(got) > 0 {
		t.Errorf("there are more: %v", got)
	}
}

// TestFit rates a node of 4 CPUs and 8 GiB, of which 1 CPU and 6 GiB will be used.
func TestFit(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		args string
		want int64
	}{
		"least":                {"{}", (75 + 25) / 2},
		"least, weighed":       {"{scoringStrategy: {resources: [{name: cpu, weight: 3}, {name: memory, weight: 1}]}}", (3*75 + 25) / 4},
		"most":                 {"{scoringStrategy: {type: MostAllocated}}", (25 + 75) / 2},
		"a resource not there": {"{scoringStrategy: {type: MostAllocated, resources: [{name: cpu, weight: 1}, {name: x.io/y, weight: 9}]}}", 25},
		"ratio": {"{scoringStrategy: {type: RequestedToCapacityRatio, requestedToCapacityRatio: {shape: [{utilization: 0, score: 0}, {utilization: 50, score: 10}, {utilization: 100, score: 0}]}}}",
			50},
		"ratio without points": {"{scoringStrategy: {type: RequestedToCapacityRatio, requestedToCapacityRatio: {shape: [{utilization: 25, score: 0}, {utilization: 75, score: 8}]}}}", 80},
	} {
		c := newCluster()
		c.setNode(testNode("a", func(n *corev1.Node) {
			n.Status.Allocatable[corev1.ResourceCPU] = resource.MustParse("4")
			n.Status.Allocatable[corev1.ResourceMemory] = resource.MustParse("8Gi")
		}))
		p := newPending(testPod("p", func(p *corev1.Pod) {
			p.Spec.Containers[0].Resources.Requests = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("1"), corev1.ResourceMemory: resource.MustParse("6Gi")}
		}))
		for _, r := range rulesOf(t, args("NodeResourcesFit", tt.args)) {
			if r.name != "NodeResourcesFit" {
				continue
			}
			if got := r.score(c, p)(c.nodes["a"]); got != tt.want {
				t.Errorf("%s: %d, want %d", name, got, tt.want)
			}
		}
	}
}

// TestArguments: what each argument does to where a pod may go.
func TestArguments(t *testing.T) {
	t.Parallel()
	extended := func(p *corev1.Pod) {
		p.Spec.Containers[0].Resources.Requests = corev1.ResourceList{"x.io/y": resource.MustParse("1")}
	}
	const none = " preemption: 0/2 nodes are available: 2 Preemption is not helpful for scheduling."
	for name, tt := range map[string]struct {
		body string
		pod  func(*corev1.Pod)
		want string // node, "any", or message
	}{
		"extended resource":      {"", extended, "0/2 nodes are available: 2 Insufficient x.io/y." + none},
		"ignored resource":       {args("NodeResourcesFit", "{ignoredResources: [x.io/y]}"), extended, "any"},
		"ignored group":          {args("NodeResourcesFit", "{ignoredResourceGroups: [x.io]}"), extended, "any"},
		"no preemption":          {"profiles: [{plugins: {postFilter: {disabled: [{name: DefaultPreemption}]}}}]", extended, "0/2 nodes are available: 2 Insufficient x.io/y."},
		"fit is off":             {"profiles: [{plugins: {filter: {disabled: [{name: NodeResourcesFit}]}}}]", extended, "any"},
		"fit is off by its half": {"profiles: [{plugins: {preFilter: {disabled: [{name: NodeResourcesFit}]}}}]", extended, "any"},
		"added affinity": {args("NodeAffinity", "{addedAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchExpressions: [{key: kubernetes.io/hostname, operator: In, values: [b]}]}]}}}"),
			nil, "b"},
		"added affinity and the pod's": {args("NodeAffinity", "{addedAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchExpressions: [{key: kubernetes.io/hostname, operator: In, values: [b]}]}]}}}"),
			func(p *corev1.Pod) { p.Spec.NodeSelector = map[string]string{corev1.LabelHostname: "a"} },
			"0/2 nodes are available: 1 node(s) didn't match Pod's node affinity/selector, 1 node(s) didn't match scheduler-enforced node affinity." + none},
		"added preference": {args("NodeAffinity", "{addedAffinity: {preferredDuringSchedulingIgnoredDuringExecution: [{weight: 100, preference: {matchExpressions: [{key: kubernetes.io/hostname, operator: In, values: [b]}]}}]}}"),
			nil, "b"},
	} {
		c := newCluster()
		for _, n := range []string{"a", "b"} {
			c.setNode(testNode(n, nil))
		}
		o := testOptions()
		conf := configOf(t, tt.body)
		o.rules = rulesOf(t, tt.body)
		o.preemption.off = !conf.Profiles[0].Enabled("DefaultPreemption", config.PostFilter)
		d := decide(c, newPending(testPod("p", tt.pod)), o)
		got := d.node
		if got == "" {
			got = d.message()
		} else if tt.want == "any" {
			got = "any"
		}
		if got != tt.want {
			t.Errorf("%s: %s\nwant %s", name, got, tt.want)
		}
	}
}

// TestSpreadByList: hard default constraints hold for pods that belong to something, and only for those.
func TestSpreadByList(t *testing.T) {
	t.Parallel()
	rules := rulesOf(t, args("PodTopologySpread", "{defaultingType: List, defaultConstraints: [{maxSkew: 1, topologyKey: kubernetes.io/hostname, whenUnsatisfiable: DoNotSchedule}]}"))
	c := newCluster()
	for _, n := range []string{"a", "b"} {
		c.setNode(testNode(n, nil))
	}
	c.workloads.setService(&corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "s"}, Spec: corev1.ServiceSpec{Selector: map[string]string{"app": "a"}}})
	c.place(newPodInfo(testPod("there", nil)), "a", false)
	o := testOptions()
	o.rules = rules
	for range 8 {
		if d := decide(c, newPending(testPod("p", nil)), o); d.node != "b" {
			t.Fatalf("went to %q, want b: a has one already", d.node)
		}
	}
	c.setNode(testNode("b", func(n *corev1.Node) { n.Spec.Unschedulable = true }))
	if d := decide(c, newPending(testPod("p", nil)), o); d.node != "" || !strings.Contains(d.message(), spreadSkew) {
		t.Errorf("went to %q: %s", d.node, d.message())
	}
	if d := decide(c, newPending(testPod("q", func(p *corev1.Pod) { p.Labels = map[string]string{"app": "other"} })), o); d.node != "a" {
		t.Errorf("a pod of nothing went to %q, want a", d.node)
	}
}

// TestSeveralSchedulers runs two profiles: one leaves taints to others. A name that none has is nobody's.
func TestSeveralSchedulers(t *testing.T) {
	t.Parallel()
	r := start(t, func(c *Config, _ *rest.Config) {
		c.Configuration = configOf(t, "profiles: [{schedulerName: default-scheduler}, {schedulerName: brave, plugins: {filter: {disabled: [{name: TaintToleration}]}}}]")
	})
	r.node("a", func(n *corev1.Node) { n.Spec.Taints = []corev1.Taint{{Key: "k", Effect: corev1.TaintEffectNoSchedule}} })
	named := func(name string) func(*corev1.Pod) { return func(p *corev1.Pod) { p.Spec.SchedulerName = name } }
	r.pod("timid", named("default-scheduler"))
	r.refused("timid", "0/1 nodes are available: 1 node(s) had untolerated taint(s). preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling.")
	r.pod("brave", named("brave"))
	r.pod("other", named("other"))
	r.bound("brave", "a")
	r.bound("other", "")
}

func TestRefusesConfigurations(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]string{
		args("InterPodAffinity", "{hardPodAffinityWeight: 5}"):                                         "only hardPodAffinityWeight: 1",
		"profiles: [{plugins: {filter: {disabled: [{name: '*'}]}, score: {disabled: [{name: '*'}]}}}]": "no plugin filters or scores",
	} {
		if _, err := profileRules(&configOf(t, body).Profiles[0], nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", body, err, want)
		}
	}
}
