package controllers

import (
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	background = metav1.DeletePropagationBackground
	foreground = metav1.DeletePropagationForeground
	orphan     = metav1.DeletePropagationOrphan
)

// webTemplate is the end of a workload's manifest.
const webTemplate = `
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: main, image: v1}]}
`

// v2 is the patch of a workload that rolls out another image.
const v2 = `{"spec":{"template":{"spec":{"containers":[{"name":"main","image":"v2"}]}}}}`

// podManifest is of a pod that is bound to no node.
func podManifest(name, image string) string {
	return "{apiVersion: v1, kind: Pod, metadata: {name: " + name + ", labels: {app: web}}, spec: {terminationGracePeriodSeconds: 0, containers: [{name: main, image: " + image + "}]}}\n"
}

// phases shows pods.
func phases() look { return look{"pods", []string{"status.phase"}} }

// workloadScenarios are of what keeps pods running.
func workloadScenarios() []*scenario {
	revisions := look{"apps/v1/controllerrevisions", []string{"revision"}}
	return []*scenario{
		{controller: "deployment-controller", beside: []string{"replicaset-controller"}, kubelet: true,
			looks: []look{phases(), {"apps/v1/replicasets", []string{"spec.replicas", "status.availableReplicas|available", "metadata.annotations"}},
				{"apps/v1/deployments", []string{"metadata.annotations", "status.updatedReplicas|updated", "status.availableReplicas|available"}}},
			steps: []func(*cluster){
				add("{apiVersion: apps/v1, kind: Deployment, metadata: {name: web}, spec: {replicas: 2, revisionHistoryLimit: 0, selector: {matchLabels: {app: web}}, " +
					"template: {metadata: {labels: {app: web}}, spec: {containers: [{name: main, image: v1}]}}}}"),
				patch("apps/v1/deployments", "web", v2),
				patch("apps/v1/deployments", "web", `{"spec":{"replicas":1}}`),
			}},
		{controller: "replicaset-controller", kubelet: true,
			looks: []look{phases(), {"apps/v1/replicasets", []string{"status.replicas", "status.availableReplicas|available"}}},
			steps: []func(*cluster){
				all(add(podManifest("found", "v1")), add("apiVersion: apps/v1\nkind: ReplicaSet\nmetadata: {name: web}\nspec:\n  replicas: 3"+webTemplate)),
				patch("pods", "found", `{"metadata":{"labels":{"app":"other"}}}`),
				patch("apps/v1/replicasets", "web", `{"spec":{"replicas":1}}`),
			}},
		{controller: "replication-controller", kubelet: true,
			looks: []look{phases(), {"replicationcontrollers", []string{"status.replicas", "status.availableReplicas|available"}}},
			steps: []func(*cluster){
				add("{apiVersion: v1, kind: ReplicationController, metadata: {name: web}, spec: {replicas: 2, " +
					"template: {metadata: {labels: {app: web}}, spec: {containers: [{name: main, image: v1}]}}}}"),
				patch("replicationcontrollers", "web", `{"spec":{"replicas":1}}`),
			}},
		{controller: "daemonset-controller", kubelet: true,
			looks: []look{phases(), revisions,
				{"apps/v1/daemonsets", []string{"status.updatedNumberScheduled|updated", "status.numberAvailable|available", "status.numberMisscheduled|misscheduled"}}},
			steps: []func(*cluster){
				add("apiVersion: apps/v1\nkind: DaemonSet\nmetadata: {name: web}\nspec:" + webTemplate),
				patch("apps/v1/daemonsets", "web", v2),
				patch("nodes", "node-1", `{"spec":{"taints":[{"key":"x","effect":"NoExecute"}]}}`),
			}},
		{controller: "statefulset-controller", kubelet: true,
			looks: []look{phases(), revisions, {"persistentvolumeclaims", nil},
				{"apps/v1/statefulsets", []string{"status.updatedReplicas|updated", "status.availableReplicas|available"}}},
			steps: []func(*cluster){
				add("apiVersion: apps/v1\nkind: StatefulSet\nmetadata: {name: web}\nspec:\n  replicas: 2\n  serviceName: web\n" +
					"  persistentVolumeClaimRetentionPolicy: {whenScaled: Delete, whenDeleted: Delete}\n" +
					"  volumeClaimTemplates: [{metadata: {name: data}, spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Mi}}}}]" + webTemplate),
				patch("apps/v1/statefulsets", "web", v2),
				patch("apps/v1/statefulsets", "web", `{"spec":{"replicas":1}}`),
			}},
		{controller: "disruption-controller", beside: []string{"replicaset-controller"}, kubelet: true,
			looks: []look{{"policy/v1/poddisruptionbudgets", []string{"status.expectedPods|expected", "status.currentHealthy|healthy", "status.disruptionsAllowed|allowed"}}},
			steps: []func(*cluster){
				add("{apiVersion: policy/v1, kind: PodDisruptionBudget, metadata: {name: web}, spec: {minAvailable: 1, selector: {matchLabels: {app: web}}}}\n---\n" +
					"apiVersion: apps/v1\nkind: ReplicaSet\nmetadata: {name: web}\nspec:\n  replicas: 2" + webTemplate),
				patch("policy/v1/poddisruptionbudgets", "web", `{"spec":{"minAvailable":2}}`),
			}},
		{controller: "horizontal-pod-autoscaler", beside: []string{"deployment-controller", "replicaset-controller"}, kubelet: true,
			tune:  func(c *Config) { c.AutoscalerPeriod = 20 * time.Millisecond },
			looks: []look{{"apps/v1/deployments", []string{"spec.replicas"}}, {"autoscaling/v2/horizontalpodautoscalers", []string{"status.currentReplicas|current"}}}, // desired is what metrics ask for
			steps: []func(*cluster){
				add("apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\nspec:\n  replicas: 1" + webTemplate + "---\n" +
					"{apiVersion: autoscaling/v2, kind: HorizontalPodAutoscaler, metadata: {name: web}, spec: {minReplicas: 2, maxReplicas: 3, scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: web}}}"),
				patch("apps/v1/deployments", "web", `{"spec":{"replicas":4}}`),
			}},
	}
}

// batchScenarios are of what runs pods to their end.
func batchScenarios() []*scenario {
	job := func(name, image, spec string) string {
		return "{apiVersion: batch/v1, kind: Job, metadata: {name: " + name + "}, spec: {" + spec + ", template: {spec: {restartPolicy: Never, containers: [{name: main, image: " + image + "}]}}}}\n"
	}
	cronJob := func(name, image, policy string) string {
		return "{apiVersion: batch/v1, kind: CronJob, metadata: {name: " + name + "}, spec: {schedule: '0 0 1 1 *', concurrencyPolicy: " + policy + ", successfulJobsHistoryLimit: 0, " +
			"jobTemplate: {spec: {template: {spec: {restartPolicy: Never, containers: [{name: main, image: " + image + "}]}}}}}}\n"
	}
	withJobs := []string{"job-controller", "garbage-collector-controller"}
	crons := look{"batch/v1/cronjobs", []string{"status.active", "status.lastScheduleTime|scheduled", "status.lastSuccessfulTime|succeeded"}}
	jobs := look{"batch/v1/jobs", []string{
		"status.succeeded", "status.completedIndexes|completed", "status.failed", "status.active", "status.uncountedTerminatedPods|uncounted", "status.conditions",
	}}
	return []*scenario{
		{controller: "job-controller", kubelet: true, looks: []look{jobs, phases()},
			steps: []func(*cluster){add(job("good", "exit-0", "completions: 3, parallelism: 2"))}},
		{controller: "job-controller", variant: "indexed", kubelet: true, looks: []look{jobs, phases()},
			steps: []func(*cluster){add(job("good", "exit-0", "completions: 2, parallelism: 2, completionMode: Indexed"))}},
		{controller: "job-controller", variant: "failing", later: hour, kubelet: true, looks: []look{jobs, phases()}, // the pauses between the pods are over
			steps: []func(*cluster){add(job("bad", "exit-1", "backoffLimit: 2"))}},
		{controller: "job-controller", variant: "suspended", kubelet: true, looks: []look{jobs, phases()},
			steps: []func(*cluster){
				add(job("long", "v1", "parallelism: 2")),
				patch("batch/v1/jobs", "long", `{"spec":{"suspend":true}}`),
			}},
		{controller: "cronjob-controller", beside: withJobs, kubelet: true, later: 400 * 24 * hour, looks: []look{crons, jobs},
			steps: []func(*cluster){add(cronJob("long", "v1", "Allow")), add(cronJob("short", "exit-0", "Allow"))}},
		{controller: "cronjob-controller", variant: "replace", beside: withJobs, kubelet: true, later: 400 * 24 * hour, looks: []look{crons, jobs},
			steps: []func(*cluster){
				add(cronJob("long", "v1", "Replace")),
				patch("batch/v1/cronjobs", "long", `{"spec":{"schedule":"0 0 2 2 *"}}`),
			}},
		{controller: "cronjob-controller", variant: "forbid", beside: withJobs, kubelet: true, later: 400 * 24 * hour, looks: []look{crons, jobs},
			steps: []func(*cluster){add(cronJob("long", "v1", "Forbid"))}},
		{controller: "ttl-after-finished-controller", beside: withJobs, kubelet: true, later: hour,
			looks: []look{jobs, phases()},
			steps: []func(*cluster){
				add(job("kept", "exit-0", "ttlSecondsAfterFinished: 1000000") + "---\n" + job("brief", "exit-0", "ttlSecondsAfterFinished: 10")),
			}},
	}
}

// trafficScenarios are of what leads traffic to pods.
func trafficScenarios() []*scenario {
	service := "{apiVersion: v1, kind: Service, metadata: {name: web}, spec: {selector: {app: web}, clusterIP: None, ports: [{port: 80}]}}\n"
	return []*scenario{
		{controller: "endpoint-controller", kubelet: true, looks: []look{{"endpoints", []string{"subsets"}}},
			steps: []func(*cluster){
				add(service + "---\n" + podManifest("a", "v1")),
				add(podManifest("b", "bad")),
				remove("services", "web", background),
			}},
		{controller: "endpoint-slice-controller", kubelet: true, looks: []look{{"discovery.k8s.io/v1/endpointslices", []string{"endpoints", "ports"}}},
			steps: []func(*cluster){
				add(service + "---\n" + podManifest("a", "v1")),
				add(podManifest("b", "bad")),
				patch("services", "web", `{"spec":{"ports":[{"port":81}]}}`),
			}},
		{controller: "endpoint-slice-mirroring-controller", beside: []string{"garbage-collector-controller"},
			looks: []look{{"discovery.k8s.io/v1/endpointslices", []string{"endpoints"}}},
			steps: []func(*cluster){
				add("{apiVersion: v1, kind: Service, metadata: {name: web}, spec: {clusterIP: None, ports: [{port: 80}]}}\n---\n" +
					"{apiVersion: v1, kind: Endpoints, metadata: {name: web}, subsets: [{addresses: [{ip: 192.0.2.1}], ports: [{port: 80}]}]}\n"),
				patch("endpoints", "web", `{"subsets":[{"addresses":[{"ip":"192.0.2.2"}],"ports":[{"port":80}]}]}`),
				remove("endpoints", "web", background),
			}},
	}
}
