package e2e

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"canopus/test/harness"
)

// logs: whole, by lines, since, and followed to the end.
func logs(t *testing.T, s *scenario) {
	s.apply(t, "counter.yaml")
	s.k(t, "wait", "pod/counter", "--for=condition=Ready", "--timeout=60s")
	follow := s.Background(t, s.args([]string{"logs", "-f", "counter"})...)
	harness.Until(t, patience, "20 lines of log", func() error {
		if !strings.Contains(follow.Stdout(), "line 20 ") {
			return fmt.Errorf("so far %q", follow.Stdout())
		}
		return nil
	})
	for i, l := range strings.Split(strings.TrimSpace(follow.Stdout()), "\n") {
		if !strings.HasPrefix(l, fmt.Sprintf("line %d ", i+1)) {
			t.Fatalf("line %d is %q", i+1, l)
		}
	}
	if got := strings.Count(s.k(t, "logs", "counter", "--tail=3"), "\n"); got != 3 {
		t.Errorf("--tail=3 gives %d lines", got)
	}
	if got := strings.Count(s.k(t, "logs", "counter", "--since=1s"), "\n"); got == 0 || got > 25 {
		t.Errorf("--since=1s gives %d lines of ten a second", got)
	}
	if got := s.k(t, "logs", "counter", "--limit-bytes=4"); got != "line" {
		t.Errorf("--limit-bytes=4 gives %q", got)
	}
	if got := s.k(t, "logs", "counter", "--timestamps", "--tail=1"); !regexp.MustCompile(`^20\d\d-\d\d-\d\dT[0-9:.]+Z line `).MatchString(got) {
		t.Errorf("--timestamps gives %q", got)
	}
	s.k(t, "delete", "pod", "counter")
	select {
	case <-follow.Done():
	case <-time.After(10 * time.Second):
		t.Error("logs -f does not end with the pod")
	}
	if r := s.Try(t, "", s.args([]string{"logs", "counter"})...); r.Code == 0 || !strings.Contains(r.Stderr, `pods "counter" not found`) {
		t.Errorf("logs of no pod: %v", r)
	}
}

// execute: output, input, exit code, both streams, and refusal.
func execute(t *testing.T, s *scenario) {
	s.apply(t, "shell.yaml")
	s.k(t, "wait", "pod/shell", "--for=condition=Ready", "--timeout=60s")
	if got := s.shell(t, "shell", "hostname"); got != "shell\n" {
		t.Errorf("hostname: %q", got)
	}
	if r := s.Try(t, "", s.args([]string{"exec", "shell", "--", "sh", "-c", "echo out; echo err >&2; exit 7"})...); r.Code != 7 || r.Stdout != "out\n" || !strings.HasPrefix(r.Stderr, "err\n") {
		t.Errorf("streams and exit code: %v", r)
	}
	input := strings.Repeat("all the way through\n", 20000)
	if got := s.Input(t, input, s.args([]string{"exec", "-i", "shell", "--", "cat"})...); got != input {
		t.Errorf("cat of %d bytes gives %d", len(input), len(got))
	}
	if got := s.Input(t, "exit 0\n", s.args([]string{"attach", "--help"})...); !strings.Contains(got, "attach") {
		t.Errorf("attach --help: %q", got)
	}
	for _, c := range []struct{ args, want string }{
		{"exec shell -- no-such-program", "no-such-program"},
		{"exec shell -c nothing -- true", "nothing"},
		{"exec nobody -- true", `pods "nobody" not found`},
	} {
		if r := s.Try(t, "", s.args(strings.Fields(c.args))...); r.Code == 0 || !strings.Contains(r.Stderr, c.want) {
			t.Errorf("want an error with %q: %v", c.want, r)
		}
	}
}

// copyFiles: a file of some size in and out again.
func copyFiles(t *testing.T, s *scenario) {
	s.apply(t, "shell.yaml")
	s.k(t, "wait", "pod/shell", "--for=condition=Ready", "--timeout=60s")
	dir := t.TempDir()
	content := bytes.Repeat([]byte("0123456789abcde\n"), 1<<16) // 1 MiB
	if err := os.WriteFile(filepath.Join(dir, "in"), content, 0o600); err != nil {
		t.Fatal(err)
	}
	s.k(t, "cp", filepath.Join(dir, "in"), "shell:/tmp/there")
	s.k(t, "cp", "shell:/tmp/there", filepath.Join(dir, "out"))
	back, err := os.ReadFile(filepath.Join(dir, "out"))
	if err != nil || !bytes.Equal(back, content) {
		t.Errorf("%d bytes came back of %d, %v", len(back), len(content), err)
	}
}

// portForward: to a pod and to a Service, several connections at once, and a port that nobody listens on.
func portForward(t *testing.T, s *scenario) {
	s.apply(t, "web.yaml", "replicas: 3", "replicas: 1")
	s.k(t, "rollout", "status", "deployment/web", "--timeout=60s")
	pod := s.pods(t, "app=web")[0].Name
	for _, target := range []string{"pod/" + pod + " :8080", "service/web :80"} {
		args := append([]string{"port-forward"}, strings.Fields(target)...)
		forward := s.Background(t, s.args(args)...)
		listening := regexp.MustCompile(`Forwarding from (127\.0\.0\.1:\d+) -> 8080`)
		var address string
		harness.Until(t, patience, "port-forward to listen", func() error {
			m := listening.FindStringSubmatch(forward.Stdout())
			if m == nil {
				return fmt.Errorf("so far %q %q", forward.Stdout(), forward.Stderr())
			}
			address = m[1]
			return nil
		})
		results := make(chan error, 5)
		for range cap(results) {
			go func() {
				body, err := s.Get(s.Control, address)
				if err == nil && !strings.Contains(body, pod) {
					err = fmt.Errorf("answer %q", body)
				}
				results <- err
			}()
		}
		for range cap(results) {
			if err := <-results; err != nil {
				t.Errorf("through port-forward to %s: %v", target, err)
			}
		}
		forward.Stop()
	}
}

// getWatch: get -w prints each change.
func getWatch(t *testing.T, s *scenario) {
	s.apply(t, "counter.yaml")
	watch := s.Background(t, s.args([]string{"get", "pods", "-w", "--no-headers", "--output-watch-events"})...)
	lines := func(wants ...string) {
		t.Helper()
		for _, want := range wants {
			harness.Until(t, patience, "a line like "+want, func() error {
				if !regexp.MustCompile(want).MatchString(watch.Stdout()) {
					return fmt.Errorf("so far:\n%s%s", watch.Stdout(), watch.Stderr())
				}
				return nil
			})
		}
	}
	lines(`ADDED +counter `) // it watches now
	s.apply(t, "shell.yaml")
	s.k(t, "wait", "pod/shell", "--for=condition=Ready", "--timeout=60s")
	s.k(t, "delete", "pod", "shell")
	lines(`ADDED +shell +0/1 +(Pending|ContainerCreating) `, `MODIFIED +shell +1/1 +Running `, `MODIFIED +shell +1/1 +Terminating `, `DELETED +shell `)
}

// describe: of each sort of object, with events.
func describe(t *testing.T, s *scenario) {
	s.apply(t, "web.yaml", "replicas: 3", "replicas: 1")
	s.k(t, "rollout", "status", "deployment/web", "--timeout=60s")
	pod := s.pods(t, "app=web")[0].Name
	for object, wants := range map[string][]string{
		"pod/" + pod:             {"Status: +Running", "Scheduled .*default-scheduler +Successfully assigned " + s.ns + "/" + pod + " to node-1", "Started .*kubelet", "/secret from secret"},
		"deployment/web":         {"ScalingReplicaSet .*deployment-controller", "1 desired | 1 updated | 1 total | 1 available"},
		"replicaset":             {"SuccessfulCreate .*replicaset-controller +Created pod: " + pod},
		"service/web":            {`Endpoints: +10\.244\.\d+\.\d+:8080`, `TargetPort: +http/TCP`},
		"secret/web":             {`password: +11 bytes`},
		"configmap/web":          {"MESSAGE:\n-+\nahoy"},
		"node/" + s.nodeName():   {"Ready +True", "PodCIDR: +10.244.0.0/24", s.ns + " +" + pod, "Container Runtime Version: +containerd://"},
		"serviceaccount/default": {"Name: +default"},
	} {
		out := s.k(t, "describe", object)
		for _, want := range wants {
			if !regexp.MustCompile(want).MatchString(out) {
				t.Errorf("describe %s does not say %q:\n%s", object, want, out)
			}
		}
	}
}

func (s *scenario) nodeName() string { return harness.NodeName }

// explain: documents from OpenAPI.
func explain(t *testing.T, s *scenario) {
	for field, want := range map[string]string{
		"deployment.spec.strategy.rollingUpdate.maxSurge": "FIELD: maxSurge <IntOrString>",
		"pods.spec.containers.livenessProbe":              "FIELD: livenessProbe <Probe>",
		"clusterroles":                                    "VERSION:    v1",
		"leases.spec":                                     "renewTime",
	} {
		if out := s.k(t, "explain", field); !strings.Contains(out, want) || !strings.Contains(out, "DESCRIPTION:") {
			t.Errorf("explain %s does not say %q:\n%s", field, want, out)
		}
	}
	if r := s.Try(t, "", "explain", "pods.spec.nothing"); r.Code == 0 || !strings.Contains(r.Stderr, `field "nothing" does not exist`) {
		t.Errorf("explain of no field: %v", r)
	}
	if out := s.k(t, "api-resources", "--namespaced=true", "-o", "name"); !strings.Contains(out, "deployments.apps\n") {
		t.Errorf("api-resources: %s", out)
	}
}

// applyTwice: apply, diff and apply again; the second says unchanged, and stores nothing.
func applyTwice(t *testing.T, s *scenario) {
	s.apply(t, "web.yaml")
	s.k(t, "rollout", "status", "deployment/web", "--timeout=60s")
	before := s.jsonpath(t, "configmap/web", "{.metadata.resourceVersion}")
	out := s.apply(t, "web.yaml")
	if got := strings.Count(out, " unchanged\n"); got != 5 {
		t.Errorf("second apply:\n%s", out)
	}
	if now := s.jsonpath(t, "configmap/web", "{.metadata.resourceVersion}"); now != before {
		t.Errorf("an apply without a change moved the resourceVersion from %s to %s", before, now)
	}
	diff := s.args([]string{"diff", "-f", "-"})
	if r := s.Try(t, manifest(t, "web.yaml"), diff...); r.Code != 0 || r.Stdout != "" {
		t.Errorf("diff without a difference: %v", r)
	}
	changed := manifest(t, "web.yaml", "replicas: 3", "replicas: 2", "MESSAGE: ahoy", "MESSAGE: avast")
	if r := s.Try(t, changed, diff...); r.Code != 1 || !strings.Contains(r.Stdout, "-  replicas: 3\n+  replicas: 2") || !strings.Contains(r.Stdout, "+  MESSAGE: avast") {
		t.Errorf("diff with a difference: %v", r)
	}
	out = s.Input(t, changed, s.args([]string{"apply", "--dry-run=server", "-f", "-"})...)
	if !strings.Contains(out, "deployment.apps/web configured (server dry run)") {
		t.Errorf("dry run:\n%s", out)
	}
	if got := s.jsonpath(t, "deployment/web", "{.spec.replicas}"); got != "3" {
		t.Errorf("a dry run changed the replicas to %s", got)
	}
	s.Input(t, changed, s.args([]string{"apply", "-f", "-"})...)
	if got := s.jsonpath(t, "deployment/web", "{.spec.replicas}"); got != "2" {
		t.Errorf("replicas after the change: %s", got)
	}
}

// serverSideApply: two managers want different values of a field.
func serverSideApply(t *testing.T, s *scenario) {
	apply := s.args([]string{"apply", "--server-side", "-f", "-"})
	s.Input(t, manifest(t, "config.yaml"), append(apply, "--field-manager=first")...)
	other := manifest(t, "config.yaml", "colour: green", "colour: red", "  size: small\n", "")
	r := s.Try(t, other, append(apply, "--field-manager=second")...)
	if r.Code == 0 || !strings.Contains(r.Stderr, `Apply failed with 1 conflict: conflict with "first": .data.colour`) {
		t.Errorf("a conflict: %v", r)
	}
	s.Input(t, other, append(apply, "--field-manager=second", "--force-conflicts")...)
	if got := s.jsonpath(t, "configmap/settings", "{.data.colour} {.data.size}"); got != "red small" {
		t.Errorf("after a forced apply: %q", got)
	}
	// What a manager no longer names goes, if it was the only one to own it.
	s.Input(t, manifest(t, "config.yaml", "  colour: green\n", "", "  size: small\n", "  weight: light\n"), append(apply, "--field-manager=first")...)
	if got := s.jsonpath(t, "configmap/settings", "{.data}"); got != `{"colour":"red","weight":"light"}` {
		t.Errorf("after leaving a field out: %s", got)
	}
}

// installedKubectl: the kubectl of the machine, which nobody here wrote, does the everyday things.
func installedKubectl(t *testing.T, s *scenario) {
	program := harness.InstalledKubectl()
	if program == "" {
		t.Skip("no kubectl is installed on this machine")
	}
	s = &scenario{Cluster: s.Using(program), ns: s.ns}
	t.Log(strings.TrimSpace(s.Kubectl(t, "version")))
	s.apply(t, "web.yaml", "replicas: 3", "replicas: 1")
	s.k(t, "rollout", "status", "deployment/web", "--timeout=60s")
	pod := s.pods(t, "app=web")[0].Name
	if out := s.k(t, "get", "all"); !strings.Contains(out, "pod/"+pod) || !strings.Contains(out, "service/web") || !strings.Contains(out, "deployment.apps/web") {
		t.Errorf("get all:\n%s", out)
	}
	if out := s.k(t, "exec", pod, "-c", "side", "--", "cat", "/secret/password"); out != "marlinspike" {
		t.Errorf("exec: %q", out)
	}
	if out := s.k(t, "logs", pod, "-c", "web"); !strings.Contains(out, "serving") {
		t.Errorf("logs: %q", out)
	}
	file := filepath.Join(t.TempDir(), "x")
	s.k(t, "cp", pod+":/etc/passwd", file, "-c", "side")
	if data, err := os.ReadFile(file); !strings.HasPrefix(string(data), "root:") {
		t.Errorf("cp: %q, %v", data, err)
	}
	forward := s.Background(t, s.args([]string{"port-forward", "deployment/web", "18080:8080"})...)
	harness.Until(t, patience, "an answer through port-forward", func() error {
		_, err := s.Get(s.Control, "127.0.0.1:18080/healthz")
		if err != nil {
			return fmt.Errorf("%w: %s", err, forward.Stderr())
		}
		return nil
	})
	forward.Stop()
	s.k(t, "scale", "deployment/web", "--replicas=2")
	s.k(t, "rollout", "status", "deployment/web", "--timeout=60s")
	if out := s.k(t, "describe", "deployment", "web"); !strings.Contains(out, "ScalingReplicaSet") {
		t.Errorf("describe:\n%s", out)
	}
	if out := s.k(t, "explain", "deployment.spec.replicas"); !strings.Contains(out, "FIELD: replicas <integer>") {
		t.Errorf("explain:\n%s", out)
	}
	if out := s.apply(t, "web.yaml", "replicas: 3", "replicas: 2"); !strings.Contains(out, "deployment.apps/web ") {
		t.Errorf("apply:\n%s", out)
	}
	s.k(t, "delete", "deployment/web", "--timeout=60s")
	if r := s.Try(t, "", s.args([]string{"get", "deployment", "web"})...); r.Code != 1 || !strings.Contains(r.Stderr, `Error from server (NotFound): deployments.apps "web" not found`) {
		t.Errorf("get of what is gone: %v", r)
	}
}

// readAll reads a body to its end and closes it.
func readAll(resp *http.Response) string {
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err.Error()
	}
	return string(body)
}
