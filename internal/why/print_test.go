package why

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"canopus/internal/verdict"
)

func printed(t *testing.T, r *Report) string {
	t.Helper()
	var b strings.Builder
	if err := Print(&b, r); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func same(t *testing.T, got, want string) {
	t.Helper()
	if want = strings.TrimPrefix(want, "\n"); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// TestPrint: the chain, grouped and with the worst first, as people read it.
func TestPrint(t *testing.T) {
	t.Parallel()
	crash := func(name string) *corev1.Pod {
		return read[corev1.Pod](t, "metadata: {name: "+name+", uid: "+name+"}\nspec: {nodeName: n1, containers: [{name: main, image: x}]}\n"+
			"status: {phase: Running, conditions: [{type: Ready, status: 'False'}], containerStatuses: [{name: main, restartCount: 4, state: {waiting: {reason: CrashLoopBackOff, message: back-off 40s restarting failed container=main pod=x}}, lastState: {terminated: {exitCode: 1, reason: Error, startedAt: @100s, finishedAt: @60s}}}]}")
	}
	f := empty(t)
	f.Target = Target{Kind: kindDeployment, Namespace: "shop", Name: "web"}
	f.Object = read[appsv1.Deployment](t, "metadata: {name: web}\nspec: {replicas: 7}\nstatus: {replicas: 7, updatedReplicas: 7, availableReplicas: 1}")
	f.Pods = []*corev1.Pod{read[corev1.Pod](t, good), read[corev1.Pod](t, noImage), crash("c1"), crash("c2"), crash("c3"), crash("c4"), crash("c5")}
	f.Logs[LogKey{"c3", "main", true}] = []string{"starting", "\x1b[31mno database\x1b[0m"}
	f.Logs[LogKey{"c3", "main", false}] = []string{"not of this one"}
	f.Unseen = []string{"events: forbidden"}
	same(t, printed(t, Explain(f)), `
✗ deployment/web in namespace shop: 1 of 7 pods available, 7 of the present template, revision none

✗ exit (Error): 5 of 7 pods (c1, c2, c3 and 2 more): container main ended with exit code 1, 40s after its start, restarted 4 times
    CrashLoopBackOff: back-off 40s
    last lines of its log (pod/c3, container main, the one before):
    | starting
    | ·[31mno database·[0m

✗ image (ErrImagePull): 1 of 7 pods (b): image x of container main cannot be had: m

What to do:
  → its last lines should say why; its whole log: `+"`kubectl -n shop logs c3 -c main --previous`"+`
  → correct the image's name and tag; the node tries again by itself

Not seen: events: forbidden
`)
}

// TestPrintVerdicts: each node's score or refusal, of a pod that has a node and of one that has none.
func TestPrintVerdicts(t *testing.T) {
	t.Parallel()
	f := empty(t)
	f.Object = read[corev1.Pod](t, onNode+"status: {phase: Running, startTime: @60s, conditions: [{type: Ready, status: 'True'}], containerStatuses: [{name: main, ready: true, started: true, state: {running: {startedAt: @30s}}}]}")
	f.Verdicts["u"] = &verdict.Verdict{UID: "u", Scheduler: "default-scheduler", Node: "n1", Nodes: 40, Looked: 4,
		Refusals: []verdict.Refusal{{Plugin: "TaintToleration", Reason: "node(s) had untolerated taint(s)", Count: 2, Nodes: []string{"n9"}}},
		Scores:   []verdict.Score{{Node: "n1", Total: 150, Plugins: map[string]int64{"ImageLocality": 50, "NodeResourcesFit": 100}}, {Node: "n2", Total: 20, Plugins: map[string]int64{"ImageLocality": 0, "NodeResourcesFit": 20}}}}
	same(t, printed(t, Explain(f)), `
✓ pod/p in namespace shop: Running on node n1, 1 of 1 containers ready, 0 restarts, for 60s
  scheduler default-scheduler chose node n1: it scored best of 2 that fitted, of 40 nodes, 4 of which were looked at
    n1: 150 (ImageLocality 50, NodeResourcesFit 100)
    n2: 20 (ImageLocality 0, NodeResourcesFit 20)
    refused: TaintToleration: 2 nodes: node(s) had untolerated taint(s) (n9 and 1 more)
`)
	f = empty(t)
	f.Object = read[corev1.Pod](t, unscheduled("1 Insufficient cpu, 1 node(s) had untolerated taint(s)."))
	f.Verdicts["u"] = &verdict.Verdict{UID: "u", Nodes: 2, Looked: 2, Refusals: []verdict.Refusal{
		{Plugin: "NodeResourcesFit", Reason: "Insufficient cpu", Count: 1, Nodes: []string{"n1"}}, {Plugin: "TaintToleration", Reason: "node(s) had untolerated taint(s)", Count: 1, Nodes: []string{"n2"}}}}
	same(t, printed(t, Explain(f)), `
✗ pod/p in namespace shop: Pending without a node, for 5m

✗ schedule (Unschedulable): 0/1 nodes are available: 1 Insufficient cpu, 1 node(s) had untolerated taint(s).
    NodeResourcesFit: 1 node: Insufficient cpu (n1)
    TaintToleration: 1 node: node(s) had untolerated taint(s) (n2)

What to do:
  → free 8 cpu on a node, ask for less, or add a node; or tolerate the taint that the message names, or take it off the node
`)
}

// TestLogsOfTheRightContainer: the end of a run is told with that run's words, a failing probe with the present one's.
func TestLogsOfTheRightContainer(t *testing.T) {
	t.Parallel()
	f := empty(t)
	p := read[corev1.Pod](t, strings.Replace(state("restartCount: 1, started: true, state: {running: {startedAt: @30s}}, lastState: {terminated: {exitCode: 2, startedAt: @100s, finishedAt: @60s}}"), "image: reg/app:1", "image: x, readinessProbe: {tcpSocket: {port: 80}}", 1))
	wishes := logWishes(p, f.Now)
	if want := []logWish{{"main", true, "main ended before 2"}, {"main", false, "main is not ready"}}; !slices.Equal(wishes, want) {
		t.Fatalf("wanted logs %v, want %v", wishes, want)
	}
	f.Object = p
	f.Logs[LogKey{"u", "main", true}], f.Logs[LogKey{"u", "main", false}] = []string{"old"}, []string{"new"}
	f.Events["u"] = []corev1.Event{warned("Unhealthy", "Readiness probe failed: refused", 5, "main")}
	r := Explain(f)
	if len(r.Findings) != 2 {
		t.Fatalf("findings %+v", r.Findings)
	}
	for _, x := range r.Findings {
		if want := map[Link]string{LinkProbe: "new", LinkExit: "old"}[x.Link]; len(x.Log) != 1 || x.Log[0] != want || x.Previous != (want == "old") {
			t.Errorf("%s has log %v, previous %v", x.Link, x.Log, x.Previous)
		}
	}
}

// TestJSON: programs read these names.
func TestJSON(t *testing.T) {
	t.Parallel()
	f := empty(t)
	f.Object = read[corev1.Pod](t, state("restartCount: 3, state: {waiting: {reason: CrashLoopBackOff}}, lastState: {terminated: {exitCode: 3, reason: Error, startedAt: @100s, finishedAt: @60s}}"))
	f.Logs[LogKey{"u", "main", true}] = []string{"going down"}
	got, err := json.Marshal(Explain(f))
	if err != nil {
		t.Fatal(err)
	}
	same(t, string(got), `{"kind":"pod","namespace":"shop","name":"p","state":"broken","summary":"Running on node n1, 0 of 1 containers ready, 3 restarts, for 5m",`+
		`"findings":[{"link":"exit","severity":"error","reason":"Error","object":"pod/p","message":"container main ended with exit code 3, 40s after its start, restarted 3 times",`+
		`"container":"main","previous":true,"log":["going down"],"do":"its last lines should say why; its whole log: `+"`kubectl -n shop logs p -c main --previous`"+`"}]}`)
	f = empty(t)
	f.Object = read[corev1.Pod](t, onNode+"status: {phase: Succeeded}")
	if got, err = json.Marshal(Explain(f)); err != nil || !strings.Contains(string(got), `"state":"fine"`) || !strings.Contains(string(got), `"findings":[]`) {
		t.Errorf("%v: %s", err, got)
	}
}

func TestParseTarget(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		args []string
		want string // "" for an error
	}{
		{[]string{"pod/web-0"}, "pod/web-0"}, {[]string{"po", "web-0"}, "pod/web-0"}, {[]string{"Pods/web-0"}, "pod/web-0"},
		{[]string{"deployments.apps/web"}, "deployment/web"}, {[]string{"deployment.v1.apps/web"}, "deployment/web"}, {[]string{"hpa/web"}, "horizontalpodautoscaler/web"},
		{[]string{"pdb/web"}, "poddisruptionbudget/web"}, {[]string{"resourceclaims.resource.k8s.io/gpu"}, "resourceclaim/gpu"}, {[]string{"widgets.example.com/w"}, "widgets.example.com/w"},
		{[]string{"web"}, ""}, {[]string{"pod/"}, ""}, {[]string{"/web"}, ""}, {[]string{"pod/a/b"}, ""}, {nil, ""},
	} {
		got, err := ParseTarget(tt.args, "shop")
		if (err == nil) != (tt.want != "") || err == nil && (got.String() != tt.want || got.Namespace != "shop") {
			t.Errorf("%q: %v, %v", tt.args, got, err)
		}
	}
	if got, err := ParseTarget([]string{"no/n1"}, "shop"); err != nil || got.Namespace != "" || got.Kind != kindNode {
		t.Errorf("a node: %+v, %v", got, err)
	}
}
