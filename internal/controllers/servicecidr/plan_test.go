package servicecidr

import (
	"slices"
	"testing"
	"time"

	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func cidr(name, text string, deleted time.Time) *networkingv1.ServiceCIDR {
	r := &networkingv1.ServiceCIDR{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: networkingv1.ServiceCIDRSpec{CIDRs: []string{text}}}
	if !deleted.IsZero() {
		r.DeletionTimestamp, r.Finalizers = &metav1.Time{Time: deleted}, []string{"other", finalizer}
	}
	return r
}

func TestPlan(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_800_000_000, 0)
	long, just := now.Add(-time.Minute), now.Add(-3*time.Second)
	for name, c := range map[string]struct {
		r         *networkingv1.ServiceCIDR
		others    []*networkingv1.ServiceCIDR
		address   string
		protected bool
		ready     metav1.ConditionStatus // "": not said
		wait      time.Duration
	}{
		"new":                  {r: cidr("a", "10.0.0.0/24", time.Time{}), protected: true, ready: metav1.ConditionTrue},
		"deleted, in use":      {r: cidr("a", "10.0.0.0/24", long), address: "10.0.0.7", protected: true, ready: metav1.ConditionFalse},
		"deleted, unused":      {r: cidr("a", "10.0.0.0/24", long), address: "10.0.1.7"},
		"deleted just now":     {r: cidr("a", "10.0.0.0/24", just), protected: true, wait: 7 * time.Second},
		"taken over":           {r: cidr("a", "10.0.0.0/24", long), address: "10.0.0.7", others: []*networkingv1.ServiceCIDR{cidr("b", "10.0.0.0/16", time.Time{})}},
		"not where it matters": {r: cidr("a", "10.0.0.0/24", long), address: "10.0.0.200", others: []*networkingv1.ServiceCIDR{cidr("b", "10.0.0.0/25", time.Time{})}, protected: true, ready: metav1.ConditionFalse},
		"both deleted":         {r: cidr("a", "10.0.0.0/24", long), address: "10.0.0.7", others: []*networkingv1.ServiceCIDR{cidr("b", "10.0.0.0/16", long)}, protected: true, ready: metav1.ConditionFalse},
	} {
		var addresses []*networkingv1.IPAddress
		if c.address != "" {
			addresses = append(addresses, &networkingv1.IPAddress{ObjectMeta: metav1.ObjectMeta{Name: c.address}})
		}
		next, wait := plan(c.r, append(c.others, c.r), addresses, now)
		if slices.Contains(next.Finalizers, finalizer) != c.protected || wait != c.wait {
			t.Errorf("%s: finalizers %v, wait %s", name, next.Finalizers, wait)
		}
		var status metav1.ConditionStatus
		if ready := meta.FindStatusCondition(next.Status.Conditions, "Ready"); ready != nil {
			status = ready.Status
		}
		if status != c.ready {
			t.Errorf("%s: Ready %q, want %q", name, status, c.ready)
		}
		if again, _ := plan(next, append(c.others, next), addresses, now.Add(time.Second)); !slices.Equal(again.Finalizers, next.Finalizers) || len(again.Status.Conditions) > 0 && again.Status.Conditions[0] != next.Status.Conditions[0] {
			t.Errorf("%s: planned again: %+v", name, again)
		}
	}
}
