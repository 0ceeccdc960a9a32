package rbac

import (
	"slices"
	"strings"

	"canopus/internal/auth"

	rbacv1 "k8s.io/api/rbac/v1"
)

// Allows says whether one of rules covers what a asks for.
func Allows(rules []rbacv1.PolicyRule, a *auth.Attributes) bool {
	for i := range rules {
		if allows(&rules[i], a) {
			return true
		}
	}
	return false
}

func allows(r *rbacv1.PolicyRule, a *auth.Attributes) bool {
	if !has(r.Verbs, a.Verb) {
		return false
	}
	if !a.IsResource {
		return slices.ContainsFunc(r.NonResourceURLs, func(pattern string) bool { return pathMatches(pattern, a.Path) })
	}
	return has(r.APIGroups, a.Group) && resourceMatches(r.Resources, a.Resource, a.Subresource) &&
		(len(r.ResourceNames) == 0 || slices.Contains(r.ResourceNames, a.Name))
}

// has says whether list names s or everything.
func has(list []string, s string) bool {
	for _, have := range list {
		if have == s || have == "*" {
			return true
		}
	}
	return false
}

// resourceMatches compares without joining resource and subresource, as that would allocate on every request.
func resourceMatches(list []string, resource, sub string) bool {
	for _, have := range list {
		if have == "*" || sub == "" && have == resource {
			return true
		}
		if sub == "" {
			continue
		}
		if parent, child, ok := strings.Cut(have, "/"); ok && child == sub && (parent == "*" || parent == resource) {
			return true
		}
	}
	return false
}

func pathMatches(pattern, path string) bool {
	if prefix, ok := strings.CutSuffix(pattern, "*"); ok {
		return strings.HasPrefix(path, prefix)
	}
	return pattern == path
}
