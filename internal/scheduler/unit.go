package scheduler

import (
	"cmp"
	"slices"

	corev1 "k8s.io/api/core/v1"
	schedulingv1beta1 "k8s.io/api/scheduling/v1beta1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
)

// unit is what is evicted as a whole or not at all: a pod, as a rule, or all pods of a group whose disruption mode is All, on
// whatever nodes they are.
type unit struct {
	pods     []*podInfo // the most important first
	whole    bool       // a group
	priority int32      // of a group the highest there is, of its pods' and its own
	started  int64      // when the first of them began to run
	breaks   int        // how many of them their disruption budgets would keep
}

// cohort is a pod group as far as evictions go.
type cohort struct {
	placed map[types.UID]*placed
	whole  *schedulingv1beta1.PodGroup // set when it can be disrupted as a whole only
}

// setGroup takes note of how a group may be disrupted.
func (c *cluster) setGroup(g *schedulingv1beta1.PodGroup) {
	whole := g
	if g.Spec.DisruptionMode == nil || g.Spec.DisruptionMode.All == nil {
		whole = nil
	}
	c.setWhole(types.NamespacedName{Namespace: g.Namespace, Name: g.Name}, whole)
}

func (c *cluster) removeGroup(key types.NamespacedName) { c.setWhole(key, nil) }

// setWhole makes stale what is known about evictions when it matters to them.
func (c *cluster) setWhole(key types.NamespacedName, whole *schedulingv1beta1.PodGroup) {
	k := c.cohorts[key]
	if k == nil && whole == nil {
		return
	}
	if k == nil {
		k = &cohort{placed: map[types.UID]*placed{}}
		c.cohorts[key] = k
	}
	was := k.whole
	k.whole = whole
	if (was == nil) != (whole == nil) || was != nil && !ptr.Equal(was.Spec.Priority, whole.Spec.Priority) {
		c.gen++
		c.evictable = c.gen
	}
	c.dropCohort(key, k)
}

// enlist counts a pod that has a node in its group, discharge no more.
func (c *cluster) enlist(at *placed) {
	key, ok := groupOf(at.info.pod)
	if !ok {
		return
	}
	if c.cohorts[key] == nil {
		c.cohorts[key] = &cohort{placed: map[types.UID]*placed{}}
	}
	c.cohorts[key].placed[at.info.pod.UID] = at
}

func (c *cluster) discharge(at *placed) {
	key, ok := groupOf(at.info.pod)
	if k := c.cohorts[key]; ok && k != nil {
		delete(k.placed, at.info.pod.UID)
		c.dropCohort(key, k)
	}
}

func (c *cluster) dropCohort(key types.NamespacedName, k *cohort) {
	if len(k.placed) == 0 && k.whole == nil {
		delete(c.cohorts, key)
	}
}

// wholeOf is pod's group if it can be disrupted as a whole only, or nil.
func (c *cluster) wholeOf(pod *corev1.Pod) *cohort {
	if key, ok := groupOf(pod); ok {
		if k := c.cohorts[key]; k != nil && k.whole != nil {
			return k
		}
	}
	return nil
}

// units are pods as they can be evicted: who can only be evicted with others brings all of them along. wide tells whether there
// is such a pod.
func (c *cluster) units(pods []*podInfo) (out []unit, wide bool) {
	var seen []*cohort
	for i, q := range pods {
		k := c.wholeOf(q.pod)
		if k == nil {
			out = append(out, unit{pods: pods[i : i+1 : i+1], priority: q.priority, started: q.started()})
			continue
		}
		if !slices.Contains(seen, k) {
			seen = append(seen, k)
			out = append(out, k.unit(c, pods))
		}
	}
	return out, len(seen) > 0
}

// unit is the whole group: those that have nodes, and those of also, which may have been lifted.
func (k *cohort) unit(c *cluster, also []*podInfo) unit {
	u := unit{whole: true}
	for _, at := range k.placed {
		u.pods = append(u.pods, at.info)
	}
	for _, q := range also {
		if k.placed[q.pod.UID] == nil && c.wholeOf(q.pod) == k {
			u.pods = append(u.pods, q)
		}
	}
	slices.SortFunc(u.pods, byImportance)
	u.priority, u.started = u.pods[0].priority, u.pods[0].started()
	if own := k.whole.Spec.Priority; own != nil {
		u.priority = max(u.priority, *own)
	}
	for _, q := range u.pods {
		u.started = min(u.started, q.started())
	}
	return u
}

// below are the units with a pod on n that may be evicted for p, the more important first.
func (c *cluster) below(p *podInfo, n *node) (out []unit, wide bool) {
	pods := make([]*podInfo, 0, len(n.pods))
	for _, q := range n.pods {
		if q.priority < p.priority && !mates(p.pod, q.pod) {
			pods = append(pods, q)
		}
	}
	out, wide = c.units(pods)
	if wide {
		out = slices.DeleteFunc(out, func(u unit) bool { return u.priority >= p.priority })
	}
	slices.SortFunc(out, func(a, b unit) int { return a.compare(&b) })
	return out, wide
}

// compare orders the more important unit first: by priority, groups before pods, then the one that has run longer.
func (a *unit) compare(b *unit) int {
	rank := func(u *unit) int {
		if u.whole {
			return 0
		}
		return 1
	}
	return cmp.Or(
		cmp.Compare(b.priority, a.priority),
		cmp.Compare(rank(a), rank(b)),
		cmp.Compare(a.started, b.started),
		cmp.Compare(len(b.pods), len(a.pods)),
		cmp.Compare(a.pods[0].pod.UID, b.pods[0].pod.UID),
	)
}
