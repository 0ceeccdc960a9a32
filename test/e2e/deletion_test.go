package e2e

import (
	"fmt"
	"strings"
	"testing"

	"canopus/test/harness"
)

// deploy makes a Deployment of two and returns its ReplicaSet and pods by name.
func (s *scenario) deploy(t *testing.T) (replicaSet string, pods []string) {
	t.Helper()
	s.apply(t, "sleepers.yaml", "replicas: 3", "replicas: 2")
	s.k(t, "rollout", "status", "deployment/sleepers", "--timeout=60s")
	for _, p := range s.pods(t, "app=sleepers") {
		pods = append(pods, p.Name)
	}
	return strings.TrimSpace(s.k(t, "get", "replicasets", "-o", "name")), pods
}

// empty waits until nothing of a Deployment is left.
func (s *scenario) empty(t *testing.T) {
	t.Helper()
	harness.Until(t, patience, "everything to be gone", func() error {
		if out := s.k(t, "get", "deployments,replicasets,pods", "-o", "name"); out != "" {
			return fmt.Errorf("left: %s", out)
		}
		return nil
	})
}

// cascadeBackground: the owner goes at once, what it owned afterwards.
func cascadeBackground(t *testing.T, s *scenario) {
	s.deploy(t)
	s.k(t, "delete", "deployment", "sleepers", "--cascade=background")
	s.empty(t)
}

// cascadeForeground: the owner goes last.
func cascadeForeground(t *testing.T, s *scenario) {
	s.deploy(t)
	s.k(t, "delete", "deployment", "sleepers", "--cascade=foreground", "--timeout=60s")
	// kubectl waits for the Deployment, and that waits for all it owns.
	if out := s.k(t, "get", "deployments,replicasets,pods", "-o", "name"); out != "" {
		t.Errorf("the owner was gone before: %s", out)
	}
}

// cascadeOrphan: what was owned stays, and is adopted by an owner of the same kind and selector.
func cascadeOrphan(t *testing.T, s *scenario) {
	set, pods := s.deploy(t)
	s.k(t, "delete", "deployment", "sleepers", "--cascade=orphan")
	if got := s.jsonpath(t, set, "{.metadata.ownerReferences}"); got != "" {
		t.Errorf("the replica set still has an owner: %s", got)
	}
	for _, p := range pods {
		if !ready(s.pod(t, p)) {
			t.Errorf("%s does not run any more", p)
		}
	}
	again, same := s.deploy(t)
	if again != set || strings.Join(same, " ") != strings.Join(pods, " ") {
		t.Errorf("a new deployment made %s with %v instead of adopting %s with %v", again, same, set, pods)
	}
	s.k(t, "delete", "deployment", "sleepers", "--timeout=60s")
	s.empty(t)
}

// namespaceDeletion: all that is in a namespace goes with it, and nothing can be made in it meanwhile.
func namespaceDeletion(t *testing.T, s *scenario) {
	s.Kubectl(t, "create", "namespace", s.ns+"-2")
	inner := &scenario{Cluster: s.Cluster, ns: s.ns + "-2"}
	harness.Until(t, patience, "the root certificate", func() error {
		if r := inner.Try(t, "", inner.args([]string{"get", "configmap", "kube-root-ca.crt"})...); r.Code != 0 {
			return fmt.Errorf("%v", r)
		}
		return nil
	})
	inner.apply(t, "web.yaml")
	inner.k(t, "rollout", "status", "deployment/web", "--timeout=60s")
	s.Kubectl(t, "delete", "namespace", inner.ns, "--wait=false")
	r := inner.Try(t, "", inner.args([]string{"create", "configmap", "late"})...)
	if r.Code == 0 || !strings.Contains(r.Stderr, "is being terminated") && !strings.Contains(r.Stderr, "not found") {
		t.Errorf("create in a namespace on its way out: %v", r)
	}
	s.Kubectl(t, "wait", "namespace/"+inner.ns, "--for=delete", "--timeout=60s")
	out := s.Kubectl(t, "get", "pods,deployments,replicasets,services,endpointslices,configmaps,secrets,serviceaccounts", "-A", "-o",
		`jsonpath={range .items[*]}{.kind} {.metadata.namespace}/{.metadata.name}{"\n"}{end}`)
	if strings.Contains(out, " "+inner.ns+"/") {
		t.Errorf("left behind:\n%s", out)
	}
	for _, name := range []string{"default", "kube-system", "kube-public"} {
		if r := s.Try(t, "", "delete", "namespace", name); r.Code == 0 || !strings.Contains(r.Stderr, "Forbidden") {
			t.Errorf("delete namespace %s: %v", name, r)
		}
	}
}
