package scheduler

import (
	corev1 "k8s.io/api/core/v1"
)

const (
	unschedulable    = "node(s) were unschedulable"
	wrongName        = "node(s) didn't match the requested node name"
	untoleratedTaint = "node(s) had untolerated taint(s)"
	affinityMismatch = "node(s) didn't match Pod's node affinity/selector"
	portTaken        = "node(s) didn't have free ports for the requested pod ports"
)

// filterUnschedulable keeps pods off cordoned nodes, unless they tolerate the taint that cordoning stands for.
func filterUnschedulable(_ *cluster, p *podInfo) check {
	if tolerates(p.pod.Spec.Tolerations, &corev1.Taint{Key: corev1.TaintNodeUnschedulable, Effect: corev1.TaintEffectNoSchedule}) {
		return nil
	}
	return func(n *node) reason {
		if n.object.Spec.Unschedulable {
			return final(unschedulable)
		}
		return reason{}
	}
}

func filterNodeName(_ *cluster, p *podInfo) check {
	name := p.pod.Spec.NodeName
	if name == "" {
		return nil
	}
	return func(n *node) reason {
		if n.name != name {
			return final(wrongName)
		}
		return reason{}
	}
}

func tolerates(tolerations []corev1.Toleration, taint *corev1.Taint) bool {
	for i := range tolerations {
		t := &tolerations[i]
		if t.Effect != "" && t.Effect != taint.Effect {
			continue
		}
		if t.Key != "" && t.Key != taint.Key {
			continue
		}
		switch t.Operator {
		case corev1.TolerationOpExists:
			return true
		case corev1.TolerationOpEqual, "":
			if t.Key != "" && t.Value == taint.Value {
				return true
			}
		}
	}
	return false
}

// repels reports whether n has a taint that forbids scheduling and that none of the tolerations covers.
func repels(n *node, tolerations []corev1.Toleration) bool {
	taints := n.object.Spec.Taints
	for i := range taints {
		hard := taints[i].Effect == corev1.TaintEffectNoSchedule || taints[i].Effect == corev1.TaintEffectNoExecute
		if hard && !tolerates(tolerations, &taints[i]) {
			return true
		}
	}
	return false
}

func filterTaints(_ *cluster, p *podInfo) check {
	tolerations := p.pod.Spec.Tolerations
	return func(n *node) reason {
		if len(n.object.Spec.Taints) > 0 && repels(n, tolerations) {
			return final(untoleratedTaint)
		}
		return reason{}
	}
}

// scoreTaints counts the PreferNoSchedule taints that p does not tolerate.
func scoreTaints(_ *cluster, p *podInfo) scorer {
	tolerations := p.pod.Spec.Tolerations
	return func(n *node) int64 {
		var count int64
		for i := range n.object.Spec.Taints {
			if t := &n.object.Spec.Taints[i]; t.Effect == corev1.TaintEffectPreferNoSchedule && !tolerates(tolerations, t) {
				count++
			}
		}
		return count
	}
}

func filterAffinity(_ *cluster, p *podInfo) check {
	if !p.selects {
		return nil
	}
	return func(n *node) reason {
		// An error is a term that does not parse: it matches nothing.
		if ok, err := p.required.Match(n.object); !ok || err != nil {
			return final(affinityMismatch)
		}
		return reason{}
	}
}

func scoreAffinity(_ *cluster, p *podInfo) scorer {
	if p.preferred == nil {
		return nil
	}
	return func(n *node) int64 { return p.preferred.Score(n.object) }
}

func filterPorts(_ *cluster, p *podInfo) check {
	if len(p.ports) == 0 {
		return nil
	}
	return func(n *node) reason {
		for _, want := range p.ports {
			for taken := range n.ports {
				if want.clashes(taken) {
					return passing(portTaken)
				}
			}
		}
		return reason{}
	}
}

// scoreImages prefers nodes that hold p's images, by size: 23 MiB or less of them count nothing, 1000 MiB per container the most.
// An image that only few nodes hold is discounted by their share, or all pods of a kind would heap up there.
func scoreImages(c *cluster, p *podInfo) scorer {
	const floor, ceiling = 23 << 20, 1000 << 20
	containers := p.pod.Spec.Containers
	total := int64(len(c.order))
	holders := make([]int64, len(containers))
	held := false
	for i := range containers {
		name := containers[i].Image
		holders[i] = int64(c.images[name] + c.images[name+":latest"])
		held = held || holders[i] > 0
	}
	if !held || total == 0 {
		return nil
	}
	return func(n *node) int64 {
		var sum int64
		for i := range containers {
			if size, ok := n.image(containers[i].Image); ok {
				sum += size * holders[i] / total
			}
		}
		most := int64(ceiling) * int64(len(containers))
		return maxScore * (min(max(sum, floor), most) - floor) / (most - floor)
	}
}

// image returns the size of an image on the node, by the name as the pod writes it or with the tag that is implied.
func (n *node) image(name string) (int64, bool) {
	if size, ok := n.images[name]; ok {
		return size, true
	}
	size, ok := n.images[name+":latest"]
	return size, ok
}
