package disruption

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"canopus/internal/controllers/podstate"
)

const (
	// deletionTimeout is how long an evicted pod counts as gone although no deletion of it has been seen.
	deletionTimeout = 2 * time.Minute
	// staleTimeout is how long a pod that is not being deleted may announce that it will be.
	staleTimeout = 2 * time.Minute
)

// byScale reports whether the budget depends on how many pods there should be, and not only on how many there are.
func byScale(s *policyv1.PodDisruptionBudgetSpec) bool {
	return s.MaxUnavailable != nil || s.MinAvailable != nil && s.MinAvailable.Type == intstr.String
}

// observed is all that a budget's status depends on.
type observed struct {
	budget *policyv1.PodDisruptionBudget
	pods   []*corev1.Pod       // those that the budget selects
	scales map[types.UID]int32 // wanted pods by controller of pods; only if byScale
}

// planned is the status to write and what else follows.
type planned struct {
	status  policyv1.PodDisruptionBudgetStatus
	overdue []*corev1.Pod // evicted, but deletionTimeout has passed without a deletion
	recheck time.Duration // when the next eviction is overdue; 0: none is awaited
}

// plan counts the pods of a budget. Conditions of the old status keep their transition times where nothing changed.
func plan(o observed, now time.Time) (planned, error) {
	expected, desired, err := bounds(o)
	if err != nil {
		return planned{}, err
	}
	p := planned{}
	var awaited map[string]metav1.Time
	awaited, p.overdue, p.recheck = disrupted(o, now)
	healthy := healthy(o.pods, awaited)
	allowed := max(healthy-desired, 0)
	if expected <= 0 {
		allowed = 0
	}
	p.status = *o.budget.Status.DeepCopy()
	p.status.ObservedGeneration = o.budget.Generation
	p.status.DisruptedPods = awaited
	p.status.ExpectedPods, p.status.DesiredHealthy = expected, desired
	p.status.CurrentHealthy, p.status.DisruptionsAllowed = healthy, allowed
	c := metav1.Condition{Status: metav1.ConditionFalse, Reason: policyv1.InsufficientPodsReason}
	if allowed > 0 {
		c.Status, c.Reason = metav1.ConditionTrue, policyv1.SufficientPodsReason
	}
	setCondition(&p.status, c, now)
	return p, nil
}

// failed is the status of a budget that could not be computed: no more evictions until it can.
func failed(b *policyv1.PodDisruptionBudget, why error, now time.Time) policyv1.PodDisruptionBudgetStatus {
	s := *b.Status.DeepCopy()
	s.DisruptionsAllowed = 0
	setCondition(&s, metav1.Condition{Status: metav1.ConditionFalse, Reason: policyv1.SyncFailedReason, Message: why.Error()}, now)
	return s
}

func setCondition(s *policyv1.PodDisruptionBudgetStatus, c metav1.Condition, now time.Time) {
	c.Type = policyv1.DisruptionAllowedCondition
	c.ObservedGeneration = s.ObservedGeneration
	c.LastTransitionTime = metav1.NewTime(now)
	meta.SetStatusCondition(&s.Conditions, c)
}

// bounds returns how many pods there should be and how many of them must be healthy. Percentages are rounded up, whether
// they protect pods or release them.
func bounds(o observed) (expected, desired int32, err error) {
	spec := &o.budget.Spec
	if byScale(spec) {
		for _, n := range o.scales {
			expected += n
		}
	}
	switch {
	case spec.MaxUnavailable != nil:
		n, err := intstr.GetScaledValueFromIntOrPercent(spec.MaxUnavailable, int(expected), true)
		if err != nil {
			return 0, 0, fmt.Errorf("spec.maxUnavailable: %w", err)
		}
		return expected, max(expected-int32(n), 0), nil //nolint:gosec // validated to fit
	case spec.MinAvailable == nil:
		return 0, 0, nil
	case spec.MinAvailable.Type == intstr.Int:
		return int32(len(o.pods)), spec.MinAvailable.IntVal, nil //nolint:gosec // a namespace holds fewer pods
	}
	n, err := intstr.GetScaledValueFromIntOrPercent(spec.MinAvailable, int(expected), true)
	if err != nil {
		return 0, 0, fmt.Errorf("spec.minAvailable: %w", err)
	}
	return expected, int32(n), nil //nolint:gosec // at most expected
}

// disrupted sorts the evictions that the API server noted in the budget: those whose pod is gone or going are done with,
// the others are awaited until they are overdue. next is the time until the first of the awaited is.
func disrupted(o observed, now time.Time) (awaited map[string]metav1.Time, overdue []*corev1.Pod, next time.Duration) {
	awaited = map[string]metav1.Time{}
	for _, pod := range o.pods {
		at, noted := o.budget.Status.DisruptedPods[pod.Name]
		if !noted || pod.DeletionTimestamp != nil {
			continue
		}
		left := at.Add(deletionTimeout).Sub(now)
		if left <= 0 {
			overdue = append(overdue, pod)
			continue
		}
		awaited[pod.Name] = at
		if next == 0 || left < next {
			next = left
		}
	}
	return awaited, overdue, next
}

// healthy counts the ready pods that are not on their way out.
func healthy(pods []*corev1.Pod, awaited map[string]metav1.Time) int32 {
	n := int32(0)
	for _, pod := range pods {
		if _, going := awaited[pod.Name]; !going && pod.DeletionTimestamp == nil && podstate.Ready(pod) {
			n++
		}
	}
	return n
}

// stale reports whether pod says that it is about to be disrupted although nobody deletes it, and for how long it may go
// on to say so. What a kubelet says is never stale, because its containers may take any time to end.
func stale(pod *corev1.Pod, now time.Time) (left time.Duration, announced bool) {
	if pod.DeletionTimestamp != nil || podstate.Finished(pod) {
		return 0, false
	}
	c := podstate.Condition(pod, corev1.DisruptionTarget)
	if c == nil || c.Status != corev1.ConditionTrue || c.Reason == corev1.PodReasonTerminationByKubelet {
		return 0, false
	}
	return max(c.LastTransitionTime.Add(staleTimeout).Sub(now), 0), true
}
