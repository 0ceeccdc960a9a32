package why

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

func nodeCondition(n *corev1.Node, kind corev1.NodeConditionType) *corev1.NodeCondition {
	for i := range n.Status.Conditions {
		if n.Status.Conditions[i].Type == kind {
			return &n.Status.Conditions[i]
		}
	}
	return nil
}

// explainNode says why pods do not run well on a node, or do not get there.
func (f *Facts) explainNode(n *corev1.Node) []Finding {
	var out []Finding
	find := func(severity Severity, reason, message, do string) {
		out = append(out, Finding{Link: LinkNode, Severity: severity, Reason: reason, Object: "node/" + n.Name, Message: message, Do: do})
	}
	switch ready := nodeCondition(n, corev1.NodeReady); {
	case ready == nil:
		find(Waiting, "NotReported", "its agent has not reported yet", "start the agent: `canopus agent` on the node, and see its log")
	case ready.Status == corev1.ConditionUnknown:
		find(Error, ready.Reason, fmt.Sprintf("its agent has not reported for %s: %s", f.since(ready.LastHeartbeatTime.Time), ready.Message),
			"see whether the machine and its network are up, and `canopus status` on it")
	case ready.Status == corev1.ConditionFalse:
		find(Error, ready.Reason, "it is not ready: "+ready.Message, "`canopus status` on the node, and the log of its agent")
	}
	advice := map[corev1.NodeConditionType]string{
		corev1.NodeMemoryPressure: "free memory on the node: its pods are evicted in turn", corev1.NodeDiskPressure: "free disk space on the node: images and logs first",
		corev1.NodePIDPressure: "find the pods with too many processes", corev1.NodeNetworkUnavailable: "see to the pod network of the node",
	}
	for _, c := range n.Status.Conditions {
		if c.Status == corev1.ConditionTrue && advice[c.Type] != "" {
			find(Error, string(c.Type), orElse(c.Message, string(c.Type)), advice[c.Type])
		}
	}
	if names := f.evicted(n); len(names) > 0 {
		find(Warning, "Evicted", fmt.Sprintf("it evicted %s: %s", plural(len(names), "pod"), some(names)), "give pods requests and limits that say what they need; `canopus why` one of them tells what ran short")
	}
	if e := lastOf(f.Events[n.UID], func(e *corev1.Event) bool {
		return e.Type == corev1.EventTypeWarning && f.Now.Sub(eventTime(e)) < fresh
	}); e != nil && len(out) == 0 {
		find(Warning, e.Reason, fmt.Sprintf("%s ago: %s", f.since(eventTime(e)), e.Message), "mend what the message says; `kubectl describe node "+n.Name+"` shows the rest")
	}
	if n.Spec.Unschedulable {
		find(Note, "SchedulingDisabled", "it is cordoned: no new pods come here", "to let them: `kubectl uncordon "+n.Name+"`")
		out = append(out, f.held(n)...)
	}
	for i := range n.Spec.Taints {
		t := &n.Spec.Taints[i]
		if !strings.HasPrefix(t.Key, "node.kubernetes.io/") && t.Effect != corev1.TaintEffectPreferNoSchedule {
			find(Note, "Tainted", "only pods that tolerate "+t.ToString()+" come here", "")
		}
	}
	return out
}

// evicted are the pods that a node evicted a short while ago, as namespace/name.
func (f *Facts) evicted(n *corev1.Node) []string {
	var out []string
	for _, p := range f.Pods {
		d := podCondition(p, corev1.DisruptionTarget)
		if p.Spec.NodeName == n.Name && p.Status.Phase == corev1.PodFailed && p.Status.Reason == "Evicted" && (d == nil || f.Now.Sub(d.LastTransitionTime.Time) < fresh) {
			out = append(out, p.Namespace+"/"+p.Name)
		}
	}
	return out
}

func (f *Facts) nodeSummary(n *corev1.Node) string {
	state := "NotReady"
	if c := nodeCondition(n, corev1.NodeReady); c != nil && c.Status == corev1.ConditionTrue {
		state = "Ready"
	}
	running := 0
	for _, p := range f.Pods {
		if p.Status.Phase == corev1.PodRunning {
			running++
		}
	}
	if v := n.Status.NodeInfo.KubeletVersion; v != "" {
		state += ", " + v
	}
	text := fmt.Sprintf("%s, %s cpu and %s memory to give, room for %s pods", state,
		n.Status.Allocatable.Cpu(), n.Status.Allocatable.Memory(), n.Status.Allocatable.Pods())
	if f.Pods != nil {
		text += fmt.Sprintf(", %d running", running)
	}
	return text
}

// explainService says who answers for a Service, and why others do not.
func (f *Facts) explainService(s *corev1.Service) (string, []Finding) {
	object := "service/" + s.Name
	find := func(severity Severity, reason, message, do string) Finding {
		return Finding{Link: LinkEndpoints, Severity: severity, Reason: reason, Object: object, Message: message, Do: do}
	}
	if s.Spec.Type == corev1.ServiceTypeExternalName {
		return "another name for " + s.Spec.ExternalName, nil
	}
	if len(s.Spec.Selector) == 0 {
		return "it has no selector", []Finding{find(Note, "NoSelector", "its endpoints are written by somebody else", "`"+f.inNamespace("get endpointslices -l kubernetes.io/service-name=%s", s.Name)+"`")}
	}
	pods := dropDone(f.Pods)
	ready := 0
	for _, p := range pods {
		if podReady(p) && p.DeletionTimestamp == nil || s.Spec.PublishNotReadyAddresses {
			ready++
		}
	}
	summary := fmt.Sprintf("%d of %s ready behind %s", ready, plural(len(pods), "pod"), orElse(s.Spec.ClusterIP, "no address"))
	var out []Finding
	selector := labelText(s.Spec.Selector)
	if len(pods) == 0 {
		out = append(out, find(Error, "NoPods", "no pod has the labels "+selector, "correct the selector, or start the pods: `"+f.inNamespace("get pods --show-labels")+"`"))
	}
	for _, port := range s.Spec.Ports {
		if name := port.TargetPort.StrVal; name != "" && len(pods) > 0 && !slices.ContainsFunc(pods, func(p *corev1.Pod) bool { return namesPort(p, name) }) {
			out = append(out, find(Error, "NoSuchPort", fmt.Sprintf("port %d goes to the pods' port %q, and no container has a port of that name", port.Port, name), "correct targetPort, or name the container's port"))
		}
	}
	if s.Spec.Type == corev1.ServiceTypeLoadBalancer && len(s.Status.LoadBalancer.Ingress) == 0 {
		out = append(out, find(Waiting, "NoLoadBalancer", "no load balancer has given it an address yet", "see whether a load balancer controller runs; the node ports answer meanwhile"))
	}
	found := f.explainPods(pods)
	if ready > 0 {
		found = asWarnings(found)
	}
	return summary, append(out, found...)
}

func namesPort(p *corev1.Pod, name string) bool {
	return slices.ContainsFunc(slices.Concat(p.Spec.InitContainers, p.Spec.Containers), func(c corev1.Container) bool {
		return slices.ContainsFunc(c.Ports, func(port corev1.ContainerPort) bool { return port.Name == name })
	})
}
