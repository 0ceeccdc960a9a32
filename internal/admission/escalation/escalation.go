// Package escalation keeps users from granting, by roles and bindings, what they do not hold themselves.
package escalation

import (
	"context"
	"errors"
	"fmt"
	"sort"
	"strings"

	"canopus/internal/admission"
	"canopus/internal/auth"
	"canopus/internal/auth/rbac"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/component-helpers/auth/rbac/validation"
)

// Plugin refuses writes of roles and bindings by which a user would grant permissions they do not hold, unless they have
// the verb escalate on the role, or bind on the role referred to. It is an admission validator that is always on.
type Plugin struct {
	rules      *rbac.Authorizer
	authorizer auth.Authorizer
}

// New makes the check. authorizer is the server's whole one; it decides on the verbs escalate and bind.
func New(rules *rbac.Authorizer, authorizer auth.Authorizer) (*Plugin, error) {
	if rules == nil || authorizer == nil {
		return nil, errors.New("RBAC escalation check: rules and an authorizer are required")
	}
	return &Plugin{rules: rules, authorizer: authorizer}, nil
}

// Name implements admission.Plugin.
func (e *Plugin) Name() string { return "RBACEscalation" }

// Handles implements admission.Plugin.
func (e *Plugin) Handles(r *admission.Request) bool {
	return r.Resource.Group == rbacv1.GroupName && r.Subresource == "" && (r.Operation == admission.Create || r.Operation == admission.Update)
}

// Validate implements admission.Validator.
func (e *Plugin) Validate(ctx context.Context, r *admission.Request) error {
	if r.User == nil || r.User.InGroup(auth.MastersGroup) {
		return nil
	}
	switch o := r.Object.(type) {
	case *rbacv1.ClusterRole:
		return e.clusterRole(ctx, r, o)
	case *rbacv1.Role:
		if old, ok := r.Old.(*rbacv1.Role); ok && equality.Semantic.DeepEqual(old.Rules, o.Rules) {
			return nil
		}
		if e.may(ctx, r, "escalate", "roles", o.Name) {
			return nil
		}
		return e.confirm(r, o.Rules)
	case *rbacv1.ClusterRoleBinding:
		old, _ := r.Old.(*rbacv1.ClusterRoleBinding)
		if old != nil && equality.Semantic.DeepEqual(old.Subjects, o.Subjects) && old.RoleRef == o.RoleRef {
			return nil
		}
		return e.binding(ctx, r, o.RoleRef)
	case *rbacv1.RoleBinding:
		old, _ := r.Old.(*rbacv1.RoleBinding)
		if old != nil && equality.Semantic.DeepEqual(old.Subjects, o.Subjects) && old.RoleRef == o.RoleRef {
			return nil
		}
		return e.binding(ctx, r, o.RoleRef)
	}
	return nil
}

func (e *Plugin) clusterRole(ctx context.Context, r *admission.Request, o *rbacv1.ClusterRole) error {
	old, _ := r.Old.(*rbacv1.ClusterRole)
	if old != nil && equality.Semantic.DeepEqual(old.Rules, o.Rules) && equality.Semantic.DeepEqual(old.AggregationRule, o.AggregationRule) {
		return nil
	}
	if e.may(ctx, r, "escalate", "clusterroles", o.Name) {
		return nil
	}
	aggregates := func(c *rbacv1.ClusterRole) bool { return c != nil && c.AggregationRule != nil }
	if aggregates(o) || aggregates(old) {
		held, _ := e.rules.Rules(r.User, "")
		if ok, _ := validation.Covers(held, rbac.Everything()); !ok {
			return forbidden(r, errors.New("must have cluster-admin privileges to use the aggregationRule"))
		}
	}
	return e.confirm(r, o.Rules)
}

func (e *Plugin) binding(ctx context.Context, r *admission.Request, ref rbacv1.RoleRef) error {
	resource, namespace := "clusterroles", ""
	if ref.Kind == "Role" {
		resource, namespace = "roles", r.Namespace
	}
	if e.may(ctx, r, "bind", resource, ref.Name) {
		return nil
	}
	rules, ok := e.rules.Role(namespace, ref.Name)
	if !ok {
		return apierrors.NewNotFound(rbacv1.Resource(resource), ref.Name)
	}
	return e.confirm(r, rules)
}

// may asks whether the user has verb on a role, by name or on all of them.
func (e *Plugin) may(ctx context.Context, r *admission.Request, verb, resource, name string) bool {
	d, _, _ := e.authorizer.Authorize(ctx, &auth.Attributes{
		User: r.User, Verb: verb, IsResource: true, Group: rbacv1.GroupName, Version: "v1",
		Resource: resource, Namespace: r.Namespace, Name: name,
	})
	return d == auth.Allow
}

// confirm refuses unless the user holds all of granted in the namespace of the request.
func (e *Plugin) confirm(r *admission.Request, granted []rbacv1.PolicyRule) error {
	held, unresolved := e.rules.Rules(r.User, r.Namespace)
	ok, lacking := validation.Covers(held, granted)
	if ok {
		return nil
	}
	text := fmt.Sprintf("user %q (groups=%q) is attempting to grant RBAC permissions not currently held:\n%s", r.User.Name, r.User.Groups, describe(lacking))
	if unresolved != nil {
		text += fmt.Sprintf("; resolution errors: %v", unresolved)
	}
	return forbidden(r, errors.New(text))
}

func forbidden(r *admission.Request, err error) error {
	return apierrors.NewForbidden(r.Resource.GroupResource(), r.Name, err)
}

// describe lists rules one a line, verbs on the same thing together.
func describe(rules []rbacv1.PolicyRule) string {
	verbs := map[string][]string{}
	for _, r := range rules {
		var parts []string
		part := func(name string, list []string) {
			if len(list) > 0 {
				parts = append(parts, fmt.Sprintf("%s:%q", name, list))
			}
		}
		part("APIGroups", r.APIGroups)
		part("Resources", r.Resources)
		part("ResourceNames", r.ResourceNames)
		part("NonResourceURLs", r.NonResourceURLs)
		on := strings.Join(parts, ", ")
		verbs[on] = append(verbs[on], r.Verbs...)
	}
	lines := make([]string, 0, len(verbs))
	for on, v := range verbs {
		lines = append(lines, fmt.Sprintf("{%s, Verbs:%q}", on, v))
	}
	sort.Strings(lines)
	return strings.Join(lines, "\n")
}
