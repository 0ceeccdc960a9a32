package conformance

import (
	"os"
	"slices"
	"testing"
	"time"

	"canopus/test/harness"

	"k8s.io/client-go/dynamic"
)

// patience is how long anything may take that is only a matter of Canopus doing its work.
const patience = 2 * time.Minute

func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }

// behaviour is one thing that a cluster must do. Its name is the published one.
type behaviour struct {
	name string
	run  func(*testing.T, *space)
}

// area is the behaviours of one area that have a test.
type area struct {
	name  string
	tests []behaviour
}

// tested lists every behaviour that has a test.
func tested() []area {
	return []area{
		{"sig-apps", slices.Concat(
			controllerRevisions(), cronJobs(), daemonSets(), deployments(), disruptionBudgets(), jobs(), indexedJobs(),
			replicaSets(), replicationControllers(), statefulSets(),
		)},
		{"sig-scheduling", slices.Concat(limitRanges(), scheduling(), preemption())},
	}
}

// TestConformance shows the behaviours on one cluster of two nodes, side by side, each in a namespace of its own.
func TestConformance(t *testing.T) {
	c := harness.Start(t, harness.TwoNodes)
	d, err := dynamic.NewForConfig(c.Config)
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range tested() {
		t.Run(a.name, func(t *testing.T) {
			t.Parallel()
			for _, b := range a.tests {
				t.Run(b.name, func(t *testing.T) {
					t.Parallel()
					b.run(t, newSpace(t, c, d))
				})
			}
		})
	}
}

// TestNames holds the tests against the published names: each bears one, and in areas that have tests no name is without.
func TestNames(t *testing.T) {
	t.Parallel()
	areas, err := Areas()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range tested() {
		open := map[string]int{} // behaviours of a name that still need a test
		for _, published := range areas {
			if published.Name == a.name {
				for _, name := range published.Behaviours {
					open[name]++
				}
			}
		}
		for _, b := range a.tests {
			open[b.name]--
		}
		for name, n := range open {
			switch {
			case n > 0:
				t.Errorf("%s: %q has no test", a.name, name)
			case n < 0:
				t.Errorf("%s: there is one test more of %q than there are behaviours of that name", a.name, name)
			}
		}
	}
}
