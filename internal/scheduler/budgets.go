package scheduler

import (
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
)

// budget is a pod disruption budget, parsed.
type budget struct {
	object   *policyv1.PodDisruptionBudget
	selector labels.Selector
}

func (c *cluster) setBudget(object *policyv1.PodDisruptionBudget) {
	c.gen++
	c.evictable = c.gen
	c.budgets[types.NamespacedName{Namespace: object.Namespace, Name: object.Name}] = &budget{object, parseSelector(object.Spec.Selector)}
}

func (c *cluster) removeBudget(namespace, name string) {
	c.gen++
	c.evictable = c.gen
	delete(c.budgets, types.NamespacedName{Namespace: namespace, Name: name})
}

// protects reports whether pod counts in b. A budget with an empty selector protects nobody from the scheduler, and a pod whose
// disruption the budget has already counted is free.
func (b *budget) protects(pod *corev1.Pod) bool {
	if b.object.Namespace != pod.Namespace || b.selector.Empty() || !b.selector.Matches(labels.Set(pod.Labels)) {
		return false
	}
	_, counted := b.object.Status.DisruptedPods[pod.Name]
	return !counted
}

// byBudget divides units, keeping their order, into those whose eviction would break a budget if all before them were evicted,
// and the others.
func byBudget(c *cluster, units []unit) (protected, free []unit) {
	if len(c.budgets) == 0 {
		return nil, units
	}
	left := map[*budget]int32{}
	for _, b := range c.budgets {
		left[b] = b.object.Status.DisruptionsAllowed
	}
	for _, u := range units {
		for _, p := range u.pods {
			breaks := false
			for b := range left {
				if b.protects(p.pod) {
					left[b]--
					breaks = breaks || left[b] < 0
				}
			}
			if breaks {
				u.breaks++
			}
		}
		if u.breaks > 0 {
			protected = append(protected, u)
		} else {
			free = append(free, u)
		}
	}
	return protected, free
}
