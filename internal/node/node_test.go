package node_test

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/utils/ptr"
)

// forever keeps a container running until it is told to end.
const forever = `trap 'exit 0' TERM; while :; do sleep 0.05; done`

// create creates a pod in the API.
func (r *rig) create(t testing.TB, p *corev1.Pod) *corev1.Pod {
	t.Helper()
	p.Spec.TerminationGracePeriodSeconds = ptr.To(int64(5))
	got, err := r.client.CoreV1().Pods("default").Create(t.Context(), p, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// logOf returns the log of a run of a container as the runtime wrote it, once it has the given end.
func (r *rig) logOf(t *testing.T, p *corev1.Pod, container string, end string) string {
	t.Helper()
	path := filepath.Join(r.config.PodLogs, "default_"+p.Name+"_"+string(p.UID), container, "0.log")
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for range 500 {
		if b, err := os.ReadFile(path); err == nil && strings.HasSuffix(string(b), end) {
			return string(b)
		}
		<-tick.C
	}
	t.Fatalf("%s does not end with %q", path, end)
	return ""
}

// TestPods runs ordinary pods on one agent with a real API server and a real containerd.
func TestPods(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.run(t)
	for name, f := range map[string]func(*testing.T, *rig){
		"environment and volumes":   testContent,
		"configmap update":          testUpdate,
		"init containers, sidecars": testInit,
		"restart and back-off":      testRestart,
		"succeeds":                  testSucceeds,
		"fails with a message":      testFails,
		"readiness":                 testReadiness,
		"liveness":                  testLiveness,
		"delete":                    testDelete,
		"image missing":             testImages,
		"resources":                 testResources,
		"deadline":                  testDeadline,
		"hooks":                     testHooks,
		"missing configmap":         testMissing,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f(t, r)
		})
	}
}

func testContent(t *testing.T, r *rig) {
	core := r.client.CoreV1()
	_, err := core.ConfigMaps("default").Create(t.Context(), &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: "settings"}, Data: map[string]string{"COLOR": "blue", "file": "from the map"}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = core.Secrets("default").Create(t.Context(), &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: "keys"}, Data: map[string][]byte{"key": []byte("s3cret")}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	p := shellPod("content", `echo "color=$COLOR key=$KEY ip=$IP args=$ARGS"; echo "file=$(cat /etc/map/file) secret=$(cat /etc/keys/key) sub=$(cat /one)"
echo "label=$(cat /info/labels)"; echo x > /data/here && echo written; cat /etc/hosts /etc/resolv.conf; hostname; echo done; `+forever)
	p.Labels = map[string]string{"app": "web"}
	p.Spec.Hostname, p.Spec.Subdomain = "h", "sub"
	p.Spec.HostAliases = []corev1.HostAlias{{IP: "10.1.2.3", Hostnames: []string{"other"}}}
	p.Spec.Volumes = []corev1.Volume{
		{Name: "map", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: "settings"}}}},
		{Name: "keys", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "keys", DefaultMode: ptr.To(int32(0o400))}}},
		{Name: "data", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}},
		{Name: "info", VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{{DownwardAPI: &corev1.DownwardAPIProjection{
			Items: []corev1.DownwardAPIVolumeFile{{Path: "labels", FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.labels"}}}}}}}}},
	}
	c := &p.Spec.Containers[0]
	c.VolumeMounts = []corev1.VolumeMount{{Name: "map", MountPath: "/etc/map"}, {Name: "keys", MountPath: "/etc/keys", ReadOnly: true},
		{Name: "data", MountPath: "/data", SubPath: "a/b"}, {Name: "map", MountPath: "/one", SubPath: "file"}, {Name: "info", MountPath: "/info"}}
	c.EnvFrom = []corev1.EnvFromSource{{ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: "settings"}}}}
	c.Env = []corev1.EnvVar{
		{Name: "KEY", ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{LocalObjectReference: corev1.LocalObjectReference{Name: "keys"}, Key: "key"}}},
		{Name: "IP", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "status.podIP"}}},
		{Name: "ARGS", Value: "$(COLOR)-$(NOPE)"},
	}
	r.create(t, p)
	got := r.until(t, "content", "ready", ready)
	log := r.logOf(t, got, "main", "stdout F done\n")
	for _, want := range []string{"color=blue key=s3cret ip=" + got.Status.PodIP + " args=blue-$(NOPE)", "file=from the map secret=s3cret sub=from the map",
		`label=app="web"`, "written", got.Status.PodIP + "\th.sub.default.svc.cluster.local\th", "10.1.2.3\tother",
		"search default.svc.cluster.local svc.cluster.local cluster.local", "nameserver 10.96.0.10", "ndots:5", "stdout F h\n"} {
		if !strings.Contains(log, want) {
			t.Errorf("the log lacks %q:\n%s", want, log)
		}
	}
	if got.Status.HostIP != r.config.IPs[0] || !strings.HasPrefix(got.Status.PodIP, strings.TrimSuffix(r.config.IPs[0], "1")) || got.Status.ObservedGeneration != got.Generation {
		t.Errorf("status: %+v", got.Status)
	}
}

func testUpdate(t *testing.T, r *rig) {
	maps := r.client.CoreV1().ConfigMaps("default")
	cm, err := maps.Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "changing"}, Data: map[string]string{"v": "one", "old": "x"}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	p := shellPod("update", `until [ "$(cat /v/v)" = two ] && [ ! -e /v/old ]; do sleep 0.05; done`)
	p.Spec.RestartPolicy = corev1.RestartPolicyNever
	p.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: "changing"}}}}}
	p.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "v", MountPath: "/v"}}
	r.create(t, p)
	r.until(t, "update", "ready", ready)
	cm.Data = map[string]string{"v": "two"}
	if _, err := maps.Update(t.Context(), cm, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	r.until(t, "update", "Succeeded", phase(corev1.PodSucceeded))
}

func testInit(t *testing.T, r *rig) {
	p := shellPod("init", `cat /d/order; echo done; `+forever)
	always := corev1.ContainerRestartPolicyAlways
	side := shell("side", "echo side >> /d/order; "+forever)
	side.RestartPolicy = &always
	p.Spec.InitContainers = []corev1.Container{shell("first", "echo first >> /d/order"), side, shell("second", "echo second >> /d/order")}
	p.Spec.Volumes = []corev1.Volume{{Name: "d", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{Medium: corev1.StorageMediumMemory}}}}
	for i := range p.Spec.InitContainers {
		p.Spec.InitContainers[i].VolumeMounts = []corev1.VolumeMount{{Name: "d", MountPath: "/d"}}
	}
	p.Spec.Containers[0].VolumeMounts = p.Spec.InitContainers[0].VolumeMounts
	r.create(t, p)
	got := r.until(t, "init", "ready", ready)
	log := r.logOf(t, got, "main", "stdout F done\n")
	a, b, c := strings.Index(log, "first"), strings.Index(log, "side"), strings.Index(log, "second")
	if a < 0 || b < 0 || c < a {
		t.Errorf("order: %s", log)
	}
	s := got.Status.InitContainerStatuses
	if s[0].State.Terminated == nil || s[0].State.Terminated.Reason != "Completed" || s[1].State.Running == nil || !*s[1].Started || !s[1].Ready {
		t.Errorf("init statuses: %+v", s)
	}
}

func testRestart(t *testing.T, r *rig) {
	r.create(t, shellPod("crash", "exit 3"))
	got := r.until(t, "crash", "CrashLoopBackOff", func(p *corev1.Pod) bool {
		w := waiting(p)
		return w != nil && w.Reason == "CrashLoopBackOff"
	})
	c := got.Status.ContainerStatuses[0]
	if c.RestartCount != 1 || c.LastTerminationState.Terminated == nil || c.LastTerminationState.Terminated.ExitCode != 3 ||
		c.LastTerminationState.Terminated.Reason != "Error" || got.Status.Phase != corev1.PodRunning ||
		!strings.HasPrefix(c.State.Waiting.Message, "back-off 10s restarting failed container=main pod=crash_default(") {
		t.Errorf("status: %+v", got.Status)
	}
	if !r.event(t, "crash", "BackOff") {
		t.Error("no event tells of the back-off")
	}
}

func waiting(p *corev1.Pod) *corev1.ContainerStateWaiting {
	if p == nil || len(p.Status.ContainerStatuses) == 0 {
		return nil
	}
	return p.Status.ContainerStatuses[0].State.Waiting
}

// event waits for an event about a pod.
func (r *rig) event(t *testing.T, pod, reason string) bool {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for range 250 {
		list, err := r.client.CoreV1().Events("default").List(t.Context(), metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range list.Items {
			if e.InvolvedObject.Name == pod && e.Reason == reason && e.Source.Component == "kubelet" {
				return true
			}
		}
		<-tick.C
	}
	return false
}

func testSucceeds(t *testing.T, r *rig) {
	p := shellPod("done", "exit 0")
	p.Spec.RestartPolicy = corev1.RestartPolicyOnFailure
	r.create(t, p)
	got := r.until(t, "done", "Succeeded", phase(corev1.PodSucceeded))
	if s := got.Status.ContainerStatuses[0].State.Terminated; s == nil || s.Reason != "Completed" || s.FinishedAt.IsZero() {
		t.Errorf("status: %+v", got.Status)
	}
	for _, c := range got.Status.Conditions {
		if c.Type == corev1.PodReady && (c.Status != corev1.ConditionFalse || c.Reason != "PodCompleted") {
			t.Errorf("ready: %+v", c)
		}
	}
}

func testFails(t *testing.T, r *rig) {
	p := shellPod("message", "echo because > /dev/termination-log; exit 7")
	p.Spec.RestartPolicy = corev1.RestartPolicyNever
	log := shell("log", "echo last words; exit 1")
	log.TerminationMessagePolicy = corev1.TerminationMessageFallbackToLogsOnError
	p.Spec.Containers = append(p.Spec.Containers, log)
	r.create(t, p)
	got := r.until(t, "message", "Failed", phase(corev1.PodFailed))
	for i, want := range []corev1.ContainerStateTerminated{{ExitCode: 7, Message: "because\n"}, {ExitCode: 1, Message: "last words\n"}} {
		s := got.Status.ContainerStatuses[i].State.Terminated
		if s == nil || s.ExitCode != want.ExitCode || s.Message != want.Message || s.Reason != "Error" {
			t.Errorf("container %d: %+v", i, s)
		}
	}
}

func testReadiness(t *testing.T, r *rig) {
	p := shellPod("readiness", "sleep 0.5; touch /tmp/ok; "+forever)
	p.Spec.Containers[0].ReadinessProbe = &corev1.Probe{PeriodSeconds: 1, ProbeHandler: corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{"/bin/test", "-e", "/tmp/ok"}}}}
	p.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "t", MountPath: "/tmp"}}
	p.Spec.Volumes = []corev1.Volume{{Name: "t", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}}
	r.create(t, p)
	got := r.until(t, "readiness", "running", phase(corev1.PodRunning))
	if ready(got) {
		t.Error("ready before its probe said so")
	}
	r.until(t, "readiness", "ready", ready)
}

func testLiveness(t *testing.T, r *rig) {
	p := shellPod("liveness", forever)
	p.Spec.Containers[0].LivenessProbe = &corev1.Probe{PeriodSeconds: 1, FailureThreshold: 1,
		ProbeHandler: corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{"/bin/false"}}}}
	r.create(t, p)
	r.until(t, "liveness", "a restart", func(p *corev1.Pod) bool {
		return p != nil && len(p.Status.ContainerStatuses) > 0 && p.Status.ContainerStatuses[0].RestartCount > 0
	})
	if !r.event(t, "liveness", "Unhealthy") || !r.event(t, "liveness", "Killing") {
		t.Error("events are missing")
	}
}

func testDelete(t *testing.T, r *rig) {
	p := r.create(t, shellPod("deleted", forever))
	r.until(t, "deleted", "ready", ready)
	if err := r.client.CoreV1().Pods("default").Delete(t.Context(), "deleted", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	r.until(t, "deleted", "its end", gone)
	r.released(t, p)
}

// released waits until nothing of a pod is left on the machine.
func (r *rig) released(t *testing.T, p *corev1.Pod) {
	t.Helper()
	left := func() []string {
		var out []string
		for _, pattern := range []string{filepath.Join(r.config.Root, "pods", string(p.UID)), filepath.Join(r.config.PodLogs, "*"+string(p.UID)),
			"/sys/fs/cgroup/*/" + r.cgroup + "/kubepods/*/pod" + string(p.UID), filepath.Join(r.config.ContainerLogs, p.Name+"_*")} {
			found, _ := filepath.Glob(pattern)
			out = append(out, found...)
		}
		return out
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for range 500 {
		if len(left()) == 0 {
			return
		}
		<-tick.C
	}
	t.Errorf("left behind: %q", left())
}

func testImages(t *testing.T, r *rig) {
	never := shellPod("never", forever)
	never.Spec.Containers[0].Image, never.Spec.Containers[0].ImagePullPolicy = "canopus.local/absent:1", corev1.PullNever
	pull := shellPod("pull", forever)
	pull.Spec.Containers[0].Image = "127.0.0.1:1/absent:1"
	bad := shellPod("bad", forever)
	bad.Spec.Containers[0].Image = "UPPER CASE"
	for _, p := range []*corev1.Pod{never, pull, bad} {
		r.create(t, p)
	}
	for name, reason := range map[string]string{"never": "ErrImageNeverPull", "pull": "ImagePullBackOff", "bad": "InvalidImageName"} {
		got := r.until(t, name, reason, func(p *corev1.Pod) bool { w := waiting(p); return w != nil && w.Reason == reason })
		if got.Status.Phase != corev1.PodPending {
			t.Errorf("%s: phase %s", name, got.Status.Phase)
		}
	}
}

func testResources(t *testing.T, r *rig) {
	p := shellPod("resources", forever)
	p.Spec.Containers[0].Resources = corev1.ResourceRequirements{
		Requests: corev1.ResourceList{"cpu": resource.MustParse("100m"), "memory": resource.MustParse("20Mi")},
		Limits:   corev1.ResourceList{"cpu": resource.MustParse("500m"), "memory": resource.MustParse("64Mi")},
	}
	r.create(t, p)
	got := r.until(t, "resources", "ready", ready)
	if _, err := os.Stat("/sys/fs/cgroup/cpu/" + r.cgroup); err != nil {
		t.Skip("this machine has no cgroup v1 tree to look at")
	}
	id := strings.TrimPrefix(got.Status.ContainerStatuses[0].ContainerID, "containerd://")
	base := r.cgroup + "/kubepods/burstable/pod" + string(got.UID)
	for file, want := range map[string]string{
		"cpu/" + base + "/cpu.shares": "102", "cpu/" + base + "/cpu.cfs_quota_us": "50000", "memory/" + base + "/memory.limit_in_bytes": "67108864",
		"cpu/" + base + "/" + id + "/cpu.shares": "102", "memory/" + base + "/" + id + "/memory.limit_in_bytes": "67108864",
	} {
		b, err := os.ReadFile("/sys/fs/cgroup/" + file)
		if err != nil || strings.TrimSpace(string(b)) != want {
			t.Errorf("%s: %q, %v; want %s", file, b, err, want)
		}
	}
	if s := got.Status.ContainerStatuses[0]; s.AllocatedResources.Cpu().String() != "100m" || got.Status.QOSClass != corev1.PodQOSBurstable {
		t.Errorf("status: %+v", got.Status)
	}
}

func testDeadline(t *testing.T, r *rig) {
	p := shellPod("deadline", forever)
	p.Spec.ActiveDeadlineSeconds = ptr.To(int64(1))
	r.create(t, p)
	got := r.until(t, "deadline", "Failed", phase(corev1.PodFailed))
	if got.Status.Reason != "DeadlineExceeded" {
		t.Errorf("reason: %s", got.Status.Reason)
	}
}

func testHooks(t *testing.T, r *rig) {
	p := shellPod("hooks", forever)
	p.Spec.Volumes = []corev1.Volume{{Name: "h", VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: t.TempDir()}}}}
	p.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "h", MountPath: "/h"}}
	run := func(cmd string) *corev1.LifecycleHandler {
		return &corev1.LifecycleHandler{Exec: &corev1.ExecAction{Command: []string{"/bin/sh", "-c", cmd}}}
	}
	p.Spec.Containers[0].Lifecycle = &corev1.Lifecycle{PostStart: run("echo 1 > /h/post"), PreStop: run("echo 1 > /h/pre")}
	dir := p.Spec.Volumes[0].HostPath.Path
	r.create(t, p)
	r.until(t, "hooks", "ready", ready)
	if _, err := os.Stat(filepath.Join(dir, "post")); err != nil {
		t.Error("ready before the postStart hook ran:", err)
	}
	if err := r.client.CoreV1().Pods("default").Delete(t.Context(), "hooks", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	r.until(t, "hooks", "its end", gone)
	if _, err := os.Stat(filepath.Join(dir, "pre")); err != nil {
		t.Error("the preStop hook did not run:", err)
	}
}

func testMissing(t *testing.T, r *rig) {
	p := shellPod("missing", forever)
	p.Spec.Containers[0].EnvFrom = []corev1.EnvFromSource{{ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: "late"}}}}
	r.create(t, p)
	r.until(t, "missing", "CreateContainerConfigError", func(p *corev1.Pod) bool {
		w := waiting(p)
		return w != nil && w.Reason == "CreateContainerConfigError" && w.Message == `configmap "late" not found`
	})
	_, err := r.client.CoreV1().ConfigMaps("default").Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "late"}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	r.until(t, "missing", "ready", ready)
}

// TestRestartOfAgent shows that pods outlive the agent, that the next one picks them up as they are, and that it ends what
// was deleted meanwhile.
func TestRestartOfAgent(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	stop := r.run(t)
	r.create(t, shellPod("stays", forever))
	p := r.create(t, shellPod("goes", forever))
	before := r.until(t, "stays", "ready", ready)
	r.until(t, "goes", "ready", ready)
	stop()
	if err := r.client.CoreV1().Pods("default").Delete(t.Context(), "goes", metav1.DeleteOptions{GracePeriodSeconds: ptr.To(int64(0))}); err != nil {
		t.Fatal(err)
	}
	r.run(t)
	r.released(t, p)
	after := r.until(t, "stays", "ready", ready)
	if b, a := before.Status.ContainerStatuses[0], after.Status.ContainerStatuses[0]; a.ContainerID != b.ContainerID || a.RestartCount != 0 {
		t.Errorf("the container did not survive: %+v, then %+v", b, a)
	}
	if before.ResourceVersion != after.ResourceVersion {
		t.Errorf("the status was written again though nothing changed:\n%+v\n%+v", before.Status, after.Status)
	}
}

// TestNodeTakenForLost: a node that could not be heard for a while, and was written off, says at its next look that it is there, and
// one whose object was deleted registers again.
func TestNodeTakenForLost(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.run(t)
	nodes := r.client.CoreV1().Nodes()
	// is waits for the node's Ready condition to have a status, and returns the node.
	is := func(status corev1.ConditionStatus) *corev1.Node {
		t.Helper()
		var node *corev1.Node
		if err := wait.PollUntilContextTimeout(t.Context(), 50*time.Millisecond, time.Minute, true, func(ctx context.Context) (ok bool, err error) {
			if node, err = nodes.Get(ctx, nodeName, metav1.GetOptions{}); err != nil {
				return false, nil //nolint:nilerr // it may not be there yet
			}
			return slices.ContainsFunc(node.Status.Conditions, func(c corev1.NodeCondition) bool { return c.Type == corev1.NodeReady && c.Status == status }), nil
		}); err != nil {
			t.Fatalf("Ready is not %s: %v, %+v", status, err, node)
		}
		return node
	}
	node := is(corev1.ConditionTrue)
	for i := range node.Status.Conditions {
		if c := &node.Status.Conditions[i]; c.Type == corev1.NodeReady {
			c.Status, c.Reason, c.Message = corev1.ConditionUnknown, "NodeStatusUnknown", "Kubelet stopped posting node status."
		}
	}
	if _, err := nodes.UpdateStatus(t.Context(), node, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	node = is(corev1.ConditionTrue)
	if err := nodes.Delete(t.Context(), nodeName, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if again := is(corev1.ConditionTrue); again.UID == node.UID || again.Labels[corev1.LabelHostname] != nodeName {
		t.Errorf("it did not register again: %+v", again.ObjectMeta)
	}
}
