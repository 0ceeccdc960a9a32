package nodelifecycle

import (
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

func zoned(name, zone string, ready bool) *corev1.Node {
	n := nodeOf("Ready=Unknown", "")
	if ready {
		n = nodeOf("Ready=True", "")
	}
	n.Name, n.Labels = name, map[string]string{corev1.LabelTopologyZone: zone}
	return n
}

// TestCensusWakesThoseWhosePaceChanged: a heartbeat concerns nobody else, and neither does one node more that is down.
func TestCensusWakesThoseWhosePaceChanged(t *testing.T) {
	t.Parallel()
	c := newCensus()
	woken := func(names []string) string { slices.Sort(names); return strings.Join(names, " ") }
	for i, step := range []struct {
		node *corev1.Node
		want string
	}{
		{zoned("a1", "a", false), ""},
		{zoned("a2", "a", true), "a1"}, // no longer disrupted
		{zoned("a2", "a", true), ""},
		{zoned("b1", "b", true), ""},
		{zoned("b2", "b", true), ""},
		{zoned("b3", "b", false), ""},
		{zoned("b4", "b", false), ""},
		{zoned("b5", "b", false), "b3 b4"}, // three of five: the zone stops
		{zoned("a1", "a", true), ""},
		{zoned("b2", "a", true), ""}, // moved: three of four
		{zoned("b3", "b", true), "b4 b5"},
	} {
		if got := woken(c.set(step.node)); got != step.want {
			t.Errorf("step %d (%s): woke %q, want %q", i, step.node.Name, got, step.want)
		}
	}
	if c.disrupted() {
		t.Error("disrupted with ready nodes")
	}
	for _, name := range []string{"a1", "a2", "b1", "b2"} {
		if got := c.remove(name); len(got) > 0 {
			t.Errorf("removing %s woke %v", name, got)
		}
	}
	if got := woken(c.remove("b3")); got != "b4 b5" || !c.disrupted() {
		t.Errorf("the last ready node left: woke %q, disrupted %v", got, c.disrupted())
	}
}

// TestCensusCounts compares with counting anew, over random histories.
func TestCensusCounts(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 2))
	c, nodes := newCensus(), map[string]*corev1.Node{}
	for range 2000 {
		name := strconv.Itoa(r.IntN(80))
		if nodes[name] != nil && r.IntN(3) == 0 {
			c.remove(name)
			delete(nodes, name)
		} else {
			nodes[name] = zoned(name, strconv.Itoa(r.IntN(3)), r.IntN(2) == 0)
			c.set(nodes[name])
		}
		for name, n := range nodes {
			if got, want := c.pace(name), slowPace(nodes, n); got != want {
				t.Fatalf("node %s: %s, want %s", name, got, want)
			}
		}
	}
}

func slowPace(nodes map[string]*corev1.Node, of *corev1.Node) time.Duration {
	ready, down := 0, 0
	for _, n := range nodes {
		switch {
		case zoneOf(n) != zoneOf(of):
		case readiness(n) == corev1.ConditionTrue:
			ready++
		default:
			down++
		}
	}
	return interval(ready, down, len(nodes))
}
