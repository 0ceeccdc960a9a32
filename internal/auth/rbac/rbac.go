// Package rbac authorizes by Roles, ClusterRoles and their bindings, says which rules apply to a user.
//
// index.go keeps the bindings by subject, match.go compares a request with rules.
package rbac

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"canopus/internal/auth"

	authorizationv1 "k8s.io/api/authorization/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/tools/cache"
)

// Config says what an Authorizer works on. Informers is required and must not have been started.
type Config struct {
	Informers informers.SharedInformerFactory
}

// Authorizer is an auth.Authorizer over the RBAC objects of the cluster. Until Synced it allows too little.
type Authorizer struct {
	index  *index
	synced []cache.InformerSynced
}

// New makes an Authorizer that follows c's informers; somebody else runs these.
func New(c Config) (*Authorizer, error) {
	if c.Informers == nil {
		return nil, errors.New("RBAC authorizer: informers are required")
	}
	a := &Authorizer{index: newIndex()}
	r := c.Informers.Rbac().V1()
	err := errors.Join(
		a.follow(r.ClusterRoles().Informer(), func(o any) {
			v := o.(*rbacv1.ClusterRole)
			a.index.setRole(key{name: v.Name}, v.Rules)
		}, a.index.dropRole),
		a.follow(r.Roles().Informer(), func(o any) {
			v := o.(*rbacv1.Role)
			a.index.setRole(key{v.Namespace, v.Name}, v.Rules)
		}, a.index.dropRole),
		a.follow(r.ClusterRoleBindings().Informer(), func(o any) {
			v := o.(*rbacv1.ClusterRoleBinding)
			a.index.setBinding(key{name: v.Name}, v.RoleRef, v.Subjects)
		}, a.index.dropBinding),
		a.follow(r.RoleBindings().Informer(), func(o any) {
			v := o.(*rbacv1.RoleBinding)
			a.index.setBinding(key{v.Namespace, v.Name}, v.RoleRef, v.Subjects)
		}, a.index.dropBinding),
	)
	return a, err
}

func (a *Authorizer) follow(i cache.SharedIndexInformer, set func(any), drop func(key)) error {
	reg, err := i.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    set,
		UpdateFunc: func(_, o any) { set(o) },
		DeleteFunc: func(o any) {
			if k, err := cache.DeletionHandlingObjectToName(o); err == nil {
				drop(key{k.Namespace, k.Name})
			}
		},
	})
	if err != nil {
		return fmt.Errorf("follow RBAC objects: %w", err)
	}
	a.synced = append(a.synced, reg.HasSynced)
	return nil
}

// Synced says whether everything that was there at the start has been seen.
func (a *Authorizer) Synced() bool {
	for _, synced := range a.synced {
		if !synced() {
			return false
		}
	}
	return true
}

// Authorize implements auth.Authorizer. RBAC only ever allows.
func (a *Authorizer) Authorize(_ context.Context, at *auth.Attributes) (auth.Decision, string, error) {
	var missing []string
	var reason string
	allowed := a.visit(at.User, at.Namespace, func(g *grant) bool {
		rules, ok := a.index.role(g.role)
		if !ok {
			missing = append(missing, notFound(g.role))
			return false
		}
		reason = g.reason
		return Allows(rules, at)
	})
	switch {
	case allowed:
		return auth.Allow, reason, nil
	case len(missing) == 1:
		return auth.NoOpinion, "RBAC: " + missing[0], nil
	case len(missing) > 1:
		return auth.NoOpinion, "RBAC: [" + strings.Join(missing, ", ") + "]", nil
	}
	return auth.NoOpinion, "", nil
}

func notFound(k key) string {
	if k.namespace == "" {
		return fmt.Sprintf("clusterrole.rbac.authorization.k8s.io %q not found", k.name)
	}
	return fmt.Sprintf("role.rbac.authorization.k8s.io %q not found", k.name)
}

// visit shows found every grant to u, the cluster's first, then the namespace's, until it returns true.
func (a *Authorizer) visit(u *auth.User, namespace string, found func(*grant) bool) bool {
	if u == nil {
		return false
	}
	if a.visitIn(u, "", found) {
		return true
	}
	return namespace != "" && a.visitIn(u, namespace, found)
}

func (a *Authorizer) visitIn(u *auth.User, namespace string, found func(*grant) bool) bool {
	for i := -1; i < len(u.Groups); i++ {
		who := subject{namespace: namespace, name: u.Name}
		if i >= 0 {
			who.group, who.name = true, u.Groups[i]
		}
		grants := a.index.of(who)
		for j := range grants {
			if found(&grants[j]) {
				return true
			}
		}
	}
	return false
}

// Rules returns all rules that apply to u in a namespace (empty: the cluster's only), and an error that names roles that
// bindings refer to but that do not exist.
func (a *Authorizer) Rules(u *auth.User, namespace string) ([]rbacv1.PolicyRule, error) {
	var all []rbacv1.PolicyRule
	var errs error
	a.visit(u, namespace, func(g *grant) bool {
		rules, ok := a.index.role(g.role)
		if !ok {
			errs = errors.Join(errs, errors.New(notFound(g.role)))
		}
		all = append(all, rules...)
		return false
	})
	return all, errs
}

// Role returns the rules of a Role, or, when namespace is empty, of a ClusterRole, and whether there is one.
func (a *Authorizer) Role(namespace, name string) ([]rbacv1.PolicyRule, bool) {
	return a.index.role(key{namespace, name})
}

// Review is the answer to a SelfSubjectRulesReview of u in a namespace.
func (a *Authorizer) Review(u *auth.User, namespace string) authorizationv1.SubjectRulesReviewStatus {
	rules, err := a.Rules(u, namespace)
	s := authorizationv1.SubjectRulesReviewStatus{
		ResourceRules: []authorizationv1.ResourceRule{}, NonResourceRules: []authorizationv1.NonResourceRule{},
	}
	if err != nil {
		s.EvaluationError = err.Error()
		s.Incomplete = true
	}
	if u.InGroup(auth.MastersGroup) {
		rules = append(rules, Everything()...)
	}
	for _, r := range rules {
		if len(r.Resources) > 0 {
			s.ResourceRules = append(s.ResourceRules, authorizationv1.ResourceRule{
				Verbs: r.Verbs, APIGroups: r.APIGroups, Resources: r.Resources, ResourceNames: r.ResourceNames,
			})
		}
		if len(r.NonResourceURLs) > 0 {
			s.NonResourceRules = append(s.NonResourceRules, authorizationv1.NonResourceRule{Verbs: r.Verbs, NonResourceURLs: r.NonResourceURLs})
		}
	}
	return s
}

// Everything is what cluster-admin may do.
func Everything() []rbacv1.PolicyRule {
	return []rbacv1.PolicyRule{
		{Verbs: []string{"*"}, APIGroups: []string{"*"}, Resources: []string{"*"}},
		{Verbs: []string{"*"}, NonResourceURLs: []string{"*"}},
	}
}
