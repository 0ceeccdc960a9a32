package scheduler

import (
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
)

// workloads are what tells which pods belong together: Services, ReplicaSets and StatefulSets.
type workloads struct {
	services map[string]map[string]labels.Set // selectors by namespace and name
	sets     map[types.UID]labels.Selector    // of ReplicaSets and StatefulSets
}

func newWorkloads() *workloads {
	return &workloads{services: map[string]map[string]labels.Set{}, sets: map[types.UID]labels.Selector{}}
}

func (w *workloads) setService(s *corev1.Service) {
	if len(s.Spec.Selector) == 0 {
		w.removeService(s)
		return
	}
	if w.services[s.Namespace] == nil {
		w.services[s.Namespace] = map[string]labels.Set{}
	}
	w.services[s.Namespace][s.Name] = s.Spec.Selector
}

func (w *workloads) removeService(s *corev1.Service) {
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
	if len(p.pod.Spec.TopologySpreadConstraints) > 0 {
		return p.spread.soft
	}
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

func (s *Scheduler) observeReplicaSet(r *appsv1.ReplicaSet) {
	s.cluster.workloads.sets[r.UID] = parseSelector(r.Spec.Selector)
}

func (s *Scheduler) observeStatefulSet(r *appsv1.StatefulSet) {
	s.cluster.workloads.sets[r.UID] = parseSelector(r.Spec.Selector)
}

func (s *Scheduler) forgetReplicaSet(r *appsv1.ReplicaSet)   { delete(s.cluster.workloads.sets, r.UID) }
func (s *Scheduler) forgetStatefulSet(r *appsv1.StatefulSet) { delete(s.cluster.workloads.sets, r.UID) }
