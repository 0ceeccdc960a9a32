package policy

import rbacv1 "k8s.io/api/rbac/v1"

// selfServing is the right to get a serving certificate for a node's own addresses without a person's approval.
const selfServing = "canopus:certificatesigningrequests:selfnodeserver"

// podGroups is the scheduler's right to know groups of pods, served or not.
const podGroups = "canopus:pod-group-scheduler"

// trustBundles is everybody's right to read whom to trust, by upstream's name.
const trustBundles = "system:cluster-trust-bundle-discovery"

// taintRules are the rights to know taints that people put on devices, and to tell how an eviction comes along.
const (
	taintRules      = "canopus:device-taint-rules"
	taintRuleStatus = "canopus:device-taint-rule-status"
)

// ownRoles are ours alone: upstream leaves it to installers how nodes renew their certificates, and has the last one behind
// a feature gate.
func ownRoles() []rbacv1.ClusterRole {
	return []rbacv1.ClusterRole{
		role(selfServing,
			on("create", "certificates.k8s.io", "certificatesigningrequests/selfnodeserver"),
		),
		role(podGroups, // upstream gives it to its scheduler's own role, where its feature gate is on
			on(read, "scheduling.k8s.io", "podgroups"),
			on("patch update", "scheduling.k8s.io", "podgroups/status"),
		),
		role(trustBundles, on(read, "certificates.k8s.io", "clustertrustbundles")), // upstream has it since 1.37
		role(taintRules, on(read, "resource.k8s.io", "devicetaintrules")),
		role(taintRuleStatus, on("patch update", "resource.k8s.io", "devicetaintrules/status")),
		role(controllerRole+"podcertificaterequestcleaner", on("delete get list watch", "certificates.k8s.io", "podcertificaterequests")), // likewise
		role(controllerRole+"kube-apiserver-serving-clustertrustbundle-publisher", // upstream has it since 1.37
			on("attest", "certificates.k8s.io", "signers", "kubernetes.io/kube-apiserver-serving"),
			on("create delete list update watch", "certificates.k8s.io", "clustertrustbundles"),
			events(),
		),
		role(controllerRole+"ip-address-repair-controller", // upstream's API server does this with rights of its own
			on("create delete get list update watch", "networking.k8s.io", "ipaddresses"),
			on("list watch", "networking.k8s.io", "servicecidrs"),
			on(read, "core", "services"),
			events(),
		),
		role(controllerRole+"storage-version-migrator-controller",
			on("list patch get", "*", "*"),
			on("get list watch update", "storagemigration.k8s.io", "storageversionmigrations"),
			on("update", "storagemigration.k8s.io", "storageversionmigrations/status"),
			events(),
		),
	}
}

// ownBindings let nodes renew their client certificates and serving certificates. To have people approve the latter, remove the
// subjects of canopus:node-serving-certificates and set its autoupdate annotation to false.
func ownBindings() []rbacv1.ClusterRoleBinding {
	named := func(name string, b rbacv1.ClusterRoleBinding) rbacv1.ClusterRoleBinding {
		b.ObjectMeta = meta("", name)
		return b
	}
	return []rbacv1.ClusterRoleBinding{
		named("canopus:node-client-certificates", bind("system:certificates.k8s.io:certificatesigningrequests:selfnodeclient", group("system:nodes"))),
		named("canopus:node-serving-certificates", bind(selfServing, group("system:nodes"))),
		named("canopus:serving-certificate-approver", bind("system:certificates.k8s.io:kubelet-serving-approver", account("certificate-controller"))),
		bind(trustBundles, group("system:serviceaccounts")),
		bind(podGroups, user("system:kube-scheduler")),
		bind(taintRules, user("system:kube-scheduler"), account("device-taint-eviction-controller")),
		bind(taintRuleStatus, account("device-taint-eviction-controller")),
		bind(controllerRole+"podcertificaterequestcleaner", account("podcertificaterequestcleaner")),
		bind(controllerRole+"kube-apiserver-serving-clustertrustbundle-publisher", account("kube-apiserver-serving-clustertrustbundle-publisher")),
		bind(controllerRole+"ip-address-repair-controller", account("ip-address-repair-controller")),
		bind(controllerRole+"storage-version-migrator-controller", account("storage-version-migrator-controller")),
	}
}
