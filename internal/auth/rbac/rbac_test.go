package rbac

import (
	"fmt"
	"testing"

	"canopus/internal/auth"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func on(verbs, groups, resources []string, names ...string) rbacv1.PolicyRule {
	return rbacv1.PolicyRule{Verbs: verbs, APIGroups: groups, Resources: resources, ResourceNames: names}
}

func list(s ...string) []string { return s }

func TestAllows(t *testing.T) {
	t.Parallel()
	pods := auth.Attributes{IsResource: true, Verb: "get", Resource: "pods", Namespace: "a", Name: "web"}
	logs := pods
	logs.Subresource = "log"
	deploy := auth.Attributes{IsResource: true, Verb: "update", Group: "apps", Resource: "deployments", Subresource: "scale", Name: "web"}
	path := auth.Attributes{Verb: "get", Path: "/metrics/slis"}
	for name, c := range map[string]struct {
		rule rbacv1.PolicyRule
		at   auth.Attributes
		want bool
	}{
		"exact":                     {on(list("get"), list(""), list("pods")), pods, true},
		"other verb":                {on(list("list"), list(""), list("pods")), pods, false},
		"any verb":                  {on(list("*"), list(""), list("pods")), pods, true},
		"other group":               {on(list("get"), list("apps"), list("pods")), pods, false},
		"any group":                 {on(list("get"), list("*"), list("pods")), pods, true},
		"any resource":              {on(list("get"), list(""), list("*")), pods, true},
		"no groups":                 {on(list("get"), nil, list("pods")), pods, false},
		"name":                      {on(list("get"), list(""), list("pods"), "web"), pods, true},
		"other name":                {on(list("get"), list(""), list("pods"), "db"), pods, false},
		"parent is not subresource": {on(list("get"), list(""), list("pods")), logs, false},
		"subresource":               {on(list("get"), list(""), list("pods/log")), logs, true},
		"subresource is not parent": {on(list("get"), list(""), list("pods/log")), pods, false},
		"subresource of any":        {on(list("update"), list("*"), list("*/scale")), deploy, true},
		"other subresource of any":  {on(list("update"), list("*"), list("*/status")), deploy, false},
		"any resource, subresource": {on(list("update"), list("*"), list("*")), deploy, true},
		"prefix of subresource":     {on(list("get"), list(""), list("pods/lo")), logs, false},
		"path":                      {rbacv1.PolicyRule{Verbs: list("get"), NonResourceURLs: list("/metrics/slis")}, path, true},
		"path prefix":               {rbacv1.PolicyRule{Verbs: list("get"), NonResourceURLs: list("/metrics/*")}, path, true},
		"path without star":         {rbacv1.PolicyRule{Verbs: list("get"), NonResourceURLs: list("/metrics")}, path, false},
		"every path":                {rbacv1.PolicyRule{Verbs: list("get"), NonResourceURLs: list("*")}, path, true},
		"resources are no paths":    {on(list("*"), list("*"), list("*")), path, false},
		"paths are no resources":    {rbacv1.PolicyRule{Verbs: list("*"), NonResourceURLs: list("*")}, pods, false},
		"nothing":                   {rbacv1.PolicyRule{}, pods, false},
	} {
		if got := Allows([]rbacv1.PolicyRule{c.rule}, &c.at); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// testAuthorizer has a role of each sort and binds it to each sort of subject.
func testAuthorizer() *Authorizer {
	x := newIndex()
	x.setRole(key{name: "reader"}, []rbacv1.PolicyRule{on(list("get", "list"), list(""), list("pods"))})
	x.setRole(key{"a", "writer"}, []rbacv1.PolicyRule{on(list("create"), list(""), list("pods"))})
	ref := func(kind, name string) rbacv1.RoleRef { return rbacv1.RoleRef{Kind: kind, Name: name} }
	x.setBinding(key{name: "all-read"}, ref("ClusterRole", "reader"), []rbacv1.Subject{{Kind: "User", Name: "alice"}, {Kind: "Group", Name: "dev"}})
	x.setBinding(key{"a", "write"}, ref("Role", "writer"), []rbacv1.Subject{{Kind: "ServiceAccount", Name: "bot"}, {Kind: "User", Name: "alice"}})
	x.setBinding(key{"b", "read"}, ref("ClusterRole", "reader"), []rbacv1.Subject{{Kind: "ServiceAccount", Namespace: "a", Name: "bot"}})
	x.setBinding(key{"c", "broken"}, ref("Role", "missing"), []rbacv1.Subject{{Kind: "User", Name: "alice"}})
	x.setBinding(key{name: "broken"}, ref("ClusterRole", "missing"), []rbacv1.Subject{{Kind: "User", Name: "eve"}})
	return &Authorizer{index: x}
}

func TestAuthorize(t *testing.T) {
	t.Parallel()
	a := testAuthorizer()
	bot := "system:serviceaccount:a:bot"
	for name, c := range map[string]struct {
		user, group, verb, namespace string
		want                         auth.Decision
		reason                       string
	}{
		"user, cluster":                 {"alice", "", "get", "z", auth.Allow, `RBAC: allowed by ClusterRoleBinding "all-read" of ClusterRole "reader" to User "alice"`},
		"user, all namespaces":          {"alice", "", "list", "", auth.Allow, `RBAC: allowed by ClusterRoleBinding "all-read" of ClusterRole "reader" to User "alice"`},
		"group":                         {"bob", "dev", "get", "z", auth.Allow, `RBAC: allowed by ClusterRoleBinding "all-read" of ClusterRole "reader" to Group "dev"`},
		"a user is no group":            {"dev", "", "get", "z", auth.NoOpinion, ""},
		"namespace":                     {"alice", "", "create", "a", auth.Allow, `RBAC: allowed by RoleBinding "write/a" of Role "writer" to User "alice"`},
		"other namespace":               {"alice", "", "create", "b", auth.NoOpinion, ""},
		"not all namespaces":            {"alice", "", "create", "", auth.NoOpinion, ""},
		"account of the same namespace": {bot, "", "create", "a", auth.Allow, `RBAC: allowed by RoleBinding "write/a" of Role "writer" to ServiceAccount "bot/a"`},
		"account, cluster role here":    {bot, "", "get", "b", auth.Allow, `RBAC: allowed by RoleBinding "read/b" of ClusterRole "reader" to ServiceAccount "bot/a"`},
		"account, cluster role there":   {bot, "", "get", "a", auth.NoOpinion, ""},
		"missing role":                  {"alice", "", "delete", "c", auth.NoOpinion, `RBAC: role.rbac.authorization.k8s.io "missing" not found`},
		"missing cluster role":          {"eve", "", "get", "a", auth.NoOpinion, `RBAC: clusterrole.rbac.authorization.k8s.io "missing" not found`},
		"stranger":                      {"mallory", "", "get", "a", auth.NoOpinion, ""},
	} {
		at := &auth.Attributes{User: &auth.User{Name: c.user, Groups: []string{c.group}}, Verb: c.verb, IsResource: true, Resource: "pods", Namespace: c.namespace}
		d, reason, err := a.Authorize(t.Context(), at)
		if d != c.want || reason != c.reason || err != nil {
			t.Errorf("%s: %v %q %v", name, d, reason, err)
		}
	}
	if d, _, _ := a.Authorize(t.Context(), &auth.Attributes{Verb: "get"}); d != auth.NoOpinion {
		t.Error("nobody is allowed something")
	}
}

func TestBindingsChange(t *testing.T) {
	t.Parallel()
	a := testAuthorizer()
	may := func() bool {
		d, _, _ := a.Authorize(t.Context(), &auth.Attributes{User: &auth.User{Name: "alice"}, Verb: "get", IsResource: true, Resource: "pods", Namespace: "z"})
		return d == auth.Allow
	}
	ref := rbacv1.RoleRef{Kind: "ClusterRole", Name: "reader"}
	bind := func(names ...string) {
		var to []rbacv1.Subject
		for _, n := range names {
			to = append(to, rbacv1.Subject{Kind: "User", Name: n})
		}
		a.index.setBinding(key{name: "all-read"}, ref, to)
	}
	steps := []struct {
		what string
		do   func()
		want bool
	}{
		{"subject removed", func() { bind("bob") }, false},
		{"subject added twice", func() { bind("alice", "alice") }, true},
		{"role gone", func() { a.index.dropRole(key{name: "reader"}) }, false},
		{"role back", func() {
			a.index.setRole(key{name: "reader"}, []rbacv1.PolicyRule{on(list("get"), list(""), list("pods"))})
		}, true},
		{"binding gone", func() { a.index.dropBinding(key{name: "all-read"}) }, false},
		{"gone again", func() { a.index.dropBinding(key{name: "all-read"}) }, false},
		{"binding back", func() { bind("alice") }, true},
	}
	for _, s := range steps {
		s.do()
		if may() != s.want {
			t.Errorf("%s: %v", s.what, !s.want)
		}
	}
	a.index.dropBinding(key{name: "all-read"})
	if n := len(a.index.grants[subject{name: "alice"}]); n != 0 {
		t.Errorf("%d grants stay behind", n)
	}
}

func TestRulesAndReview(t *testing.T) {
	t.Parallel()
	a := testAuthorizer()
	rules, err := a.Rules(&auth.User{Name: "alice"}, "a")
	if len(rules) != 2 || err != nil {
		t.Errorf("%v, %v", rules, err)
	}
	r := a.Review(&auth.User{Name: "alice"}, "c")
	if !r.Incomplete || r.EvaluationError == "" || len(r.ResourceRules) != 1 {
		t.Errorf("%+v", r)
	}
	r = a.Review(&auth.User{Name: "root", Groups: []string{auth.MastersGroup}}, "a")
	if len(r.ResourceRules) != 1 || len(r.NonResourceRules) != 1 || r.Incomplete {
		t.Errorf("%+v", r)
	}
}

// BenchmarkAuthorize asks for a service account of a cluster with 2,000 namespaces that each bind their own.
func BenchmarkAuthorize(b *testing.B) {
	a := testAuthorizer()
	for i := range 2000 {
		ns := fmt.Sprintf("ns-%d", i)
		r := rbacv1.Role{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "r"}, Rules: []rbacv1.PolicyRule{on(list("get", "list"), list("", "apps"), list("configmaps", "pods/log", "pods"))}}
		a.index.setRole(key{ns, "r"}, r.Rules)
		a.index.setBinding(key{ns, "b"}, rbacv1.RoleRef{Kind: "Role", Name: "r"}, []rbacv1.Subject{{Kind: "ServiceAccount", Name: "app"}})
	}
	at := &auth.Attributes{
		User:       &auth.User{Name: "system:serviceaccount:ns-77:app", Groups: []string{"system:serviceaccounts", "system:serviceaccounts:ns-77", "system:authenticated"}},
		IsResource: true, Verb: "list", Resource: "pods", Namespace: "ns-77",
	}
	b.ReportAllocs()
	for b.Loop() {
		if d, _, _ := a.Authorize(b.Context(), at); d != auth.Allow {
			b.Fatal("refused")
		}
	}
}
