// Package policy is the default RBAC policy of a cluster: upstream's roles and bindings, as data. It decides nothing.
package policy

import (
	"slices"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// The marks of objects made here. Bootstrap completes those that carry AutoUpdate "true" at every start.
const (
	AutoUpdate     = "rbac.authorization.kubernetes.io/autoupdate"
	bootstrapping  = "kubernetes.io/bootstrapping"
	aggregateTo    = "rbac.authorization.k8s.io/aggregate-to-"
	controllerRole = "system:controller:"
	system         = "kube-system"
)

// The verb lists that occur most.
const (
	read  = "get list watch"
	write = "create delete deletecollection patch update"
	all   = "create delete deletecollection get list patch update watch"
)

// ClusterRoles returns all default ClusterRoles. Aggregated ones carry the rules of their parts, as the aggregation controller would
// fill them in: they are complete from the first moment.
func ClusterRoles() []rbacv1.ClusterRole {
	list := slices.Concat(userRoles(), systemRoles(), ownRoles())
	for _, r := range controllerRoles() {
		r.Name = controllerRole + r.Name
		list = append(list, r)
	}
	for i := range list {
		if list[i].AggregationRule != nil {
			list[i].Rules = aggregated(list, list[i].AggregationRule.ClusterRoleSelectors[0].MatchLabels)
		}
	}
	return list
}

// aggregated collects the rules of all roles with the labels, those of aggregated roles included.
func aggregated(list []rbacv1.ClusterRole, labels map[string]string) []rbacv1.PolicyRule {
	var rules []rbacv1.PolicyRule
	for _, r := range list {
		for k := range labels {
			if r.Labels[k] != "true" {
				continue
			}
			if r.AggregationRule != nil {
				rules = append(rules, aggregated(list, r.AggregationRule.ClusterRoleSelectors[0].MatchLabels)...)
			} else {
				rules = append(rules, r.Rules...)
			}
		}
	}
	return rules
}

// Roles returns all default Roles.
func Roles() []rbacv1.Role { return namespacedRoles() }

// ClusterRoleBindings returns all default ClusterRoleBindings.
func ClusterRoleBindings() []rbacv1.ClusterRoleBinding {
	list := []rbacv1.ClusterRoleBinding{
		bind("cluster-admin", group("system:masters")),
		bind("system:basic-user", group("system:authenticated")),
		bind("system:discovery", group("system:authenticated")),
		bind("system:kube-controller-manager", user("system:kube-controller-manager")),
		bind("system:kube-dns", account("kube-dns")),
		bind("system:kube-scheduler", user("system:kube-scheduler")),
		bind("system:monitoring", group("system:monitoring")),
		bind("system:node"),
		bind("system:node-proxier", user("system:kube-proxy")),
		bind("system:public-info-viewer", group("system:authenticated"), group("system:unauthenticated")),
		bind("system:service-account-issuer-discovery", group("system:serviceaccounts")),
		bind("system:volume-scheduler", user("system:kube-scheduler")),
	}
	list = append(append(list, nodeProxier()), ownBindings()...)
	for _, r := range controllerRoles() {
		list = append(list, bind(controllerRole+r.Name, account(r.Name)))
	}
	return list
}

// nodeProxier lets a node agent serve Services and names as the node it is: upstream has a process of its own for that, with
// an identity that all nodes share.
func nodeProxier() rbacv1.ClusterRoleBinding {
	b := bind("system:node-proxier", group("system:nodes"))
	b.ObjectMeta = meta("", "canopus:node-proxier")
	return b
}

// RoleBindings returns all default RoleBindings.
func RoleBindings() []rbacv1.RoleBinding {
	const leader, reader = "system::leader-locking-", "extension-apiserver-authentication-reader"
	signer, cleaner, cloud := controllerRole+"bootstrap-signer", controllerRole+"token-cleaner", controllerRole+"cloud-provider"
	return []rbacv1.RoleBinding{
		bindLocal("kube-public", signer, signer, account("bootstrap-signer")),
		bindLocal(system, "system::"+reader, reader, user("system:kube-controller-manager"), user("system:kube-scheduler")),
		bindLocal(system, leader+"kube-controller-manager", leader+"kube-controller-manager",
			user("system:kube-controller-manager"), account("kube-controller-manager"), account("leader-election-controller")),
		bindLocal(system, leader+"kube-scheduler", leader+"kube-scheduler", user("system:kube-scheduler"), account("kube-scheduler")),
		bindLocal(system, signer, signer, account("bootstrap-signer")),
		bindLocal(system, cloud, cloud, account("cloud-provider")),
		bindLocal(system, cleaner, cleaner, account("token-cleaner")),
	}
}

func meta(namespace, name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Namespace: namespace, Name: name,
		Labels: map[string]string{bootstrapping: "rbac-defaults"}, Annotations: map[string]string{AutoUpdate: "true"},
	}
}

func role(name string, rules ...rbacv1.PolicyRule) rbacv1.ClusterRole {
	return rbacv1.ClusterRole{ObjectMeta: meta("", name), Rules: rules}
}

func local(namespace, name string, rules ...rbacv1.PolicyRule) rbacv1.Role {
	return rbacv1.Role{ObjectMeta: meta(namespace, name), Rules: rules}
}

// part is a role whose rules the aggregated role to takes over.
func part(name, to string, rules ...rbacv1.PolicyRule) rbacv1.ClusterRole {
	r := role(name, rules...)
	r.Labels[aggregateTo+to] = "true"
	return r
}

// aggregate is a role made of the parts for from, and itself a part of to unless that is empty.
func aggregate(name, from, to string) rbacv1.ClusterRole {
	r := role(name)
	r.AggregationRule = &rbacv1.AggregationRule{ClusterRoleSelectors: []metav1.LabelSelector{{MatchLabels: map[string]string{aggregateTo + from: "true"}}}}
	if to != "" {
		r.Labels[aggregateTo+to] = "true"
	}
	return r
}

// on allows verbs on resources of groups ("core" is the group without a name), all three separated by spaces.
func on(verbs, groups, resources string, names ...string) rbacv1.PolicyRule {
	g := strings.Fields(groups)
	for i := range g {
		if g[i] == "core" {
			g[i] = ""
		}
	}
	return rbacv1.PolicyRule{Verbs: strings.Fields(verbs), APIGroups: g, Resources: strings.Fields(resources), ResourceNames: slices.Clone(names)}
}

// events allows writing events of both groups.
func events() rbacv1.PolicyRule { return on("create patch update", "core events.k8s.io", "events") }

func urls(verbs, paths string) rbacv1.PolicyRule {
	return rbacv1.PolicyRule{Verbs: strings.Fields(verbs), NonResourceURLs: strings.Fields(paths)}
}

// bind binds the ClusterRole of the same name.
func bind(name string, to ...rbacv1.Subject) rbacv1.ClusterRoleBinding {
	return rbacv1.ClusterRoleBinding{
		ObjectMeta: meta("", name), Subjects: to,
		RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: name},
	}
}

func bindLocal(namespace, name, role string, to ...rbacv1.Subject) rbacv1.RoleBinding {
	return rbacv1.RoleBinding{
		ObjectMeta: meta(namespace, name), Subjects: to,
		RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: role},
	}
}

func user(name string) rbacv1.Subject {
	return rbacv1.Subject{Kind: rbacv1.UserKind, APIGroup: rbacv1.GroupName, Name: name}
}

func group(name string) rbacv1.Subject {
	return rbacv1.Subject{Kind: rbacv1.GroupKind, APIGroup: rbacv1.GroupName, Name: name}
}

func account(name string) rbacv1.Subject {
	return rbacv1.Subject{Kind: rbacv1.ServiceAccountKind, Namespace: system, Name: name}
}
