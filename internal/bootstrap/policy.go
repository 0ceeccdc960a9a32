package bootstrap

import (
	"context"
	"fmt"
	"slices"

	"canopus/internal/auth/policy"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/component-helpers/auth/rbac/validation"
)

// completeMeta adds the labels and annotations that have lacks and says whether there were any. Present values stay.
func completeMeta(have *metav1.ObjectMeta, want *metav1.ObjectMeta) bool {
	changed := false
	for _, m := range []struct {
		have *map[string]string
		want map[string]string
	}{{&have.Labels, want.Labels}, {&have.Annotations, want.Annotations}} {
		for k, v := range m.want {
			if _, ok := (*m.have)[k]; !ok {
				changed = overlay(m.have, map[string]string{k: v}) || changed
			}
		}
	}
	return changed
}

// mine says whether an object may be completed: administrators opt out by setting the annotation to false.
func mine(o *metav1.ObjectMeta) bool { return o.Annotations[policy.AutoUpdate] != "false" }

// completeRules returns have with what want grants besides, and whether that is more. It takes nothing away.
func completeRules(have, want []rbacv1.PolicyRule) ([]rbacv1.PolicyRule, bool) {
	ok, lacking := validation.Covers(have, want)
	if ok {
		return have, false
	}
	return append(slices.Clone(have), lacking...), true
}

// completeSubjects returns have with the subjects of want that it lacks.
func completeSubjects(have, want []rbacv1.Subject) ([]rbacv1.Subject, bool) {
	out := slices.Clone(have)
	for _, s := range want {
		if !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out, len(out) > len(have)
}

// completeClusterRole returns what have should become, or nil when it is complete. Rules of an aggregated role are the aggregation
// controller's once they are there.
func completeClusterRole(have, want *rbacv1.ClusterRole) *rbacv1.ClusterRole {
	if !mine(&have.ObjectMeta) {
		return nil
	}
	next := have.DeepCopy()
	changed := completeMeta(&next.ObjectMeta, &want.ObjectMeta)
	if want.AggregationRule != nil {
		if !equality.Semantic.DeepEqual(have.AggregationRule, want.AggregationRule) {
			next.AggregationRule, changed = want.AggregationRule, true
		}
	}
	rules, more := completeRules(next.Rules, want.Rules)
	if next.Rules = rules; !changed && !more {
		return nil
	}
	return next
}

func completeRole(have, want *rbacv1.Role) *rbacv1.Role {
	if !mine(&have.ObjectMeta) {
		return nil
	}
	next := have.DeepCopy()
	changed := completeMeta(&next.ObjectMeta, &want.ObjectMeta)
	rules, more := completeRules(next.Rules, want.Rules)
	if next.Rules = rules; !changed && !more {
		return nil
	}
	return next
}

// byName indexes a list's elements.
func byName[T any](list []T, name func(*T) string) map[string]*T {
	m := make(map[string]*T, len(list))
	for i := range list {
		m[name(&list[i])] = &list[i]
	}
	return m
}

func (b *Bootstrap) clusterRoles(ctx context.Context) error {
	api := b.c.Client.RbacV1().ClusterRoles()
	list, err := api.List(ctx, metav1.ListOptions{})
	if err != nil {
		return fmt.Errorf("list cluster roles: %w", err)
	}
	have := byName(list.Items, func(r *rbacv1.ClusterRole) string { return r.Name })
	return each(ctx, policy.ClusterRoles(), func(ctx context.Context, want *rbacv1.ClusterRole) error {
		if have[want.Name] == nil {
			_, err := api.Create(ctx, want, metav1.CreateOptions{})
			return made("cluster role "+want.Name, err)
		}
		next := completeClusterRole(have[want.Name], want)
		if next == nil {
			return nil
		}
		_, err := api.Update(ctx, next, metav1.UpdateOptions{})
		return made("cluster role "+want.Name, err)
	})
}

func (b *Bootstrap) roles(ctx context.Context) error {
	return each(ctx, policy.Roles(), func(ctx context.Context, want *rbacv1.Role) error {
		api := b.c.Client.RbacV1().Roles(want.Namespace)
		have, err := api.Get(ctx, want.Name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			_, err = api.Create(ctx, want, metav1.CreateOptions{})
			return made("role "+want.Name, err)
		}
		if err != nil {
			return fmt.Errorf("read role %s: %w", want.Name, err)
		}
		if next := completeRole(have, want); next != nil {
			_, err = api.Update(ctx, next, metav1.UpdateOptions{})
		}
		return made("role "+want.Name, err)
	})
}

func (b *Bootstrap) clusterRoleBindings(ctx context.Context) error {
	api := b.c.Client.RbacV1().ClusterRoleBindings()
	list, err := api.List(ctx, metav1.ListOptions{})
	if err != nil {
		return fmt.Errorf("list cluster role bindings: %w", err)
	}
	have := byName(list.Items, func(r *rbacv1.ClusterRoleBinding) string { return r.Name })
	return each(ctx, policy.ClusterRoleBindings(), func(ctx context.Context, want *rbacv1.ClusterRoleBinding) error {
		old := have[want.Name]
		if old == nil {
			_, err := api.Create(ctx, want, metav1.CreateOptions{})
			return made("cluster role binding "+want.Name, err)
		}
		if !mine(&old.ObjectMeta) {
			return nil
		}
		next := old.DeepCopy()
		changed := completeMeta(&next.ObjectMeta, &want.ObjectMeta)
		subjects, more := completeSubjects(old.Subjects, want.Subjects)
		next.Subjects = subjects
		switch {
		case old.RoleRef != want.RoleRef: // it cannot be changed, only made anew
			next.RoleRef = want.RoleRef
			return b.replaceBinding(ctx, next)
		case !changed && !more:
			return nil
		}
		_, err := api.Update(ctx, next, metav1.UpdateOptions{})
		return made("cluster role binding "+want.Name, err)
	})
}

func (b *Bootstrap) replaceBinding(ctx context.Context, next *rbacv1.ClusterRoleBinding) error {
	api := b.c.Client.RbacV1().ClusterRoleBindings()
	uid := next.UID
	err := api.Delete(ctx, next.Name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid}})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("replace cluster role binding %s: %w", next.Name, err)
	}
	next.UID, next.ResourceVersion = "", ""
	_, err = api.Create(ctx, next, metav1.CreateOptions{})
	return made("cluster role binding "+next.Name, err)
}

func (b *Bootstrap) roleBindings(ctx context.Context) error {
	return each(ctx, policy.RoleBindings(), func(ctx context.Context, want *rbacv1.RoleBinding) error {
		api := b.c.Client.RbacV1().RoleBindings(want.Namespace)
		old, err := api.Get(ctx, want.Name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			_, err = api.Create(ctx, want, metav1.CreateOptions{})
			return made("role binding "+want.Name, err)
		}
		if err != nil {
			return fmt.Errorf("read role binding %s: %w", want.Name, err)
		}
		next := old.DeepCopy()
		changed := completeMeta(&next.ObjectMeta, &want.ObjectMeta)
		subjects, more := completeSubjects(old.Subjects, want.Subjects)
		if next.Subjects = subjects; !mine(&old.ObjectMeta) || old.RoleRef != want.RoleRef || !changed && !more {
			return nil
		}
		_, err = api.Update(ctx, next, metav1.UpdateOptions{})
		return made("role binding "+want.Name, err)
	})
}
