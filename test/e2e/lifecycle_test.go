package e2e

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"canopus/test/harness"
)

// TestLifeOfACluster starts, stops and removes a cluster with the commands that people use for it.
func TestLifeOfACluster(t *testing.T) {
	c := harness.Bare(t)
	life := &life{Cluster: c}
	life.run(t, 3, "status")

	out := life.run(t, 0, "up", "--demo")
	_, rest, found := strings.Cut(out, "http://")
	if !found {
		t.Fatalf("up does not name the demo's address:\n%s", out)
	}
	address := strings.Fields(rest)[0]
	life.run(t, 0, "status")
	data := life.volume(t)
	before := life.containers(t)
	if out := life.run(t, 0, "up", "--demo"); !strings.Contains(out, "runs already") || !strings.Contains(out, address) {
		t.Errorf("up on a running cluster says:\n%s", out)
	}

	life.run(t, 0, "stop")
	life.run(t, 3, "status")
	if out := life.run(t, 0, "stop"); !strings.Contains(out, "does not run") {
		t.Errorf("stop when nothing runs says:\n%s", out)
	}
	if _, err := c.Get(c.Node, address); err != nil {
		t.Errorf("the demo does not answer while Canopus is stopped: %v", err)
	}
	life.run(t, 0, "up")
	if after := life.containers(t); after != before {
		t.Errorf("up did not find the running containers again: before\n%s\nafter\n%s", before, after)
	}

	life.run(t, 0, "stop", "--pods")
	for _, dir := range c.Node.CgroupDirs() {
		if data, err := os.ReadFile(dir + "/cgroup.procs"); err == nil && len(data) > 0 {
			t.Errorf("processes %q still run in %s", data, dir)
		}
	}
	if got, err := os.ReadFile(data); err != nil || string(got) != "kept" {
		t.Errorf("the data of a persistent volume after its pod was stopped: %q, %v", got, err)
	}
	life.run(t, 0, "up", "--demo")
	life.run(t, 1, "reset") // no terminal to ask on
	life.run(t, 0, "reset", "--yes")
	life.nothingLeft(t)
	if out := life.run(t, 0, "reset", "--yes"); !strings.Contains(out, "nothing of Canopus") {
		t.Errorf("reset when nothing is left says:\n%s", out)
	}
}

// life is a machine on which a cluster comes and goes.
type life struct{ *harness.Cluster }

// run runs a command and checks its exit code.
func (l *life) run(t *testing.T, code int, args ...string) string {
	t.Helper()
	cmd := l.Canopus(t, l.Node, args...)
	out, err := l.Node.Output(t.Context(), cmd.Path, args...)
	got := 0
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		got = exit.ExitCode()
	} else if err != nil {
		t.Fatal(err)
	}
	if got != code {
		t.Fatalf("canopus %s ended with %d instead of %d:\n%s", strings.Join(args, " "), got, code, out)
	}
	return out
}

// volume makes a pod with a persistent volume, puts a file there and returns its path on the node.
func (l *life) volume(t *testing.T) string {
	t.Helper()
	l.Input(t, manifest(t, "keeper.yaml"), "apply", "-f", "-")
	l.Kubectl(t, "wait", "pod/keeper", "--for=condition=Ready", "--timeout=60s")
	path := filepath.Join(l.Kubectl(t, "get", "pv", "-o", "jsonpath={.items[0].spec.local.path}"), "file")
	if !strings.HasPrefix(path, l.Node.Dir+"/data/volumes/") {
		t.Fatalf("the volume is at %s", path)
	}
	if err := os.WriteFile(path, []byte("kept"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// containers lists the demo's containers with how often each was restarted.
func (l *life) containers(t *testing.T) string {
	t.Helper()
	return l.Kubectl(t, "get", "pods", "-n", "demo", "--sort-by=.metadata.name",
		"-o", `jsonpath={range .items[*]}{.metadata.name} {.status.containerStatuses[0].containerID} {.status.containerStatuses[0].restartCount}{"\n"}{end}`)
}

// nothingLeft looks where a cluster leaves traces.
func (l *life) nothingLeft(t *testing.T) {
	t.Helper()
	for program, gone := range map[string][]string{
		"ip -o address":    {"cni0", "10.96.0.10", "veth"},
		"nft list tables":  {"table"},
		"cat /proc/mounts": {l.Node.Dir + "/", l.Node.Run + "/"},
	} {
		args := strings.Fields(program)
		out, err := l.Node.Output(t.Context(), args[0], args[1:]...)
		if err != nil {
			t.Fatalf("%s: %v\n%s", program, err, out)
		}
		for _, g := range gone {
			if strings.Contains(out, g) {
				t.Errorf("%s still shows %s:\n%s", program, g, out)
			}
		}
	}
	for _, dir := range l.Node.CgroupDirs() {
		if strings.Contains(dir, "kubepods") {
			t.Errorf("cgroup %s is left", dir)
		}
	}
	for _, dir := range []string{l.Node.Run, l.Node.Dir + "/pods", l.Node.Dir + "/containers", l.Node.Kubeconfig(), l.Node.Dir + "/data/etcd", l.Node.Dir + "/data/bin", l.Node.Dir + "/data/volumes"} {
		if _, err := os.Stat(dir); err == nil {
			t.Errorf("%s is left", dir)
		}
	}
}
