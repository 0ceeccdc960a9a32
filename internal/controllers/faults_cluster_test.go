package controllers

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// clusterScenarios are of what holds the rest together.
func clusterScenarios() []*scenario {
	maps := look{"configmaps", nil}
	return []*scenario{
		{controller: "namespace-controller", looks: []look{{"namespaces", nil}, maps},
			steps: []func(*cluster){
				add("{apiVersion: v1, kind: Namespace, metadata: {name: team}}\n---\n{apiVersion: v1, kind: ConfigMap, metadata: {name: a, namespace: team}}\n---\n{apiVersion: v1, kind: ConfigMap, metadata: {name: b}}\n"),
				remove("namespaces", "team", background),
			}},
		{controller: "resourcequota-controller", looks: []look{{"resourcequotas", []string{"status.hard", "status.used"}}},
			steps: []func(*cluster){
				add("{apiVersion: v1, kind: ConfigMap, metadata: {name: a}}\n---\n{apiVersion: v1, kind: ResourceQuota, metadata: {name: q}, spec: {hard: {configmaps: '3', pods: '1'}}}\n"),
				patch("resourcequotas", "q", `{"spec":{"hard":{"configmaps":"5"}}}`),
			}},
		{controller: "garbage-collector-controller", looks: []look{maps},
			steps: []func(*cluster){
				func(c *cluster) {
					add("{apiVersion: v1, kind: ConfigMap, metadata: {name: a}}\n---\n{apiVersion: v1, kind: ConfigMap, metadata: {name: b}}\n")(c)
					for owner, children := range map[string][]string{"a": {"a1", "a2"}, "b": {"b1"}} {
						o, err := c.CoreV1().ConfigMaps("default").Get(c.t.Context(), owner, metav1.GetOptions{})
						if err != nil {
							c.t.Fatal(err)
						}
						for _, name := range children {
							yes := true
							child := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name, OwnerReferences: []metav1.OwnerReference{{APIVersion: "v1", Kind: "ConfigMap", Name: owner, UID: o.UID, BlockOwnerDeletion: &yes}}}}
							if _, err := c.CoreV1().ConfigMaps("default").Create(c.t.Context(), child, metav1.CreateOptions{}); err != nil {
								c.t.Fatal(err)
							}
						}
					}
				},
				remove("configmaps", "a", foreground),
				remove("configmaps", "b", orphan),
			}},
		{controller: "serviceaccount-controller", looks: []look{{"serviceaccounts", nil}},
			steps: []func(*cluster){add("{apiVersion: v1, kind: Namespace, metadata: {name: a}}\n---\n{apiVersion: v1, kind: Namespace, metadata: {name: b}}\n")}},
		{controller: "root-ca-certificate-publisher-controller", looks: []look{{"configmaps", []string{"metadata.namespace|in", "data"}}},
			steps: []func(*cluster){add("{apiVersion: v1, kind: Namespace, metadata: {name: a}}\n---\n{apiVersion: v1, kind: Namespace, metadata: {name: b}}\n")}},
		{controller: "clusterrole-aggregation-controller", looks: []look{{"rbac.authorization.k8s.io/v1/clusterroles", []string{"rules"}}},
			steps: []func(*cluster){
				add(`{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRole, metadata: {name: all}, aggregationRule: {clusterRoleSelectors: [{matchLabels: {to: all}}]}}
---
{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRole, metadata: {name: a, labels: {to: all}}, rules: [{apiGroups: [''], resources: [pods], verbs: [get]}]}
`),
				remove("rbac.authorization.k8s.io/v1/clusterroles", "a", background),
			}},
		{controller: "service-cidr-controller", later: hour, looks: []look{{"networking.k8s.io/v1/servicecidrs", []string{"status.conditions"}}},
			steps: []func(*cluster){
				add("{apiVersion: networking.k8s.io/v1, kind: ServiceCIDR, metadata: {name: more}, spec: {cidrs: [10.200.0.0/24]}}"),
				remove("networking.k8s.io/v1/servicecidrs", "more", background),
			}},
		{controller: "ipallocator-repair-controller", later: hour, looks: []look{{"networking.k8s.io/v1/ipaddresses", []string{"metadata.labels", "spec"}}},
			steps: []func(*cluster){
				add(`{apiVersion: v1, kind: Service, metadata: {name: web}, spec: {clusterIP: 10.96.3.7, clusterIPs: [10.96.3.7], ports: [{port: 80}]}}
---
{apiVersion: networking.k8s.io/v1, kind: IPAddress, metadata: {name: 10.96.3.8, labels: {ipaddress.kubernetes.io/managed-by: ipallocator.k8s.io}}, spec: {parentRef: {resource: services, namespace: default, name: none}}}
---
{apiVersion: networking.k8s.io/v1, kind: IPAddress, metadata: {name: 10.96.3.9}, spec: {parentRef: {resource: services, namespace: default, name: other}}}
---
{apiVersion: v1, kind: Service, metadata: {name: db}, spec: {clusterIP: 10.96.3.9, clusterIPs: [10.96.3.9], ports: [{port: 80}]}}
`),
				remove("services", "web", background),
			}},
		{controller: "storage-version-migrator-controller", looks: []look{{"storagemigration.k8s.io/v1/storageversionmigrations", []string{"status.conditions"}}},
			steps: []func(*cluster){
				add("{apiVersion: v1, kind: ConfigMap, metadata: {name: a}}\n---\n{apiVersion: v1, kind: ConfigMap, metadata: {name: b}}\n---\n" +
					"{apiVersion: storagemigration.k8s.io/v1, kind: StorageVersionMigration, metadata: {name: m}, spec: {resource: {resource: configmaps}}}"),
			}},
	}
}
