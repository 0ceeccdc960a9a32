package clusterroleaggregation

import (
	"fmt"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestAggregate(t *testing.T) {
	t.Parallel()
	role := func(name, to string, verbs ...string) *rbacv1.ClusterRole {
		r := &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"to": to}}}
		for _, v := range verbs {
			r.Rules = append(r.Rules, rbacv1.PolicyRule{Verbs: []string{v}})
		}
		return r
	}
	admin := role("admin", "admin", "stale")
	admin.AggregationRule = &rbacv1.AggregationRule{ClusterRoleSelectors: []metav1.LabelSelector{
		{MatchLabels: map[string]string{"to": "admin"}}, {MatchLabels: map[string]string{"to": "edit"}},
	}}
	got, err := aggregate(admin, []*rbacv1.ClusterRole{
		role("z", "admin", "get", "list"), role("a", "admin", "watch", "get"), role("e", "edit", "create", "get"), role("x", "view", "none"), admin,
	})
	if err != nil {
		t.Fatal(err)
	}
	verbs := ""
	for _, r := range got {
		verbs += r.Verbs[0] + " "
	}
	if want := "watch get list create "; verbs != want {
		t.Errorf("%s, want %s", verbs, want)
	}
	admin.AggregationRule.ClusterRoleSelectors[0].MatchExpressions = []metav1.LabelSelectorRequirement{{Key: "k", Operator: "Odd"}}
	if _, err := aggregate(admin, nil); err == nil {
		t.Error(fmt.Sprint("a bad selector passes: ", admin.AggregationRule))
	}
}
