package pods

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

// asking is a pod that requests an amount of a resource and takes a port of the node.
func asking(what corev1.ResourceName, amount string, ports ...corev1.ContainerPort) *corev1.Pod {
	c := corev1.Container{Name: "c", Ports: ports}
	if amount != "" {
		c.Resources.Requests = corev1.ResourceList{what: resource.MustParse(amount)}
	}
	return &corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{c}}}
}

func TestRefuse(t *testing.T) {
	t.Parallel()
	port := func(n int32, ip string, p corev1.Protocol) corev1.ContainerPort {
		return corev1.ContainerPort{HostPort: n, HostIP: ip, Protocol: p}
	}
	sidecar := asking("", "")
	sidecar.Spec.InitContainers = []corev1.Container{{Name: "s", RestartPolicy: ptr.To(corev1.ContainerRestartPolicyAlways), Ports: []corev1.ContainerPort{port(80, "", "")}}}
	early := asking("", "")
	early.Spec.InitContainers = []corev1.Container{{Name: "i", Ports: []corev1.ContainerPort{port(80, "", "")}}}
	allocatable := corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("2"), corev1.ResourceMemory: resource.MustParse("1Gi"), corev1.ResourcePods: resource.MustParse("3")}
	for name, c := range map[string]struct {
		pod    *corev1.Pod
		others []*corev1.Pod
		reason string
		want   string // message
	}{
		"alone":           {asking(corev1.ResourceCPU, "2"), nil, "", ""},
		"just fits":       {asking(corev1.ResourceCPU, "500m"), []*corev1.Pod{asking(corev1.ResourceCPU, "1500m")}, "", ""},
		"too much cpu":    {asking(corev1.ResourceCPU, "501m"), []*corev1.Pod{asking(corev1.ResourceCPU, "1500m")}, "OutOfcpu", "Node didn't have enough resource: cpu, requested: 501, used: 1500, capacity: 2000"},
		"too much memory": {asking(corev1.ResourceMemory, "2Gi"), nil, "OutOfmemory", "Node didn't have enough resource: memory, requested: 2147483648, used: 0, capacity: 1073741824"},
		"asks for nothing on a node that is full": {
			asking("", ""), []*corev1.Pod{asking(corev1.ResourceCPU, "3")}, "", "",
		},
		"too many pods":                {asking("", ""), []*corev1.Pod{asking("", ""), asking("", ""), asking("", "")}, "OutOfpods", "Node didn't have enough resource: pods, requested: 1, used: 3, capacity: 3"},
		"a resource of someone else":   {asking("vendor.test/card", "9"), nil, "", ""},
		"a port that is free":          {asking("", "", port(80, "", "")), []*corev1.Pod{asking("", "", port(81, "", ""))}, "", ""},
		"a port that is taken":         {asking("", "", port(80, "", corev1.ProtocolTCP)), []*corev1.Pod{asking("", "", port(80, "", ""))}, "NodePorts", portTaken},
		"by another protocol":          {asking("", "", port(80, "", corev1.ProtocolUDP)), []*corev1.Pod{asking("", "", port(80, "", ""))}, "", ""},
		"at another address":           {asking("", "", port(80, "10.0.0.1", "")), []*corev1.Pod{asking("", "", port(80, "10.0.0.2", ""))}, "", ""},
		"at the same address":          {asking("", "", port(80, "10.0.0.1", "")), []*corev1.Pod{asking("", "", port(80, "10.0.0.1", ""))}, "NodePorts", portTaken},
		"at all addresses":             {asking("", "", port(80, "0.0.0.0", "")), []*corev1.Pod{asking("", "", port(80, "10.0.0.2", ""))}, "NodePorts", portTaken},
		"where all addresses are":      {asking("", "", port(80, "10.0.0.2", "")), []*corev1.Pod{asking("", "", port(80, "", ""))}, "NodePorts", portTaken},
		"by a sidecar":                 {asking("", "", port(80, "", "")), []*corev1.Pod{sidecar}, "NodePorts", portTaken},
		"by an init container":         {asking("", "", port(80, "", "")), []*corev1.Pod{early}, "", ""},
		"container ports do not count": {asking("", "", corev1.ContainerPort{ContainerPort: 80}), []*corev1.Pod{asking("", "", corev1.ContainerPort{ContainerPort: 80})}, "", ""},
	} {
		got := refuse(c.pod, c.others, allocatable)
		if got == nil {
			got = &refusal{}
		}
		if got.reason != c.reason || got.message != c.want {
			t.Errorf("%s: %+v, want %s: %s", name, *got, c.reason, c.want)
		}
	}
}

const portTaken = "Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports"

func TestMisplaced(t *testing.T) {
	t.Parallel()
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1", Labels: map[string]string{"disk": "fast"}}}
	named := func(name string) *corev1.Affinity {
		return &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{
			NodeSelectorTerms: []corev1.NodeSelectorTerm{{MatchFields: []corev1.NodeSelectorRequirement{
				{Key: "metadata.name", Operator: corev1.NodeSelectorOpIn, Values: []string{name}}}}}}}}
	}
	for name, c := range map[string]struct {
		spec corev1.PodSpec
		want bool
	}{
		"anywhere":       {corev1.PodSpec{}, false},
		"label":          {corev1.PodSpec{NodeSelector: map[string]string{"disk": "fast"}}, false},
		"another label":  {corev1.PodSpec{NodeSelector: map[string]string{"disk": "slow"}}, true},
		"this node":      {corev1.PodSpec{Affinity: named("n1")}, false},
		"another node":   {corev1.PodSpec{Affinity: named("n2")}, true},
		"name and label": {corev1.PodSpec{Affinity: named("n1"), NodeSelector: map[string]string{"disk": "slow"}}, true},
	} {
		got := misplaced(&corev1.Pod{Spec: c.spec}, node)
		if (got != nil) != c.want || got != nil && got.reason != "NodeAffinity" {
			t.Errorf("%s: %+v, want refusal: %v", name, got, c.want)
		}
	}
}

// TestStatusOfRefused: a pod that was refused has failed, for that reason, whatever it would have run.
func TestStatusOfRefused(t *testing.T) {
	t.Parallel()
	w := given(corev1.RestartPolicyAlways, "c")
	w.Ending = &Ending{Reason: "NodePorts", Message: "Pod was rejected: no", Failed: true}
	st := Status(w.Facts)
	if st.Phase != corev1.PodFailed || st.Reason != "NodePorts" || st.Message != "Pod was rejected: no" {
		t.Errorf("%s %s: %s", st.Phase, st.Reason, st.Message)
	}
	if a := Plan(w.Facts); a.CreateSandbox || len(a.Start) > 0 || !a.TearDown {
		t.Errorf("plan %+v", a)
	}
}
