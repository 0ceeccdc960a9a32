package conformance

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"canopus/test/harness"

	corev1 "k8s.io/api/core/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
)

func scheduling() []behaviour {
	return []behaviour{
		{"Scheduler, resource limits", schedulerResources},
		{"Scheduler, node selector matching", schedulerSelector},
		{"Scheduler, node selector not matching", schedulerNoNode},
		{"Scheduling, HostPort and Protocol match, HostIPs different but one is default HostIP (0.0.0.0)", schedulerHostPort},
		{"Scheduler, Verify PriorityClass endpoints", priorityClasses},
	}
}

// onNode makes a pod want one node, by its label.
func onNode(spec corev1.PodSpec, node string) corev1.PodSpec {
	spec.NodeSelector = map[string]string{corev1.LabelHostname: node}
	return spec
}

// waits waits until the scheduler has said of a pod that no node takes it, and why, and holds that it stays so.
func (s *space) waits(t testing.TB, name, why string) {
	t.Helper()
	look := func() error {
		p := s.pod(t, name)
		if p.Spec.NodeName != "" {
			t.Fatalf("%s was bound to %s", name, p.Spec.NodeName)
		}
		for _, c := range p.Status.Conditions {
			if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse && c.Reason == corev1.PodReasonUnschedulable && strings.Contains(c.Message, why) {
				return nil
			}
		}
		return fmt.Errorf("conditions %+v", p.Status.Conditions)
	}
	until(t, name+" to be found unschedulable because of "+why, look)
	holds(t, "the unschedulable pod", look)
}

// giveNode adds an amount of a resource of this test's own to a node, and returns the resource's name.
func (s *space) giveNode(t testing.TB, node, amount string) corev1.ResourceName {
	t.Helper()
	name := corev1.ResourceName("conformance.test/" + s.ns)
	path := func(value string) []byte {
		return fmt.Appendf(nil, `{"status":{"capacity":{%q:%s},"allocatable":{%[1]q:%[2]s}}}`, name, value)
	}
	ctx := context.WithoutCancel(t.Context())
	patch := func(value string) error {
		_, err := s.Client.CoreV1().Nodes().Patch(ctx, node, types.MergePatchType, path(value), metav1.PatchOptions{}, "status")
		return err
	}
	check(t, patch(fmt.Sprintf("%q", amount)))
	t.Cleanup(func() {
		if err := patch("null"); err != nil {
			t.Errorf("take %s from %s: %v", name, node, err)
		}
	})
	return name
}

// schedulerResources: pods are bound until a node is full, by what they request and not by what they use. More waits, and gets its turn.
func schedulerResources(t *testing.T, s *space) {
	what := s.giveNode(t, harness.NodeName, "3")
	s.giveNode(t, harness.SecondNode, "2")
	for i, want := range []string{"3", "2"} {
		name := fmt.Sprintf("full-%d", i)
		s.run(t, podOf(name, requests(sleeps(), what, want)))
		s.runs(t, name)
	}
	s.run(t, podOf("more", requests(sleeps(), what, "1")))
	s.waits(t, "more", "Insufficient "+string(what))
	s.run(t, podOf("huge", requestsOnly(sleeps(), corev1.ResourceCPU, "100000")))
	s.waits(t, "huge", "Insufficient cpu")
	s.delete(t, "full-1")
	if p := s.runs(t, "more"); p.Spec.NodeName != harness.SecondNode {
		t.Errorf("it is on %s, where there is no room", p.Spec.NodeName)
	}
}

// requestsOnly makes the first container ask for an amount of a resource, without a limit.
func requestsOnly(spec corev1.PodSpec, what corev1.ResourceName, amount string) corev1.PodSpec {
	spec.Containers[0].Resources.Requests = corev1.ResourceList{what: quantity(amount)}
	return spec
}

// schedulerSelector: a pod goes to the one node with the label, whichever that is.
func schedulerSelector(t *testing.T, s *space) {
	key := "conformance.test/" + s.ns
	for _, node := range []string{harness.SecondNode, harness.NodeName} {
		t.Cleanup(func() { s.labelNode(t, node, key, nil) })
		s.labelNode(t, node, key, ptr.To(node))
		spec := sleeps()
		spec.NodeSelector = map[string]string{key: node}
		s.run(t, podOf("for-"+node, spec))
		if p := s.runs(t, "for-"+node); p.Spec.NodeName != node {
			t.Errorf("%s is on %s", p.Name, p.Spec.NodeName)
		}
	}
}

// schedulerNoNode: a pod for a label that no node has waits, until a node has it.
func schedulerNoNode(t *testing.T, s *space) {
	key := "conformance.test/" + s.ns
	spec := sleeps()
	spec.NodeSelector = map[string]string{key: "yes"}
	s.run(t, podOf("lost", spec))
	s.waits(t, "lost", "node affinity/selector")
	t.Cleanup(func() { s.labelNode(t, harness.SecondNode, key, nil) })
	s.labelNode(t, harness.SecondNode, key, ptr.To("yes"))
	if p := s.runs(t, "lost"); p.Spec.NodeName != harness.SecondNode {
		t.Errorf("it is on %s", p.Spec.NodeName)
	}
}

// schedulerHostPort: a port of all addresses conflicts with the same port of one, in both orders; another protocol does not.
func schedulerHostPort(t *testing.T, s *space) {
	address := s.machine(t, harness.SecondNode).Address
	withPort := func(port int32, ip string, protocol corev1.Protocol) corev1.PodSpec {
		spec := onNode(sleeps(), harness.SecondNode)
		spec.Containers[0].Ports = []corev1.ContainerPort{{ContainerPort: 80, HostPort: port, HostIP: ip, Protocol: protocol}}
		return spec
	}
	for _, c := range []struct {
		name, first, second string
		port                int32
	}{
		{"all-first", "", address, 21321}, {"all-second", address, "0.0.0.0", 21322},
	} {
		s.run(t, podOf(c.name+"-a", withPort(c.port, c.first, corev1.ProtocolTCP)))
		s.runs(t, c.name+"-a")
		s.run(t, podOf(c.name+"-b", withPort(c.port, c.second, corev1.ProtocolTCP)))
		s.waits(t, c.name+"-b", "free ports")
		s.run(t, podOf(c.name+"-udp", withPort(c.port, c.second, corev1.ProtocolUDP)))
		s.runs(t, c.name+"-udp")
		s.delete(t, c.name+"-a")
		s.runs(t, c.name+"-b")
	}
}

// priorityClasses: all operations; description and labels may change, the value and the preemption policy may not.
func priorityClasses(t *testing.T, s *space) {
	r := s.global(schedulingv1.SchemeGroupVersion, "priorityclasses")
	r.operations(t, &schedulingv1.PriorityClass{ObjectMeta: metav1.ObjectMeta{Name: s.ns + "-all"}, Value: 7})
	name := s.priority(t, "endpoints", 9)
	api := s.Client.SchedulingV1().PriorityClasses()
	list := must(api.List(t.Context(), metav1.ListOptions{}))(t)
	values := map[string]int32{}
	for _, c := range list.Items {
		values[c.Name] = c.Value
	}
	if values[name] != 9 || values["system-node-critical"] != 2000001000 || values["system-cluster-critical"] != 2000000000 {
		t.Errorf("list: %v", values)
	}
	r.merge(t, name, map[string]any{"description": "patched", "metadata": map[string]any{"labels": map[string]any{"stage": "patched"}}})
	updated := change(t, api, name, func(c *schedulingv1.PriorityClass) { c.Description += " and updated" })
	if updated.Description != "patched and updated" || updated.Labels["stage"] != "patched" || updated.Value != 9 {
		t.Errorf("after a patch and an update: %+v", updated)
	}
	for _, patch := range []string{`{"value":10}`, `{"preemptionPolicy":"Never"}`} {
		if _, err := api.Patch(t.Context(), name, types.MergePatchType, []byte(patch), metav1.PatchOptions{}); !apierrors.IsInvalid(err) {
			t.Errorf("patch %s: %v, want it to be invalid", patch, err)
		}
	}
	updated.Value = 10
	if _, err := api.Update(t.Context(), updated, metav1.UpdateOptions{}); !apierrors.IsInvalid(err) {
		t.Errorf("update of the value: %v, want it to be invalid", err)
	}
	if got := must(api.Get(t.Context(), name, metav1.GetOptions{}))(t).Value; got != 9 {
		t.Errorf("the value is %d", got)
	}
}

// priority makes a PriorityClass of this test's own and returns its name.
func (s *space) priority(t testing.TB, name string, value int32) string {
	t.Helper()
	api := s.Client.SchedulingV1().PriorityClasses()
	class := must(api.Create(t.Context(), &schedulingv1.PriorityClass{ObjectMeta: metav1.ObjectMeta{Name: s.ns + "-" + name}, Value: value}, metav1.CreateOptions{}))(t)
	ctx := context.WithoutCancel(t.Context())
	t.Cleanup(func() {
		if err := api.Delete(ctx, class.Name, metav1.DeleteOptions{}); err != nil {
			t.Errorf("delete priority class: %v", err)
		}
	})
	return class.Name
}
