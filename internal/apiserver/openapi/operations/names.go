package operations

import (
	"cmp"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/runtime/schema"
)

// groupName is a group in an operation's id: apps, rbacAuthorization, stableExampleCom; core for the nameless one.
func groupName(group string) string {
	if group == "" {
		return "core"
	}
	parts := strings.Split(strings.TrimSuffix(group, ".k8s.io"), ".")
	for i := range parts[1:] {
		parts[i+1] = title(parts[i+1])
	}
	return strings.Join(parts, "")
}

func tag(gv schema.GroupVersion) string { return groupName(gv.Group) + "_" + gv.Version }

func title(s string) string {
	if s == "" {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:]
}

// prefix is the part of an id between its verb and its kind.
func (k *kindOps) prefix(verb string) string {
	gv := k.served.GVK.GroupVersion()
	return verb + title(groupName(gv.Group)) + title(gv.Version)
}

// id names an operation of the kind: listAppsV1NamespacedDeployment. method stands between version and scope.
func (k *kindOps) id(verb, suffix string, method ...string) string {
	scope := ""
	if k.served.Kind.Namespaced {
		scope = "Namespaced"
	}
	return k.prefix(verb) + strings.Join(method, "") + scope + k.served.GVK.Kind + suffix
}

func (k *kindOps) clusterID(verb, suffix string) string {
	return k.prefix(verb) + k.served.GVK.Kind + suffix
}

func (k *kindOps) collectionID() string { return k.id("delete", "", "Collection") }

func article(kind, verb string) string { return verb + " " + withArticle(kind) }

func withArticle(kind string) string {
	if strings.ContainsAny(kind[:1], "AEIOU") {
		return "an " + kind
	}
	return "a " + kind
}

func sortOperations(ops []Operation) {
	slices.SortFunc(ops, func(a, b Operation) int {
		return cmp.Or(cmp.Compare(a.Path, b.Path), cmp.Compare(a.Method, b.Method))
	})
}
