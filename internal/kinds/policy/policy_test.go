package policy_test

import (
	"testing"
	"time"

	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"

	"canopus/internal/kinds/policy"
)

func TestPodDisruptionBudget(t *testing.T) {
	t.Parallel()
	k := policy.PodDisruptionBudget()
	for name, tc := range map[string]struct {
		spec policyv1.PodDisruptionBudgetSpec
		want string
	}{
		"count":   {policyv1.PodDisruptionBudgetSpec{MinAvailable: ptr.To(intstr.FromInt32(1))}, ""},
		"percent": {policyv1.PodDisruptionBudgetSpec{MaxUnavailable: ptr.To(intstr.FromString("100%"))}, ""},
		"over":    {policyv1.PodDisruptionBudgetSpec{MaxUnavailable: ptr.To(intstr.FromString("101%"))}, "spec.maxUnavailable"},
		"below":   {policyv1.PodDisruptionBudgetSpec{MinAvailable: ptr.To(intstr.FromInt32(-1))}, "spec.minAvailable"},
		"both":    {policyv1.PodDisruptionBudgetSpec{MinAvailable: ptr.To(intstr.FromInt32(1)), MaxUnavailable: ptr.To(intstr.FromInt32(1))}, "spec"},
		"policy":  {policyv1.PodDisruptionBudgetSpec{UnhealthyPodEvictionPolicy: ptr.To(policyv1.UnhealthyPodEvictionPolicyType("x"))}, "spec.unhealthyPodEvictionPolicy"},
	} {
		b := &policyv1.PodDisruptionBudget{ObjectMeta: metav1.ObjectMeta{Name: "b", Namespace: "n"}, Spec: tc.spec}
		errs := k.Validate(b)
		switch {
		case tc.want == "" && len(errs) > 0:
			t.Errorf("%s: %v", name, errs)
		case tc.want != "" && (len(errs) != 1 || errs[0].Field != tc.want):
			t.Errorf("%s: want %s, got %v", name, tc.want, errs)
		}
	}
	cells := k.Cells(&policyv1.PodDisruptionBudget{Spec: policyv1.PodDisruptionBudgetSpec{MinAvailable: ptr.To(intstr.FromString("50%"))}}, time.Unix(0, 0))
	if cells[1] != "50%" || cells[2] != "N/A" {
		t.Error(cells)
	}
}
