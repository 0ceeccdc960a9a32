package why

import (
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"canopus/internal/verdict"
)

func now() time.Time { return time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC) }

// at is some seconds before now, as in YAML.
func at(seconds int) string {
	return now().Add(-time.Duration(seconds) * time.Second).Format(time.RFC3339)
}

// read makes an object from YAML; @N stands for the time N seconds ago.
func read[T any](t *testing.T, text string) *T {
	t.Helper()
	for _, n := range []int{700, 300, 100, 60, 30, 20, 10, 5, 2} {
		text = strings.ReplaceAll(text, fmt.Sprintf("@%ds", n), "'"+at(n)+"'")
	}
	o := new(T)
	if err := yaml.UnmarshalStrict([]byte(text), o); err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	return o
}

// told is an event, some seconds ago, about a container when that is named.
func told(kind, reason, message string, seconds int, container string) corev1.Event {
	e := corev1.Event{Type: kind, Reason: reason, Message: message, LastTimestamp: metav1.NewTime(now().Add(-time.Duration(seconds) * time.Second))}
	if container != "" {
		e.InvolvedObject.FieldPath = "spec.containers{" + container + "}"
	}
	return e
}

func warned(reason, message string, seconds int, container string) corev1.Event {
	return told(corev1.EventTypeWarning, reason, message, seconds, container)
}

// empty are facts in which everything was looked at and node n1 is well.
func empty(t *testing.T) *Facts {
	f := newFacts(Target{Kind: kindPod, Namespace: "shop", Name: "p"}, now())
	f.Nodes["n1"] = read[corev1.Node](t, "metadata: {name: n1}\nstatus: {allocatable: {cpu: '4', memory: 8Gi}, conditions: [{type: Ready, status: 'True'}]}")
	return f
}

const (
	head    = "metadata: {name: p, namespace: shop, uid: u, creationTimestamp: @300s}\n"
	onNode  = head + "spec: {nodeName: n1, containers: [{name: main, image: reg/app:1}]}\n"
	waiting = head + "spec: {schedulerName: default-scheduler, containers: [{name: main, image: x, resources: {requests: {cpu: '8'}}}]}\n"
	refusal = "status: {phase: Pending, conditions: [{type: PodScheduled, status: 'False', reason: Unschedulable, message: '0/1 nodes are available: MESSAGE'}]}"
)

// unscheduled is a pod that no node took.
func unscheduled(message string) string {
	return waiting + strings.Replace(refusal, "MESSAGE", message, 1)
}

// state is a pod on node n1 whose container is in a state.
func state(status string) string {
	return onNode + "status: {phase: Running, conditions: [{type: Ready, status: 'False'}], containerStatuses: [{name: main, " + status + "}]}"
}

// TestEachLinkOfAPod: for every link of the chain, its fault is found under its name, with its reason and with advice.
func TestEachLinkOfAPod(t *testing.T) {
	t.Parallel()
	ended := func(code, more string) string {
		return "terminated: {exitCode: " + code + ", startedAt: @100s, finishedAt: @60s" + more + "}"
	}
	for _, tt := range []struct {
		name, pod string
		facts     func(*Facts)
		want      string // link severity reason of each finding
		message   string
		do        string
	}{
		{name: "ready", pod: onNode + "status: {phase: Running, conditions: [{type: Ready, status: 'True'}], containerStatuses: [{name: main, ready: true, started: true, state: {running: {startedAt: @300s}}}]}"},
		{name: "done", pod: onNode + "status: {phase: Succeeded, containerStatuses: [{name: main, state: {" + ended("0", "") + "}}]}"},
		{name: "just made", pod: "metadata: {name: p, creationTimestamp: @10s}\nspec: {schedulerName: default-scheduler}", want: "schedule waiting NotTried", message: "has not said anything about it for 10s"},
		{name: "no such scheduler", pod: head + "spec: {schedulerName: mine}", want: "schedule error NotTried", do: "by the name mine"},
		{name: "gated", pod: head + "spec: {schedulingGates: [{name: a/b}]}\nstatus: {conditions: [{type: PodScheduled, status: 'False', reason: SchedulingGated}]}", want: "schedule waiting SchedulingGated", message: "a/b"},
		{
			name: "too large for every node", pod: unscheduled("1 Insufficient cpu."), facts: func(f *Facts) { f.AllNodes = true },
			want: "schedule error Unschedulable", message: "1 Insufficient cpu", do: "ask for less than 8 cpu (the largest node, n1, has 4 cpu in all)",
		},
		{
			name: "no room now", pod: unscheduled("1 Insufficient memory."), want: "schedule error Unschedulable", do: "free 8 cpu on a node",
		},
		{
			name: "selector", pod: strings.Replace(unscheduled("1 node(s) didn''t match Pod''s node affinity/selector."), "spec: {", "spec: {nodeSelector: {disk: ssd, arch: x}, ", 1),
			want: "schedule error Unschedulable", do: "`kubectl label node NAME arch=x disk=ssd`",
		},
		{
			name: "taint", pod: unscheduled("1 node(s) had untolerated taint(s)."),
			facts: func(f *Facts) {
				f.Nodes["n1"].Spec.Taints = []corev1.Taint{{Key: "team", Value: "a", Effect: corev1.TaintEffectNoSchedule}}
			},
			want: "schedule error Unschedulable", do: "tolerate team=a:NoSchedule in the pod, or `kubectl taint node n1 team=a:NoSchedule-`",
		},
		{
			name: "taint of a sick node", pod: unscheduled("1 node(s) had untolerated taint(s)."),
			facts: func(f *Facts) {
				f.Nodes["n1"].Spec.Taints = []corev1.Taint{{Key: "node.kubernetes.io/unreachable", Effect: corev1.TaintEffectNoSchedule}}
			},
			want: "schedule error Unschedulable", do: "`canopus why node/n1`",
		},
		{
			name: "cordoned", pod: unscheduled("1 node(s) were unschedulable."), facts: func(f *Facts) { f.Nodes["n1"].Spec.Unschedulable = true },
			want: "schedule error Unschedulable", do: "`kubectl uncordon n1`",
		},
		{
			name: "preempts", pod: strings.Replace(unscheduled("1 Insufficient cpu."), "phase: Pending", "phase: Pending, nominatedNodeName: n1", 1),
			facts: func(f *Facts) {
				f.Verdicts["u"] = &verdict.Verdict{UID: "u", Nominated: "n1", Victims: []string{"a/b"}}
			},
			want: "schedule waiting Unschedulable", message: "node n1 is being made free",
		},
		{
			name: "claim missing", pod: strings.Replace(unscheduled(`persistentvolumeclaim "data" not found.`), "spec: {", "spec: {volumes: [{name: v, persistentVolumeClaim: {claimName: data}}], ", 1),
			facts: func(f *Facts) { f.Claims["data"] = nil },
			want:  "volume error ClaimNotFound, schedule error Unschedulable", message: "the claim data, which pod p mounts, does not exist", do: "make PersistentVolumeClaim data",
		},
		{
			name: "node gone", pod: state("state: {running: {startedAt: @100s}}, started: true"), facts: func(f *Facts) { f.Nodes["n1"] = nil },
			want: "node error NodeGone", message: "n1 does not exist",
		},
		{
			name: "node does not answer", pod: state("state: {running: {startedAt: @100s}}, started: true"),
			facts: func(f *Facts) {
				f.Nodes["n1"].Status.Conditions[0] = corev1.NodeCondition{Type: corev1.NodeReady, Status: corev1.ConditionUnknown, Reason: "NodeStatusUnknown"}
			},
			want: "node error NodeNotReady", do: "`canopus why node/n1`",
		},
		{
			name: "evicted", pod: onNode + "status: {phase: Failed, reason: Evicted, message: 'The node was low on resource: memory.'}",
			want: "node error Evicted", message: "low on resource",
		},
		{
			name: "ConfigMap missing", pod: state("state: {waiting: {reason: ContainerCreating}}"),
			facts: func(f *Facts) {
				f.Events["u"] = []corev1.Event{warned("FailedMount", `MountVolume.SetUp failed for volume "v" : configmap "conf" not found`, 5, "")}
			},
			want: "volume error FailedMount", message: `configmap "conf" not found`, do: "make ConfigMap conf",
		},
		{
			name: "mounted at last, now pulling", pod: state("state: {waiting: {reason: ContainerCreating}}"),
			facts: func(f *Facts) {
				f.Events["u"] = []corev1.Event{warned("FailedMount", "x", 20, ""), told("Normal", "Pulling", `Pulling image "reg/app:1"`, 5, "main")}
			},
			want: "image warning ContainerCreating", message: `Pulling image "reg/app:1"`,
		},
		{
			name: "no sandbox", pod: state("state: {waiting: {reason: ContainerCreating}}"),
			facts: func(f *Facts) {
				f.Events["u"] = []corev1.Event{warned("FailedCreatePodSandBox", `Failed to create pod sandbox: no runtime for "x" is configured`, 5, "")}
			},
			want: "sandbox error FailedCreatePodSandBox", do: "runtimeClassName",
		},
		{
			name: "image", pod: state("state: {waiting: {reason: ImagePullBackOff, message: 'Back-off pulling image \"reg/app:1\"'}}"),
			facts: func(f *Facts) {
				f.Events["u"] = []corev1.Event{warned("Failed", `Failed to pull image "reg/app:1": dial tcp: lookup reg: no such host`, 5, "main")}
			},
			want: "image error ImagePullBackOff", message: "no such host", do: "reaches the registry",
		},
		{name: "image name", pod: state("state: {waiting: {reason: InvalidImageName, message: 'Failed to apply'}}"), want: "image error InvalidImageName", do: `correct the image's name: "reg/app:1" is none`},
		{name: "image not there", pod: state("state: {waiting: {reason: ErrImageNeverPull, message: m}}"), want: "image error ErrImageNeverPull", do: "load the image on node n1"},
		{name: "image refused", pod: state("state: {waiting: {reason: ErrImagePull, message: 'pull: access denied'}}"), want: "image error ErrImagePull", do: "imagePullSecrets"},
		{
			name: "Secret missing in environment", pod: state(`state: {waiting: {reason: CreateContainerConfigError, message: 'secret "s" not found'}}`),
			want: "config error CreateContainerConfigError", do: "make Secret s",
		},
		{name: "cannot be made", pod: state("state: {waiting: {reason: CreateContainerError, message: m}}"), want: "start error CreateContainerError", message: "cannot be started: m"},
		{
			name: "no such program", pod: state("restartCount: 2, state: {waiting: {reason: CrashLoopBackOff, message: back-off 20s}}, lastState: {" + ended("128", ", reason: StartError, message: 'exec: \"nope\": not found'") + "}"),
			want: "start error StartError", message: `exec: "nope": not found, restarted twice`,
		},
		{
			name: "crash loop", pod: state("restartCount: 3, state: {waiting: {reason: CrashLoopBackOff, message: back-off 40s}}, lastState: {" + ended("3", ", reason: Error") + "}"),
			facts: func(f *Facts) { f.Logs[LogKey{"u", "main", true}] = []string{"going down"} },
			want:  "exit error Error", message: "container main ended with exit code 3, 40s after its start, restarted 3 times", do: "`kubectl -n shop logs p -c main --previous`",
		},
		{name: "signal", pod: state("state: {" + ended("139", ", reason: Error") + "}"), want: "exit error Error", message: "exit code 139 (signal 11, segmentation fault)"},
		{name: "ends well but should not", pod: state("restartCount: 1, state: {waiting: {reason: CrashLoopBackOff}}, lastState: {" + ended("0", ", reason: Completed") + "}"), want: "exit error Completed", do: "belongs in a Job"},
		{
			name: "memory", pod: strings.Replace(state("restartCount: 1, state: {waiting: {reason: CrashLoopBackOff}}, lastState: {"+ended("137", ", reason: OOMKilled")+"}"), "image: reg/app:1", "image: x, resources: {limits: {memory: 20Mi}}", 1),
			want: "exit error OOMKilled", message: "memory limit of 20Mi", do: "raise resources.limits.memory",
		},
		{name: "memory of the node", pod: state("state: {" + ended("137", ", reason: OOMKilled") + "}"), want: "exit error OOMKilled", message: "node n1 ran out of memory"},
		{
			name: "liveness", pod: strings.Replace(state("restartCount: 1, ready: true, started: true, state: {running: {startedAt: @30s}}, lastState: {"+ended("137", ", reason: Error")+"}"), "image: reg/app:1", "image: x, livenessProbe: {httpGet: {path: /live, port: 80}}", 1),
			facts: func(f *Facts) {
				f.Events["u"] = []corev1.Event{
					warned("Unhealthy", "Liveness probe failed: HTTP probe failed with statuscode: 500", 60, "main"),
					told("Normal", "Killing", "Container main failed liveness probe, will be restarted", 60, "main"),
				}
			},
			want: "probe warning Unhealthy", message: "container main was killed because its liveness probe (GET :80/live) failed: HTTP probe failed with statuscode: 500, restarted once; it runs again, for 30s",
		},
		{
			name: "killed by a probe earlier, crashed since", pod: state("restartCount: 2, state: {waiting: {reason: CrashLoopBackOff}}, lastState: {" + ended("1", ", reason: Error") + "}"),
			facts: func(f *Facts) {
				f.Events["u"] = []corev1.Event{told("Normal", "Killing", "Container main failed liveness probe, will be restarted", 300, "main")}
			},
			want: "exit error Error", message: "exit code 1",
		},
		{name: "restart long ago", pod: onNode + "status: {phase: Running, conditions: [{type: Ready, status: 'True'}], containerStatuses: [{name: main, ready: true, started: true, restartCount: 1, state: {running: {startedAt: @300s}}, lastState: {terminated: {exitCode: 1, finishedAt: @700s}}}]}"},
		{
			name: "readiness", pod: strings.Replace(state("started: true, state: {running: {startedAt: @60s}}"), "image: reg/app:1", "image: x, readinessProbe: {exec: {command: [cat, /ready]}}", 1),
			facts: func(f *Facts) {
				f.Events["u"] = []corev1.Event{warned("Unhealthy", "Readiness probe failed: cat: no such file", 5, "main")}
			},
			want: "probe error Unhealthy", message: "runs, for 60s, but its readiness probe (cat /ready) fails: cat: no such file",
		},
		{
			name: "readiness has had no time", pod: strings.Replace(state("started: true, state: {running: {startedAt: @10s}}"), "image: reg/app:1", "image: x, readinessProbe: {tcpSocket: {port: 80}}", 1),
			facts: func(f *Facts) {
				f.Events["u"] = []corev1.Event{warned("Unhealthy", "Readiness probe failed: of the run before", 60, "main")}
			},
			want: "probe waiting Unhealthy", message: "(TCP :80) has not passed yet",
		},
		{
			name: "startup", pod: strings.Replace(state("started: false, state: {running: {startedAt: @60s}}"), "image: reg/app:1", "image: x, startupProbe: {grpc: {port: 9}}", 1),
			facts: func(f *Facts) {
				f.Events["u"] = []corev1.Event{warned("Unhealthy", "Startup probe failed: refused", 5, "main")}
			},
			want: "probe error Unhealthy", message: "startup probe (gRPC :9) fails: refused",
		},
		{
			name: "init container fails", pod: head + "spec: {nodeName: n1, initContainers: [{name: one, image: x}, {name: two, image: x}], containers: [{name: main, image: x}]}\nstatus: {phase: Pending, initContainerStatuses: [{name: one, state: {terminated: {exitCode: 0}}}, {name: two, restartCount: 1, state: {waiting: {reason: CrashLoopBackOff}}, lastState: {" + ended("127", "") + "}}], containerStatuses: [{name: main, state: {waiting: {reason: PodInitializing}}}]}",
			want: "exit error ", message: "init container two ended with exit code 127 (the command was not found)",
		},
		{
			name: "init container runs", pod: head + "spec: {nodeName: n1, initContainers: [{name: one, image: x}], containers: [{name: main, image: x}]}\nstatus: {phase: Pending, initContainerStatuses: [{name: one, started: true, state: {running: {startedAt: @20s}}}], containerStatuses: [{name: main, state: {waiting: {reason: PodInitializing}}}]}",
			want: "start waiting PodInitializing", message: "init container one runs, for 20s",
		},
		{
			name: "sidecar does not start", pod: head + "spec: {nodeName: n1, initContainers: [{name: one, image: x, restartPolicy: Always}], containers: [{name: main, image: x}]}\nstatus: {phase: Pending, initContainerStatuses: [{name: one, state: {waiting: {reason: ErrImagePull, message: m}}}], containerStatuses: [{name: main, state: {waiting: {reason: PodInitializing}}}]}",
			want: "image error ErrImagePull", message: "of sidecar one",
		},
		{
			name: "failed for good", pod: head + "spec: {nodeName: n1, restartPolicy: Never, containers: [{name: main, image: x}]}\nstatus: {phase: Failed, containerStatuses: [{name: main, state: {" + ended("4", ", reason: Error, message: last words") + "}}]}",
			want: "exit error Error", message: "exit code 4",
		},
		{
			name: "readiness gate", pod: head + "spec: {nodeName: n1, readinessGates: [{conditionType: a/b}], containers: [{name: main, image: x}]}\nstatus: {phase: Running, conditions: [{type: Ready, status: 'False'}], containerStatuses: [{name: main, ready: true, started: true, state: {running: {startedAt: @60s}}}]}",
			want: "probe error ReadinessGatesNotReady", message: "a/b",
		},
		{name: "done, and starts anew", pod: state("restartCount: 0, state: {" + ended("0", ", reason: Completed") + "}"), want: "exit error Completed", do: "belongs in a Job"},
		{name: "done, and another is not", pod: head + "spec: {nodeName: n1, restartPolicy: OnFailure, containers: [{name: main, image: x}, {name: more, image: x}]}\nstatus: {phase: Running, conditions: [{type: Ready, status: 'False'}], containerStatuses: [{name: main, state: {" + ended("0", "") + "}}, {name: more, state: {waiting: {reason: ErrImagePull, message: m}}}]}", want: "image error ErrImagePull", message: "container more"},
		{
			name: "sidecar fails beside", pod: head + "spec: {nodeName: n1, initContainers: [{name: one, image: x, restartPolicy: Always}], containers: [{name: main, image: x}]}\nstatus: {phase: Running, conditions: [{type: Ready, status: 'False'}], initContainerStatuses: [{name: one, restartCount: 2, started: true, state: {waiting: {reason: CrashLoopBackOff}}, lastState: {" + ended("9", ", reason: Error") + "}}], containerStatuses: [{name: main, ready: true, started: true, state: {running: {startedAt: @60s}}}]}",
			want: "exit error Error", message: "sidecar one ended with exit code 9",
		},
		{
			name: "volume held elsewhere", pod: state("state: {waiting: {reason: ContainerCreating}}"), facts: func(f *Facts) {
				f.Events["u"] = []corev1.Event{warned("FailedAttachVolume", "Multi-Attach error", 5, "")}
			}, want: "volume error FailedAttachVolume", do: "see what holds the volume",
		},
		{
			name: "a device does not work", pod: onNode + "status: {phase: Running, conditions: [{type: Ready, status: 'True'}], containerStatuses: [{name: main, ready: true, started: true, state: {running: {startedAt: @300s}}, " +
				"allocatedResourcesStatus: [{name: 'claim:gpu', resources: [{resourceID: d/n1/g0, health: Healthy}, {resourceID: d/n1/g1, health: Unhealthy, message: ECC errors}, {resourceID: d/n1/g2, health: Unknown}]}]}]}",
			want: "device warning Unhealthy", message: "device d/n1/g1 of container main does not work, says its driver: ECC errors", do: "see to the device on node n1",
		},
		{
			name: "a device does not work, and the program ends", pod: state("state: {" + ended("1", "") + "}, allocatedResourcesStatus: [{name: 'claim:gpu', resources: [{resourceID: d/n1/g1, health: Unhealthy}]}]"),
			want: "device warning Unhealthy, exit error ", message: "device d/n1/g1 of container main does not work, says its driver",
		},
		{
			name: "devices not prepared", pod: state("state: {waiting: {reason: ContainerCreating}}"), facts: func(f *Facts) {
				f.Events["u"] = []corev1.Event{warned("FailedPrepareDynamicResources", "no driver", 5, "")}
			}, want: "device error FailedPrepareDynamicResources", do: "driver of its resource claims",
		},
		{
			name: "memory of the whole pod", pod: strings.Replace(state("state: {"+ended("137", ", reason: OOMKilled")+"}"), "spec: {", "spec: {resources: {limits: {memory: 30Mi}}, ", 1),
			want: "exit error OOMKilled", message: "it took more than the pod's memory limit of 30Mi",
		},
		{
			name: "tolerated taint is not to blame", pod: strings.Replace(unscheduled("1 node(s) had untolerated taint(s)."), "spec: {", "spec: {tolerations: [{key: a, operator: Exists}, {key: b, value: x}], ", 1),
			facts: func(f *Facts) {
				f.Nodes["n1"].Spec.Taints = []corev1.Taint{{Key: "a", Effect: corev1.TaintEffectNoSchedule}, {Key: "b", Value: "x", Effect: corev1.TaintEffectNoSchedule}, {Key: "b", Value: "y", Effect: corev1.TaintEffectNoExecute}}
			},
			want: "schedule error Unschedulable", do: "tolerate b=y:NoExecute in the pod, or `kubectl taint node n1 b=y:NoExecute-`",
		},
		{name: "claim in use", pod: unscheduled("1 node(s) had a pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access mode."), want: "schedule error Unschedulable", do: "ReadWriteOncePod is for one pod"},
		{name: "claim leaves", pod: unscheduled(`persistentvolumeclaim "data" is being deleted.`), want: "schedule error Unschedulable", do: "wait until it is gone"},
		{name: "volume on a full node", pod: unscheduled("1 node(s) didn''t match PersistentVolume''s node affinity."), want: "schedule error Unschedulable", do: "make room on the node that has its volume"},
		{name: "a rule unknown here", pod: unscheduled("1 node(s) were shy."), want: "schedule error Unschedulable", do: "as the message says"},
		{
			name: "leaves too slowly", pod: strings.Replace(state("state: {running: {startedAt: @60s}}, started: true"), "uid: u,", "uid: u, deletionTimestamp: @100s,", 1),
			want: "deletion error Terminating", message: "it is still there", do: "log of node n1",
		},
		{
			name: "leaves a node that is gone", pod: strings.Replace(state("state: {running: {startedAt: @60s}}, started: true"), "uid: u,", "uid: u, deletionTimestamp: @100s,", 1),
			facts: func(f *Facts) { f.Nodes["n1"] = nil }, want: "node error NodeGone, deletion error Terminating",
		},
		{
			name: "leaving", pod: strings.Replace(state("state: {running: {startedAt: @60s}}, started: true"), "uid: u,", "uid: u, deletionTimestamp: @2s,", 1),
			want: "deletion waiting Terminating",
		},
		{
			name: "held by a finalizer", pod: strings.Replace(state("state: {running: {startedAt: @60s}}, started: true"), "uid: u,", "uid: u, finalizers: [a/b], deletionTimestamp: @100s,", 1),
			want: "deletion error Finalizers", message: "a/b",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := empty(t)
			p := read[corev1.Pod](t, tt.pod)
			f.Object = p
			if tt.facts != nil {
				tt.facts(f)
			}
			check(t, Explain(f), tt.want, tt.message, tt.do)
		})
	}
}

// check compares a report's findings, as "link severity reason, …", and looks for words in the first message and in what to do.
func check(t *testing.T, r *Report, want, message, do string) {
	t.Helper()
	var got, advice []string
	for _, x := range r.Findings {
		got = append(got, string(x.Link)+" "+string(x.Severity)+" "+x.Reason)
		advice = append(advice, x.Do)
	}
	if r.State == Broken && strings.Join(advice, "") == "" {
		t.Errorf("no advice for %+v", r.Findings)
	}
	if strings.Join(got, ", ") != want {
		t.Fatalf("got %q, want %q: %+v", got, want, r.Findings)
	}
	if want == "" {
		if r.State != Fine {
			t.Errorf("state %s", r.State)
		}
		return
	}
	if !strings.Contains(r.Findings[0].Message, message) {
		t.Errorf("message %q, want %q in it", r.Findings[0].Message, message)
	}
	if !strings.Contains(strings.Join(advice, "\n"), do) {
		t.Errorf("advice %q, want %q in it", advice, do)
	}
	state := Fine
	switch {
	case strings.Contains(want, " error ") || strings.Contains(want, " warning "):
		state = Broken
	case strings.Contains(want, " waiting "):
		state = OnWay
	}
	if r.State != state {
		t.Errorf("state %s, want %s", r.State, state)
	}
}

func TestAmount(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name       corev1.ResourceName
		text, want string
	}{
		{corev1.ResourceCPU, "1000", "1000 cpu"}, {corev1.ResourceCPU, "250m", "0.25 cpu"}, {corev1.ResourceMemory, "900Gi", "900Gi memory"},
		{corev1.ResourceMemory, "24581684Ki", "23.4Gi memory"}, {corev1.ResourceMemory, "1073741823", "1023.9Mi memory"}, {corev1.ResourceMemory, "1234567", "1.1Mi memory"},
		{corev1.ResourceMemory, "100", "100 memory"}, {corev1.ResourceEphemeralStorage, "1e18", "1e18 ephemeral-storage"}, {"x.io/gpu", "16777216", "16777216 x.io/gpu"},
	} {
		if got := amount(tt.name, resource.MustParse(tt.text)); got != tt.want {
			t.Errorf("%s of %s is told as %q, want %q", tt.text, tt.name, got, tt.want)
		}
	}
}

// TestLargest: what a pod asks for is compared with the largest node of each resource.
func TestLargest(t *testing.T) {
	t.Parallel()
	f := empty(t)
	f.AllNodes = true
	f.Nodes["n2"] = read[corev1.Node](t, "metadata: {name: n2}\nstatus: {allocatable: {cpu: '2', memory: 16777216Ki}}")
	p := read[corev1.Pod](t, "spec: {containers: [{name: a, resources: {requests: {cpu: '5', memory: 32Gi}}}]}")
	want := "ask for less than 5 cpu and 32Gi memory (the largest node, n1, has 4 cpu in all; the largest node, n2, has 16Gi memory in all), or add a larger node"
	if got := f.roomAdvice(p); got != want {
		t.Errorf("got %s", got)
	}
	f.Nodes["n2"].Status.Allocatable[corev1.ResourceCPU] = resource.MustParse("4500m")
	if got := f.roomAdvice(p); !strings.Contains(got, "(the largest node, n2, has 4.5 cpu and 16Gi memory in all)") {
		t.Errorf("got %s", got)
	}
}

func TestCoreOfAPull(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"": "", "Back-off": "Back-off",
		`Failed to pull image "a/b:1": rpc error: code = Unknown desc = failed to pull and unpack image "docker.io/a/b:1": failed to resolve reference "docker.io/a/b:1": failed to do request: Head "https://x": refused`: `Head "https://x": refused`,
		`rpc error: code = NotFound desc = failed to pull and unpack image "docker.io/a/b:1": docker.io/a/b:1: not found`:                                                                                                  "docker.io/a/b:1: not found",
		`Failed to pull image "cut off`: `"cut off`,
	} {
		if got := core(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func TestMissingAdvice(t *testing.T) {
	t.Parallel()
	for message, want := range map[string]string{
		`configmap "settings" not found`:                               "make ConfigMap settings, or take it out of the pod; the node tries again by itself",
		"couldn't find key nokey in ConfigMap shop/settings":           "put the key nokey into ConfigMap settings, or correct the key in the pod; the node tries again by itself",
		"couldn't find key a.b in Secret shop/password":                "put the key a.b into Secret password, or correct the key in the pod; the node tries again by itself",
		"couldn't find key":                                            "mend what the message says; the node tries again by itself",
		"container has runAsNonRoot and image will run as root (main)": "mend what the message says; the node tries again by itself",
	} {
		if got := missingAdvice(message); got != want {
			t.Errorf("%s: %s", message, got)
		}
	}
}
