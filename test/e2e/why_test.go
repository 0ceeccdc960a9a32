package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"sigs.k8s.io/yaml"

	"canopus/internal/why"
	"canopus/test/harness"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// fault is something wrong with an object, and what `canopus why` must say of it.
type fault struct {
	target  string
	found   string   // "link severity reason, …" of each finding, or one of several such with | between
	message string   // is in the message of the first finding
	log     string   // is the end of the log that comes with it
	advice  string   // is in what to do
	cure    []string // kubectl that mends it: afterwards all is well
}

// sleeper is the pod that stands for SLEEPER in the manifests.
const sleeper = `{terminationGracePeriodSeconds: 1, containers: [{name: main, image: "canopus.local/test:1", command: [sleep, "3600"]}]}`

// faults are the objects of why.yaml.
func faults(ns string) []fault {
	in := "kubectl -n " + ns + " "
	return []fault{
		{target: "pod/too-large", found: "schedule error Unschedulable", message: "1 Insufficient cpu", advice: "ask for less than 1000 cpu (the largest node, node-1, has "},
		{target: "pod/choosy", found: "schedule error Unschedulable", message: "didn't match Pod's node affinity/selector", advice: "`kubectl label node NAME e2e-why=yes`", cure: []string{"label", "node", harness.NodeName, "e2e-why=yes"}},
		{target: "pod/gated", found: "schedule waiting SchedulingGated", message: "example.com/wait", advice: "spec.schedulingGates"},
		{target: "pod/other-scheduler", found: "schedule error NotTried", message: "scheduler nobody has not said anything about it for ", advice: "start a scheduler that goes by the name nobody"},
		{target: "pod/refused", found: "node error OutOfcpu", message: "Node didn't have enough resource: cpu", advice: "delete the pod: it does not start again"},
		{target: "pod/no-handler", found: "sandbox error FailedCreatePodSandBox", message: "e2e-why-none", advice: "runtime has no handler of that name"},
		{target: "pod/bad-image", found: "image error ErrImagePull|image error ImagePullBackOff", message: "image 127.0.0.1:9/nothing:1 of container main cannot be had: ", advice: "see whether node node-1 reaches the registry", cure: []string{"set", "image", "pod/bad-image", "main=" + harness.Image}},
		{target: "pod/never-pull", found: "image error ErrImageNeverPull", message: "canopus.local/nothing:1", advice: "load the image on node node-1"},
		{target: "pod/bad-name", found: "image error InvalidImageName", message: "Not An Image", advice: "correct the image's name"},
		{target: "pod/no-configmap", found: "volume error FailedMount", message: `configmap "settings" not found`, advice: "make ConfigMap settings", cure: []string{"create", "configmap", "settings", "--from-literal=a=b"}},
		{target: "pod/no-secret", found: "config error CreateContainerConfigError", message: `secret "password" not found`, advice: "make Secret password", cure: []string{"create", "secret", "generic", "password", "--from-literal=key=x"}},
		{target: "pod/no-claim", found: "volume error ClaimNotFound, schedule error Unschedulable", message: "the claim absent", advice: "make PersistentVolumeClaim absent"},
		{target: "pod/unbound", found: "volume error ProvisioningFailed, schedule error Unschedulable", message: "class e2e-why-none, which does not exist", advice: "make StorageClass e2e-why-none"},
		{target: "pvc/classless", found: "volume error ProvisioningFailed", message: "e2e-why-none", advice: "make StorageClass"},
		{target: "pvc/unused", found: "volume waiting WaitForFirstConsumer", message: "where the first pod that uses it is scheduled", advice: "start a pod"},
		{target: "pod/bad-init", found: "exit error Error", message: "init container fetch ended with exit code 5", log: "nothing to fetch", advice: "`" + in + "logs bad-init -c fetch"},
		{target: "pod/slow-init", found: "start waiting PodInitializing", message: "init container migrate runs", log: "migrating"},
		{target: "pod/not-ready", found: "probe error Unhealthy", message: "its readiness probe (cat /tmp/ready) fails: cat: can't open", log: "waiting for a file", advice: "find out from the log", cure: []string{"exec", "not-ready", "--", "touch", "/tmp/ready"}},
		{target: "pod/not-started", found: "probe error Unhealthy", message: "its startup probe (TCP :9) fails: ", advice: "find out from the log"},
		{target: "pod/not-live", found: "probe error Unhealthy|probe warning Unhealthy", message: "was killed because its liveness probe (GET :9/live) failed: ", log: "run", advice: "why it did not answer"},
		{target: "pod/gone", found: "exit error Error", message: "container main ended with exit code 4", log: "no more work", advice: "`" + in + "logs gone -c main`"},
		{target: "pod/no-program", found: "start error StartError|start error RunContainerError", message: "no-such-program", advice: "the program must be in the image"},
		{target: "pod/glutton", found: "exit error OOMKilled", message: "took more than its memory limit of 20Mi", advice: "raise resources.limits.memory"},
		{target: "deployment/crashing", found: "exit error Error, rollout waiting RollingOut|exit error Error", message: "container main ended with exit code 3", log: "cannot reach the database", advice: "--previous`"},
		{target: "statefulset/ordered", found: "image error ErrImageNeverPull, rollout waiting OrderedReady", message: "canopus.local/nothing:1", advice: "load the image"},
		{target: "daemonset/nowhere", found: "rollout warning NoNodes", message: "no node is to run it", advice: "label or untaint"},
		{target: "job/failing", found: "exit warning Error, exit error BackoffLimitExceeded", message: "exit code 7", log: "bad input", advice: "mend what ends its pods"},
		{target: "job/asleep", found: "rollout waiting JobSuspended", message: "suspended", advice: "`" + in + "patch job asleep", cure: []string{"patch", "job", "asleep", "-p", `{"spec":{"suspend":false}}`}},
		{target: "cronjob/resting", found: "rollout note Suspended", message: "suspended", advice: "`" + in + "patch cronjob resting"},
		{target: "service/lonely", found: "endpoints error NoPods", message: "no pod has the labels app=nobody", advice: "correct the selector"},
		{target: "service/unanswered", found: "endpoints error NoSuchPort", message: `"web"`, advice: "correct targetPort"},
		{target: "service/balanced", found: "endpoints waiting NoLoadBalancer", message: "no load balancer has given it an address", advice: "the node ports answer meanwhile"},
		{target: "hpa/aimless", found: "scale error FailedGetScale", message: "unable to get the target's current scale", advice: "make deployment/absent"},
		{target: "hpa/blind", found: "scale error FailedGetResourceMetric", message: "missing request for cpu", advice: "give every container of deployment/well a request for cpu"},
		{target: "pdb/strict", found: "disruption warning InsufficientPods", message: "no pod may ever be evicted", advice: "maxUnavailable: 1", cure: []string{"patch", "pdb", "strict", "--type=json", "-p", `[{"op":"remove","path":"/spec/minAvailable"},{"op":"add","path":"/spec/maxUnavailable","value":1}]`}},
	}
}

// refusals are the objects of why-limits.yaml.
func refusals(ns string) []fault {
	quota := "exceeded quota: none, requested: pods=1, used: pods=0, limited: pods=0"
	advice := "`kubectl -n " + ns + " edit resourcequota none`"
	return []fault{
		{target: "deployment/web", found: "quota error FailedCreate, rollout waiting RollingOut", message: quota, advice: advice},
		{target: "statefulset/db", found: "quota error FailedCreate, rollout waiting OrderedReady", message: quota, advice: advice},
		{target: "daemonset/log", found: "quota error FailedCreate, rollout waiting RollingOut", message: quota, advice: advice},
		{target: "rc/old", found: "quota error FailedCreate", message: quota, advice: advice},
		{target: "job/once", found: "quota error FailedCreate", message: quota, advice: advice},
		{target: "deployment/big", found: "admission error FailedCreate, rollout waiting RollingOut", message: "maximum memory usage per Container is 80Mi, but limit is 1Gi", advice: "keep to the LimitRange"},
		{target: "deployment/stranger", found: "admission error FailedCreate, rollout waiting RollingOut", message: `serviceaccount "nobody" not found`, advice: "make the ServiceAccount"},
	}
}

// whys: every fault that can be made is found, with its reason and with what to do; mended, all is well.
func whys(t *testing.T, s *scenario) {
	s.apply(t, "why.yaml", "SLEEPER", sleeper)
	t.Cleanup(func() { s.Try(t, "", "delete", "runtimeclass", "e2e-why-none") })
	limited := newScenario(t, s.Cluster, "why-limits")
	limited.apply(t, "why-limits.yaml", "SLEEPER", sleeper)
	for _, f := range faults(s.ns) {
		t.Run(strings.ReplaceAll(f.target, "/", "-"), func(t *testing.T) { t.Parallel(); s.explains(t, f) })
	}
	t.Run("refused", func(t *testing.T) {
		t.Parallel()
		for _, f := range refusals(limited.ns) {
			limited.explains(t, f)
		}
		limited.k(t, "delete", "resourcequota/none")
		limited.well(t, "deployment/web")
	})
	t.Run("paused", func(t *testing.T) { t.Parallel(); s.pausedRollout(t) })
	t.Run("stalled", func(t *testing.T) { t.Parallel(); s.stalledRollout(t) })
	t.Run("held", func(t *testing.T) { t.Parallel(); s.heldObjects(t) })
	t.Run("rights", func(t *testing.T) { t.Parallel(); s.lookWithFewRights(t) })
	t.Run("unknown", func(t *testing.T) {
		t.Parallel()
		for _, args := range [][]string{{"pod/absent"}, {"gadget/x"}, {"pod"}, {}, {"pod", "a", "b"}} {
			if r := s.why(t, args...); r.Code != 1 || r.Stderr == "" || r.Stdout != "" {
				t.Errorf("why %v: %v", args, r)
			}
		}
	})
}

// explains waits until why finds the fault, asks the program itself, and mends the fault.
func (s *scenario) explains(t *testing.T, f fault) {
	t.Helper()
	r, advice := s.finds(t, f), ""
	for _, x := range r.Findings {
		advice += x.Do + "\n"
	}
	if !strings.Contains(advice, f.advice) {
		t.Errorf("%s: advice %q, want %q in it", f.target, advice, f.advice)
	}
	code := map[why.State]int{why.Fine: 0, why.Broken: 2, why.OnWay: 3}[r.State]
	got := s.why(t, f.target)
	t.Log(got)
	if got.Code != code || !strings.Contains(got.Stdout, "What to do:") == (f.advice != "") {
		t.Errorf("want exit code %d and advice: %v", code, got)
	}
	if f.cure != nil {
		s.k(t, f.cure...)
		s.well(t, f.target)
	}
}

// report asks why as the command does, by the same code.
func (s *scenario) report(ctx context.Context, object string) (*why.Report, error) {
	target, err := why.ParseTarget([]string{object}, s.ns)
	if err != nil {
		return nil, err
	}
	facts, err := why.Gather(ctx, s.Client, target, time.Now())
	if err != nil {
		return nil, err
	}
	return why.Explain(facts), nil
}

// finds waits until why finds the fault. A program that is killed may have said nothing the first time.
func (s *scenario) finds(t *testing.T, f fault) *why.Report {
	t.Helper()
	var r *why.Report
	harness.Until(t, patience, "why "+f.target+" to find "+f.found, func() (err error) {
		if r, err = s.report(t.Context(), f.target); err != nil {
			return err
		}
		var got []string
		for _, x := range r.Findings {
			if x.Reason == "Unschedulable" && (x.Verdict == nil || len(x.Verdict.Refusals) == 0) {
				return fmt.Errorf("no refusals, but %+v", x.Verdict) // a scheduler elsewhere tells them a little later
			}
			got = append(got, fmt.Sprintf("%s %s %s", x.Link, x.Severity, x.Reason))
		}
		for one := range strings.SplitSeq(f.found, "|") {
			if strings.Join(got, ", ") != one || !strings.Contains(r.Findings[0].Message, f.message) {
				continue
			}
			if log := r.Findings[0].Log; f.log == "" || len(log) > 0 && log[len(log)-1] == f.log {
				return nil
			}
		}
		return fmt.Errorf("%+v", r.Findings)
	})
	return r
}

// well waits until why finds nothing wrong, and sees the program say so in a line.
func (s *scenario) well(t *testing.T, object string) {
	t.Helper()
	harness.Until(t, patience, "why "+object+" to find it well", func() error {
		r, err := s.report(t.Context(), object)
		if err == nil && r.State != why.Fine {
			err = fmt.Errorf("%+v", r.Findings)
		}
		return err
	})
	if r := s.why(t, object); r.Code != 0 || !strings.HasPrefix(r.Stdout, "✓ ") || strings.Contains(r.Stdout, "What to do") {
		t.Errorf("not well: %v", r)
	}
}

// why runs the program.
func (s *scenario) why(t *testing.T, args ...string) harness.Result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := s.Canopus(t, s.Control, append([]string{"why", "-n", s.ns}, args...)...)
	var stdout, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := s.Control.Start(cmd); err != nil {
		t.Fatal(err)
	}
	err := cmd.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) || ctx.Err() != nil {
		t.Fatalf("why %v: %v", args, err)
	}
	return harness.Result{Command: "canopus why " + strings.Join(args, " "), Stdout: stdout.String(), Stderr: stderr.String(), Code: cmd.ProcessState.ExitCode()}
}

// pausedRollout stops halfway, and goes on.
func (s *scenario) pausedRollout(t *testing.T) {
	s.explains(t, fault{target: "deployment/paused", found: "rollout waiting DeploymentPaused", message: "0 of 1 pods have the present template", advice: "rollout resume deployment/paused`", cure: []string{"rollout", "resume", "deployment/paused"}})
}

// stalledRollout gets an image that is not there, and goes back.
func (s *scenario) stalledRollout(t *testing.T) {
	s.well(t, "deployment/stalled")
	s.k(t, "set", "image", "deployment/stalled", "main=canopus.local/nothing:1")
	s.explains(t, fault{target: "deployment/stalled", found: "image error ErrImageNeverPull, rollout error ProgressDeadlineExceeded",
		message: "canopus.local/nothing:1", advice: "rollout undo deployment/stalled`", cure: []string{"rollout", "undo", "deployment/stalled"}})
}

// heldObjects: a pod and a namespace that are deleted stay because of finalizers, and a claim because a pod uses it.
func (s *scenario) heldObjects(t *testing.T) {
	held := newScenario(t, s.Cluster, "why-held")
	held.apply(t, "why-held.yaml")
	held.k(t, "wait", "pod/user", "--for=condition=Ready", "--timeout=60s")
	held.k(t, "delete", "pvc/used", "--wait=false")
	held.explains(t, fault{target: "pvc/used", found: "deletion waiting Terminating", message: "stays until no pod uses it", advice: "delete the pods that use it"})
	s.k(t, "delete", "namespace", held.ns, "--wait=false")
	s.explains(t, fault{target: "namespace/" + held.ns, found: "deletion waiting Terminating, condition warning SomeResourcesRemain, condition warning SomeFinalizersRemain", message: "it was deleted", advice: "mend what the message says"})
	held.explains(t, fault{target: "pod/held", found: "deletion error Finalizers", message: "finalizers hold it: example.com/hold", advice: "find out why the owner of the finalizer does not remove it"})
	s.Kubectl(t, "-n", held.ns, "patch", "pod/held", "--type=merge", "-p", `{"metadata":{"finalizers":null}}`)
	s.k(t, "wait", "namespace/"+held.ns, "--for=delete", "--timeout=60s")
}

// lookWithFewRights: who may only read pods is told of those, and of what was not to be seen.
func (s *scenario) lookWithFewRights(t *testing.T) {
	s.k(t, "create", "serviceaccount", "looker")
	s.k(t, "create", "role", "looker", "--verb=get", "--resource=pods")
	s.k(t, "create", "rolebinding", "looker", "--role=looker", "--serviceaccount="+s.ns+":looker")
	token := strings.TrimSpace(s.k(t, "create", "token", "looker"))
	file := filepath.Join(t.TempDir(), "kubeconfig")
	s.kubeconfig(t, file, token)
	s.finds(t, fault{target: "pod/gone", found: "exit error Error"})
	r := s.why(t, "--kubeconfig", file, "pod/gone", "-o", "json")
	var got why.Report
	if err := json.Unmarshal([]byte(r.Stdout), &got); err != nil || r.Code != 2 {
		t.Fatalf("%v: %v", err, r)
	}
	if len(got.Findings) != 1 || got.Findings[0].Log != nil || !strings.Contains(strings.Join(got.Unseen, "\n"), "events is forbidden") || !strings.Contains(strings.Join(got.Unseen, "\n"), "log of pod gone") {
		t.Errorf("with few rights: %+v", got)
	}
	if r := s.why(t, "--kubeconfig", file, "deployment/well"); r.Code != 1 || !strings.Contains(r.Stderr, `cannot get resource "deployments"`) {
		t.Errorf("without the right to read it: %v", r)
	}
}

// kubeconfig writes a kubeconfig that speaks to the cluster with a token.
func (s *scenario) kubeconfig(t *testing.T, file, token string) {
	t.Helper()
	var config map[string]any
	if err := yaml.Unmarshal([]byte(s.k(t, "config", "view", "--raw", "--flatten", "--minify")), &config); err != nil {
		t.Fatal(err)
	}
	users, ok := config["users"].([]any)
	if !ok || len(users) != 1 {
		t.Fatalf("users %v", config["users"])
	}
	users[0].(map[string]any)["user"] = map[string]any{"token": token}
	data, err := yaml.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// whyNodes: nodes without an agent, whose state this test writes, refuse a pod, lose to another in its scores, are not ready,
// evict, and are not to be emptied.
func whyNodes(t *testing.T, s *scenario) {
	ctx := context.WithoutCancel(t.Context())
	nodes := s.Client.CoreV1().Nodes()
	node := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: "e2e-why", Labels: map[string]string{"e2e-why": "apart"}},
		Spec:       corev1.NodeSpec{Taints: []corev1.Taint{{Key: "team", Value: "a", Effect: corev1.TaintEffectNoSchedule}}},
	}
	node, err := nodes.Create(ctx, node, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = nodes.Delete(ctx, node.Name, metav1.DeleteOptions{}) })
	s.explains(t, fault{target: "node/e2e-why", found: "node waiting NotReported, node note Tainted", message: "has not reported", advice: "start the agent"})
	state := func(conditions ...corev1.NodeCondition) {
		t.Helper()
		harness.Until(t, patience, "a status for the node", func() error {
			n, err := nodes.Get(ctx, node.Name, metav1.GetOptions{})
			if err != nil {
				return err
			}
			n.Status.Conditions = conditions
			n.Status.Allocatable = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("500m"), corev1.ResourceMemory: resource.MustParse("256Mi"), corev1.ResourcePods: resource.MustParse("9")}
			n.Status.Capacity = n.Status.Allocatable
			_, err = nodes.UpdateStatus(ctx, n, metav1.UpdateOptions{})
			return err
		})
	}
	now := metav1.Now()
	well := corev1.NodeCondition{Type: corev1.NodeReady, Status: corev1.ConditionTrue, LastHeartbeatTime: now, LastTransitionTime: now}
	state(well)
	s.apply(t, "why-nodes.yaml")
	r := s.finds(t, fault{target: "pod/unwanted", found: "schedule error Unschedulable", message: "0/2 nodes are available"})
	got := map[string]string{} // what refused each node
	for _, x := range r.Findings[0].Verdict.Refusals {
		for _, name := range x.Nodes {
			got[name] = x.Plugin
		}
	}
	if got[node.Name] != "TaintToleration" || got[harness.NodeName] != "NodeAffinity" || !strings.Contains(r.Findings[0].Do, "`kubectl taint node e2e-why team=a:NoSchedule-`") {
		t.Errorf("refused by %v, advice %q", got, r.Findings[0].Do)
	}
	s.well(t, "pod/scored")
	harness.Until(t, patience, "the scores of a pod that has a node", func() error {
		r := s.why(t, "pod/scored")
		out := r.Stdout
		for _, want := range []string{"chose node node-1: it scored best of 2 that fitted, of 2 nodes", "node-1: ", "e2e-why: ", "NodeAffinity 100"} {
			if !strings.Contains(out, want) {
				return fmt.Errorf("no %q in %s", want, out)
			}
		}
		t.Log(r)
		return nil
	})
	state(corev1.NodeCondition{Type: corev1.NodeReady, Status: corev1.ConditionFalse, Reason: "KubeletNotReady", Message: "no network", LastHeartbeatTime: now, LastTransitionTime: now},
		corev1.NodeCondition{Type: corev1.NodeMemoryPressure, Status: corev1.ConditionTrue, Message: "little memory", LastHeartbeatTime: now, LastTransitionTime: now})
	s.explains(t, fault{target: "node/e2e-why", found: "node error KubeletNotReady, node error MemoryPressure, node note Tainted", message: "no network", advice: "free memory"})
	s.evicts(t, node.Name)
	s.k(t, "cordon", harness.NodeName)
	t.Cleanup(func() { s.Kubectl(t, "uncordon", harness.NodeName) })
	s.explains(t, fault{target: "node/" + harness.NodeName, found: "node note SchedulingDisabled, disruption warning InsufficientPods", message: "cordoned", advice: "`canopus why -n " + s.ns + " pdb/strict`"})
}

// evicts writes what an agent does that evicts a pod because it runs out of memory.
func (s *scenario) evicts(t *testing.T, node string) {
	t.Helper()
	pods := s.Client.CoreV1().Pods(s.ns)
	p, err := pods.Create(t.Context(), &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "evicted"}, Spec: corev1.PodSpec{
		NodeName: node, Containers: []corev1.Container{{Name: "main", Image: harness.Image}}}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	p.Status = corev1.PodStatus{Phase: corev1.PodFailed, Reason: "Evicted", Message: "The node was low on resource: memory."}
	if _, err := pods.UpdateStatus(t.Context(), p, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	s.explains(t, fault{target: "pod/evicted", found: "node error Evicted", message: "low on resource: memory", advice: "make it again with requests"})
	s.explains(t, fault{target: "node/" + node, found: "node error KubeletNotReady, node error MemoryPressure, node warning Evicted, node note Tainted", message: "no network", advice: "give pods requests and limits"})
}

// whyStopped: what a scheduler and controllers that stand still leave undone is told, and all is well when they go on.
func whyStopped(t *testing.T, s *scenario) {
	for _, name := range []string{"controllers", "scheduler"} {
		s.stopped(t, s.Process(t, name), func() {
			if name == "controllers" {
				s.apply(t, "rollout.yaml")
				s.explains(t, fault{target: "deployment/app", found: "controller error NotObserved", message: "its controller has not seen generation 1 yet", advice: "`canopus status`"})
				return
			}
			s.apply(t, "shell.yaml")
			s.explains(t, fault{target: "pod/shell", found: "schedule error NotTried", message: "scheduler default-scheduler has not said anything", advice: "`canopus status`"})
		})
		s.well(t, map[string]string{"controllers": "deployment/app", "scheduler": "pod/shell"}[name])
	}
}

// stopped does something while a canopus is stopped, as it is when its machine has no time for it.
func (s *scenario) stopped(t *testing.T, p *harness.Process, do func()) {
	t.Helper()
	pid := p.Pid()
	if pid == 0 {
		t.Fatalf("%s does not run", p.Name)
	}
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := syscall.Kill(pid, syscall.SIGCONT); err != nil {
			t.Error(err)
		}
	}()
	do()
}
