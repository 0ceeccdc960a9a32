package core_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"canopus/internal/kinds"
	"canopus/internal/kinds/core"
)

var now = time.Unix(1_800_000_000, 0)

func ago(d time.Duration) metav1.Time { return metav1.NewTime(now.Add(-d)) }

func waiting(reason string) corev1.ContainerStatus {
	return corev1.ContainerStatus{State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason}}}
}

func running(ready bool) corev1.ContainerStatus {
	return corev1.ContainerStatus{Ready: ready, State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}}
}

func terminated(t corev1.ContainerStateTerminated) corev1.ContainerStatus {
	return corev1.ContainerStatus{State: corev1.ContainerState{Terminated: &t}}
}

func TestPodStatusColumn(t *testing.T) {
	t.Parallel()
	restarted := running(true)
	restarted.RestartCount = 3
	restarted.LastTerminationState.Terminated = &corev1.ContainerStateTerminated{FinishedAt: ago(2 * time.Minute)}
	for name, tc := range map[string]struct {
		edit func(*corev1.Pod)
		want string // ready status restarts
	}{
		"pending": {func(p *corev1.Pod) { p.Status.Phase = corev1.PodPending }, "0/1 Pending 0"},
		"gated": {func(p *corev1.Pod) {
			p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodScheduled, Reason: corev1.PodReasonSchedulingGated}}
		}, "0/1 SchedulingGated 0"},
		"running": {func(p *corev1.Pod) { p.Status.ContainerStatuses = []corev1.ContainerStatus{running(true)} }, "1/1 Running 0"},
		"crash": {func(p *corev1.Pod) {
			p.Status.ContainerStatuses = []corev1.ContainerStatus{waiting("CrashLoopBackOff")}
		}, "0/1 CrashLoopBackOff 0"},
		"restarts": {func(p *corev1.Pod) { p.Status.ContainerStatuses = []corev1.ContainerStatus{restarted} }, "1/1 Running 3 (2m ago)"},
		"completed": {func(p *corev1.Pod) {
			p.Status.Phase = corev1.PodSucceeded
			p.Status.ContainerStatuses = []corev1.ContainerStatus{terminated(corev1.ContainerStateTerminated{Reason: "Completed"})}
		}, "0/1 Completed 0"},
		"signal": {func(p *corev1.Pod) {
			p.Status.ContainerStatuses = []corev1.ContainerStatus{terminated(corev1.ContainerStateTerminated{Signal: 9})}
		}, "0/1 Signal:9 0"},
		"exit code": {func(p *corev1.Pod) {
			p.Status.ContainerStatuses = []corev1.ContainerStatus{terminated(corev1.ContainerStateTerminated{ExitCode: 3})}
		}, "0/1 ExitCode:3 0"},
		"one done, one runs": {func(p *corev1.Pod) {
			p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: "d"})
			p.Status.ContainerStatuses = []corev1.ContainerStatus{terminated(corev1.ContainerStateTerminated{Reason: "Completed"}), running(true)}
		}, "1/2 NotReady 0"},
		"init": {func(p *corev1.Pod) {
			p.Spec.InitContainers = []corev1.Container{{Name: "a"}, {Name: "b"}}
			p.Status.InitContainerStatuses = []corev1.ContainerStatus{terminated(corev1.ContainerStateTerminated{}), running(false)}
		}, "0/1 Init:1/2 0"},
		"init fails": {func(p *corev1.Pod) {
			p.Spec.InitContainers = []corev1.Container{{Name: "a"}}
			p.Status.InitContainerStatuses = []corev1.ContainerStatus{terminated(corev1.ContainerStateTerminated{ExitCode: 1, Reason: "Error"})}
		}, "0/1 Init:Error 0"},
		"sidecar": {func(p *corev1.Pod) {
			p.Spec.InitContainers = []corev1.Container{{Name: "a", RestartPolicy: ptr.To(corev1.ContainerRestartPolicyAlways)}}
			s := running(true)
			s.Name, s.Started = "a", ptr.To(true)
			p.Status.InitContainerStatuses = []corev1.ContainerStatus{s}
			p.Status.ContainerStatuses = []corev1.ContainerStatus{running(true)}
		}, "2/2 Running 0"},
		"deleted": {func(p *corev1.Pod) {
			p.DeletionTimestamp = ptr.To(ago(0))
			p.Status.ContainerStatuses = []corev1.ContainerStatus{running(true)}
		}, "1/1 Terminating 0"},
		"node lost": {func(p *corev1.Pod) { p.DeletionTimestamp, p.Status.Reason = ptr.To(ago(0)), "NodeLost" }, "0/1 Unknown 0"},
		"evicted":   {func(p *corev1.Pod) { p.Status.Phase, p.Status.Reason = corev1.PodFailed, "Evicted" }, "0/1 Evicted 0"},
	} {
		p := &corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c"}}}, Status: corev1.PodStatus{Phase: corev1.PodRunning}}
		tc.edit(p)
		cells := core.Pod().Cells(p, now)
		if got := fmt.Sprintf("%v %v %v", cells[1], cells[2], cells[3]); got != tc.want {
			t.Errorf("%s: %q, want %q", name, got, tc.want)
		}
	}
}

// rejects runs obj through k's defaults and rules and compares the fields that are refused.
func rejects(t *testing.T, name string, k *kinds.Kind, obj, old kinds.Object, want ...string) {
	t.Helper()
	k.Default(obj)
	errs := k.Validate(obj)
	if old != nil {
		k.Default(old)
		obj.SetResourceVersion("1")
		old.SetResourceVersion("1")
		k.PrepareUpdate(obj, old)
		errs = k.ValidateUpdate(obj, old)
	}
	var got []string
	for _, e := range errs {
		got = append(got, e.Field)
	}
	if strings.Join(got, " ") != strings.Join(want, " ") {
		t.Errorf("%s: refused %q, want %q: %v", name, got, want, errs)
	}
}

func service(edit func(*corev1.ServiceSpec)) *corev1.Service {
	s := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "default"},
		Spec:       corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}}},
	}
	edit(&s.Spec)
	return s
}

func TestServiceRules(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		edit func(*corev1.ServiceSpec)
		want []string
	}{
		"plain":              {func(*corev1.ServiceSpec) {}, nil},
		"type":               {func(s *corev1.ServiceSpec) { s.Type = "x" }, []string{"spec.type"}},
		"no ports":           {func(s *corev1.ServiceSpec) { s.Ports = nil }, []string{"spec.ports"}},
		"headless, no ports": {func(s *corev1.ServiceSpec) { s.Ports, s.ClusterIP = nil, "None" }, nil},
		"unnamed ports":      {func(s *corev1.ServiceSpec) { s.Ports = []corev1.ServicePort{{Port: 1}, {Port: 2, Name: "b"}} }, []string{"spec.ports[0].name"}},
		"same port twice": {func(s *corev1.ServiceSpec) {
			s.Ports = []corev1.ServicePort{{Port: 1, Name: "a"}, {Port: 1, Name: "b"}}
		}, []string{"spec.ports[1]"}},
		"same number, other protocol": {func(s *corev1.ServiceSpec) {
			s.Ports = []corev1.ServicePort{{Port: 53, Name: "a"}, {Port: 53, Name: "b", Protocol: corev1.ProtocolUDP}}
		}, nil},
		"node port on ClusterIP": {func(s *corev1.ServiceSpec) { s.Ports[0].NodePort = 30000 }, []string{"spec.ports[0].nodePort"}},
		"headless NodePort":      {func(s *corev1.ServiceSpec) { s.Type, s.ClusterIP = corev1.ServiceTypeNodePort, "None" }, []string{"spec.clusterIPs[0]"}},
		"cluster ip":             {func(s *corev1.ServiceSpec) { s.ClusterIP = "x" }, []string{"spec.clusterIPs[0]"}},
		"external name":          {func(s *corev1.ServiceSpec) { s.Type = corev1.ServiceTypeExternalName }, []string{"spec.externalName"}},
		"external ip":            {func(s *corev1.ServiceSpec) { s.ExternalIPs = []string{"127.0.0.1"} }, []string{"spec.externalIPs[0]"}},
		"affinity":               {func(s *corev1.ServiceSpec) { s.SessionAffinity = "x" }, []string{"spec.sessionAffinity"}},
		"affinity seconds": {func(s *corev1.ServiceSpec) {
			s.SessionAffinity = corev1.ServiceAffinityClientIP
			s.SessionAffinityConfig = &corev1.SessionAffinityConfig{ClientIP: &corev1.ClientIPConfig{TimeoutSeconds: ptr.To(int32(90000))}}
		}, []string{"spec.sessionAffinityConfig.clientIP.timeoutSeconds"}},
		"external policy inside": {func(s *corev1.ServiceSpec) { s.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal }, []string{"spec.externalTrafficPolicy"}},
		"two of one family":      {func(s *corev1.ServiceSpec) { s.ClusterIPs = []string{"10.96.0.1", "10.96.0.2"} }, []string{"spec.clusterIPs"}},
	} {
		rejects(t, name, core.Service(), service(tc.edit), nil, tc.want...)
	}
	had := func(s *corev1.ServiceSpec) { s.ClusterIP = "10.96.0.9" }
	rejects(t, "address kept", core.Service(), service(func(*corev1.ServiceSpec) {}), service(had))
	rejects(t, "address changed", core.Service(), service(func(s *corev1.ServiceSpec) { s.ClusterIP = "10.96.0.8" }), service(had), "spec.clusterIPs[0]")
}

func TestServiceUpdateKeepsNodePorts(t *testing.T) {
	t.Parallel()
	old := service(func(s *corev1.ServiceSpec) { s.Type, s.Ports[0].NodePort = corev1.ServiceTypeNodePort, 30080 })
	obj := service(func(s *corev1.ServiceSpec) { s.Type = corev1.ServiceTypeNodePort })
	rejects(t, "node port left out", core.Service(), obj, old)
	if obj.Spec.Ports[0].NodePort != 30080 {
		t.Errorf("node port %d", obj.Spec.Ports[0].NodePort)
	}
	obj = old.DeepCopy()
	obj.Spec.Type = corev1.ServiceTypeClusterIP
	rejects(t, "back to ClusterIP", core.Service(), obj, old)
	if obj.Spec.Ports[0].NodePort != 0 || obj.Spec.ExternalTrafficPolicy != "" {
		t.Errorf("left over: %+v", obj.Spec)
	}
}

func TestSecretAndConfigMapRules(t *testing.T) {
	t.Parallel()
	meta := metav1.ObjectMeta{Name: "a", Namespace: "b"}
	frozen := ptr.To(true)
	big := make([]byte, 1<<20+1)
	rejects(t, "tls", core.Secret(), &corev1.Secret{ObjectMeta: meta, Type: corev1.SecretTypeTLS}, nil, "data[tls.crt]", "data[tls.key]")
	rejects(t, "key", core.Secret(), &corev1.Secret{ObjectMeta: meta, Data: map[string][]byte{"a/b": nil}}, nil, "data[a/b]")
	rejects(t, "size", core.Secret(), &corev1.Secret{ObjectMeta: meta, Data: map[string][]byte{"a": big}}, nil, "data")
	rejects(t, "type", core.Secret(), &corev1.Secret{ObjectMeta: meta, Type: "x"}, &corev1.Secret{ObjectMeta: meta}, "type")
	rejects(t, "frozen", core.Secret(), &corev1.Secret{ObjectMeta: meta, Immutable: frozen, Data: map[string][]byte{"a": nil}}, &corev1.Secret{ObjectMeta: meta, Immutable: frozen}, "data")
	rejects(t, "thawed", core.ConfigMap(), &corev1.ConfigMap{ObjectMeta: meta}, &corev1.ConfigMap{ObjectMeta: meta, Immutable: frozen}, "immutable")
	rejects(t, "both", core.ConfigMap(), &corev1.ConfigMap{ObjectMeta: meta, Data: map[string]string{"a": ""}, BinaryData: map[string][]byte{"a": nil}}, nil, "data[a]")

	s := &corev1.Secret{StringData: map[string]string{"a": "b"}}
	core.Secret().Default(s)
	if string(s.Data["a"]) != "b" || s.StringData != nil || s.Type != corev1.SecretTypeOpaque {
		t.Errorf("defaulted to %+v", s)
	}
}

func TestNamespace(t *testing.T) {
	t.Parallel()
	k := core.Namespace()
	n := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "team"}}
	k.Default(n)
	k.PrepareCreate(n)
	if len(n.Spec.Finalizers) != 1 || n.Spec.Finalizers[0] != corev1.FinalizerKubernetes || n.Status.Phase != corev1.NamespaceActive || n.Labels[corev1.LabelMetadataName] != "team" {
		t.Errorf("created %+v", n)
	}
	rejects(t, "dots", k, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "a.b"}}, nil, "metadata.name")
	obj := n.DeepCopy()
	obj.Spec.Finalizers = nil
	k.PrepareUpdate(obj, n)
	if len(obj.Spec.Finalizers) != 1 {
		t.Error("an ordinary update removed the finalizer")
	}
	k.Subresource("finalize").PrepareUpdate(obj, n)
}

func TestNode(t *testing.T) {
	t.Parallel()
	n := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: "n", Labels: map[string]string{"node-role.kubernetes.io/worker": "", "node-role.kubernetes.io/control-plane": ""}, CreationTimestamp: ago(time.Hour)},
		Spec:       corev1.NodeSpec{Unschedulable: true},
		Status:     corev1.NodeStatus{Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}},
	}
	cells := core.Node().Cells(n, now)
	if got := fmt.Sprint(cells[:4]); got != "[n Ready,SchedulingDisabled control-plane,worker 60m]" {
		t.Error(got)
	}
	taint := corev1.Taint{Key: "a", Effect: corev1.TaintEffectNoSchedule}
	rejects(t, "taint twice", core.Node(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n"}, Spec: corev1.NodeSpec{Taints: []corev1.Taint{taint, taint}}}, nil, "spec.taints[1]")
	rejects(t, "range changed", core.Node(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n"}, Spec: corev1.NodeSpec{PodCIDR: "10.1.0.0/24"}},
		&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n"}, Spec: corev1.NodeSpec{PodCIDR: "10.2.0.0/24"}}, "spec.podCIDRs")
}

func TestEventCells(t *testing.T) {
	t.Parallel()
	e := &corev1.Event{
		InvolvedObject: corev1.ObjectReference{Kind: "Pod", Name: "web"}, Reason: "Started", Message: " up\n", Type: "Normal",
		EventTime: metav1.NewMicroTime(now.Add(-90 * time.Second)), ReportingController: "kubelet", ReportingInstance: "n1",
	}
	want := "[90s Normal Started pod/web  kubelet, n1 up 90s 1 ]"
	if got := fmt.Sprint(core.Event().Cells(e, now)); got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestServiceCells(t *testing.T) {
	t.Parallel()
	s := service(func(s *corev1.ServiceSpec) {
		s.Type, s.ClusterIPs, s.Ports[0].NodePort = corev1.ServiceTypeLoadBalancer, []string{"10.96.0.7"}, 30001
		s.Selector = map[string]string{"b": "c", "a": "b"}
	})
	core.Service().Default(s)
	want := "[web LoadBalancer 10.96.0.7 <pending> 80:30001/TCP <unknown> a=b,b=c]"
	if got := fmt.Sprint(core.Service().Cells(s, now)); got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
