package rbac

import (
	"fmt"
	"slices"
	"sync"

	rbacv1 "k8s.io/api/rbac/v1"
)

// key names a role or binding; namespace is empty for the cluster's.
type key struct{ namespace, name string }

// subject is one to whom bindings of a namespace (or, when empty, of the cluster) grant something.
type subject struct {
	namespace string
	group     bool // a group; else a user, service accounts by their user names
	name      string
}

// grant is one binding's gift to one subject.
type grant struct {
	binding key
	role    key
	reason  string // why a request was allowed, as clients see it
}

// index finds grants by subject. Informers' handlers keep it up to date; rules are theirs and never changed.
type index struct {
	mu       sync.RWMutex
	roles    map[key][]rbacv1.PolicyRule // guarded by mu, like the others
	grants   map[subject][]grant
	subjects map[key][]subject // of each binding: where its grants are filed
}

func newIndex() *index {
	return &index{roles: map[key][]rbacv1.PolicyRule{}, grants: map[subject][]grant{}, subjects: map[key][]subject{}}
}

func (x *index) setRole(k key, rules []rbacv1.PolicyRule) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.roles[k] = rules
}

func (x *index) dropRole(k key) {
	x.mu.Lock()
	defer x.mu.Unlock()
	delete(x.roles, k)
}

// setBinding files the grants of a binding, in place of those it made before.
func (x *index) setBinding(k key, ref rbacv1.RoleRef, to []rbacv1.Subject) {
	role := key{name: ref.Name}
	if ref.Kind == "Role" {
		role.namespace = k.namespace
	}
	title := fmt.Sprintf("RBAC: allowed by ClusterRoleBinding %q of %s %q to ", k.name, ref.Kind, ref.Name)
	if k.namespace != "" {
		title = fmt.Sprintf("RBAC: allowed by RoleBinding %q of %s %q to ", k.name+"/"+k.namespace, ref.Kind, ref.Name)
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.unfile(k)
	for _, s := range to {
		who, text, ok := file(k.namespace, s)
		if !ok || slices.Contains(x.subjects[k], who) {
			continue
		}
		x.subjects[k] = append(x.subjects[k], who)
		// A fresh slice: readers walk the one before without the lock.
		x.grants[who] = append(slices.Clip(x.grants[who]), grant{binding: k, role: role, reason: title + text})
	}
}

func (x *index) dropBinding(k key) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.unfile(k)
}

// unfile needs mu.
func (x *index) unfile(k key) {
	for _, who := range x.subjects[k] {
		var rest []grant
		for _, g := range x.grants[who] {
			if g.binding != k {
				rest = append(rest, g)
			}
		}
		if len(rest) == 0 {
			delete(x.grants, who)
		} else {
			x.grants[who] = rest
		}
	}
	delete(x.subjects, k)
}

// file says under which subject s is filed, and how it is described.
func file(namespace string, s rbacv1.Subject) (who subject, text string, ok bool) {
	who = subject{namespace: namespace, name: s.Name}
	text = fmt.Sprintf("%s %q", s.Kind, s.Name)
	switch s.Kind {
	case rbacv1.UserKind:
	case rbacv1.GroupKind:
		who.group = true
	case rbacv1.ServiceAccountKind:
		home := s.Namespace
		if home == "" {
			home = namespace // as upstream: a RoleBinding's subject defaults to its own namespace
		}
		if home == "" {
			return who, "", false
		}
		who.name = "system:serviceaccount:" + home + ":" + s.Name
		text = fmt.Sprintf("%s %q", s.Kind, s.Name+"/"+home)
	default:
		return who, "", false
	}
	return who, text, true
}

// of returns the grants of one subject.
func (x *index) of(who subject) []grant {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.grants[who]
}

// role returns the rules of a role and whether it exists.
func (x *index) role(k key) ([]rbacv1.PolicyRule, bool) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	rules, ok := x.roles[k]
	return rules, ok
}
