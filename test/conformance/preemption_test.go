package conformance

import (
	"fmt"
	"testing"

	"canopus/test/harness"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

func preemption() []behaviour {
	return []behaviour{
		{"Scheduler, Basic Preemption", preemptsLower},
		{"Scheduler, Preemption for critical pod", preemptsForCritical},
		{"Verify the DisruptionTarget condition is added to the preempted pod", preemptedCondition},
		{"Pod preemption verification", preemptionOfSets},
	}
}

// important is a pod with a priority that takes an amount of a resource.
func important(spec corev1.PodSpec, class string, what corev1.ResourceName, amount string) corev1.PodSpec {
	spec.PriorityClassName = class
	return requests(spec, what, amount)
}

// preemptsLower: of two full nodes the one with the less important pod is chosen, and only that pod goes.
func preemptsLower(t *testing.T, s *space) {
	s.preempts(t, s.priority(t, "high", 1000))
}

func preemptsForCritical(t *testing.T, s *space) {
	s.preempts(t, "system-cluster-critical")
}

func (s *space) preempts(t testing.TB, class string) {
	t.Helper()
	low, middle := s.priority(t, "low", 1), s.priority(t, "middle", 100)
	what := s.giveNode(t, harness.NodeName, "2")
	s.giveNode(t, harness.SecondNode, "2")
	s.run(t, podOf("middle", onNode(important(sleeps(), middle, what, "2"), harness.NodeName)))
	s.run(t, podOf("low", onNode(important(sleeps(), low, what, "2"), harness.SecondNode)))
	kept, lost := s.runs(t, "middle"), s.runs(t, "low")
	s.run(t, podOf("high", important(sleeps(), class, what, "2")))
	if p := s.runs(t, "high"); p.Spec.NodeName != harness.SecondNode {
		t.Errorf("it is on %s", p.Spec.NodeName)
	}
	for _, p := range s.pods(t, nil) {
		if p.UID == lost.UID && p.DeletionTimestamp == nil {
			t.Errorf("%s is still there", p.Name)
		}
	}
	if p := s.pod(t, "middle"); p.UID != kept.UID || !isReady(p) {
		t.Errorf("%s had to go too: %s", p.Name, describe([]corev1.Pod{*p}))
	}
	s.run(t, podOf("equal", important(sleeps(), middle, what, "1")))
	s.waits(t, "equal", "Insufficient")
}

// preemptedCondition: a pod that is preempted says so for as long as it is there, which a finalizer makes long.
func preemptedCondition(t *testing.T, s *space) {
	const finalizer = "conformance.test/keep"
	what := s.giveNode(t, harness.SecondNode, "1")
	victim := podOf("victim", important(sleeps(), s.priority(t, "low", 1), what, "1"))
	victim.Finalizers = []string{finalizer}
	s.run(t, victim)
	s.runs(t, "victim")
	s.run(t, podOf("taker", important(sleeps(), s.priority(t, "high", 1000), what, "1")))
	until(t, "the victim to be preempted", func() error {
		p := s.pod(t, "victim")
		for _, c := range p.Status.Conditions {
			if c.Type == corev1.DisruptionTarget && c.Status == corev1.ConditionTrue && c.Reason == corev1.PodReasonPreemptionByScheduler && p.DeletionTimestamp != nil {
				return nil
			}
		}
		return fmt.Errorf("deleted %v, conditions %+v", p.DeletionTimestamp, p.Status.Conditions)
	})
	must(s.Client.CoreV1().Pods(s.ns).Patch(t.Context(), "victim", types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`), metav1.PatchOptions{}))(t)
	gone(t, "the victim", func() (*corev1.Pod, error) {
		return s.Client.CoreV1().Pods(s.ns).Get(t.Context(), "victim", metav1.GetOptions{})
	})
	s.runs(t, "taker")
}

// preemptionOfSets: sets of priority 1 to 3 run; the pod of priority 4 needs the room of the first two, which go on as
// sets whose pods wait, and the third is left alone.
func preemptionOfSets(t *testing.T, s *space) {
	what := s.giveNode(t, harness.SecondNode, "10")
	set := func(n int32, amount string) {
		name := fmt.Sprintf("p%d", n)
		s.createSet(t, replicaSet(name, 1, important(sleeps(), s.priority(t, name, n), what, amount)))
	}
	set(1, "2")
	set(2, "3")
	set(3, "4")
	before := map[string]types.UID{}
	for _, name := range []string{"p1", "p2", "p3"} {
		before[name] = s.ready(t, app(name), 1)[0].UID
	}
	set(4, "5")
	s.ready(t, app("p4"), 1)
	if p := s.ready(t, app("p3"), 1)[0]; p.UID != before["p3"] {
		t.Error("the pod of p3 had to go, which was not needed")
	}
	for _, name := range []string{"p1", "p2"} {
		until(t, name+" to have one pod that waits", func() error {
			pods := s.pods(t, app(name))
			if len(pods) != 1 || pods[0].UID == before[name] || pods[0].Spec.NodeName != "" {
				return fmt.Errorf("%s", describe(pods))
			}
			rs := must(s.Client.AppsV1().ReplicaSets(s.ns).Get(t.Context(), name, metav1.GetOptions{}))(t)
			if rs.Status.Replicas != 1 || rs.Status.ReadyReplicas != 0 {
				return fmt.Errorf("status %+v", rs.Status)
			}
			return nil
		})
	}
}
