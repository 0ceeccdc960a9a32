package builtin_test

import (
	"encoding/json"
	"strings"
	"testing"

	"canopus/internal/kinds"
)

// immutables are objects, and what changes to them lead to: the field and text of the refusal, or nothing. Clients match
// these texts to tell that they have to make the object anew.
var immutables = []struct {
	base    string
	changes map[string]string // JSON that is laid over the object
}{
	{`{apiVersion: apps/v1, kind: Deployment, metadata: {name: a, namespace: n},
	   spec: {selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: b, c: d}}, spec: {containers: [{name: c, image: i}]}}}}`, map[string]string{
		`{"spec":{"replicas":3,"paused":true}}`:              "",
		`{"spec":{"selector":{"matchLabels":{"c":"d"}}}}`:    "spec.selector: field is immutable",
		`{"spec":{"template":{"spec":{"hostPID":true}}}}`:    "",
		`{"spec":{"strategy":{"type":"Recreate"}}}`:          "spec.strategy.rollingUpdate: may not be specified when strategy `type` is 'Recreate'",
		`{"metadata":{"labels":{"x":"y"}}}`:                  "",
		`{"metadata":{"name":"b"}}`:                          "metadata.name: field is immutable",
		`{"spec":{"progressDeadlineSeconds":0}}`:             "spec.progressDeadlineSeconds: must be greater than minReadySeconds",
		`{"spec":{"template":{"metadata":{"labels":null}}}}`: "spec.template.metadata.labels: `selector` does not match template `labels`",
	}},
	{`{apiVersion: apps/v1, kind: ReplicaSet, metadata: {name: a, namespace: n},
	   spec: {selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: b, c: d}}, spec: {containers: [{name: c, image: i}]}}}}`, map[string]string{
		`{"spec":{"replicas":3}}`:                         "",
		`{"spec":{"selector":{"matchLabels":{"c":"d"}}}}`: "spec.selector: field is immutable",
	}},
	{`{apiVersion: apps/v1, kind: DaemonSet, metadata: {name: a, namespace: n},
	   spec: {selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: b, c: d}}, spec: {containers: [{name: c, image: i}]}}}}`, map[string]string{
		`{"spec":{"minReadySeconds":3}}`:                  "",
		`{"spec":{"selector":{"matchLabels":{"c":"d"}}}}`: "spec.selector: field is immutable",
	}},
	{`{apiVersion: apps/v1, kind: StatefulSet, metadata: {name: a, namespace: n},
	   spec: {serviceName: a, selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: b, c: d}}, spec: {containers: [{name: c, image: i}]}}}}`, map[string]string{
		`{"spec":{"replicas":3,"minReadySeconds":1,"ordinals":{"start":1},"revisionHistoryLimit":2,"updateStrategy":{"rollingUpdate":{"partition":1}}}}`: "",
		`{"spec":{"persistentVolumeClaimRetentionPolicy":{"whenScaled":"Delete"}}}`:                                                                      "",
		`{"spec":{"template":{"spec":{"hostPID":true}}}}`:                                                                                                "",
		`{"spec":{"serviceName":"b"}}`:                                  "spec: updates to statefulset spec for fields other than",
		`{"spec":{"podManagementPolicy":"Parallel"}}`:                   "spec: updates to statefulset spec for fields other than",
		`{"spec":{"selector":{"matchLabels":{"c":"d"}}}}`:               "spec: updates to statefulset spec for fields other than",
		`{"spec":{"volumeClaimTemplates":[{"metadata":{"name":"x"}}]}}`: "spec: updates to statefulset spec for fields other than",
	}},
	{`{apiVersion: apps/v1, kind: ControllerRevision, metadata: {name: a, namespace: n}, revision: 1, data: {a: b}}`, map[string]string{
		`{"revision":2}`:     "",
		`{"data":{"a":"c"}}`: "data: field is immutable",
	}},
	{`{apiVersion: batch/v1, kind: Job, metadata: {name: a, namespace: n, uid: u},
	   spec: {completions: 2, template: {spec: {restartPolicy: Never, containers: [{name: c, image: i}]}}}}`, map[string]string{
		`{"spec":{"parallelism":3,"suspend":true,"activeDeadlineSeconds":5,"ttlSecondsAfterFinished":1}}`: "",
		`{"spec":{"completions":3}}`:                             "spec.completions: field is immutable",
		`{"spec":{"completionMode":"Indexed"}}`:                  "spec.completionMode: field is immutable",
		`{"spec":{"template":{"spec":{"hostPID":true}}}}`:        "spec.template: field is immutable",
		`{"spec":{"selector":{"matchLabels":{"job-name":"a"}}}}`: "spec.selector: field is immutable",
		`{"spec":{"managedBy":"example.com/x"}}`:                 "spec.managedBy: field is immutable",
	}},
	{`{apiVersion: batch/v1, kind: Job, metadata: {name: a, namespace: n, uid: u},
	   spec: {completionMode: Indexed, completions: 2, parallelism: 2, template: {spec: {restartPolicy: Never, containers: [{name: c, image: i}]}}}}`, map[string]string{
		`{"spec":{"completions":3,"parallelism":3}}`: "",
		`{"spec":{"completions":3}}`:                 "spec.completions: can only be modified in tandem with spec.parallelism",
		`{"spec":{"completions":null}}`:              "spec.completions: field is immutable",
		`{"spec":{"backoffLimitPerIndex":1}}`:        "spec.backoffLimitPerIndex: field is immutable",
	}},
	{`{apiVersion: v1, kind: Pod, metadata: {name: a, namespace: n},
	   spec: {activeDeadlineSeconds: 9, tolerations: [{key: k, operator: Exists}], containers: [{name: c, image: i}]}}`, map[string]string{
		`{"spec":{"containers":[{"image":"other"}],"activeDeadlineSeconds":5}}`:                      "",
		`{"spec":{"tolerations":[{"key":"k","operator":"Exists"},{"key":"l","operator":"Exists"}]}}`: "",
		`{"spec":{"hostPID":true}}`:                              "spec: pod updates may not change fields other than `spec.containers[*].image`",
		`{"spec":{"nodeName":"x"}}`:                              "spec: pod updates may not change fields other than `spec.containers[*].image`",
		`{"spec":{"activeDeadlineSeconds":10}}`:                  "spec.activeDeadlineSeconds: must be less than or equal to previous value",
		`{"spec":{"activeDeadlineSeconds":null}}`:                "spec.activeDeadlineSeconds: must not update from a positive integer to nil value",
		`{"spec":{"tolerations":[]}}`:                            "spec.tolerations: existing toleration can not be modified except its tolerationSeconds",
		`{"spec":{"schedulingGates":[{"name":"x"}]}}`:            "spec.schedulingGates[0]: only deletion is allowed, but found new scheduling gate 'x'",
		`{"spec":{"initContainers":[{"name":"d","image":"i"}]}}`: "spec.initContainers: pod updates may not add or remove containers",
	}},
	{`{apiVersion: v1, kind: Service, metadata: {name: a, namespace: n}, spec: {clusterIP: 10.96.0.9, ipFamilies: [IPv4], ports: [{port: 80}]}}`, map[string]string{
		`{"spec":{"ports":[{"port":81}]}}`:                              "",
		`{"spec":{"clusterIP":"10.96.0.8","clusterIPs":["10.96.0.8"]}}`: "spec.clusterIPs[0]: may not change once set",
		`{"spec":{"clusterIP":"None","clusterIPs":["None"]}}`:           "spec.clusterIPs[0]: may not change once set",
		`{"spec":{"type":"ExternalName","externalName":"a.b"}}`:         "",
	}},
	{`{apiVersion: v1, kind: Secret, metadata: {name: a, namespace: n}, data: {a: Yg==}}`, map[string]string{
		`{"data":{"a":"Yw=="}}`: "",
		`{"type":"x"}`:          "type: field is immutable",
	}},
	{`{apiVersion: v1, kind: Secret, metadata: {name: a, namespace: n}, immutable: true, data: {a: Yg==}}`, map[string]string{
		`{"metadata":{"labels":{"x":"y"}}}`: "",
		`{"data":{"a":"Yw=="}}`:             "data: field is immutable when `immutable` is set",
		`{"immutable":false}`:               "immutable: field is immutable when `immutable` is set",
	}},
	{`{apiVersion: v1, kind: ConfigMap, metadata: {name: a, namespace: n}, immutable: true, data: {a: b}}`, map[string]string{
		`{"data":{"a":"c"}}`:             "data: field is immutable when `immutable` is set",
		`{"binaryData":{"b":"Yw=="}}`:    "binaryData: field is immutable when `immutable` is set",
		`{"immutable":null}`:             "immutable: field is immutable when `immutable` is set",
		`{"metadata":{"finalizers":[]}}`: "",
	}},
	{`{apiVersion: v1, kind: Node, metadata: {name: a}, spec: {podCIDR: 10.0.0.0/24, providerID: x}}`, map[string]string{
		`{"spec":{"unschedulable":true,"taints":[{"key":"k","effect":"NoSchedule"}]}}`: "",
		`{"spec":{"podCIDRs":["10.0.1.0/24"]}}`:                                        `spec.podCIDRs: node updates may not change podCIDR except from "" to valid`,
		`{"spec":{"providerID":"y"}}`:                                                  `spec.providerID: node updates may not change providerID except from "" to valid`,
	}},
	{`{apiVersion: v1, kind: PersistentVolumeClaim, metadata: {name: a, namespace: n},
	   spec: {storageClassName: s, accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}}`, map[string]string{
		`{"spec":{"volumeName":"v"}}`:                           "",
		`{"spec":{"accessModes":["ReadWriteMany"]}}`:            "spec: spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims",
		`{"spec":{"storageClassName":"t"}}`:                     "spec: spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims",
		`{"spec":{"resources":{"requests":{"storage":"2Gi"}}}}`: "spec: spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims",
	}},
	{`{apiVersion: v1, kind: PersistentVolume, metadata: {name: a},
	   spec: {capacity: {storage: 1Gi}, accessModes: [ReadWriteOnce], hostPath: {path: /a}}}`, map[string]string{
		`{"spec":{"persistentVolumeReclaimPolicy":"Delete","capacity":{"storage":"2Gi"}}}`: "",
		`{"spec":{"hostPath":{"path":"/b"}}}`:                                              "spec.persistentvolumesource: spec.persistentvolumesource is immutable after creation",
	}},
	{`{apiVersion: v1, kind: ResourceQuota, metadata: {name: a, namespace: n}, spec: {hard: {pods: 1}, scopes: [BestEffort]}}`, map[string]string{
		`{"spec":{"hard":{"pods":"2"}}}`:        "",
		`{"spec":{"scopes":["NotBestEffort"]}}`: "spec.scopes: field is immutable",
	}},
	{`{apiVersion: storage.k8s.io/v1, kind: StorageClass, metadata: {name: a}, provisioner: example.com/x}`, map[string]string{
		`{"allowVolumeExpansion":true}`:                "",
		`{"provisioner":"example.com/y"}`:              "provisioner: updates to provisioner are forbidden.",
		`{"reclaimPolicy":"Retain"}`:                   "reclaimPolicy: updates to reclaimPolicy are forbidden.",
		`{"volumeBindingMode":"WaitForFirstConsumer"}`: "volumeBindingMode: field is immutable",
	}},
	{`{apiVersion: scheduling.k8s.io/v1, kind: PriorityClass, metadata: {name: a}, value: 1}`, map[string]string{
		`{"description":"x","globalDefault":true}`: "",
		`{"value":2}`:                  "value: may not be changed in an update.",
		`{"preemptionPolicy":"Never"}`: "preemptionPolicy: field is immutable",
	}},
	{`{apiVersion: node.k8s.io/v1, kind: RuntimeClass, metadata: {name: a}, handler: runc}`, map[string]string{
		`{"handler":"kata"}`: "handler: field is immutable",
	}},
	{`{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: a, namespace: n}, addressType: IPv4, endpoints: []}`, map[string]string{
		`{"ports":[{"port":80}]}`: "",
		`{"addressType":"IPv6"}`:  "addressType: field is immutable",
	}},
	{`{apiVersion: rbac.authorization.k8s.io/v1, kind: RoleBinding, metadata: {name: a, namespace: n},
	   roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: r}}`, map[string]string{
		`{"subjects":[{"kind":"ServiceAccount","name":"s","namespace":"n"}]}`: "",
		`{"roleRef":{"name":"q"}}`: "roleRef: cannot change roleRef",
	}},
	{`{apiVersion: resource.k8s.io/v1, kind: ResourceClaim, metadata: {name: a, namespace: n},
	   spec: {devices: {requests: [{name: r, exactly: {deviceClassName: c}}]}}}`, map[string]string{
		`{"metadata":{"labels":{"x":"y"}}}`:                                                  "",
		`{"spec":{"devices":{"requests":[{"name":"q","exactly":{"deviceClassName":"c"}}]}}}`: "spec: field is immutable",
	}},
}

func TestImmutableFields(t *testing.T) {
	t.Parallel()
	for _, tc := range immutables {
		k, old := parse(t, tc.base)
		k.Default(old)
		k.PrepareCreate(old)
		if errs := k.Validate(old); len(errs) > 0 {
			t.Errorf("%s: the base is refused: %v", k.GVK.Kind, errs)
		}
		old.SetResourceVersion("1")
		for change, want := range tc.changes {
			obj := old.DeepCopyObject().(kinds.Object)
			if err := json.Unmarshal([]byte(change), obj); err != nil {
				t.Fatalf("%s: %s: %v", k.GVK.Kind, change, err)
			}
			k.Default(obj)
			k.PrepareUpdate(obj, old)
			errs := k.ValidateUpdate(obj, old)
			var got []string
			for _, e := range errs {
				got = append(got, e.Field+": "+e.Detail)
			}
			if text := strings.Join(got, "; "); (text == "") != (want == "") || !strings.Contains(text, want) {
				t.Errorf("%s: %s: refused %q, want %q", k.GVK.Kind, change, text, want)
			}
		}
	}
}
