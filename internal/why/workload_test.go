package why

import (
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// link is a row of the tables below: an object, what is known besides, and what is to be found.
type link struct {
	name, kind string
	object     func(*testing.T) metav1.Object
	facts      func(*testing.T, *Facts)
	want       string // as in check
	message    string
	do         string
	summary    string
}

// of makes an object of a type from YAML.
func of[T any, P interface {
	*T
	metav1.Object
}](text string) func(*testing.T) metav1.Object {
	return func(t *testing.T) metav1.Object { return P(read[T](t, text)) }
}

// podsOf sets the pods of a workload.
func podsOf(texts ...string) func(*testing.T, *Facts) {
	return func(t *testing.T, f *Facts) {
		for _, text := range texts {
			f.Pods = append(f.Pods, read[corev1.Pod](t, text))
		}
	}
}

func both(all ...func(*testing.T, *Facts)) func(*testing.T, *Facts) {
	return func(t *testing.T, f *Facts) {
		for _, one := range all {
			one(t, f)
		}
	}
}

func events(list ...corev1.Event) func(*testing.T, *Facts) {
	return func(_ *testing.T, f *Facts) { f.Events[f.Object.GetUID()] = list }
}

// table checks each row.
func table(t *testing.T, rows []link) {
	t.Helper()
	for _, row := range rows {
		t.Run(row.kind+" "+row.name, func(t *testing.T) {
			t.Parallel()
			f := empty(t)
			f.Object = row.object(t)
			f.Target = Target{Kind: row.kind, Namespace: "shop", Name: f.Object.GetName()}
			if row.facts != nil {
				row.facts(t, f)
			}
			r := Explain(f)
			check(t, r, row.want, row.message, row.do)
			if row.summary != "" && r.Summary != row.summary {
				t.Errorf("summary %q, want %q", r.Summary, row.summary)
			}
		})
	}
}

// Pods of a workload, in states that the rows need.
const (
	good    = "metadata: {name: a, uid: a}\nspec: {nodeName: n1, containers: [{name: main, image: x}]}\nstatus: {phase: Running, conditions: [{type: Ready, status: 'True'}], containerStatuses: [{name: main, ready: true, started: true, state: {running: {startedAt: @300s}}}]}"
	noImage = "metadata: {name: b, uid: b}\nspec: {nodeName: n1, containers: [{name: main, image: x}]}\nstatus: {phase: Pending, conditions: [{type: Ready, status: 'False'}], containerStatuses: [{name: main, state: {waiting: {reason: ErrImagePull, message: m}}}]}"
	over    = `pods "web-" is forbidden: exceeded quota: team, requested: pods=1, used: pods=3, limited: pods=3`
)

func TestEachLinkOfADeployment(t *testing.T) {
	t.Parallel()
	deployment := func(spec, status string) func(*testing.T) metav1.Object {
		return of[appsv1.Deployment]("metadata: {name: web, uid: d, generation: 2, creationTimestamp: @300s, annotations: {deployment.kubernetes.io/revision: '7'}}\nspec: {" + spec + "}\nstatus: {" + status + "}")
	}
	refusedSet := func(message string) func(*testing.T, *Facts) {
		return func(t *testing.T, f *Facts) {
			f.ReplicaSets = []*appsv1.ReplicaSet{read[appsv1.ReplicaSet](t, "metadata: {name: web-1, uid: r}\nspec: {replicas: 4}\nstatus: {replicas: 3, conditions: [{type: ReplicaFailure, status: 'True', message: '"+message+"'}]}")}
		}
	}
	well := "observedGeneration: 2, replicas: 1, updatedReplicas: 1, availableReplicas: 1"
	short := "observedGeneration: 2, replicas: 4, updatedReplicas: 4, availableReplicas: 3"
	half := "observedGeneration: 2, replicas: 3, updatedReplicas: 1, availableReplicas: 2"
	table(t, []link{
		{name: "well", kind: kindDeployment, object: deployment("replicas: 1", well), facts: podsOf(good), summary: "1 of 1 pods available, 1 of the present template, revision 7"},
		{name: "none wanted", kind: kindDeployment, object: deployment("replicas: 0", "observedGeneration: 2")},
		{name: "not seen", kind: kindDeployment, object: deployment("replicas: 1", "observedGeneration: 1, replicas: 1, updatedReplicas: 1, availableReplicas: 1"), want: "controller error NotObserved", message: "has not seen generation 2 yet, only 1", do: "`canopus status`"},
		{
			name: "quota", kind: kindDeployment, object: deployment("replicas: 4", short), facts: refusedSet(over), want: "quota error FailedCreate",
			message: "1 of 4 pods cannot be made: " + over, do: "`kubectl -n shop edit resourcequota team`",
		},
		{name: "quota wants limits", kind: kindDeployment, object: deployment("replicas: 4", short), facts: refusedSet("forbidden: failed quota: team: must specify limits.cpu for: main"), want: "quota error FailedCreate", do: "LimitRange with defaults"},
		{name: "limit range", kind: kindDeployment, object: deployment("replicas: 4", short), facts: refusedSet("forbidden: maximum memory usage per Container is 80Mi, but limit is 1Gi"), want: "admission error FailedCreate", do: "keep to the LimitRange"},
		{name: "service account", kind: kindDeployment, object: deployment("replicas: 4", short), facts: refusedSet(`error looking up service account shop/x: serviceaccount "x" not found`), want: "admission error FailedCreate", do: "make the ServiceAccount"},
		{name: "priority", kind: kindDeployment, object: deployment("replicas: 4", short), facts: refusedSet("no PriorityClass with name x was found"), want: "admission error FailedCreate", do: "make the PriorityClass"},
		{name: "runtime class", kind: kindDeployment, object: deployment("replicas: 4", short), facts: refusedSet(`pod rejected: RuntimeClass "x" not found`), want: "admission error FailedCreate", do: "make the RuntimeClass"},
		{
			name: "no ReplicaSet may be made", kind: kindDeployment, object: deployment("replicas: 1", "observedGeneration: 2, conditions: [{type: Progressing, status: 'False', reason: ReplicaSetCreateError, message: 'exceeded quota: few, requested: count/replicasets.apps=1'}]"),
			want: "quota error ReplicaSetCreateError", do: "resourcequota few",
		},
		{
			name: "some pods are not well", kind: kindDeployment, object: deployment("replicas: 2", "observedGeneration: 2, replicas: 2, updatedReplicas: 2, availableReplicas: 1"), facts: podsOf(good, noImage),
			want: "image error ErrImagePull", message: "image x of container main cannot be had",
		},
		{name: "rolls out", kind: kindDeployment, object: deployment("replicas: 2", half), facts: podsOf(good), want: "rollout waiting RollingOut", message: "1 of 2 pods have the present template, 2 are available, 2 are of the template before"},
		{name: "paused halfway", kind: kindDeployment, object: deployment("replicas: 2, paused: true", half), facts: podsOf(good), want: "rollout waiting DeploymentPaused", do: "`kubectl -n shop rollout resume deployment/web`"},
		{name: "paused when done", kind: kindDeployment, object: deployment("replicas: 1, paused: true", well), facts: podsOf(good), want: "rollout note DeploymentPaused"},
		{
			name: "stalled", kind: kindDeployment, facts: podsOf(good, noImage),
			object: deployment("replicas: 2, progressDeadlineSeconds: 3", half+", conditions: [{type: Progressing, status: 'False', reason: ProgressDeadlineExceeded, message: has timed out progressing.}]"),
			want:   "image error ErrImagePull, rollout error ProgressDeadlineExceeded", do: "`kubectl -n shop rollout undo deployment/web`",
		},
		{name: "waits for minReadySeconds", kind: kindDeployment, object: deployment("replicas: 2, minReadySeconds: 60", "observedGeneration: 2, replicas: 2, updatedReplicas: 2, availableReplicas: 1"), facts: podsOf(good), want: "rollout waiting RollingOut"},
		{
			name: "is being deleted", kind: kindDeployment, object: of[appsv1.Deployment]("metadata: {name: web, uid: d, deletionTimestamp: @300s, finalizers: [foregroundDeletion]}\nspec: {replicas: 0}\nstatus: {}"),
			want: "deletion error Terminating", message: "finalizers hold it: foregroundDeletion",
		},
	})
}

func TestEachLinkOfOtherWorkloads(t *testing.T) {
	t.Parallel()
	set := func(spec, status string) func(*testing.T) metav1.Object {
		return of[appsv1.StatefulSet]("metadata: {name: db, uid: s, generation: 1}\nspec: {" + spec + "}\nstatus: {observedGeneration: 1, " + status + "}")
	}
	daemons := func(spec, status string) func(*testing.T) metav1.Object {
		return of[appsv1.DaemonSet]("metadata: {name: log, uid: s, generation: 1}\nspec: {" + spec + "}\nstatus: {observedGeneration: 1, " + status + "}")
	}
	refusal := events(told(corev1.EventTypeNormal, "SuccessfulCreate", "create Pod", 30, ""), warned("FailedCreate", over, 5, ""))
	turning := "currentRevision: a, updateRevision: b"
	stuck := "metadata: {name: db-1, uid: b, labels: {controller-revision-hash: b}}\nspec: {nodeName: n1, containers: [{name: main, image: x}]}\nstatus: {phase: Pending, conditions: [{type: Ready, status: 'False'}], containerStatuses: [{name: main, state: {waiting: {reason: ErrImagePull, message: m}}}]}"
	table(t, []link{
		{name: "well", kind: kindReplicaSet, object: of[appsv1.ReplicaSet]("metadata: {name: r}\nspec: {replicas: 1}\nstatus: {replicas: 1, availableReplicas: 1}"), facts: podsOf(good)},
		{name: "refused", kind: kindReplicaSet, object: of[appsv1.ReplicaSet]("metadata: {name: r}\nspec: {replicas: 1}\nstatus: {conditions: [{type: ReplicaFailure, status: 'True', message: '" + over + "'}]}"), want: "quota error FailedCreate", message: "1 of 1 pods cannot be made"},
		{name: "not there yet", kind: kindReplicaSet, object: of[appsv1.ReplicaSet]("metadata: {name: r}\nspec: {replicas: 1}"), want: "rollout waiting NotAvailable"},
		{name: "refused", kind: kindController, object: of[corev1.ReplicationController]("metadata: {name: r}\nspec: {replicas: 2}\nstatus: {replicas: 1, conditions: [{type: ReplicaFailure, status: 'True', message: '" + over + "'}]}"), want: "quota error FailedCreate", message: "1 of 2 pods cannot be made"},

		{name: "well", kind: kindStatefulSet, object: set("replicas: 1", "replicas: 1, readyReplicas: 1, availableReplicas: 1, updatedReplicas: 1, currentRevision: a, updateRevision: a"), facts: podsOf(good)},
		{name: "refused", kind: kindStatefulSet, object: set("replicas: 2, podManagementPolicy: Parallel", "replicas: 1, readyReplicas: 1, availableReplicas: 1"), facts: both(podsOf(good), refusal), want: "quota error FailedCreate", message: "1 of 2 pods cannot be made"},
		{name: "refused before, made since", kind: kindStatefulSet, object: set("replicas: 2, podManagementPolicy: Parallel", "replicas: 1, availableReplicas: 1"), facts: events(warned("FailedCreate", over, 30, ""), told("Normal", "SuccessfulCreate", "create Pod", 5, "")), want: "rollout waiting NotAvailable"},
		{name: "in order", kind: kindStatefulSet, object: set("replicas: 3", "replicas: 1, currentRevision: a, updateRevision: a"), facts: podsOf(noImage), want: "image error ErrImagePull, rollout waiting OrderedReady", do: "image's name"},
		{name: "partition", kind: kindStatefulSet, object: set("replicas: 3, updateStrategy: {rollingUpdate: {partition: 2}}", "replicas: 3, availableReplicas: 3, updatedReplicas: 1, "+turning), want: "rollout note Partition", message: "1 of 3 pods have the present template; those below ordinal 2 keep the one before"},
		{name: "on delete", kind: kindStatefulSet, object: set("replicas: 3, updateStrategy: {type: OnDelete}", "replicas: 3, availableReplicas: 3, updatedReplicas: 1, "+turning), want: "rollout note OnDelete"},
		{name: "rolls", kind: kindStatefulSet, object: set("replicas: 3", "replicas: 3, availableReplicas: 3, updatedReplicas: 1, "+turning), want: "rollout waiting RollingOut"},
		{name: "update stuck", kind: kindStatefulSet, object: set("replicas: 2", "replicas: 2, availableReplicas: 1, updatedReplicas: 1, "+turning), facts: podsOf(good, stuck), want: "image error ErrImagePull, rollout error RolloutBlocked", do: "`kubectl -n shop delete pod db-1`"},

		{name: "well", kind: kindDaemonSet, object: daemons("", "desiredNumberScheduled: 1, currentNumberScheduled: 1, updatedNumberScheduled: 1, numberAvailable: 1"), facts: podsOf(good), summary: "available on 1 of 1 node, of the present template on 1"},
		{name: "for no node", kind: kindDaemonSet, object: daemons("", "desiredNumberScheduled: 0"), want: "rollout warning NoNodes", do: "label or untaint a node"},
		{name: "refused", kind: kindDaemonSet, object: daemons("", "desiredNumberScheduled: 2, currentNumberScheduled: 1, updatedNumberScheduled: 2, numberAvailable: 1"), facts: both(podsOf(good), refusal), want: "quota error FailedCreate"},
		{name: "rolls", kind: kindDaemonSet, object: daemons("", "desiredNumberScheduled: 2, currentNumberScheduled: 2, updatedNumberScheduled: 1, numberAvailable: 1"), facts: podsOf(good), want: "rollout waiting RollingOut"},
		{name: "on delete", kind: kindDaemonSet, object: daemons("updateStrategy: {type: OnDelete}", "desiredNumberScheduled: 2, currentNumberScheduled: 2, updatedNumberScheduled: 1, numberAvailable: 2"), facts: podsOf(good), want: "rollout note OnDelete"},
		{name: "not yet available", kind: kindDaemonSet, object: daemons("", "desiredNumberScheduled: 2, currentNumberScheduled: 2, updatedNumberScheduled: 2, numberAvailable: 1"), facts: podsOf(good), want: "rollout waiting NotAvailable"},
	})
}

func TestEachLinkOfAJob(t *testing.T) {
	t.Parallel()
	job := func(spec, status string) func(*testing.T) metav1.Object {
		return of[batchv1.Job]("metadata: {name: j, uid: j}\nspec: {" + spec + "}\nstatus: {" + status + "}")
	}
	failedPod := "metadata: {name: j-1, uid: b}\nspec: {nodeName: n1, restartPolicy: Never, containers: [{name: main, image: x}]}\nstatus: {phase: Failed, containerStatuses: [{name: main, state: {terminated: {exitCode: 3, reason: Error, startedAt: @100s, finishedAt: @60s}}}]}"
	cron := func(spec, status string) func(*testing.T) metav1.Object {
		return of[batchv1.CronJob]("metadata: {name: c, uid: c}\nspec: {schedule: '0 3 * * *', " + spec + "}\nstatus: {" + status + "}")
	}
	table(t, []link{
		{name: "complete", kind: kindJob, object: job("completions: 1", "succeeded: 1, conditions: [{type: Complete, status: 'True'}]"), summary: "complete: 1 of 1 completions, 0 active, 0 failed"},
		{name: "at work", kind: kindJob, object: job("parallelism: 1", "active: 1"), facts: podsOf(good), want: "rollout waiting Running"},
		{name: "suspended", kind: kindJob, object: job("suspend: true", ""), want: "rollout waiting JobSuspended", do: "kubectl -n shop patch job j"},
		{name: "refused", kind: kindJob, object: job("parallelism: 1", ""), facts: events(warned("FailedCreate", over, 5, "")), want: "quota error FailedCreate"},
		{name: "by another", kind: kindJob, object: job("managedBy: a/b", "active: 1"), want: "controller note ManagedBy, rollout waiting Running"},
		{name: "tries again", kind: kindJob, object: job("parallelism: 1", "active: 1, failed: 1"), facts: podsOf(good, failedPod), want: "exit warning Error", message: "exit code 3"},
		{
			name: "failed", kind: kindJob, object: job("", "failed: 1, conditions: [{type: Failed, status: 'True', reason: BackoffLimitExceeded, message: Job has reached the specified backoff limit}]"),
			facts: podsOf(failedPod), want: "exit warning Error, exit error BackoffLimitExceeded", do: "mend what ends its pods, then make the Job again",
		},
		{name: "too long", kind: kindJob, object: job("", "conditions: [{type: Failed, status: 'True', reason: DeadlineExceeded, message: m}]"), want: "exit error DeadlineExceeded", do: "raise activeDeadlineSeconds"},

		{name: "well", kind: kindCronJob, object: cron("timeZone: Europe/Berlin", ""), summary: "schedule 0 3 * * * Europe/Berlin, never run, 0 active"},
		{name: "suspended", kind: kindCronJob, object: cron("suspend: true", "lastScheduleTime: @300s"), want: "rollout note Suspended"},
		{name: "refused", kind: kindCronJob, object: cron("", ""), facts: events(warned("FailedCreate", over, 5, "")), want: "quota error FailedCreate"},
		{name: "no such zone", kind: kindCronJob, object: cron("timeZone: Nowhere", ""), facts: events(warned("UnknownTimeZone", "invalid timeZone", 5, "")), want: "controller error UnknownTimeZone", do: "correct the schedule"},
		{name: "too late", kind: kindCronJob, object: cron("", ""), facts: events(warned("MissSchedule", "Missed scheduled time", 5, "")), want: "controller warning MissSchedule", do: "startingDeadlineSeconds"},
		{name: "still at work", kind: kindCronJob, object: cron("", ""), facts: events(told("Normal", "JobAlreadyActive", "Not starting job", 5, "")), want: "rollout warning JobAlreadyActive", do: "concurrencyPolicy"},
		{name: "its last Job failed", kind: kindCronJob, object: cron("", "lastScheduleTime: @300s"), facts: func(t *testing.T, f *Facts) {
			f.Jobs = []*batchv1.Job{read[batchv1.Job](t, "metadata: {name: c-1}\nstatus: {failed: 1, conditions: [{type: Failed, status: 'True', reason: BackoffLimitExceeded, message: m}]}")}
		}, want: "exit error BackoffLimitExceeded", summary: "schedule 0 3 * * *, last run 5m ago, 0 active; job c-1 failed: 0 succeeded, 0 active, 1 failed"},
	})
}
