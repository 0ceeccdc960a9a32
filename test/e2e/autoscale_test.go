package e2e

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"canopus/test/harness"
)

// measured is how long it takes until a change of load shows in what autoscalers read: two readings, 15 s apart, and a look.
const measured = 2 * time.Minute

// autoscale: load makes an autoscaler add pods and its end makes it take them away, and kubectl top tells of the same load.
func autoscale(t *testing.T, s *scenario) {
	s.apply(t, "autoscale.yaml")
	s.k(t, "rollout", "status", "deployment/mill", "--timeout=60s")
	pod := s.pods(t, "app=mill")[0].Name
	s.shell(t, pod, "touch /tmp/busy")
	s.replicas(t, "3", "the busy pod to get help")
	use := s.top(t, pod)
	if use < 60 { // of 50m requested; more than the target, or there was no reason to scale
		t.Errorf("kubectl top tells of %dm", use)
	}
	s.agrees(t)

	s.shell(t, pod, "rm /tmp/busy")
	s.replicas(t, "1", "the idle pods to be taken away")
	events := s.k(t, "describe", "hpa", "mill")
	for _, want := range []string{
		"SuccessfulRescale", "New size: 3; reason: cpu resource utilization (percentage of request) above target",
		"New size: 1; reason: All metrics below target", "ScalingActive", "ValidMetricFound",
	} {
		if !strings.Contains(events, want) {
			t.Errorf("no %q in\n%s", want, events)
		}
	}
}

// replicas waits until the mill has n pods.
func (s *scenario) replicas(t *testing.T, n, what string) {
	t.Helper()
	harness.Until(t, measured, what, func() error {
		if got := s.jsonpath(t, "deployment/mill", "{.status.replicas}"); got != n {
			return fmt.Errorf("%s replicas; %s", got, s.k(t, "get", "hpa", "mill"))
		}
		return nil
	})
}

// top returns what kubectl top says that a pod uses, in thousandths of a core.
func (s *scenario) top(t *testing.T, pod string) int {
	t.Helper()
	out := s.k(t, "top", "pod", pod, "--no-headers")
	fields := strings.Fields(out)
	if len(fields) != 3 || fields[0] != pod || !strings.HasSuffix(fields[2], "Mi") {
		t.Fatalf("kubectl top pod:\n%s", out)
	}
	n, err := strconv.Atoi(strings.TrimSuffix(fields[1], "m"))
	if err != nil {
		t.Fatalf("kubectl top pod:\n%s", out)
	}
	return n
}

// agrees asks for what nodes, containers and the autoscaler show, with both kubectl.
func (s *scenario) agrees(t *testing.T) {
	t.Helper()
	harness.Until(t, patience, "a second reading of the nodes", func() error {
		if r := s.Try(t, "", "top", "nodes"); r.Code != 0 {
			return fmt.Errorf("%s", r.Stderr)
		}
		return nil
	})
	programs := []*scenario{s}
	if program := harness.InstalledKubectl(); program != "" {
		programs = append(programs, &scenario{Cluster: s.Using(program), ns: s.ns})
	}
	for _, with := range programs {
		if out := with.k(t, "top", "nodes"); !strings.Contains(out, "CPU(cores)") || !strings.Contains(out, "%") || strings.Contains(out, "<unknown>") {
			t.Errorf("kubectl top nodes:\n%s", out)
		}
		if out := with.k(t, "top", "pods", "--containers", "-l", "app=mill"); !strings.Contains(out, "main") || !strings.Contains(out, "mill-") {
			t.Errorf("kubectl top pods --containers:\n%s", out)
		}
		if out := with.k(t, "get", "hpa"); !strings.Contains(out, "Deployment/mill") || !strings.Contains(out, "cpu: ") || !strings.Contains(out, "%/50%") {
			t.Errorf("kubectl get hpa:\n%s", out)
		}
		if out := with.k(t, "get", "pods.metrics.k8s.io"); !strings.Contains(out, "WINDOW") || !strings.Contains(out, "mill-") {
			t.Errorf("kubectl get pods.metrics.k8s.io:\n%s", out)
		}
		if out := with.k(t, "get", "horizontalpodautoscalers.v1.autoscaling", "mill", "-o", "jsonpath={.spec.targetCPUUtilizationPercentage}"); out != "50" {
			t.Errorf("autoscaling/v1: %q", out)
		}
	}
}
