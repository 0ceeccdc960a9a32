package why

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apiresource "k8s.io/apimachinery/pkg/api/resource"
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
		if unmade := f.unmadeClaims(p); len(unmade) > 0 {
			return unmade // the scheduler does not look at the pod before they are there
		}
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
	// A claim that waits for this pod is no cause; one in trouble is, and comes first.
	causes := slices.DeleteFunc(append(f.claimsOf(p), f.devicesOf(p)...), func(c Finding) bool { return c.Severity != Error })
	advice := f.nodeAdvice(p, out)
	if len(causes) == 0 {
		advice = append(advice, f.claimAdvice(out)...)
	}
	if len(causes)+len(advice) == 0 {
		advice = []string{"change the pod or the nodes as the message says; the scheduler tries again by itself"}
	}
	out.Do = strings.Join(advice, "; or ")
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

// namesShown is how many nodes are named of those with the same verdict, scoresShown how many scores are shown.
const (
	namesShown  = 8
	scoresShown = 5
)

// verdictLines tells what each rule refused.
func verdictLines(v *verdict.Verdict) []string {
	var out []string
	for _, r := range v.Refusals {
		line := fmt.Sprintf("%s: %s: %s", r.Plugin, plural(r.Count, "node"), r.Reason)
		if names := slices.Sorted(slices.Values(r.Nodes)); len(names) > 0 {
			shown := names[:min(namesShown, len(names))]
			line += " (" + strings.Join(shown, ", ")
			if more := r.Count - len(shown); more > 0 {
				line += fmt.Sprintf(" and %d more", more)
			}
			line += ")"
		}
		out = append(out, line)
	}
	return out
}

// placement tells why a node was chosen: what the nodes that fitted scored, the best first, and what refused the others.
func placement(v *verdict.Verdict) []string {
	if v == nil || v.Node == "" || len(v.Scores) == 0 {
		return nil
	}
	fitted := v.Looked
	for _, r := range v.Refusals {
		fitted -= r.Count
	}
	fitted = max(fitted, len(v.Scores))
	head := fmt.Sprintf("scheduler %s chose node %s: it scored best of %d that fitted", v.Scheduler, v.Node, fitted)
	if fitted == 1 {
		head = fmt.Sprintf("scheduler %s chose node %s: the only one that fitted", v.Scheduler, v.Node)
	}
	head += fmt.Sprintf(", of %s", plural(v.Nodes, "node"))
	if v.Looked < v.Nodes {
		head += fmt.Sprintf(", %d of which were looked at", v.Looked)
	}
	out := []string{head}
	if fitted > 1 {
		for _, s := range v.Scores[:min(scoresShown, len(v.Scores))] {
			out = append(out, "  "+scoreText(s))
		}
		if more := fitted - scoresShown; more > 0 {
			out = append(out, fmt.Sprintf("  and %d more", more))
		}
	}
	for _, line := range verdictLines(v) {
		out = append(out, "  refused: "+line)
	}
	return out
}

// scoreText is what a node got, and from which rules (0 to 100 each, before its weight).
func scoreText(s verdict.Score) string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(s.Plugins)) {
		parts = append(parts, fmt.Sprintf("%s %d", name, s.Plugins[name]))
	}
	text := fmt.Sprintf("%s: %d", s.Node, s.Total)
	if len(parts) > 0 {
		text += " (" + strings.Join(parts, ", ") + ")"
	}
	return text
}

// nodeAdvice says which nodes would let a pod in, by what refused it.
func (f *Facts) nodeAdvice(p *corev1.Pod, s Finding) []string {
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
	return out
}

// claimAdvice does so for what it claims.
func (f *Facts) claimAdvice(s Finding) []string {
	has := func(words string) bool { return strings.Contains(s.Message, words) }
	var out []string
	switch {
	case has("ReadWriteOncePod"):
		out = append(out, "delete the other pod that uses its claim, or give it a claim of its own: ReadWriteOncePod is for one pod")
	case has("persistentvolumeclaim") && has("is being deleted"):
		out = append(out, "delete the pods that use the claim, wait until it is gone, and make it again")
	case has("persistentvolumeclaim"):
		out = append(out, "make the claim that the message names")
	case has("PersistentVolumeClaim"):
		out = append(out, "see to the claims it mounts: `"+f.inNamespace("get pvc")+"`")
	}
	if has("persistent volumes to bind") {
		out = append(out, "make a PersistentVolume that its claim fits, or a StorageClass that provisions one")
	}
	if has("PersistentVolume's node affinity") || has("volume node affinity conflict") {
		out = append(out, "make room on the node that has its volume: the data is only there")
	}
	if has("resourceclaim") {
		out = append(out, "see to its claims: `"+f.inNamespace("get resourceclaims")+"`")
	}
	if has("allocate all claims") {
		out = append(out, "add a node with devices that its claims ask for, or free some: `kubectl get resourceslices`")
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
	var asks, never []string
	most := map[string][]string{} // what the largest nodes have in all, of what is too much for them
	for _, name := range slices.Sorted(maps.Keys(wanted)) {
		want := wanted[name]
		if want.IsZero() {
			continue
		}
		asks = append(asks, amount(name, want))
		if where, has := f.largest(name); f.AllNodes && where != "" && has.Cmp(want) < 0 {
			most[where] = append(most[where], amount(name, has))
		}
	}
	for _, where := range slices.Sorted(maps.Keys(most)) {
		never = append(never, fmt.Sprintf("the largest node, %s, has %s in all", where, strings.Join(most[where], " and ")))
	}
	if len(never) > 0 {
		return fmt.Sprintf("ask for less than %s (%s), or add a larger node", strings.Join(asks, " and "), strings.Join(never, "; "))
	}
	return "free " + strings.Join(asks, " and ") + " on a node, ask for less, or add a node"
}

// largest is the node that has most of a resource to give, and how much that is.
func (f *Facts) largest(resource corev1.ResourceName) (where string, has apiresource.Quantity) {
	for _, name := range slices.Sorted(maps.Keys(f.Nodes)) {
		if node := f.Nodes[name]; node != nil {
			if q := node.Status.Allocatable[resource]; where == "" || q.Cmp(has) > 0 {
				where, has = name, q
			}
		}
	}
	return where, has
}

// amount is a quantity as people say it: CPU as a number, bytes in the unit that leaves few digits, rounded down.
func amount(name corev1.ResourceName, q apiresource.Quantity) string {
	const step = 1024
	switch {
	case name == corev1.ResourceCPU:
		return fmt.Sprintf("%g cpu", float64(q.MilliValue())/1000)
	case (name == corev1.ResourceMemory || name == corev1.ResourceEphemeralStorage) && q.Value() >= step*step && len(q.String()) > 6:
		n, units := float64(q.Value())/step, []string{"Ki", "Mi", "Gi", "Ti", "Pi", "Ei"}
		for n >= step && len(units) > 1 {
			n, units = n/step, units[1:]
		}
		return fmt.Sprintf("%g%s %s", math.Floor(n*10)/10, units[0], name)
	}
	return fmt.Sprintf("%s %s", q.String(), name)
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
