package builtin_test

import (
	"encoding/json"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"canopus/internal/kinds"
)

// rule is a change, JSON that is laid over an object, and what a create of the result is refused with: a line per error, the
// field and how its text begins.
type rule struct{ change, want string }

// lines lists errors, a line each.
func lines(errs field.ErrorList) string {
	var out []string
	for _, e := range errs {
		out = append(out, e.Field+": "+e.Detail)
	}
	return strings.Join(out, "\n")
}

// begin says whether each line of got begins with the one of want in its place.
func begin(got, want string) bool {
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	if len(g) != len(w) || (got == "") != (want == "") {
		return false
	}
	for i := range g {
		if !strings.HasPrefix(g[i], w[i]) {
			return false
		}
	}
	return true
}

// refuse tries rules on the creation of base.
func refuse(t *testing.T, base string, rules []rule) {
	t.Helper()
	for _, r := range append(rules, rule{"{}", ""}) {
		k, obj := parse(t, base)
		if err := json.Unmarshal([]byte(r.change), obj); err != nil {
			t.Fatalf("%s: %v", r.change, err)
		}
		k.Default(obj)
		k.PrepareCreate(obj)
		if got := lines(k.Validate(obj)); !begin(got, r.want) {
			t.Errorf("%s: %s: refused\n%s\nwant\n%s", k.GVK.Kind, r.change, got, r.want)
		}
	}
}

// refuseStatus tries rules on the status of base.
func refuseStatus(t *testing.T, base string, rules []rule) {
	t.Helper()
	for _, r := range append(rules, rule{"{}", ""}) {
		k, old := parse(t, base)
		k.Default(old)
		old.SetResourceVersion("1")
		obj := old.DeepCopyObject().(kinds.Object)
		if err := json.Unmarshal([]byte(r.change), obj); err != nil {
			t.Fatalf("%s: %v", r.change, err)
		}
		status := k.Subresource("status")
		status.PrepareUpdate(obj, old)
		if got := lines(status.ValidateUpdate(obj, old)); !begin(got, r.want) {
			t.Errorf("status of %s: %s: refused\n%s\nwant\n%s", k.GVK.Kind, r.change, got, r.want)
		}
	}
}

const aPod = `{apiVersion: v1, kind: Pod, metadata: {name: a, namespace: n}, spec: {containers: [{name: c, image: i}]}}`

// within lays a change over the spec of a pod.
func within(spec, want string) rule { return rule{`{"spec":{` + spec + `}}`, want} }

// inContainer lays a change over its first container.
func inContainer(c, want string) rule { return within(`"containers":[{`+c+`}]`, want) }

func TestPodSchedulingRules(t *testing.T) {
	t.Parallel()
	const (
		affinity = "spec.affinity."
		required = "requiredDuringSchedulingIgnoredDuringExecution"
		prefer   = "preferredDuringSchedulingIgnoredDuringExecution"
		terms    = affinity + "nodeAffinity." + required + ".nodeSelectorTerms"
	)
	node := func(term, want string) rule {
		return within(`"affinity":{"nodeAffinity":{"`+required+`":{"nodeSelectorTerms":[`+term+`]}}}`, want)
	}
	other := func(term, want string) rule {
		return within(`"affinity":{"podAntiAffinity":{"`+required+`":[`+term+`]}}`, want)
	}
	const anti = affinity + "podAntiAffinity." + required + "[0]."
	refuse(t, aPod, []rule{
		node(``, terms+": must have at least one node selector term"),
		node(`{"matchExpressions":[{"key":"a","operator":"In","values":["b"]},{"key":"a","operator":"Gt","values":["1"]}]}`, ""),
		node(`{"matchExpressions":[{"key":"a","operator":"In"}]}`, terms+"[0].matchExpressions[0].values: must be specified when `operator` is 'In' or 'NotIn'"),
		node(`{"matchExpressions":[{"key":"a","operator":"Exists","values":["b"]}]}`, terms+"[0].matchExpressions[0].values: may not be specified when `operator` is 'Exists' or 'DoesNotExist'"),
		node(`{"matchExpressions":[{"key":"a","operator":"Lt","values":["1","2"]}]}`, terms+"[0].matchExpressions[0].values: must be specified single value when `operator` is 'Lt' or 'Gt'"),
		node(`{"matchExpressions":[{"key":"a","operator":"Like"}]}`, terms+"[0].matchExpressions[0].operator: not a valid selector operator"),
		node(`{"matchExpressions":[{"key":"a b","operator":"Exists"}]}`, terms+"[0].matchExpressions[0].key: name part must consist of"),
		node(`{"matchFields":[{"key":"metadata.name","operator":"In","values":["n"]}]}`, ""),
		node(`{"matchFields":[{"key":"metadata.name","operator":"In","values":["n","m"]}]}`, terms+"[0].matchFields[0].values: must be only one value"),
		node(`{"matchFields":[{"key":"metadata.uid","operator":"In","values":["n"]}]}`, terms+"[0].matchFields[0].key: not a valid field selector key"),
		within(`"affinity":{"nodeAffinity":{"`+prefer+`":[{"weight":101,"preference":{"matchExpressions":[{"key":"a","operator":"Exists"}]}}]}}`,
			affinity+"nodeAffinity."+prefer+"[0].weight: must be in the range 1-100"),
		other(`{"topologyKey":"zone","labelSelector":{"matchLabels":{"a":"b"}}}`, ""),
		other(`{"labelSelector":{"matchLabels":{"a":"b"}}}`, anti+"topologyKey: can not be empty"),
		other(`{"topologyKey":"zone","namespaces":["A"]}`, anti+"namespace: a lowercase RFC 1123 label"),
		other(`{"topologyKey":"zone","labelSelector":{"matchExpressions":[{"key":"a","operator":"In"}]}}`, anti+"labelSelector.matchExpressions[0].values: must be specified when `operator` is 'In' or 'NotIn'"),
		other(`{"topologyKey":"zone","matchLabelKeys":["a"]}`, anti+"matchLabelKeys: must not be specified when labelSelector is not set"),
		other(`{"topologyKey":"zone","labelSelector":{},"matchLabelKeys":["a"],"mismatchLabelKeys":["a"]}`, anti+"matchLabelKeys[0]: exists in both matchLabelKeys and mismatchLabelKeys"),
		within(`"tolerations":[{"operator":"Equal","value":"a"}]`, "spec.tolerations[0].operator: operator must be Exists when `key` is empty"),
		within(`"tolerations":[{"key":"k","operator":"Exists","value":"a"}]`, "spec.tolerations[0].operator: value must be empty when `operator` is 'Exists'"),
		within(`"tolerations":[{"key":"k","operator":"Gt","value":"1"}]`, "spec.tolerations[0].operator: supported values: \"Equal\", \"Exists\""),
		within(`"tolerations":[{"key":"k","operator":"Lt","value":"1"}]`, "spec.tolerations[0].operator: supported values: \"Equal\", \"Exists\""),
		within(`"tolerations":[{"key":"k","operator":"Like"}]`, "spec.tolerations[0].operator: supported values"),
		within(`"tolerations":[{"key":"k","operator":"Exists","tolerationSeconds":5}]`, "spec.tolerations[0].effect: effect must be 'NoExecute' when `tolerationSeconds` is set"),
		within(`"tolerations":[{"key":"k","operator":"Exists","effect":"Never"}]`, "spec.tolerations[0].effect: supported values"),
		within(`"topologySpreadConstraints":[{"maxSkew":0,"topologyKey":"","whenUnsatisfiable":"Maybe"}]`,
			"spec.topologySpreadConstraints[0].maxSkew: must be greater than zero\nspec.topologySpreadConstraints[0].topologyKey: can not be empty\nspec.topologySpreadConstraints[0].whenUnsatisfiable: supported values"),
		within(`"topologySpreadConstraints":[{"maxSkew":1,"topologyKey":"z","whenUnsatisfiable":"ScheduleAnyway","minDomains":2}]`,
			"spec.topologySpreadConstraints[0].minDomains: can only use minDomains if whenUnsatisfiable=DoNotSchedule, not ScheduleAnyway"),
		within(`"schedulingGates":[{"name":"a"},{"name":"a"}],"nodeName":"x"`, "spec.schedulingGates[1]: \nspec.nodeName: cannot be set until all schedulingGates have been cleared"),
	})
}

func TestPodContainerRules(t *testing.T) {
	t.Parallel()
	const c = "spec.containers[0]."
	from := func(source, want string) rule {
		return inContainer(`"env":[{"name":"A","valueFrom":{`+source+`}}]`, want)
	}
	const env = c + "env[0].valueFrom"
	refuse(t, aPod, []rule{
		from(``, env+": must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `fileKeyRef` or `secretKeyRef`"),
		from(`"fieldRef":{"fieldPath":"metadata.labels['a']"}`, ""),
		from(`"fieldRef":{"fieldPath":"metadata.labels"}`, env+".fieldRef.fieldPath: supported values"),
		from(`"fieldRef":{"fieldPath":"spec.x"}`, env+".fieldRef.fieldPath: error converting fieldPath: field label not supported: spec.x"),
		from(`"fieldRef":{"fieldPath":"spec.nodeName['a']"}`, env+".fieldRef: does not support subscript"),
		from(`"fieldRef":{"apiVersion":"v2","fieldPath":"metadata.name"}`, env+".fieldRef.fieldPath: error converting fieldPath: unsupported pod version: v2"),
		from(`"resourceFieldRef":{"resource":"limits.cpu","divisor":"1m"}`, ""),
		from(`"resourceFieldRef":{"resource":"limits.cpu","divisor":"2m"}`, env+".resourceFieldRef.divisor: only divisor's values 1m and 1 are supported with the cpu resource"),
		from(`"resourceFieldRef":{"resource":"limits.memory","divisor":"3"}`, env+".resourceFieldRef.divisor: only divisor's values 1, 1k"),
		from(`"resourceFieldRef":{"resource":"limits.pods"}`, env+".resourceFieldRef.resource: supported values"),
		from(`"configMapKeyRef":{"name":"m"}`, env+".configMapKeyRef.key: "),
		from(`"secretKeyRef":{"name":"s","key":"a/b"}`, env+".secretKeyRef.key: a valid config key must consist of"),
		from(`"fileKeyRef":{"volumeName":"v","key":"A","path":"/x"}`, env+".fileKeyRef.volumeName: \n"+env+".fileKeyRef.path: must be a relative path"),
		inContainer(`"envFrom":[{}]`, c+"envFrom: must specify one of: `configMapRef` or `secretRef`"),
		inContainer(`"envFrom":[{"prefix":"=","secretRef":{"name":"s"}}]`, c+"envFrom[0].prefix: a valid environment variable name"),
		inContainer(`"lifecycle":{"preStop":{"sleep":{"seconds":31}}}`, c+"lifecycle.preStop.sleep: must be non-negative and less than terminationGracePeriodSeconds (30)"),
		inContainer(`"lifecycle":{"postStart":{}}`, c+"lifecycle.postStart: must specify a handler type"),
		inContainer(`"lifecycle":{"stopSignal":"SIGTERM"}`, c+"lifecycle.stopSignal: may not be set for containers with empty `spec.os.name`"),
		inContainer(`"livenessProbe":{"exec":{"command":["a"]},"tcpSocket":{"port":1}}`, c+"livenessProbe.tcpSocket: may not specify more than 1 handler type"),
		inContainer(`"livenessProbe":{"exec":{},"successThreshold":2}`, c+"livenessProbe.exec.command: \n"+c+"livenessProbe.successThreshold: must be 1"),
		inContainer(`"readinessProbe":{"httpGet":{"port":"a_b","path":"/","scheme":"ftp"}}`, c+"readinessProbe.httpGet.port: must contain only alpha-numeric characters\n"+c+"readinessProbe.httpGet.scheme: supported values"),
		inContainer(`"readinessProbe":{"grpc":{"port":0},"terminationGracePeriodSeconds":5}`, c+"readinessProbe.grpc.port: must be between 1 and 65535, inclusive\n"+c+"readinessProbe.terminationGracePeriodSeconds: must not be set for readinessProbes"),
		inContainer(`"restartPolicyRules":[{"action":"Restart","exitCodes":{"operator":"In","values":[1]}}]`, c+"restartPolicy: must specify restartPolicy when restart rules are used"),
		inContainer(`"restartPolicy":"Never","restartPolicyRules":[{"action":"Restart"}]`, c+"restartPolicyRules[0].exitCodes: must be specified"),
		inContainer(`"restartPolicy":"Never","restartPolicyRules":[{"action":"Wait","exitCodes":{"operator":"Is","values":[1,1,256]}}]`,
			c+"restartPolicyRules[0].action: supported values\n"+c+"restartPolicyRules[0].exitCodes.operator: supported values\n"+
				c+"restartPolicyRules[0].exitCodes.values[1]: \n"+c+"restartPolicyRules[0].exitCodes.values[2]: must be between 0 and 255, inclusive"),
		inContainer(`"resources":{"requests":{"example.com/gpu":"1"}}`, c+"resources.limits: Limit must be set for non overcommitable resources"),
		inContainer(`"resources":{"limits":{"hugepages-2Mi":"4Mi"}}`, c+"resources: HugePages require cpu or memory"),
		inContainer(`"resources":{"requests":{"disk":"1"}}`, c+"resources.requests[disk]: must be a standard resource type or fully qualified\n"+c+"resources.requests[disk]: must be a standard resource for containers"),
		inContainer(`"resources":{"claims":[{"name":"x"}]}`, c+"resources.claims[0].name: "),
		within(`"resources":{"limits":{"cpu":"1"},"requests":{"pods":"1"}},"containers":[{"resources":{"limits":{"cpu":"2"},"requests":{"cpu":"1"}}}]`,
			"spec.resources.requests[pods]: supported values\nspec.containers[0].resources.limits[cpu]: must be less than or equal to pod limits of 1"),
		inContainer(`"securityContext":{"seccompProfile":{"type":"Localhost"}}`, c+"securityContext.seccompProfile.localhostProfile: must be set when seccomp type is Localhost"),
		inContainer(`"securityContext":{"seccompProfile":{}}`, c+"securityContext.seccompProfile.type: type is required when seccompProfile is set"),
		inContainer(`"securityContext":{"appArmorProfile":{"type":"Unconfined","localhostProfile":"x"}}`, c+"securityContext.appArmorProfile.localhostProfile: can only be set when AppArmor type is Localhost"),
		inContainer(`"securityContext":{"privileged":true,"allowPrivilegeEscalation":false}`, c+"securityContext: cannot set `allowPrivilegeEscalation` to false and `privileged` to true"),
		inContainer(`"securityContext":{"procMount":"Unmasked"}`, c+"securityContext.procMount: `hostUsers` must be false to use `Unmasked`"),
		inContainer(`"resizePolicy":[{"resourceName":"disk","restartPolicy":"Never"}]`, c+"resizePolicy[0].resourceName: supported values\n"+c+"resizePolicy[0].restartPolicy: supported values"),
	})
}

func TestPodVolumeRules(t *testing.T) {
	t.Parallel()
	volume := func(source, want string) rule { return within(`"volumes":[{"name":"v",`+source+`}]`, want) }
	const v = "spec.volumes[0]."
	claim := func(spec, want string) rule {
		return volume(`"ephemeral":{"volumeClaimTemplate":{"spec":{`+spec+`}}}`, want)
	}
	const claimed = v + "ephemeral.volumeClaimTemplate.spec."
	projected := func(source, want string) rule { return volume(`"projected":{"sources":[{`+source+`}]}`, want) }
	const source = v + "projected.sources[0]."
	refuse(t, aPod, []rule{
		volume(`"emptyDir":{"sizeLimit":"-1"}`, v+"emptyDir.sizeLimit: SizeLimit field must be a valid resource quantity"),
		volume(`"hostPath":{"path":"/a/../b"}`, v+"hostPath.path: must not contain '..'"),
		volume(`"hostPath":{"path":"/a","type":"Door"}`, v+"hostPath.type: supported values"),
		volume(`"secret":{"secretName":"s","defaultMode":512}`, v+"secret.defaultMode: must be a number between 0 and 0777 (octal), both inclusive"),
		volume(`"configMap":{"name":"m","items":[{"key":"k","path":"..x"}]}`, v+"configMap.items[0].path: must not start with '..'"),
		volume(`"downwardAPI":{"items":[{"path":"p"}]}`, v+"downwardAPI.items[0]: one of fieldRef and resourceFieldRef is required"),
		volume(`"downwardAPI":{"items":[{"path":"p","resourceFieldRef":{"resource":"limits.cpu"}}]}`, v+"downwardAPI.items[0].resourceFieldRef.containerName: "),
		volume(`"nfs":{"server":"s","path":"a"}`, v+"nfs.path: must be an absolute path"),
		volume(`"csi":{"driver":"A_b"}`, v+"csi.driver: a lowercase RFC 1123 subdomain"),
		volume(`"image":{"pullPolicy":"Soon"}`, v+"image.reference: \n"+v+"image.pullPolicy: supported values"),
		volume(`"iscsi":{"targetPortal":"p","iqn":"q","lun":256}`, v+"iscsi.lun: must be between 0 and 255, inclusive"),
		claim(`"accessModes":["ReadWriteOnce"],"resources":{"requests":{"storage":"1Gi"}}`, ""),
		claim(`"accessModes":["Sometimes"],"resources":{"requests":{"storage":"1Gi"}}`, claimed+"accessModes: supported values"),
		claim(`"accessModes":["ReadWriteOnce"]`, claimed+"resources[storage]: "),
		projected(``, source[:len(source)-1]+": must specify a projected source type"),
		projected(`"serviceAccountToken":{"path":"t","expirationSeconds":599}`, source+"serviceAccountToken.expirationSeconds: may not specify a duration less than 10 minutes"),
		projected(`"clusterTrustBundle":{"path":"p"}`, source+"clusterTrustBundle: either name or signerName must be specified"),
		projected(`"clusterTrustBundle":{"path":"p","name":"a","signerName":"b"}`, source+"clusterTrustBundle: only one of name and signerName may be used"),
		projected(`"podCertificate":{"signerName":"example.com/s","keyType":"RSA1"}`, source+"podCertificate.keyType: supported values\n"+source+"podCertificate: specify at least one of credentialBundlePath, keyPath, and certificateChainPath"),
		projected(`"secret":{"name":"s"},"configMap":{"name":"m"}`, source+"configMap: may not specify more than 1 volume type"),
	})
}

func TestOtherRules(t *testing.T) {
	t.Parallel()
	refuse(t, `{apiVersion: v1, kind: Endpoints, metadata: {name: a, namespace: n}, subsets: [{addresses: [{ip: 10.0.0.1}], ports: [{port: 80}]}]}`, []rule{
		{`{"subsets":[{"addresses":null}]}`, "subsets[0]: must specify `addresses` or `notReadyAddresses`"},
		{`{"subsets":[{"addresses":[{"ip":"x"}]}]}`, "subsets[0].addresses[0].ip: must be a valid IP address"},
		{`{"subsets":[{"addresses":[{"ip":"127.0.0.1"}]}]}`, "subsets[0].addresses[0].ip: may not be in the loopback range (127.0.0.0/8, ::1/128)"},
		{`{"subsets":[{"addresses":[{"ip":"169.254.1.1"}]}]}`, "subsets[0].addresses[0].ip: may not be in the link-local range (169.254.0.0/16, fe80::/10)"},
		{`{"subsets":[{"notReadyAddresses":[{"ip":"10.0.0.2","hostname":"a.b"}]}]}`, "subsets[0].notReadyAddresses[0].hostname: must not contain dots"},
		{`{"subsets":[{"ports":[{"port":80},{"port":81,"name":"b"}]}]}`, "subsets[0].ports[0].name: "},
		{`{"subsets":[{"ports":[{"port":0,"protocol":"ICMP"}]}]}`, "subsets[0].ports[0].port: must be between 1 and 65535, inclusive\nsubsets[0].ports[0].protocol: supported values"},
	})
	refuse(t, `{apiVersion: v1, kind: Secret, metadata: {name: a, namespace: n}, type: kubernetes.io/dockerconfigjson, data: {.dockerconfigjson: e30=}}`, []rule{
		{`{"data":{".dockerconfigjson":"eA=="}}`, "data[.dockerconfigjson]: invalid character 'x'"},
		{`{"type":"kubernetes.io/dockercfg"}`, "data[.dockercfg]: "},
		{`{"type":"kubernetes.io/basic-auth"}`, "data[username]: \ndata[password]: "},
		{`{"type":"kubernetes.io/ssh-auth"}`, "data[ssh-privatekey]: "},
		{`{"type":"kubernetes.io/service-account-token"}`, "metadata.annotations[kubernetes.io/service-account.name]: "},
	})
	refuse(t, `{apiVersion: v1, kind: ReplicationController, metadata: {name: a, namespace: n},
	   spec: {template: {metadata: {labels: {a: b}}, spec: {containers: [{name: c, image: i}]}}}}`, []rule{
		{`{"spec":{"replicas":-1,"minReadySeconds":-1}}`, "spec.minReadySeconds: must be greater than or equal to 0\nspec.replicas: must be greater than or equal to 0"},
		{`{"spec":{"template":null}}`, "spec.selector: \nspec.template: "},
		{`{"spec":{"selector":{"c":"d"}}}`, "spec.template.metadata.labels: `selector` does not match template `labels`"},
		{`{"spec":{"template":{"spec":{"restartPolicy":"Never"}}}}`, "spec.template.spec.restartPolicy: supported values"},
		{`{"spec":{"template":{"spec":{"activeDeadlineSeconds":5}}}}`, "spec.template.spec.activeDeadlineSeconds: activeDeadlineSeconds in ReplicationController is not Supported"},
	})
	refuse(t, `{apiVersion: v1, kind: PodTemplate, metadata: {name: a, namespace: n}, template: {spec: {containers: [{name: c, image: i}]}}}`, []rule{
		{`{"template":{"spec":{"containers":[{"image":""}]}}}`, "template.spec.containers[0].image: "},
		{`{"template":{"metadata":{"annotations":{"controller.kubernetes.io/pod-deletion-cost":"x"}}}}`, "template.annotations[controller.kubernetes.io/pod-deletion-cost]: must be a 32bit integer"},
		{`{"template":{"spec":{"ephemeralContainers":[{"name":"d","image":"i"}]}}}`, "template.spec.ephemeralContainers: ephemeral containers not allowed in pod template"},
	})
	refuse(t, `{apiVersion: apps/v1, kind: ControllerRevision, metadata: {name: a, namespace: n}, data: {}, revision: 1}`, []rule{
		{`{"revision":-1}`, "revision: must be greater than or equal to 0"},
	})
	refuse(t, `{apiVersion: policy/v1, kind: PodDisruptionBudget, metadata: {name: a, namespace: n}, spec: {minAvailable: 1}}`, []rule{
		{`{"spec":{"maxUnavailable":1}}`, "spec: minAvailable and maxUnavailable cannot be both set"},
		{`{"spec":{"minAvailable":-1}}`, "spec.minAvailable: must be greater than or equal to 0"},
		{`{"spec":{"minAvailable":"101%"}}`, "spec.minAvailable: must not be greater than 100%"},
		{`{"spec":{"unhealthyPodEvictionPolicy":"Never"}}`, "spec.unhealthyPodEvictionPolicy: supported values"},
	})
	refuse(t, `{apiVersion: coordination.k8s.io/v1, kind: Lease, metadata: {name: a, namespace: n}}`, []rule{
		{`{"spec":{"leaseDurationSeconds":0,"leaseTransitions":-1}}`, "spec.leaseDurationSeconds: must be greater than 0\nspec.leaseTransitions: must be greater than or equal to 0"},
	})
}

// TestStatusRules: what writers of statuses may not claim.
func TestStatusRules(t *testing.T) {
	t.Parallel()
	const below, zero = "cannot be greater than status.replicas", "must be greater than or equal to 0"
	for _, kind := range []string{"apps/v1, kind: Deployment", "apps/v1, kind: ReplicaSet", "apps/v1, kind: StatefulSet"} {
		refuseStatus(t, `{apiVersion: `+kind+`, metadata: {name: a, namespace: n}, status: {replicas: 2}}`, []rule{
			{`{"status":{"readyReplicas":2,"availableReplicas":1}}`, ""},
			{`{"status":{"readyReplicas":3}}`, "status.readyReplicas: " + below},
			{`{"status":{"readyReplicas":1,"availableReplicas":2}}`, "status.availableReplicas: cannot be greater than "},
			{`{"status":{"observedGeneration":-1}}`, "status.observedGeneration: " + zero},
		})
	}
	refuseStatus(t, `{apiVersion: apps/v1, kind: Deployment, metadata: {name: a, namespace: n}, status: {collisionCount: 2}}`, []rule{
		{`{"status":{"collisionCount":3}}`, ""},
		{`{"status":{"collisionCount":1}}`, "status.collisionCount: cannot be decremented"},
		{`{"status":{"collisionCount":null}}`, "status.collisionCount: cannot be decremented"},
		{`{"status":{"unavailableReplicas":-1}}`, "status.unavailableReplicas: " + zero},
	})
	refuseStatus(t, `{apiVersion: apps/v1, kind: DaemonSet, metadata: {name: a, namespace: n}}`, []rule{
		{`{"status":{"numberReady":-1,"numberUnavailable":-1}}`, "status.numberReady: " + zero + "\nstatus.numberUnavailable: " + zero},
	})
	refuseStatus(t, `{apiVersion: v1, kind: ReplicationController, metadata: {name: a, namespace: n}, status: {replicas: 1}}`, []rule{
		{`{"status":{"fullyLabeledReplicas":2}}`, "status.fullyLabeledReplicas: " + below},
		{`{"status":{"availableReplicas":1}}`, "status.availableReplicas: cannot be greater than readyReplicas"},
	})
	refuseStatus(t, `{apiVersion: batch/v1, kind: Job, metadata: {name: a, namespace: n}, status: {active: 1}}`, []rule{
		{`{"status":{"ready":1}}`, ""},
		{`{"status":{"ready":2}}`, "status.ready: cannot set more ready pods than active"},
		{`{"status":{"uncountedTerminatedPods":{"succeeded":["a"],"failed":["a",""]}}}`, "status.uncountedTerminatedPods.failed[0]: \nstatus.uncountedTerminatedPods.failed[1]: must not be empty"},
		{`{"status":{"active":0,"conditions":[{"type":"Complete","status":"True"}]}}`, "status.completionTime: completionTime is required for Complete jobs"},
		{`{"status":{"conditions":[{"type":"Failed","status":"True"}]}}`, "status.active: active>0 is invalid for finished job"},
		{`{"status":{"active":0,"conditions":[{"type":"Failed","status":"True"},{"type":"SuccessCriteriaMet","status":"True"}]}}`, "status.conditions: cannot set SuccessCriteriaMet=True together with"},
		{`{"status":{"completionTime":"2026-01-01T00:00:00Z"}}`, "status.completionTime: cannot set completionTime when there is no Complete=True condition"},
		{`{"status":{"completedIndexes":"1"}}`, "status.completedIndexes: cannot set non-empty completedIndexes when non-indexed completion mode"},
	})
	refuseStatus(t, `{apiVersion: batch/v1, kind: Job, metadata: {name: a, namespace: n}, status: {conditions: [{type: Failed, status: "True"}]}}`, []rule{
		{`{"status":{"conditions":[{"type":"Failed","status":"False"}]}}`, "status.conditions: cannot disable the terminal Failed=True condition"},
	})
	refuseStatus(t, `{apiVersion: v1, kind: Namespace, metadata: {name: a}, status: {phase: Active}}`, []rule{
		{`{"status":{"phase":"Terminating"}}`, "status.phase: may only be 'Active' if `deletionTimestamp` is empty"},
	})
	refuseStatus(t, `{apiVersion: v1, kind: Node, metadata: {name: a}, status: {addresses: [{type: InternalIP, address: 10.0.0.1}]}}`, []rule{
		{`{"status":{"addresses":[{},{"type":"InternalIP","address":"10.0.0.1"}]}}`, "status.addresses[1]: "},
		{`{"status":{"capacity":{"pods":"1500m"}}}`, "status.capacity[pods]: must be an integer"},
	})
	refuseStatus(t, `{apiVersion: v1, kind: Pod, metadata: {name: a, namespace: n}, spec: {restartPolicy: Never, containers: [{name: c}]},
	   status: {containerStatuses: [{name: c, state: {terminated: {exitCode: 1}}}]}}`, []rule{
		{`{"status":{"containerStatuses":[{"state":{"terminated":null,"running":{}}}]}}`, "status.containerStatuses[0].state: may not be transitioned to non-terminated state"},
		{`{"status":{"podIP":"10.0.0.1","podIPs":[{"ip":"10.0.0.2"}]}}`, "status.podIPs[0].ip: must be equal to `podIP`"},
		{`{"status":{"qosClass":"Guaranteed"}}`, "status.qosClass: field is immutable"},
		{`{"status":{"conditions":[{"type":"a b"}]}}`, "status.conditions[0].type: name part must consist of"},
		{`{"status":{"nominatedNodeName":"A"}}`, "status.nominatedNodeName: a lowercase RFC 1123 subdomain"},
	})
	refuseStatus(t, `{apiVersion: policy/v1, kind: PodDisruptionBudget, metadata: {name: a, namespace: n}}`, []rule{
		{`{"status":{"disruptionsAllowed":-1,"expectedPods":-1}}`, "status.disruptionsAllowed: " + zero + "\nstatus.expectedPods: " + zero},
	})
}
