package why

import (
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	resourcev1 "k8s.io/api/resource/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

func TestEachLinkOfAClaim(t *testing.T) {
	t.Parallel()
	claim := func(spec, more string) func(*testing.T) metav1.Object {
		return of[corev1.PersistentVolumeClaim]("metadata: {name: data, uid: c, creationTimestamp: @10s}\nspec: {" + spec + "}\nstatus: {" + more + "}")
	}
	class := func(text string) func(*testing.T, *Facts) {
		return func(t *testing.T, f *Facts) { f.Classes["fast"] = read[storagev1.StorageClass](t, text) }
	}
	old := of[corev1.PersistentVolumeClaim]("metadata: {name: data, uid: c, creationTimestamp: @300s, annotations: {volume.kubernetes.io/selected-node: n1}}\nspec: {storageClassName: fast}\nstatus: {phase: Pending}")
	late := class("provisioner: a/b\nvolumeBindingMode: WaitForFirstConsumer")
	table(t, []link{
		{name: "bound", kind: kindClaim, object: claim("storageClassName: fast, volumeName: v", "phase: Bound, capacity: {storage: 1Gi}"), summary: "Bound to volume v, 1Gi, class fast"},
		{name: "lost", kind: kindClaim, object: claim("volumeName: v", "phase: Lost"), want: "volume error ClaimLost", do: "restore the data from a backup"},
		{name: "no such class", kind: kindClaim, object: claim("storageClassName: fast", "phase: Pending"), facts: func(_ *testing.T, f *Facts) { f.Classes["fast"] = nil }, want: "volume error ProvisioningFailed", message: "class fast, which does not exist", do: "make StorageClass fast"},
		{name: "no class", kind: kindClaim, object: claim("storageClassName: ''", "phase: Pending"), want: "volume error FailedBinding", do: "storageClassName"},
		{name: "of a volume that is not free", kind: kindClaim, object: claim("storageClassName: '', volumeName: v", "phase: Pending"), want: "volume error VolumeNotBound", message: "wants volume v and no other", do: "claimRef"},
		{name: "waits for a pod", kind: kindClaim, object: claim("storageClassName: fast", "phase: Pending"), facts: late, want: "volume waiting WaitForFirstConsumer", do: "start a pod that uses it"},
		{name: "static, none fits", kind: kindClaim, object: claim("storageClassName: fast", "phase: Pending"), facts: class("provisioner: kubernetes.io/no-provisioner"), want: "volume error FailedBinding", do: "make a PersistentVolume of that class"},
		{name: "is provisioned", kind: kindClaim, object: claim("storageClassName: fast", "phase: Pending"), facts: class("provisioner: a/b"), want: "volume waiting ExternalProvisioning", message: "provisioner a/b, for 10s"},
		{name: "provisioner does not answer", kind: kindClaim, object: old, facts: late, want: "volume error ExternalProvisioning", do: "provisioner a/b is installed"},
		{name: "provisioner refuses", kind: kindClaim, object: old, facts: both(late, events(warned("ProvisioningFailed", "no space left on node n1", 5, ""))), want: "volume error ProvisioningFailed", message: "no space left"},
		{name: "is being deleted", kind: kindClaim, object: of[corev1.PersistentVolumeClaim]("metadata: {name: data, deletionTimestamp: @10s}\nstatus: {phase: Bound}"), want: "deletion waiting Terminating", do: "delete the pods that use it"},
		{name: "cannot grow", kind: kindClaim, object: claim("", "phase: Bound, conditions: [{type: ControllerResizeError, status: 'True', message: no room}]"), want: "volume error ControllerResizeError", message: "no room"},
		{name: "grows at the next mount", kind: kindClaim, object: claim("", "phase: Bound, conditions: [{type: FileSystemResizePending, status: 'True'}]"), want: "volume waiting FileSystemResizePending", do: "grows when it is mounted"},
	})
}

func TestEachLinkOfANodeAndABudget(t *testing.T) {
	t.Parallel()
	node := func(spec, conditions string) func(*testing.T) metav1.Object {
		return of[corev1.Node]("metadata: {name: n1, uid: n}\nspec: {" + spec + "}\nstatus: {conditions: [" + conditions + "]}")
	}
	budget := func(spec, status string) func(*testing.T) metav1.Object {
		return of[policyv1.PodDisruptionBudget]("metadata: {name: web, namespace: shop, uid: b, generation: 1}\nspec: {" + spec + "}\nstatus: {observedGeneration: 1, " + status + "}")
	}
	ready := "{type: Ready, status: 'True'}"
	held := "metadata: {name: a, namespace: shop, labels: {app: web}}\nspec: {nodeName: n1}"
	table(t, []link{
		{name: "well", kind: kindNode, object: node("", ready)},
		{name: "never reported", kind: kindNode, object: node("", ""), want: "node waiting NotReported"},
		{name: "silent", kind: kindNode, object: node("", "{type: Ready, status: Unknown, reason: NodeStatusUnknown, message: Kubelet stopped posting node status., lastHeartbeatTime: @300s}"), want: "node error NodeStatusUnknown", message: "has not reported for 5m"},
		{name: "not ready", kind: kindNode, object: node("", "{type: Ready, status: 'False', reason: KubeletNotReady, message: no network}"), want: "node error KubeletNotReady", message: "it is not ready: no network"},
		{name: "full", kind: kindNode, object: node("", ready+", {type: DiskPressure, status: 'True', message: kubelet has disk pressure}"), want: "node error DiskPressure", do: "free disk space"},
		{
			name: "evicts", kind: kindNode, object: node("", ready+", {type: MemoryPressure, status: 'True', message: m}"), want: "node error MemoryPressure, node warning Evicted", do: "requests and limits",
			facts: podsOf("metadata: {name: a, namespace: shop}\nspec: {nodeName: n1}\nstatus: {phase: Failed, reason: Evicted}"),
		},
		{name: "tainted", kind: kindNode, object: node("taints: [{key: team, value: a, effect: NoSchedule}, {key: node.kubernetes.io/x, effect: NoSchedule}]", ready), want: "node note Tainted", message: "team=a:NoSchedule"},
		{name: "cordoned", kind: kindNode, object: node("unschedulable: true", ready), want: "node note SchedulingDisabled", do: "`kubectl uncordon n1`"},
		{name: "warned of", kind: kindNode, object: node("", ready), facts: events(warned("ImageGCFailed", "no space", 300, "")), want: "node warning ImageGCFailed", message: "5m ago: no space"},
		{
			name: "drain held up", kind: kindNode, object: node("unschedulable: true", ready), want: "node note SchedulingDisabled, disruption warning InsufficientPods", do: "`canopus why -n shop pdb/web`",
			facts: both(podsOf(held, "metadata: {name: of-daemons, namespace: shop, labels: {app: web}, ownerReferences: [{kind: DaemonSet, name: d, apiVersion: apps/v1, uid: d, controller: true}]}"), func(t *testing.T, f *Facts) {
				f.Budgets = []*policyv1.PodDisruptionBudget{
					read[policyv1.PodDisruptionBudget](t, "metadata: {name: web, namespace: shop}\nspec: {selector: {matchLabels: {app: web}}}"),
					read[policyv1.PodDisruptionBudget](t, "metadata: {name: lets-go, namespace: shop}\nspec: {selector: {matchLabels: {app: web}}}\nstatus: {disruptionsAllowed: 1}"),
					read[policyv1.PodDisruptionBudget](t, "metadata: {name: elsewhere, namespace: other}\nspec: {selector: {matchLabels: {app: web}}}"),
				}
			}),
		},

		{name: "lets one go", kind: kindBudget, object: budget("minAvailable: 1", "disruptionsAllowed: 1, currentHealthy: 2, desiredHealthy: 1, expectedPods: 2"), summary: "1 pod may be evicted: 2 of 2 pods healthy, 1 must stay so"},
		{name: "not seen", kind: kindBudget, object: of[policyv1.PodDisruptionBudget]("metadata: {name: web, generation: 1, creationTimestamp: @2s}"), want: "controller waiting NotObserved"},
		{name: "never lets one go", kind: kindBudget, object: budget("minAvailable: 2", "currentHealthy: 2, desiredHealthy: 2, expectedPods: 2"), want: "disruption warning InsufficientPods", message: "no pod may ever be evicted", do: "maxUnavailable: 1"},
		{name: "pods are not well", kind: kindBudget, object: budget("maxUnavailable: 1", "currentHealthy: 1, desiredHealthy: 1, expectedPods: 2"), facts: podsOf(good, noImage), want: "image error ErrImagePull, disruption error InsufficientPods", do: "unhealthyPodEvictionPolicy: AlwaysAllow"},
		{name: "selects nothing", kind: kindBudget, object: budget("selector: {matchLabels: {app: x}}", ""), want: "disruption warning NoPods", message: "no pod matches app=x"},
		{name: "cannot count", kind: kindBudget, object: budget("maxUnavailable: 1", "conditions: [{type: DisruptionAllowed, status: 'False', reason: SyncFailed, message: found no controllers}]"), want: "disruption error SyncFailed", message: "found no controllers", do: "minAvailable"},
	})
}

func TestEachLinkOfAnAutoscaler(t *testing.T) {
	t.Parallel()
	scaler := func(conditions string) func(*testing.T) metav1.Object {
		return of[autoscalingv2.HorizontalPodAutoscaler]("metadata: {name: web, uid: h, creationTimestamp: @300s}\nspec: {maxReplicas: 5, scaleTargetRef: {kind: Deployment, name: web}, metrics: [{type: Resource, resource: {name: cpu, target: {type: Utilization, averageUtilization: 50}}}]}\n" +
			"status: {currentReplicas: 2, desiredReplicas: 3, currentMetrics: [{type: Resource, resource: {name: cpu, current: {averageUtilization: 75}}}], conditions: [" + conditions + "]}")
	}
	able := "{type: AbleToScale, status: 'True'}, "
	inactive := func(reason, message string) func(*testing.T) metav1.Object {
		return scaler(able + "{type: ScalingActive, status: 'False', reason: " + reason + ", message: '" + message + "'}")
	}
	table(t, []link{
		{name: "well", kind: kindAutoscaler, object: scaler(able + "{type: ScalingActive, status: 'True'}, {type: ScalingLimited, status: 'False', reason: DesiredWithinRange}"), summary: "deployment/web has 2 replicas, wanted are 3, between 1 and 5; cpu at 75% of what is requested, wanted 50%"},
		{name: "not seen", kind: kindAutoscaler, object: scaler(""), want: "controller error NotObserved", do: "`canopus status`"},
		{name: "no target", kind: kindAutoscaler, object: scaler("{type: AbleToScale, status: 'False', reason: FailedGetScale, message: 'deployments.apps \"web\" not found'}"), want: "scale error FailedGetScale", do: "make deployment/web, or correct spec.scaleTargetRef"},
		{name: "no request", kind: kindAutoscaler, object: inactive("FailedGetResourceMetric", "failed to get cpu utilization: missing request for cpu in container main of Pod web-1"), want: "scale error FailedGetResourceMetric", do: "give every container of deployment/web a request for cpu"},
		{name: "no figures", kind: kindAutoscaler, object: inactive("FailedGetResourceMetric", "no metrics returned from resource metrics API"), want: "scale error FailedGetResourceMetric", do: "`kubectl -n shop top pods`"},
		{name: "no adapter", kind: kindAutoscaler, object: inactive("FailedGetExternalMetric", "m"), want: "scale error FailedGetExternalMetric", do: "metrics adapter"},
		{name: "no custom adapter", kind: kindAutoscaler, object: inactive("FailedGetPodsMetric", "m"), want: "scale error FailedGetPodsMetric", do: "custom.metrics.k8s.io"},
		{name: "two for the same pods", kind: kindAutoscaler, object: inactive("AmbiguousSelector", "m"), want: "scale error AmbiguousSelector", do: "`kubectl -n shop get hpa`"},
		{name: "turned off", kind: kindAutoscaler, object: inactive("ScalingDisabled", "m"), want: "scale warning ScalingDisabled", do: "`kubectl -n shop scale deployment/web --replicas=1`"},
		{name: "at its most", kind: kindAutoscaler, object: scaler(able + "{type: ScalingLimited, status: 'True', reason: TooManyReplicas, message: m}"), want: "scale warning TooManyReplicas", do: "raise spec.maxReplicas, now 5"},
		{name: "at its least", kind: kindAutoscaler, object: scaler(able + "{type: ScalingLimited, status: 'True', reason: TooFewReplicas, message: m}"), want: "scale note TooFewReplicas"},
		{name: "as fast as it may", kind: kindAutoscaler, object: scaler(able + "{type: ScalingLimited, status: 'True', reason: ScaleUpLimit, message: m}"), want: "scale waiting ScaleUpLimit"},
		{
			name: "its target is not well", kind: kindAutoscaler, object: scaler(able), want: "image error ErrImagePull", message: "image x",
			facts: func(t *testing.T, f *Facts) {
				next := empty(t)
				next.Target = Target{Kind: kindDeployment, Namespace: "shop", Name: "web"}
				next.Object = read[appsv1.Deployment](t, "metadata: {name: web}\nspec: {replicas: 1}\nstatus: {replicas: 1, updatedReplicas: 1}")
				podsOf(noImage)(t, next)
				f.Next = next
			},
		},
	})
}

func TestEachLinkOfServicesAndDevices(t *testing.T) {
	t.Parallel()
	service := func(spec string) func(*testing.T) metav1.Object {
		return of[corev1.Service]("metadata: {name: web, uid: s}\nspec: {clusterIP: 10.96.1.1, " + spec + "}")
	}
	claim := func(status string) func(*testing.T) metav1.Object {
		return of[resourcev1.ResourceClaim]("metadata: {name: gpu, uid: c}\nspec: {devices: {requests: [{name: one, exactly: {deviceClassName: gpus}}]}}\nstatus: {" + status + "}")
	}
	wants := func(entry, status string) func(*testing.T) metav1.Object {
		return of[corev1.Pod]("metadata: {name: p, namespace: shop, uid: u, creationTimestamp: @10s}\nspec: {resourceClaims: [" + entry + "]}\nstatus: {phase: Pending, conditions: [{type: PodScheduled, status: 'False', reason: Unschedulable, message: '0/1 nodes are available: 1 cannot allocate all claims.'}]" + status + "}")
	}
	pending := func(t *testing.T, f *Facts) { f.DeviceClaims["gpu"] = claim("")(t).(*resourcev1.ResourceClaim) }
	noClass := func(_ *testing.T, f *Facts) { f.DeviceClasses["gpus"] = nil }
	table(t, []link{
		{name: "answers", kind: kindService, object: service("selector: {app: web}"), facts: podsOf(good), summary: "1 of 1 pod ready behind 10.96.1.1"},
		{name: "no pods", kind: kindService, object: service("selector: {app: web, tier: front}"), want: "endpoints error NoPods", message: "app=web,tier=front", do: "correct the selector"},
		{name: "no port of that name", kind: kindService, object: service("selector: {app: web}, ports: [{port: 80, targetPort: http}]"), facts: podsOf(good), want: "endpoints error NoSuchPort", message: `port 80 goes to the pods' port "http"`},
		{name: "no pod is ready", kind: kindService, object: service("selector: {app: web}"), facts: podsOf(noImage), want: "image error ErrImagePull"},
		{name: "some are not", kind: kindService, object: service("selector: {app: web}"), facts: podsOf(good, noImage), want: "image warning ErrImagePull"},
		{name: "no selector", kind: kindService, object: service(""), want: "endpoints note NoSelector"},
		{name: "a name", kind: kindService, object: service("type: ExternalName, externalName: a.example"), summary: "another name for a.example"},
		{name: "no load balancer", kind: kindService, object: service("type: LoadBalancer, selector: {app: web}"), facts: podsOf(good), want: "endpoints waiting NoLoadBalancer"},

		{name: "allocated", kind: kindDeviceClaim, object: claim("allocation: {devices: {results: [{request: one, driver: d, pool: n1, device: gpu-0}]}}, reservedFor: [{resource: pods, name: p, uid: u}]"), summary: "allocated: d/n1/gpu-0; reserved for 1 user"},
		{name: "waits", kind: kindDeviceClaim, object: claim(""), want: "device waiting WaitForPod", do: "start a pod"},
		{name: "no class", kind: kindDeviceClaim, object: claim(""), facts: noClass, want: "device error DeviceClassNotFound", do: "make DeviceClass gpus"},
		{name: "claim missing", kind: kindPod, object: wants("{name: r, resourceClaimName: gpu}", ""), facts: func(_ *testing.T, f *Facts) { f.DeviceClaims["gpu"] = nil }, want: "device error ResourceClaimNotFound, schedule error Unschedulable", do: "make ResourceClaim gpu"},
		{name: "claim without a class", kind: kindPod, object: wants("{name: r, resourceClaimName: gpu}", ""), facts: both(pending, noClass), want: "device error DeviceClassNotFound, schedule error Unschedulable"},
		{name: "no device is free", kind: kindPod, object: wants("{name: r, resourceClaimName: gpu}", ""), facts: pending, want: "schedule error Unschedulable", do: "kubectl get resourceslices"},
		{name: "no template", kind: kindPod, object: wants("{name: r, resourceClaimTemplateName: t}", ""), facts: events(warned("FailedResourceClaimCreation", `PodResourceClaim r: resource claim template "t" not found`, 5, "")), want: "device error FailedResourceClaimCreation, schedule error Unschedulable", do: "make ResourceClaimTemplate t"},
		{name: "no template, and no scheduler looks before there is", kind: kindPod, object: of[corev1.Pod](head + "spec: {schedulerName: default-scheduler, resourceClaims: [{name: r, resourceClaimTemplateName: t}, {name: s, resourceClaimName: gpu}]}"), facts: both(pending, events(warned("FailedResourceClaimCreation", `PodResourceClaim r: resource claim template "t": not found`, 5, ""))), want: "device error FailedResourceClaimCreation", do: "make ResourceClaimTemplate t"},
		{name: "claim of its template", kind: kindPod, object: wants("{name: r, resourceClaimTemplateName: t}", ", resourceClaimStatuses: [{name: r, resourceClaimName: gpu}]"), facts: both(pending, noClass), want: "device error DeviceClassNotFound, schedule error Unschedulable"},
		{name: "needs none after all", kind: kindPod, object: wants("{name: r, resourceClaimTemplateName: t}", ", resourceClaimStatuses: [{name: r}]"), want: "schedule error Unschedulable"},
	})
}

func TestOtherKinds(t *testing.T) {
	t.Parallel()
	thing := func(text string) func(*testing.T) metav1.Object {
		return func(t *testing.T) metav1.Object {
			u := &unstructured.Unstructured{}
			if err := yaml.Unmarshal([]byte(text), &u.Object); err != nil {
				t.Fatal(err)
			}
			return u
		}
	}
	table(t, []link{
		{name: "well", kind: "certificate", object: thing("metadata: {name: c, uid: u}\nstatus: {phase: Issued, conditions: [{type: Ready, status: 'True'}]}"), summary: "Issued, Ready"},
		{name: "says no", kind: "certificate", object: thing("metadata: {name: c}\nstatus: {conditions: [{type: Ready, status: 'False', reason: NoIssuer, message: no issuer}]}"), want: "condition warning NoIssuer", message: "Ready is False: no issuer", do: "kubectl -n shop describe certificate c"},
		{name: "bad when true", kind: "certificate", object: thing("metadata: {name: c}\nstatus: {conditions: [{type: Failed, status: 'True', reason: R}]}"), want: "condition warning R"},
		{name: "good when false", kind: "certificate", object: thing("metadata: {name: c}\nstatus: {conditions: [{type: Failed, status: 'False'}]}")},
		{name: "unknown", kind: "certificate", object: thing("metadata: {name: c}\nstatus: {conditions: [{type: Ready, status: Unknown, reason: R}]}"), want: "condition warning R"},
		{name: "failed", kind: "persistentvolume", object: thing("metadata: {name: c}\nstatus: {phase: Failed, reason: R, message: cannot be deleted}"), want: "condition error R", message: "cannot be deleted"},
		{name: "conditions of another shape", kind: "certificate", object: thing("metadata: {name: c}\nstatus: {conditions: all is well}")},
		{name: "warned of", kind: "certificate", object: thing("metadata: {name: c, uid: u}"), facts: events(warned("R", "no", 60, "")), want: "condition warning R", message: "60s ago: no"},
		{name: "warned of long ago", kind: "certificate", object: thing("metadata: {name: c, uid: u}"), facts: events(warned("R", "no", 3600, ""))},
	})
}
