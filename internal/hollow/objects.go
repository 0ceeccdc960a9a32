package hollow

import (
	"fmt"
	"net/netip"
	"runtime"
	"strconv"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// object is the Node as its agent would register it.
func (n *Nodes) object(node *node) *corev1.Node {
	labels := map[string]string{
		"node.canopus.io/hollow": "true",
		corev1.LabelHostname:     node.name, corev1.LabelOSStable: runtime.GOOS, corev1.LabelArchStable: runtime.GOARCH,
	}
	if n.Zones > 0 {
		labels[corev1.LabelTopologyRegion] = "region"
		labels[corev1.LabelTopologyZone] = "zone-" + strconv.Itoa(node.index%n.Zones)
	}
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: node.name, Labels: labels},
		Status: corev1.NodeStatus{
			Capacity: n.Capacity, Allocatable: n.Capacity, Conditions: conditions(n.Clock.Now()),
			Addresses: []corev1.NodeAddress{
				{Type: corev1.NodeInternalIP, Address: address(node.index)}, {Type: corev1.NodeHostName, Address: node.name},
			},
			// The discard port: whoever asks a hollow node for logs must not reach the agent of a real one on this machine.
			DaemonEndpoints: corev1.NodeDaemonEndpoints{KubeletEndpoint: corev1.DaemonEndpoint{Port: 9}},
			NodeInfo: corev1.NodeSystemInfo{
				OperatingSystem: runtime.GOOS, Architecture: runtime.GOARCH, KubeletVersion: n.Version,
				ContainerRuntimeVersion: "hollow://1", OSImage: "hollow",
			},
		},
	}
}

func conditions(now time.Time) []corev1.NodeCondition {
	at := metav1.NewTime(now)
	of := func(t corev1.NodeConditionType, s corev1.ConditionStatus, reason, message string) corev1.NodeCondition {
		return corev1.NodeCondition{Type: t, Status: s, Reason: reason, Message: message, LastHeartbeatTime: at, LastTransitionTime: at}
	}
	return []corev1.NodeCondition{
		of(corev1.NodeMemoryPressure, corev1.ConditionFalse, "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
		of(corev1.NodeDiskPressure, corev1.ConditionFalse, "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
		of(corev1.NodePIDPressure, corev1.ConditionFalse, "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
		of(corev1.NodeReady, corev1.ConditionTrue, "KubeletReady", "kubelet is posting ready status"),
	}
}

// address is one of loopback's, so that nothing sent to a hollow node leaves this machine.
func address(index int) string {
	return netip.AddrFrom4([4]byte{127, 64 + byte(index>>16), byte(index >> 8), byte(index)}).String()
}

// podIP is an address that no other hollow pod has at the same time, in the range for carriers (RFC 6598).
func podIP(node, pod int) string {
	n := uint32(node)<<8 | uint32(pod%254+1)
	return netip.AddrFrom4([4]byte{100, 64 | byte(n>>16)&63, byte(n >> 8), byte(n)}).String()
}

func newLease(node *node) *coordinationv1.Lease {
	seconds := int32(leaseSeconds)
	return &coordinationv1.Lease{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: corev1.NamespaceNodeLease, Name: node.name,
			OwnerReferences: []metav1.OwnerReference{{APIVersion: "v1", Kind: "Node", Name: node.name, UID: node.uid}},
		},
		Spec: coordinationv1.LeaseSpec{HolderIdentity: &node.name, LeaseDurationSeconds: &seconds},
	}
}

func finished(p *corev1.Pod) bool {
	return p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed
}

func ready(p *corev1.Pod) bool {
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

// remember notes of a pod what its reports need. One that was running in an earlier life of the node still is.
func remember(object *corev1.Pod, ip string, now time.Time) *pod {
	p := &pod{
		namespace: object.Namespace, name: object.Name, uid: object.UID, ip: ip, since: now,
		endless: object.Spec.RestartPolicy == corev1.RestartPolicyAlways || object.Spec.RestartPolicy == "",
	}
	for _, c := range object.Spec.InitContainers {
		p.init = append(p.init, container{c.Name, c.Image, c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways})
	}
	for _, c := range object.Spec.Containers {
		p.main = append(p.main, container{name: c.Name, image: c.Image})
	}
	if start := object.Status.StartTime; start != nil {
		p.begun, p.since = true, start.Time
	}
	switch {
	case finished(object):
		p.stage = succeeded
	case ready(object):
		p.stage = running
	default:
		p.since = now
	}
	return p
}

// status is what a node agent reports of a pod that is running, or has ended well.
func status(node *node, p *pod, to stage, now time.Time) corev1.PodStatus {
	at := metav1.NewTime(now)
	phase, ready, reason := corev1.PodRunning, corev1.ConditionTrue, ""
	if to == succeeded {
		phase, ready, reason = corev1.PodSucceeded, corev1.ConditionFalse, "PodCompleted"
	}
	s := corev1.PodStatus{
		Phase: phase, HostIP: address(node.index), HostIPs: []corev1.HostIP{{IP: address(node.index)}},
		PodIP: p.ip, PodIPs: []corev1.PodIP{{IP: p.ip}},
		Conditions: []corev1.PodCondition{
			{Type: corev1.PodReadyToStartContainers, Status: ready, LastTransitionTime: at},
			{Type: corev1.PodInitialized, Status: corev1.ConditionTrue, Reason: reason, LastTransitionTime: at},
			{Type: corev1.PodReady, Status: ready, Reason: reason, LastTransitionTime: at},
			{Type: corev1.ContainersReady, Status: ready, Reason: reason, LastTransitionTime: at},
		},
	}
	if !p.begun {
		s.StartTime = &at
	}
	for _, c := range p.init {
		init := containerStatus(p, c, c.sidecar && to == running, at)
		init.Ready = true
		s.InitContainerStatuses = append(s.InitContainerStatuses, init)
	}
	for _, c := range p.main {
		s.ContainerStatuses = append(s.ContainerStatuses, containerStatus(p, c, to == running, at))
	}
	return s
}

func containerStatus(p *pod, c container, runs bool, at metav1.Time) corev1.ContainerStatus {
	s := corev1.ContainerStatus{
		Name: c.name, Image: c.image, ImageID: c.image, ContainerID: fmt.Sprintf("hollow://%s/%s", p.uid, c.name), Ready: runs, Started: &runs,
	}
	if runs {
		s.State.Running = &corev1.ContainerStateRunning{StartedAt: at}
	} else {
		s.State.Terminated = &corev1.ContainerStateTerminated{Reason: "Completed", FinishedAt: at, StartedAt: metav1.NewTime(p.since), ContainerID: s.ContainerID}
	}
	return s
}
