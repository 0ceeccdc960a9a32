package replicaset

import (
	"cmp"
	"math"
	"slices"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"canopus/internal/controllers/podstate"
)

// ranking orders pods by how little is lost when they go.
type ranking struct {
	related map[string]int
	now     time.Time
}

// cheapest returns the n of active whose loss costs least. active is not changed.
func cheapest(active []*corev1.Pod, n int, r ranking) []*corev1.Pod {
	if n >= len(active) {
		return active
	}
	sorted := slices.Clone(active)
	slices.SortStableFunc(sorted, r.compare)
	return sorted[:n]
}

// compare is negative when a should go before b. Users rely on this order: unassigned, pending, not ready, low
// controller.kubernetes.io/pod-deletion-cost, crowded node, ready for a shorter time, more restarts, younger. Times are
// compared by order of magnitude, so that pods of about the same age go evenly rather than always the youngest.
func (r ranking) compare(a, b *corev1.Pod) int {
	return cmp.Or(
		falseFirst(a.Spec.NodeName != "", b.Spec.NodeName != ""),
		cmp.Compare(phaseOrder(a), phaseOrder(b)),
		falseFirst(podstate.Ready(a), podstate.Ready(b)),
		cmp.Compare(deletionCost(a), deletionCost(b)),
		cmp.Compare(r.related[b.Spec.NodeName], r.related[a.Spec.NodeName]),
		r.younger(readySince(a), readySince(b), a, b),
		cmp.Compare(restarts(b), restarts(a)),
		r.younger(a.CreationTimestamp, b.CreationTimestamp, a, b),
	)
}

func falseFirst(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	}
	return -1
}

func phaseOrder(p *corev1.Pod) int {
	switch p.Status.Phase {
	case corev1.PodPending, "":
		return 0
	case corev1.PodUnknown:
		return 1
	}
	return 2
}

// deletionCost reads the annotation; admission refuses values that are no int32, so a bad one counts as none.
func deletionCost(p *corev1.Pod) int32 {
	v, err := strconv.ParseInt(p.Annotations[corev1.PodDeletionCost], 10, 32)
	if err != nil {
		return 0
	}
	return int32(v)
}

func readySince(p *corev1.Pod) metav1.Time {
	if c := podstate.Condition(p, corev1.PodReady); c != nil && c.Status == corev1.ConditionTrue {
		return c.LastTransitionTime
	}
	return metav1.Time{}
}

// younger orders times newest first by magnitude of age, unknown times before known ones, equals by UID (which is random).
func (r ranking) younger(ta, tb metav1.Time, a, b *corev1.Pod) int {
	switch {
	case ta.Equal(&tb):
		return 0
	case ta.IsZero():
		return -1
	case tb.IsZero():
		return 1
	}
	if c := cmp.Compare(magnitude(r.now.Sub(ta.Time)), magnitude(r.now.Sub(tb.Time))); c != 0 {
		return c
	}
	return cmp.Compare(a.UID, b.UID)
}

func magnitude(age time.Duration) int {
	if age <= 0 {
		return -1
	}
	return int(math.Log2(age.Seconds() + 1))
}

func restarts(p *corev1.Pod) int32 {
	var most int32
	for _, c := range p.Status.ContainerStatuses {
		most = max(most, c.RestartCount)
	}
	return most
}
