package why

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	resourcehelper "k8s.io/component-helpers/resource"

	"canopus/internal/verdict"
)

// placed: the scheduler has found a node, or says why not.
func (f *Facts) placed(p *corev1.Pod) []Finding {
	if p.Spec.NodeName != "" {
		return nil
	}
	out := f.about(p, LinkSchedule, Error)
	c := podCondition(p, corev1.PodScheduled)
	switch {
	case len(p.Spec.SchedulingGates) > 0:
		var gates []string
		for _, g := range p.Spec.SchedulingGates {
			gates = append(gates, g.Name)
		}
		out.Severity, out.Reason, out.key = Waiting, "SchedulingGated", "gated "+strings.Join(gates, " ")
		out.Message = "it may not be scheduled before its gates are removed: " + strings.Join(gates, ", ")
		out.Do = "see to whoever sets these gates: they remove them from spec.schedulingGates when the pod may go"
		return []Finding{out}
	case c == nil || c.Status == corev1.ConditionTrue:
		return []Finding{f.notTried(p, out)}
	}
	out.Reason, out.Message, out.key = c.Reason, c.Message, "schedule "+c.Message
	if v := f.Verdicts[p.UID]; v != nil && v.Node == "" {
		out.Verdict, out.Details = v, verdictLines(v)
	}
	if node := p.Status.NominatedNodeName; node != "" {
		out.Severity, out.key = Waiting, "nominated"
		out.Message = fmt.Sprintf("node %s is being made free for it by evicting pods of lower priority. %s", node, c.Message)
		if v := out.Verdict; v != nil && len(v.Victims) > 0 {
			out.Details = append([]string{"evicted for it: " + some(v.Victims)}, out.Details...)
		}
		return []Finding{out}
	}
	out.Do = strings.Join(f.scheduleAdvice(p, out), "; or ")
	// A claim that waits for this pod is no cause; one in trouble is, and comes first.
	causes := slices.DeleteFunc(f.claimsOf(p), func(c Finding) bool { return c.Severity != Error })
	return append(causes, out)
}

// notTried explains a pod that no scheduler has said anything about.
func (f *Facts) notTried(p *corev1.Pod, out Finding) Finding {
	out.Reason, out.key = "NotTried", "not tried "+p.Spec.SchedulerName
	out.Message = fmt.Sprintf("scheduler %s has not said anything about it for %s", p.Spec.SchedulerName, f.since(p.CreationTimestamp.Time))
	if f.Now.Sub(p.CreationTimestamp.Time) < slowToLook {
		out.Severity = Waiting
		return out
	}
	out.Do = "see whether the scheduler runs: `canopus status`"
	if p.Spec.SchedulerName != corev1.DefaultSchedulerName {
		out.Do = fmt.Sprintf("start a scheduler that goes by the name %s, or correct spec.schedulerName", p.Spec.SchedulerName)
	}
	return out
}

// verdictLines tells what each rule refused.
func verdictLines(v *verdict.Verdict) []string {
	var out []string
	for _, r := range v.Refusals {
		line := fmt.Sprintf("%s: %s: %s", r.Plugin, plural(r.Count, "node"), r.Reason)
		if len(r.Nodes) > 0 {
			names := slices.Sorted(slices.Values(r.Nodes))
			text := some(names)
			if r.Count > len(names) && len(names) <= 3 {
				text += ", …"
			}
			line += " (" + text + ")"
		}
		out = append(out, line)
	}
	return out
}

// scoreLine tells why a node was chosen.
func scoreLine(v *verdict.Verdict) string {
	if len(v.Scores) == 0 {
		return ""
	}
	best := v.Scores[0]
	if len(v.Scores) == 1 {
		return fmt.Sprintf("node %s was the only one of %d that fitted", v.Node, v.Nodes)
	}
	for _, s := range v.Scores {
		if s.Node == v.Node {
			best = s
		}
	}
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(best.Plugins)) {
		if best.Plugins[name] > 0 {
			parts = append(parts, fmt.Sprintf("%s %d", name, best.Plugins[name]))
		}
	}
	text := fmt.Sprintf("node %s scored %d", best.Node, best.Total)
	if len(parts) > 0 {
		text += " (" + strings.Join(parts, ", ") + ")"
	}
	for _, s := range v.Scores {
		if s.Node != best.Node {
			return text + fmt.Sprintf(", the next, %s, %d; %d of %d nodes fitted", s.Node, s.Total, len(v.Scores), v.Nodes)
		}
	}
	return text
}

// scheduleAdvice says what would let a pod in, by what refused it.
func (f *Facts) scheduleAdvice(p *corev1.Pod, s Finding) []string {
	var out []string
	add := func(words string, advice string) {
		if strings.Contains(s.Message, words) && advice != "" {
			out = append(out, advice)
		}
	}
	add("no nodes available", "add a node: `canopus agent` on a machine that has joined")
	add("Insufficient ", f.roomAdvice(p))
	add("Too many pods", "add a node, or raise --max-pods of the agents")
	add("node affinity/selector", "`kubectl label node NAME "+labelsOf(p)+"` on a node that may run it, or correct the pod's nodeSelector and affinity")
	add("untolerated taint", f.taintAdvice(p))
	add("were unschedulable", f.cordonAdvice())
	add("topology spread", "add nodes in the missing domains, or loosen topologySpreadConstraints (whenUnsatisfiable: ScheduleAnyway)")
	add("pod affinity rules", "start the pods it wants to be near, or make the affinity preferred")
	add("anti-affinity", "add a node without the pods it must not be near, or make the anti-affinity preferred")
	add("free ports", "take another hostPort, or do without: a Service needs none")
	add("requested node name", "correct spec.nodeName")
	add("PersistentVolumeClaim", "see to the claims it mounts: `"+f.inNamespace("get pvc")+"`")
	add("persistentvolumeclaim", "make the claim that the message names")
	add("persistent volumes to bind", "make a PersistentVolume that its claim fits, or a StorageClass that provisions one")
	add("PersistentVolume's node affinity", "make room on the node that has its volume: the data is only there")
	add("resource claim", "see to its claims: `"+f.inNamespace("get resourceclaims")+"`")
	if len(out) == 0 {
		out = append(out, "change the pod or the nodes as the message says; the scheduler tries again by itself")
	}
	return out
}

func labelsOf(p *corev1.Pod) string {
	if len(p.Spec.NodeSelector) == 0 {
		return "KEY=VALUE"
	}
	var out []string
	for _, key := range slices.Sorted(maps.Keys(p.Spec.NodeSelector)) {
		out = append(out, key+"="+p.Spec.NodeSelector[key])
	}
	return strings.Join(out, " ")
}

// roomAdvice tells by how much a pod is too large for the largest node, if it is.
func (f *Facts) roomAdvice(p *corev1.Pod) string {
	wanted := resourcehelper.PodRequests(p, resourcehelper.PodResourcesOptions{})
	var never, asks []string
	for _, name := range slices.Sorted(maps.Keys(wanted)) {
		want := wanted[name]
		if want.IsZero() {
			continue
		}
		asks = append(asks, fmt.Sprintf("%s %s", want.String(), name))
		largest, where := corev1.ResourceList{}, ""
		for _, node := range f.Nodes {
			if node == nil {
				continue
			}
			has := node.Status.Allocatable[name]
			if now := largest[name]; where == "" || has.Cmp(now) > 0 || has.Cmp(now) == 0 && node.Name < where {
				largest[name], where = has, node.Name
			}
		}
		if has := largest[name]; f.AllNodes && where != "" && has.Cmp(want) < 0 {
			never = append(never, fmt.Sprintf("the largest node, %s, has %s %s in all", where, has.String(), name))
		}
	}
	if len(never) > 0 {
		return fmt.Sprintf("ask for less than %s (%s), or add a larger node", strings.Join(asks, " and "), strings.Join(never, ", "))
	}
	return "free " + strings.Join(asks, " and ") + " on a node, ask for less, or add a node"
}

// taintAdvice names the taints that keep a pod off.
func (f *Facts) taintAdvice(p *corev1.Pod) string {
	by := map[string]string{} // taint → a node that has it
	for _, node := range f.Nodes {
		if node == nil {
			continue
		}
		for i := range node.Spec.Taints {
			t := &node.Spec.Taints[i]
			if t.Effect != corev1.TaintEffectPreferNoSchedule && !tolerated(p, t) {
				if now, ok := by[t.ToString()]; !ok || node.Name < now {
					by[t.ToString()] = node.Name
				}
			}
		}
	}
	var out []string
	for _, taint := range slices.Sorted(maps.Keys(by)) {
		if strings.HasPrefix(taint, "node.kubernetes.io/") {
			out = append(out, fmt.Sprintf("see why %s is tainted %s: `canopus why node/%s`", by[taint], taint, by[taint]))
			continue
		}
		out = append(out, fmt.Sprintf("tolerate %s in the pod, or `kubectl taint node %s %s-`", taint, by[taint], taint))
	}
	if len(out) == 0 {
		return "tolerate the taint that the message names, or take it off the node"
	}
	return strings.Join(out, "; or ")
}

func tolerated(p *corev1.Pod, t *corev1.Taint) bool {
	return slices.ContainsFunc(p.Spec.Tolerations, func(o corev1.Toleration) bool {
		return (o.Effect == "" || o.Effect == t.Effect) && (o.Key == "" && o.Operator == corev1.TolerationOpExists ||
			o.Key == t.Key && (o.Operator == corev1.TolerationOpExists || o.Value == t.Value))
	})
}

func (f *Facts) cordonAdvice() string {
	var names []string
	for name, node := range f.Nodes {
		if node != nil && node.Spec.Unschedulable {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return "`kubectl uncordon` a node"
	}
	return "`kubectl uncordon " + slices.Min(names) + "`"
}
