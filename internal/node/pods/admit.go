package pods

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/component-helpers/resource"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"

	"canopus/internal/node/crispec"
)

// refusal is why the node does not run a pod that was bound to it. The scheduler binds none that it refuses; who names the
// node in a pod's spec, or is faster than the scheduler's news, may.
type refusal struct{ reason, message string }

// refuse decides whether pod, which is new to the node, fits beside those that it has. Only resources that the node itself
// knows count: what others have added to the Node object they have to guard.
func refuse(pod *corev1.Pod, others []*corev1.Pod, allocatable corev1.ResourceList) *refusal {
	if r := overfill(pod, others, allocatable); r != nil {
		return r
	}
	taken := hostPorts(others...)
	for _, want := range hostPorts(pod) {
		for _, have := range taken {
			if want.conflicts(have) {
				return predicate("NodePorts", "node(s) didn't have free ports for the requested pod ports")
			}
		}
	}
	return nil
}

// misplaced decides whether a pod may be on a node with these labels.
func misplaced(pod *corev1.Pod, node *corev1.Node) *refusal {
	if ok, err := nodeaffinity.GetRequiredNodeAffinity(pod).Match(node); err == nil && ok {
		return nil
	}
	return predicate("NodeAffinity", "node(s) didn't match Pod's node affinity/selector")
}

func predicate(name, why string) *refusal {
	return &refusal{name, fmt.Sprintf("Predicate %s failed: %s", name, why)}
}

// overfill finds a resource of which there is not enough left.
func overfill(pod *corev1.Pod, others []*corev1.Pod, allocatable corev1.ResourceList) *refusal {
	out := func(name corev1.ResourceName, requested, used, capacity int64) *refusal {
		return &refusal{"OutOf" + string(name), fmt.Sprintf("Node didn't have enough resource: %s, requested: %d, used: %d, capacity: %d", name, requested, used, capacity)}
	}
	if most, ok := allocatable[corev1.ResourcePods]; ok && int64(len(others))+1 > most.Value() {
		return out(corev1.ResourcePods, 1, int64(len(others)), most.Value())
	}
	want := resource.PodRequests(pod, resource.PodResourcesOptions{})
	used := corev1.ResourceList{}
	for _, p := range others {
		for name, q := range resource.PodRequests(p, resource.PodResourcesOptions{UseStatusResources: true}) {
			sum := used[name]
			sum.Add(q)
			used[name] = sum
		}
	}
	for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourceEphemeralStorage} {
		if r, u, most := amount(want, name), amount(used, name), amount(allocatable, name); r > 0 && u+r > most {
			return out(name, r, u, most)
		}
	}
	return nil
}

// amount is how much there is of a resource, of CPU in thousandths.
func amount(l corev1.ResourceList, name corev1.ResourceName) int64 {
	q := l[name]
	if name == corev1.ResourceCPU {
		return q.MilliValue()
	}
	return q.Value()
}

// hostPort is a port of the node that a container takes.
type hostPort struct {
	address  string // "": all
	protocol corev1.Protocol
	port     int32
}

func (p hostPort) conflicts(q hostPort) bool {
	return p.port == q.port && p.protocol == q.protocol && (p.address == q.address || p.address == "" || q.address == "")
}

func hostPorts(pods ...*corev1.Pod) []hostPort {
	var out []hostPort
	for _, pod := range pods {
		for _, c := range allContainers(pod) {
			for _, p := range c.Ports {
				if p.HostPort == 0 || isInit(pod, c) && !crispec.Restartable(c) {
					continue
				}
				taken := hostPort{p.HostIP, p.Protocol, p.HostPort}
				if taken.protocol == "" {
					taken.protocol = corev1.ProtocolTCP
				}
				if p.HostIP == "0.0.0.0" || p.HostIP == "::" {
					taken.address = ""
				}
				out = append(out, taken)
			}
		}
	}
	return out
}

func isInit(pod *corev1.Pod, c *corev1.Container) bool {
	for i := range pod.Spec.InitContainers {
		if c == &pod.Spec.InitContainers[i] {
			return true
		}
	}
	return false
}

// admit takes a pod in or refuses it, once. Pods are taken in one after the other, each beside those before it.
func (m *Manager) admit(ctx context.Context, pod *corev1.Pod) (*refusal, error) {
	if r := misplaced(pod, m.cfg.bareNode()); r != nil { // a DaemonSet's pod wants a name only
		node, err := m.cfg.Node(ctx)
		if err != nil {
			return nil, fmt.Errorf("read the labels of the node: %w", err)
		}
		if r := misplaced(pod, node); r != nil {
			return r, nil
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	var others []*corev1.Pod
	for uid, p := range m.pods {
		if uid != pod.UID && m.admitted[uid] && !m.gone[uid] && !terminal(p.Status.Phase) {
			others = append(others, p)
		}
	}
	if r := refuse(pod, others, m.cfg.Allocatable); r != nil {
		return r, nil
	}
	m.admitted[pod.UID] = true
	return nil, nil
}

// bareNode is the node as far as it is known without asking.
func (c *Config) bareNode() *corev1.Node {
	n := &corev1.Node{}
	n.Name = c.NodeName
	return n
}

// admit decides about a pod that the node has not had before. It reports false when it could not yet.
func (w *worker) admit(ctx context.Context) bool {
	if w.admitted || w.gone || w.pod.DeletionTimestamp != nil || w.ending != nil || terminal(w.pod.Status.Phase) {
		return true
	}
	r, err := w.m.admit(ctx, w.pod)
	if err != nil {
		w.m.cfg.Log.Warn("pod not admitted yet", "pod", w.String(), "error", err)
		return false
	}
	w.admitted = true
	if r != nil {
		w.end(w.m.cfg.Clock.Now(), r.reason, "Pod was rejected: "+r.message)
		w.m.event(w.pod, "", corev1.EventTypeWarning, r.reason, r.message)
	}
	return true
}
