package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"canopus/test/harness"

	corev1 "k8s.io/api/core/v1"
)

// restart: a container whose process is killed runs again, in the same pod.
func restart(t *testing.T, s *scenario) {
	s.apply(t, "sleepers.yaml", "replicas: 3", "replicas: 1")
	s.k(t, "rollout", "status", "deployment/sleepers", "--timeout=60s")
	old := s.pods(t, "app=sleepers")[0]
	if err := syscall.Kill(s.processOf(t, &old), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	harness.Until(t, patience, "the container to run again", func() error {
		now := s.pod(t, old.Name)
		if now.UID != old.UID {
			t.Fatal("the pod was replaced")
		}
		c := now.Status.ContainerStatuses[0]
		if c.RestartCount != 1 || c.State.Running == nil || c.ContainerID == old.Status.ContainerStatuses[0].ContainerID {
			return fmt.Errorf("container status %+v", c)
		}
		if e := c.LastTerminationState.Terminated; e == nil || e.ExitCode != 137 {
			return fmt.Errorf("last state %+v", c.LastTerminationState)
		}
		return nil
	})
	if got := s.jsonpath(t, "pod/"+old.Name, "{.status.podIP}"); got != old.Status.PodIP {
		t.Errorf("address %s, was %s", got, old.Status.PodIP)
	}
}

// processOf finds the first process of a pod's first container on the node, by its cgroup.
func (s *scenario) processOf(t *testing.T, p *corev1.Pod) int {
	t.Helper()
	_, id, _ := strings.Cut(p.Status.ContainerStatuses[0].ContainerID, "://")
	for _, dir := range s.Node.CgroupDirs() {
		if filepath.Base(dir) != id {
			continue
		}
		data, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
		if err != nil {
			t.Fatal(err)
		}
		if pid, err := strconv.Atoi(strings.Fields(string(data) + " x")[0]); err == nil {
			return pid
		}
	}
	t.Fatalf("no cgroup %s with a process among %v", id, s.Node.CgroupDirs())
	return 0
}

// backOff: a container that keeps failing waits longer each time, and says so; one that may not be restarted is done.
func backOff(t *testing.T, s *scenario) {
	s.apply(t, "pods.yaml")
	harness.Until(t, patience, "CrashLoopBackOff", func() error {
		out := s.k(t, "get", "pod", "crash", "--no-headers")
		if !strings.Contains(out, "CrashLoopBackOff") {
			return fmt.Errorf("shown as %s", out)
		}
		return nil
	})
	harness.Until(t, patience, "an event that says so", func() error {
		if out := s.k(t, "describe", "pod", "crash"); !strings.Contains(out, "BackOff") {
			return fmt.Errorf("describe:\n%s", out)
		}
		return nil
	})
	if out := s.k(t, "logs", "crash", "--previous"); out != "going down\n" {
		t.Errorf("log of the container before: %q", out)
	}
	s.k(t, "wait", "pod/once", "--for=jsonpath={.status.phase}=Failed", "--timeout=30s")
	if got := s.jsonpath(t, "pod/once", "{.status.containerStatuses[0].state.terminated.exitCode} {.status.containerStatuses[0].state.terminated.message} {.status.containerStatuses[0].restartCount}"); got != "4 last words\n 0" {
		t.Errorf("end of a pod that is not restarted: %q", got)
	}
	s.k(t, "wait", "pod/done", "--for=jsonpath={.status.phase}=Succeeded", "--timeout=30s")
	out := s.k(t, "get", "pods", "--no-headers")
	if !strings.Contains(out, "Error") || !strings.Contains(out, "Completed") {
		t.Errorf("pods:\n%s", out)
	}
}

// liveness: a container whose liveness probe fails is restarted.
func liveness(t *testing.T, s *scenario) {
	s.apply(t, "liveness.yaml")
	s.k(t, "wait", "pod/liveness", "--for=condition=Ready", "--timeout=60s")
	s.shell(t, "liveness", "rm /tmp/healthy")
	harness.Until(t, patience, "a restart", func() error {
		p := s.pod(t, "liveness")
		if containerRestarts(p) != 1 || !ready(p) {
			return fmt.Errorf("%+v", p.Status.ContainerStatuses)
		}
		return nil
	})
	harness.Until(t, patience, "the events Unhealthy and Killing", func() error {
		out := s.k(t, "get", "events", "--field-selector=involvedObject.name=liveness")
		if !strings.Contains(out, "Unhealthy") || !strings.Contains(out, "Killing") {
			return fmt.Errorf("events:\n%s", out)
		}
		return nil
	})
}

// readiness: only pods that are Ready are behind their Service.
func readiness(t *testing.T, s *scenario) {
	s.apply(t, "readiness.yaml")
	harness.Until(t, patience, "two running pods", func() error {
		pods := s.pods(t, "app=gated")
		for _, p := range pods {
			if p.Status.Phase != corev1.PodRunning {
				return fmt.Errorf("%s is %s", p.Name, p.Status.Phase)
			}
		}
		if len(pods) != 2 {
			return fmt.Errorf("%d pods", len(pods))
		}
		return nil
	})
	address := s.jsonpath(t, "service/gated", "{.spec.clusterIP}") + ":80"
	if body, err := s.Get(s.Node, address); err == nil {
		t.Errorf("a Service without Ready pods answers %q", body)
	}
	pods := s.pods(t, "app=gated")
	for _, on := range []int{0, 1} {
		s.shell(t, pods[on].Name, "touch /tmp/ready")
		s.answersOnly(t, address, pods[on].Name)
		s.shell(t, pods[on].Name, "rm /tmp/ready")
		harness.Until(t, patience, "no answers", func() error {
			if body, err := s.Get(s.Node, address); err == nil {
				return fmt.Errorf("answer %q", body)
			}
			return nil
		})
	}
}

// answersOnly waits for an answer of pod and takes some more, none of which may be another pod's.
func (s *scenario) answersOnly(t *testing.T, address, pod string) {
	t.Helper()
	harness.Until(t, patience, "answers of "+pod, func() error { _, err := s.Get(s.Node, address); return err })
	for range 10 {
		body, err := s.Get(s.Node, address)
		if err != nil || strings.TrimSpace(body) != pod {
			t.Errorf("answer %q, %v; want %s", body, err, pod)
		}
	}
}

// initContainers run in order before the others; an emptyDir is shared by all.
func initContainers(t *testing.T, s *scenario) {
	s.apply(t, "init.yaml")
	s.k(t, "wait", "pod/init", "--for=condition=Ready", "--timeout=60s")
	if got := s.k(t, "exec", "init", "-c", "reader", "--", "cat", "/shared/order"); got != "first\nsecond\nwriter\n" {
		t.Errorf("order: %q", got)
	}
	if r := s.Try(t, "", s.args([]string{"exec", "init", "-c", "reader", "--", "touch", "/shared/x"})...); r.Code == 0 {
		t.Error("a read-only mount can be written to")
	}
	if got := s.k(t, "exec", "init", "-c", "reader", "--", "sh", "-c", "grep ' /memory ' /proc/mounts"); !strings.HasPrefix(got, "tmpfs /memory tmpfs ") {
		t.Errorf("emptyDir in memory: %q", got)
	}
	if got := s.jsonpath(t, "pod/init", "{.status.initContainerStatuses[*].state.terminated.reason}"); got != "Completed Completed" {
		t.Errorf("init containers: %q", got)
	}
}

// termination: preStop, SIGTERM, and SIGKILL after the grace period.
func termination(t *testing.T, s *scenario) {
	diary := t.TempDir()
	s.apply(t, "termination.yaml", "DIARY", diary)
	s.k(t, "wait", "pod/polite", "pod/stubborn", "--for=condition=Ready", "--timeout=60s")
	began := time.Now()
	s.k(t, "delete", "pod", "polite", "stubborn", "--timeout=60s")
	if took := time.Since(began); took < 2*time.Second {
		t.Errorf("both pods were gone after %v, before their grace had passed", took)
	}
	for name, want := range map[string]string{"polite": "prestop\nprestop-end\nterm\n", "stubborn": "ignored\n"} {
		got, err := os.ReadFile(filepath.Join(diary, name))
		if err != nil || string(got) != want {
			t.Errorf("%s: %q, %v; want %q", name, got, err, want)
		}
	}
}

// resources: limits become cgroup settings, too much memory ends a container, and what no node has room for waits and says why.
func resources(t *testing.T, s *scenario) {
	s.apply(t, "resources.yaml")
	s.k(t, "wait", "pod/limited", "--for=condition=Ready", "--timeout=60s")
	pod := s.pod(t, "limited")
	if pod.Status.QOSClass != corev1.PodQOSBurstable {
		t.Errorf("class %s", pod.Status.QOSClass)
	}
	_, id, _ := strings.Cut(pod.Status.ContainerStatuses[0].ContainerID, "://")
	limits := map[string]string{"memory.limit_in_bytes": "33554432", "memory.max": "33554432", "cpu.cfs_quota_us": "20000", "cpu.max": "20000 100000"}
	found := 0
	for _, dir := range s.Node.CgroupDirs() {
		for file, want := range limits {
			got, err := os.ReadFile(filepath.Join(dir, file))
			if filepath.Base(dir) != id || err != nil {
				continue
			}
			found++
			if strings.TrimSpace(string(got)) != want {
				t.Errorf("%s is %s, want %s", filepath.Join(dir, file), got, want)
			}
		}
	}
	if found < 2 {
		t.Errorf("only %d limits found in the cgroups of container %s", found, id)
	}
	harness.Until(t, patience, "a reason why hungry is not scheduled", func() error {
		message := s.jsonpath(t, "pod/hungry", `{.status.conditions[?(@.type=="PodScheduled")].message}`)
		if !strings.HasPrefix(message, "0/1 nodes are available: 1 Insufficient cpu") {
			return fmt.Errorf("condition says %q", message)
		}
		if out := s.k(t, "describe", "pod", "hungry"); !strings.Contains(out, "FailedScheduling") {
			return fmt.Errorf("no event: %s", out)
		}
		return nil
	})
	s.k(t, "wait", "pod/glutton", "--for=jsonpath={.status.phase}=Failed", "--timeout=60s")
	if got := s.jsonpath(t, "pod/glutton", "{.status.containerStatuses[0].state.terminated.reason}"); got != "OOMKilled" {
		t.Errorf("a container that took too much memory ended with %s", got)
	}
}
