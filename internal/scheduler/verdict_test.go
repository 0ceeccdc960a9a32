package scheduler

import (
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"

	"canopus/internal/verdict"
)

// TestNote reads what is told about a decision that refused nodes for two reasons, and about one that had nodes to choose from.
func TestNote(t *testing.T) {
	t.Parallel()
	c := newCluster()
	for name, change := range map[string]func(*corev1.Node){
		"a": nil, "b": nil, "cordoned": func(n *corev1.Node) { n.Spec.Unschedulable = true },
	} {
		c.setNode(testNode(name, change))
	}
	c.place(newPodInfo(testPod("q", cpu("3"))), "a", false)
	s := &Scheduler{Config: Config{Verdicts: verdict.NewBook(), Clock: clock.RealClock{}}, cluster: c}
	rules := defaultRules()
	told := func(name, amount string) verdict.Verdict {
		w := &queued{info: newPending(testPod(name, cpu(amount))), attempts: 1, tried: time.Now()}
		o := testOptions()
		o.rules = rules
		d := decide(c, w.info, o)
		s.note(w, &d, rules)
		decide(c, newPending(testPod("another", nil)), o) // must not change what was told
		v, ok := s.Verdicts.Get(types.NamespacedName{Namespace: "ns", Name: name})
		if !ok {
			t.Fatalf("nothing is told about %s", name)
		}
		return v
	}

	v := told("large", "5")
	if v.Node != "" || v.Nodes != 3 || len(v.Refusals) != 2 || v.Message == "" {
		t.Fatalf("large: %+v", v)
	}
	short, cordoned := v.Refusals[0], v.Refusals[1]
	if slices.Sort(short.Nodes); short.Plugin != "NodeResourcesFit" || short.Reason != "Insufficient cpu" || short.Evictable || !slices.Equal(short.Nodes, []string{"a", "b"}) {
		t.Errorf("large: %+v", short)
	}
	if cordoned.Plugin != "NodeUnschedulable" || cordoned.Count != 1 || !slices.Equal(cordoned.Nodes, []string{"cordoned"}) {
		t.Errorf("large: %+v", cordoned)
	}

	v = told("small", "500m")
	if v.Node != "b" || len(v.Scores) != 2 || v.Scores[0].Node != "b" || v.Scores[0].Total <= v.Scores[1].Total {
		t.Fatalf("small: %+v", v)
	}
	if least := v.Scores[0].Plugins["NodeResourcesFit"]; least <= v.Scores[1].Plugins["NodeResourcesFit"] || least > maxScore {
		t.Errorf("small: %+v", v.Scores)
	}
}
