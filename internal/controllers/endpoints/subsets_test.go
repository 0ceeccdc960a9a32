package endpoints

import (
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
)

func service(target intstr.IntOrString) *corev1.Service {
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "default", Labels: map[string]string{"team": "a"}},
		Spec:       corev1.ServiceSpec{ClusterIP: "10.96.0.7", Ports: []corev1.ServicePort{{Name: "http", Port: 80, TargetPort: target}}},
	}
}

// pod has a port named http of the given number, none if that is 0.
func pod(i int, port int32, ready bool) *corev1.Pod {
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint("p", i), Namespace: "default", UID: types.UID(fmt.Sprint("u", i))},
		Spec:       corev1.PodSpec{NodeName: "n", Containers: []corev1.Container{{Name: "c"}}},
		Status:     corev1.PodStatus{Phase: corev1.PodRunning, PodIP: fmt.Sprintf("10.244.%d.%d", i/250, i%250+1)},
	}
	if port != 0 {
		p.Spec.Containers[0].Ports = []corev1.ContainerPort{{Name: "http", ContainerPort: port, Protocol: corev1.ProtocolTCP}}
	}
	if ready {
		p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
	}
	return p
}

// told is a subset per word: port, ready and not ready pods.
func told(subsets []corev1.EndpointSubset) string {
	var out []string
	for _, s := range subsets {
		text := ""
		for _, p := range s.Ports {
			text += fmt.Sprint(p.Port)
		}
		for _, a := range s.Addresses {
			text += "+" + a.TargetRef.Name
		}
		for _, a := range s.NotReadyAddresses {
			text += "-" + a.TargetRef.Name
		}
		out = append(out, text)
	}
	return fmt.Sprint(out)
}

func TestSubsets(t *testing.T) {
	t.Parallel()
	named := []*corev1.Pod{pod(1, 8080, true), pod(2, 9090, true), pod(3, 0, true), pod(4, 8080, false), pod(5, 9090, true)}
	for _, tc := range []struct {
		name    string
		target  intstr.IntOrString
		publish bool
		want    string
	}{
		{"by number: all pods together", intstr.FromInt32(80), false, "[80+p1+p2+p3+p5-p4]"},
		{"by name: pods with the same number together, those without it left out", intstr.FromString("http"), false, "[8080+p1-p4 9090+p2+p5]"},
		{"not ready, published", intstr.FromString("http"), true, "[8080+p1+p4 9090+p2+p5]"},
		{"a name that none has", intstr.FromString("grpc"), false, "[]"},
	} {
		svc := service(tc.target)
		svc.Spec.PublishNotReadyAddresses = tc.publish
		if got := told(subsets(svc, named)); got != tc.want {
			t.Errorf("%s: %s, want %s", tc.name, got, tc.want)
		}
	}
}

func TestWanted(t *testing.T) {
	t.Parallel()
	svc := service(intstr.FromInt32(80))
	var pods []*corev1.Pod
	for i := range 1100 {
		pods = append(pods, pod(i, 0, i%11 != 0)) // a hundred are not ready
	}
	first := wanted(svc, pods, nil, "now")
	if s := first.Subsets[0]; len(s.Addresses) != 1000 || len(s.NotReadyAddresses) != 0 || first.Annotations[corev1.EndpointsOverCapacity] != "truncated" ||
		first.Annotations[corev1.EndpointsLastChangeTriggerTime] != "now" || first.Labels["team"] != "a" {
		t.Errorf("%d ready and %d other addresses, annotations %v, labels %v", len(s.Addresses), len(s.NotReadyAddresses), first.Annotations, first.Labels)
	}
	if again := wanted(svc, pods, first, "later"); again != nil {
		t.Errorf("what is right is written again: %v", again.Annotations)
	}
	fewer := wanted(svc, pods[:20], first, "later")
	if s := fewer.Subsets[0]; len(s.Addresses) != 18 || len(s.NotReadyAddresses) != 2 || fewer.Annotations[corev1.EndpointsOverCapacity] != "" {
		t.Errorf("%d ready and %d other addresses, annotations %v", len(s.Addresses), len(s.NotReadyAddresses), fewer.Annotations)
	}
}

func TestEveryDifferenceCounts(t *testing.T) {
	t.Parallel()
	node, app, other := "n1", "http", "n2"
	full := corev1.EndpointSubset{
		Addresses:         []corev1.EndpointAddress{{IP: "10.0.0.1", Hostname: "a", NodeName: &node, TargetRef: &corev1.ObjectReference{UID: "1"}}},
		NotReadyAddresses: []corev1.EndpointAddress{{IP: "10.0.0.2"}},
		Ports:             []corev1.EndpointPort{{Name: "x", Port: 1, Protocol: corev1.ProtocolTCP, AppProtocol: &app}},
	}
	if !sameSubset(full, *full.DeepCopy()) {
		t.Error("a copy differs")
	}
	for i, change := range []func(*corev1.EndpointSubset){
		func(s *corev1.EndpointSubset) { s.Addresses[0].IP = "10.0.0.3" },
		func(s *corev1.EndpointSubset) { s.Addresses[0].Hostname = "" },
		func(s *corev1.EndpointSubset) { s.Addresses[0].NodeName = &other },
		func(s *corev1.EndpointSubset) { s.Addresses[0].NodeName = nil },
		func(s *corev1.EndpointSubset) { s.Addresses[0].TargetRef.UID = "2" },
		func(s *corev1.EndpointSubset) { s.Addresses, s.NotReadyAddresses = s.NotReadyAddresses, s.Addresses },
		func(s *corev1.EndpointSubset) { s.NotReadyAddresses = nil },
		func(s *corev1.EndpointSubset) { s.Ports[0].Name = "" },
		func(s *corev1.EndpointSubset) { s.Ports[0].Port = 2 },
		func(s *corev1.EndpointSubset) { s.Ports[0].Protocol = corev1.ProtocolUDP },
		func(s *corev1.EndpointSubset) { s.Ports[0].AppProtocol = nil },
	} {
		changed := full.DeepCopy()
		change(changed)
		if sameSubset(full, *changed) {
			t.Errorf("change %d is not seen", i)
		}
	}
}
