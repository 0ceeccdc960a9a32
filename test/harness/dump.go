package harness

import (
	"os"
	"strings"
	"testing"
)

// Dump shows what one needs to see why a scenario failed.
func (c *Cluster) Dump(t testing.TB, namespace string) {
	t.Helper()
	for _, args := range [][]string{
		{"get", "pods", "-A", "-o", "wide"},
		{"get", "deployments,replicasets,services,endpointslices", "-n", namespace, "-o", "wide"},
		{"get", "events", "-n", namespace, "--sort-by=.metadata.creationTimestamp"},
		{"describe", "pods", "-n", namespace},
	} {
		t.Log(c.Try(t, "", args...))
	}
	for _, p := range c.Processes {
		t.Logf("the end of the log of %s:\n%s", p.Name, tail(p.Log, 15))
	}
}

// DumpLogs shows the end of every log.
func (c *Cluster) DumpLogs(t testing.TB) {
	t.Helper()
	for _, p := range c.Processes {
		t.Logf("the end of the log of %s:\n%s", p.Name, tail(p.Log, 60))
	}
	for _, m := range c.Nodes {
		t.Logf("the end of containerd's log on %s:\n%s", m.Name, tail(m.path("data", "log", "containerd.log"), 40))
	}
}

// tail returns the last lines of a file, cut where they are very long.
func tail(path string, lines int) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	all := strings.Split(strings.TrimRight(string(data), "\n"), "\n")
	all = all[max(0, len(all)-lines):]
	for i, l := range all {
		all[i] = l[:min(len(l), 500)]
	}
	return strings.Join(all, "\n")
}
