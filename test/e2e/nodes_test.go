package e2e

import (
	"fmt"
	"strings"
	"testing"

	"canopus/test/harness"
)

// TestTwoNodes tells what takes more than one machine: pods for each node, and a node that is emptied.
func TestTwoNodes(t *testing.T) {
	c := harness.Start(t, harness.TwoNodes)
	s := newScenario(t, c, "nodes")
	s.k(t, "cordon", harness.NodeName) // pods go to the other node while it is alone
	s.apply(t, "guarded.yaml")
	s.k(t, "rollout", "status", "deployment/guarded", "--timeout=60s")
	s.k(t, "rollout", "status", "daemonset/each", "--timeout=60s")
	t.Run("daemon-set", func(t *testing.T) { s.rollDaemons(t) })
	t.Run("drain", func(t *testing.T) { s.drain(t) })
	t.Run("lost", func(t *testing.T) { s.lost(t) })
}

// rollDaemons: every node has its pod, cordoned or not; an update reaches all of them, one after the other, and is undone.
func (s *scenario) rollDaemons(t *testing.T) {
	s.onEachNode(t, "one")
	s.k(t, "set", "env", "daemonset/each", "VERSION=two")
	s.k(t, "rollout", "status", "daemonset/each", "--timeout=60s")
	s.onEachNode(t, "two")
	s.k(t, "rollout", "undo", "daemonset/each")
	s.k(t, "rollout", "status", "daemonset/each", "--timeout=60s")
	s.onEachNode(t, "one")
	if history := s.k(t, "rollout", "history", "daemonset/each"); !strings.Contains(history, "\n2") || !strings.Contains(history, "\n3") {
		t.Errorf("history:\n%s", history)
	}
}

// onEachNode checks that both nodes have one ready pod of the DaemonSet, of a version.
func (s *scenario) onEachNode(t *testing.T, version string) {
	t.Helper()
	pods := s.pods(t, "app=each")
	nodes := map[string]bool{}
	for i := range pods {
		p := &pods[i]
		nodes[p.Spec.NodeName] = ready(p)
		if got := p.Spec.Containers[0].Env[0].Value; got != version {
			t.Errorf("%s on %s is of version %s, want %s", p.Name, p.Spec.NodeName, got, version)
		}
	}
	if len(pods) != 2 || !nodes[harness.NodeName] || !nodes[harness.SecondNode] {
		t.Errorf("%d pods; ready on %v", len(pods), nodes)
	}
}

// drain: a budget stops the emptying of a node while nowhere else is room, and lets it go on when there is.
func (s *scenario) drain(t *testing.T) {
	on := func(node string) (n int) {
		pods := s.pods(t, "app=guarded")
		for i := range pods {
			if ready(&pods[i]) && pods[i].Spec.NodeName == node {
				n++
			}
		}
		return n
	}
	if n := on(harness.SecondNode); n != 2 {
		t.Fatalf("%d pods on the node that is to be emptied, want 2", n)
	}
	drained := s.Background(t, "drain", harness.SecondNode, "--ignore-daemonsets", "--timeout=120s")
	harness.Until(t, patience, "the budget to stop the drain", func() error {
		if text := drained.Stderr(); !strings.Contains(text, "Cannot evict pod as it would violate the pod's disruption budget.") {
			return fmt.Errorf("%s", text)
		}
		return nil
	})
	if got := s.jsonpath(t, "pdb/guarded", "{.status.currentHealthy} {.status.desiredHealthy} {.status.disruptionsAllowed}"); got != "1 1 0" || on(harness.SecondNode) != 1 {
		t.Errorf("healthy, wanted, allowed: %s; %d pods on the node; want 1 1 0 and the one that must stay", got, on(harness.SecondNode))
	}
	s.k(t, "uncordon", harness.NodeName)
	harness.Until(t, patience, "the drain to end", func() error {
		select {
		case <-drained.Done():
			return nil
		default:
			return fmt.Errorf("%s%s", drained.Stdout(), drained.Stderr())
		}
	})
	if !strings.Contains(drained.Stdout(), harness.SecondNode+" drained") {
		t.Errorf("the drain: %s%s", drained.Stdout(), drained.Stderr())
	}
	s.k(t, "rollout", "status", "deployment/guarded", "--timeout=60s")
	if here, there := on(harness.NodeName), on(harness.SecondNode); here != 2 || there != 0 {
		t.Errorf("%d pods on the node that stays, %d on the empty one", here, there)
	}
	s.onEachNode(t, "one")
}

// lost: the agent of a node stands still. Why tells so of the node and of its pods, one of which is evicted; when the agent goes on,
// all is well. Then a taint evicts the other.
func (s *scenario) lost(t *testing.T) {
	s.k(t, "uncordon", harness.SecondNode)
	s.apply(t, "lost.yaml")
	s.k(t, "wait", "pod/stays", "pod/goes", "--for=condition=Ready", "--timeout=60s")
	s.stopped(t, s.Agent(), func() {
		s.k(t, "wait", "node/"+harness.SecondNode, "--for=condition=Ready=Unknown", "--timeout=90s")
		s.explains(t, fault{target: "node/" + harness.SecondNode, found: "node error NodeStatusUnknown", message: "its agent has not reported for ", advice: "see whether the machine and its network are up"})
		s.explains(t, fault{target: "pod/stays", found: "node error NodeNotReady", message: "its node node-2 is not ready", advice: "`canopus why node/node-2`"})
		s.evictedByTaint(t, "goes")
	})
	s.well(t, "node/"+harness.SecondNode)
	s.well(t, "pod/stays")
	s.k(t, "wait", "pod/goes", "--for=delete", "--timeout=60s")
	s.k(t, "taint", "node", harness.SecondNode, "e2e-why=out:NoExecute")
	s.evictedByTaint(t, "stays")
	s.k(t, "taint", "node", harness.SecondNode, "e2e-why=out:NoExecute-")
	s.well(t, "daemonset/each")
}

// evictedByTaint waits until why says of a pod that it goes because of a taint. It takes its time to go.
func (s *scenario) evictedByTaint(t *testing.T, pod string) {
	t.Helper()
	r := s.finds(t, fault{target: "pod/" + pod, found: "deletion waiting Terminating", message: "it was deleted and is on its way out"})
	if got := strings.Join(r.Findings[0].Details, " "); !strings.Contains(got, "DeletionByTaintManager: ") {
		t.Errorf("why pod/%s does not say by whom: %q", pod, got)
	}
}
