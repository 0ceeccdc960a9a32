package scheduler

import (
	"maps"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
)

// workloads are what tells which pods belong together: Services, ReplicaSets, StatefulSets and ReplicationControllers.
type workloads struct {
	services map[string]map[string]labels.Set // selectors by namespace and name
	sets     map[types.UID]labels.Selector    // of the others
	gen      uint64                           // changes with every change; never 0
}

func newWorkloads() *workloads {
	return &workloads{services: map[string]map[string]labels.Set{}, sets: map[types.UID]labels.Selector{}, gen: 1}
}

func (w *workloads) setService(s *corev1.Service) {
	if len(s.Spec.Selector) == 0 {
		w.removeService(s)
		return
	}
	if old, ok := w.services[s.Namespace][s.Name]; ok && maps.Equal(old, s.Spec.Selector) {
		return
	}
	w.gen++
	if w.services[s.Namespace] == nil {
		w.services[s.Namespace] = map[string]labels.Set{}
	}
	w.services[s.Namespace][s.Name] = s.Spec.Selector
}

func (w *workloads) removeService(s *corev1.Service) {
	w.gen++
	delete(w.services[s.Namespace], s.Name)
	if len(w.services[s.Namespace]) == 0 {
		delete(w.services, s.Namespace)
	}
}

// selector means what all Services that select pod, and its ReplicaSet or StatefulSet, have in common; it is empty when pod
// belongs to none of them.
func (w *workloads) selector(pod *corev1.Pod) labels.Selector {
	merged := labels.Set{}
	for _, s := range w.services[pod.Namespace] {
		if selects(s, pod.Labels) {
			merged = labels.Merge(merged, s)
		}
	}
	out := merged.AsSelector()
	if owner := metav1.GetControllerOfNoCopy(pod); owner != nil && w.sets[owner.UID] != nil {
		requirements, _ := w.sets[owner.UID].Requirements()
		out = out.Add(requirements...)
	}
	return out
}

func selects(selector, own map[string]string) bool {
	for k, want := range selector {
		if have, ok := own[k]; !ok || have != want {
			return false
		}
	}
	return true
}

// softSpread are the constraints that nodes are scored by: p's own soft ones, or, for a pod that has no constraints at all,
// upstream's defaults over the pods it belongs with.
func (c *cluster) softSpread(p *podInfo) []spreadConstraint {
	if len(p.pod.Spec.TopologySpreadConstraints) > 0 || p.spread.given {
		return p.spread.soft
	}
	if p.class.softAt != c.workloads.gen {
		p.class.soft, p.class.softAt = c.defaultSpread(p), c.workloads.gen
	}
	return p.class.soft
}

func (c *cluster) defaultSpread(p *podInfo) []spreadConstraint {
	selector := c.workloads.selector(p.pod)
	if selector.Empty() {
		return nil
	}
	const zoneSkew, hostSkew = 5, 3
	out := make([]spreadConstraint, 0, 2)
	for _, d := range []struct {
		topology string
		skew     int32
	}{{corev1.LabelHostname, hostSkew}, {corev1.LabelTopologyZone, zoneSkew}} {
		out = append(out, spreadConstraint{
			TopologySpreadConstraint: corev1.TopologySpreadConstraint{TopologyKey: d.topology, MaxSkew: d.skew, WhenUnsatisfiable: corev1.ScheduleAnyway},
			selector:                 selector,
		}.identified(p.pod))
	}
	return out
}

func (s *Scheduler) observeService(v *corev1.Service) { s.cluster.workloads.setService(v) }
func (s *Scheduler) forgetService(v *corev1.Service)  { s.cluster.workloads.removeService(v) }

// setOwner makes known which pods a workload owns.
func (w *workloads) setOwner(uid types.UID, selector labels.Selector) {
	if old := w.sets[uid]; old != nil && selectorID(old) == selectorID(selector) {
		return
	}
	w.gen++
	w.sets[uid] = selector
}

func (w *workloads) removeOwner(uid types.UID) {
	w.gen++
	delete(w.sets, uid)
}

func (s *Scheduler) observeReplicaSet(r *appsv1.ReplicaSet) {
	s.cluster.workloads.setOwner(r.UID, parseSelector(r.Spec.Selector))
}

func (s *Scheduler) observeStatefulSet(r *appsv1.StatefulSet) {
	s.cluster.workloads.setOwner(r.UID, parseSelector(r.Spec.Selector))
}

func (s *Scheduler) observeReplicationController(r *corev1.ReplicationController) {
	s.cluster.workloads.setOwner(r.UID, labels.SelectorFromSet(r.Spec.Selector))
}

func (s *Scheduler) forgetReplicaSet(r *appsv1.ReplicaSet)   { s.cluster.workloads.removeOwner(r.UID) }
func (s *Scheduler) forgetStatefulSet(r *appsv1.StatefulSet) { s.cluster.workloads.removeOwner(r.UID) }
func (s *Scheduler) forgetReplicationController(r *corev1.ReplicationController) {
	s.cluster.workloads.removeOwner(r.UID)
}
