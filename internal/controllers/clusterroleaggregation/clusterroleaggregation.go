// Package clusterroleaggregation fills the rules of ClusterRoles with an aggregationRule from the ClusterRoles that it
// selects: admin, edit and view grow by what custom resources add to them.
package clusterroleaggregation

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	rbacapply "k8s.io/client-go/applyconfigurations/rbac/v1"
	rbaclisters "k8s.io/client-go/listers/rbac/v1"

	"canopus/internal/controllers/reconcile"
)

const fieldManager = "clusterrole-aggregation-controller"

// Controller reconciles ClusterRoles that have an aggregationRule.
type Controller struct {
	reconcile.Deps
	roles rbaclisters.ClusterRoleLister
	loop  *reconcile.Loop[string]
}

// New makes a controller that does nothing before Run.
func New(d reconcile.Deps) (*Controller, error) {
	if err := d.Check(); err != nil {
		return nil, err
	}
	roles := d.Informers.Rbac().V1().ClusterRoles()
	c := &Controller{Deps: d, roles: roles.Lister()}
	var err error
	c.loop, err = reconcile.New(reconcile.Config[string]{
		Name: "ClusterRoleAggregator", Workers: 2, Reconcile: c.reconcile, Clock: d.Clock, Log: d.Log, Queues: d.Queues,
		Sources: []reconcile.Source[string]{reconcile.On(roles.Informer(), c.roleChanged)},
	})
	return c, err
}

// Run works until ctx ends.
func (c *Controller) Run(ctx context.Context) error { return c.loop.Run(ctx) }

// roleChanged names all roles that aggregate: any of them may select the one that changed, now or before.
func (c *Controller) roleChanged(old, role *rbacv1.ClusterRole) []string {
	if old != nil && role != nil && old.ResourceVersion == role.ResourceVersion {
		return nil
	}
	all, err := c.roles.List(labels.Everything())
	if err != nil {
		return nil
	}
	var keys []string
	for _, r := range all {
		if r.AggregationRule != nil {
			keys = append(keys, r.Name)
		}
	}
	return keys
}

func (c *Controller) reconcile(ctx context.Context, name string) (time.Duration, error) {
	role, err := c.roles.Get(name)
	if apierrors.IsNotFound(err) || err == nil && role.AggregationRule == nil {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	all, err := c.roles.List(labels.Everything())
	if err != nil {
		return 0, err
	}
	rules, err := aggregate(role, all)
	if err != nil {
		return 0, reconcile.Terminal(fmt.Errorf("clusterrole %s: %w", name, err))
	}
	if equality.Semantic.DeepEqual(rules, role.Rules) {
		return 0, nil
	}
	apply := rbacapply.ClusterRole(name)
	for _, r := range rules {
		apply.WithRules(rbacapply.PolicyRule().WithVerbs(r.Verbs...).WithAPIGroups(r.APIGroups...).WithResources(r.Resources...).
			WithResourceNames(r.ResourceNames...).WithNonResourceURLs(r.NonResourceURLs...))
	}
	if len(rules) == 0 {
		apply.Rules = []rbacapply.PolicyRuleApplyConfiguration{}
	}
	_, err = c.Client.RbacV1().ClusterRoles().Apply(ctx, apply, metav1.ApplyOptions{FieldManager: fieldManager, Force: true})
	if err != nil {
		return 0, fmt.Errorf("aggregate the rules of clusterrole %s: %w", name, err)
	}
	return 0, nil
}

// aggregate returns the rules that role should have: those of the roles it selects, in the order of their names, each once.
func aggregate(role *rbacv1.ClusterRole, all []*rbacv1.ClusterRole) ([]rbacv1.PolicyRule, error) {
	sorted := slices.SortedFunc(slices.Values(all), func(a, b *rbacv1.ClusterRole) int { return strings.Compare(a.Name, b.Name) })
	var rules []rbacv1.PolicyRule
	for i := range role.AggregationRule.ClusterRoleSelectors {
		selector, err := metav1.LabelSelectorAsSelector(&role.AggregationRule.ClusterRoleSelectors[i])
		if err != nil {
			return nil, fmt.Errorf("aggregation selector %d: %w", i, err)
		}
		for _, other := range sorted {
			if other.Name == role.Name || !selector.Matches(labels.Set(other.Labels)) {
				continue
			}
			for _, rule := range other.Rules {
				if !slices.ContainsFunc(rules, func(r rbacv1.PolicyRule) bool { return equality.Semantic.DeepEqual(r, rule) }) {
					rules = append(rules, rule)
				}
			}
		}
	}
	return rules, nil
}
