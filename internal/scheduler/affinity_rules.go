package scheduler

import "slices"

const (
	notNear   = "node(s) didn't match pod affinity rules"
	notApart  = "node(s) didn't match pod anti-affinity rules"
	unwelcome = "node(s) didn't satisfy existing pods anti-affinity rules"
)

// filterPodAffinity refuses nodes whose topology domains hold none of the pods that p must be near, or one that p must be
// apart from, or one that must be apart from p.
func filterPodAffinity(c *cluster, p *podInfo) check {
	var near, apart []*podCount
	for i := range p.terms.near { // a pod counts as near when all terms mean it
		near = append(near, c.affinity.get(c, p.terms.near[i].topology, p.terms.near))
	}
	for i := range p.terms.apart {
		apart = append(apart, c.affinity.get(c, p.terms.apart[i].topology, p.terms.apart[i:i+1]))
	}
	var others []*carriedTerm
	for k := range c.affinity.apart.of(p.pod) {
		if len(k.domains) > 0 && k.term.matches(p.pod, c.affinity.namespaces) {
			others = append(others, k)
		}
	}
	if near == nil && apart == nil && others == nil {
		return nil
	}
	// The first of pods that want to be near each other could never be placed: it needs nobody.
	first := !slices.ContainsFunc(near, func(a *podCount) bool { return len(a.domains) > 0 }) && p.terms.matchesAll(p.pod, c.affinity.namespaces)
	return func(n *node) reason {
		for _, a := range near {
			if value, ok := n.object.Labels[a.topology]; !ok || (!first && a.domains[value] == 0) {
				return final(notNear)
			}
		}
		for _, a := range apart {
			if value, ok := n.object.Labels[a.topology]; ok && a.domains[value] > 0 {
				return passing(notApart)
			}
		}
		for _, k := range others {
			if value, ok := n.object.Labels[k.term.topology]; ok && k.domains[value] > 0 {
				return passing(unwelcome)
			}
		}
		return reason{}
	}
}

// scorePodAffinity adds up the weights of p's preferences for each pod in the node's domains, and those of the placed pods
// that would have p near or far; a required affinity counts among the latter.
func scorePodAffinity(c *cluster, p *podInfo) scorer {
	type wish struct {
		*podCount
		weight int64
	}
	var wishes []wish
	for i := range p.terms.wishes {
		t := &p.terms.wishes[i]
		if a := c.affinity.get(c, t.topology, p.terms.wishes[i:i+1]); len(a.domains) > 0 {
			wishes = append(wishes, wish{a, t.weight})
		}
	}
	var others []*carriedTerm
	for k := range c.affinity.scores.of(p.pod) {
		if len(k.domains) > 0 && k.term.matches(p.pod, c.affinity.namespaces) {
			others = append(others, k)
		}
	}
	if wishes == nil && others == nil {
		return nil
	}
	return func(n *node) int64 {
		var sum int64
		for _, w := range wishes {
			if value, ok := n.object.Labels[w.topology]; ok {
				sum += int64(w.domains[value]) * w.weight
			}
		}
		for _, k := range others {
			if value, ok := n.object.Labels[k.term.topology]; ok {
				sum += k.domains[value]
			}
		}
		return sum
	}
}

// stretch scales points so that the least becomes 0 and the most 100.
func stretch(points []int64) {
	least, most := slices.Min(points), slices.Max(points)
	for i, p := range points {
		points[i] = 0
		if most > least {
			points[i] = int64(maxScore * (float64(p-least) / float64(most-least)))
		}
	}
}
