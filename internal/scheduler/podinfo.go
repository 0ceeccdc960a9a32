package scheduler

import (
	"maps"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/types"
	schedhelper "k8s.io/component-helpers/scheduling/corev1"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"
)

func quantityMilli(v int64) *resource.Quantity {
	return resource.NewMilliQuantity(v, resource.DecimalSI)
}
func quantity(v int64) *resource.Quantity { return resource.NewQuantity(v, resource.BinarySI) }

// hostPort is a port of the node that a pod claims.
type hostPort struct {
	ip       string // "0.0.0.0": all addresses
	protocol corev1.Protocol
	port     int32
}

// clashes reports whether both cannot be had on one node.
func (h hostPort) clashes(o hostPort) bool {
	return h.port == o.port && h.protocol == o.protocol && (h.ip == o.ip || h.ip == anyAddress || o.ip == anyAddress)
}

const anyAddress = "0.0.0.0"

// podInfo is a pod with everything that rules read computed once. Immutable, the pod included.
type podInfo struct {
	pod       *corev1.Pod
	key       types.NamespacedName
	priority  int32
	asked     resources
	compared  resources // asked, with defaults for what is missing; for scoring
	ports     []hostPort
	terms     podTerms
	required  nodeaffinity.RequiredNodeAffinity
	selects   bool // required is not empty
	preferred *nodeaffinity.PreferredSchedulingTerms
	spread    spreadConstraints
	class     *class // of a pod that waits; kept when it is placed
	claims    []podClaim
	extended  []extendedWant
}

func newPodInfo(pod *corev1.Pod) *podInfo {
	p := &podInfo{
		pod:      pod,
		key:      types.NamespacedName{Namespace: pod.Namespace, Name: pod.Name},
		priority: schedhelper.PodPriority(pod),
		ports:    hostPorts(pod),
		terms:    newPodTerms(pod),
		claims:   podClaims(pod),
	}
	p.asked, p.compared = podRequests(pod)
	if len(p.asked.other) > 0 {
		p.extended = extendedWants(pod)
	}
	return p
}

// newPending adds what only a pod that still needs a node is asked for.
func newPending(pod *corev1.Pod) *podInfo {
	p := newPodInfo(pod)
	p.required = nodeaffinity.GetRequiredNodeAffinity(pod)
	var affinity *corev1.NodeAffinity
	if pod.Spec.Affinity != nil {
		affinity = pod.Spec.Affinity.NodeAffinity
	}
	p.selects = len(pod.Spec.NodeSelector) > 0 || (affinity != nil && affinity.RequiredDuringSchedulingIgnoredDuringExecution != nil)
	if affinity != nil && len(affinity.PreferredDuringSchedulingIgnoredDuringExecution) > 0 {
		// A term that does not parse was refused by validation; one that slipped through is indifferent, not fatal.
		p.preferred, _ = nodeaffinity.NewPreferredSchedulingTerms(affinity.PreferredDuringSchedulingIgnoredDuringExecution)
	}
	p.spread = newSpreadConstraints(pod)
	p.class = &class{info: p}
	return p
}

// confirmed is p, which was decided here, in the state in which the API confirms it; nil when more has changed than its node
// and its labels. Pods get labels with their node: those of the zone and region that it is in.
func (p *podInfo) confirmed(pod *corev1.Pod) *podInfo {
	if p.pod.Generation == 0 || p.pod.Generation != pod.Generation || len(pod.Status.ContainerStatuses) > 0 {
		return nil
	}
	q := *p
	q.pod = pod
	if pod.Spec.Affinity != nil && !maps.Equal(p.pod.Labels, pod.Labels) {
		q.terms = newPodTerms(pod)
	}
	return &q
}

// counts reports whether q, a later state of p, takes from its node what p does: it was made of p's parts.
func (p *podInfo) counts(q *podInfo) bool {
	return p.class != nil && p.class == q.class && (p.pod.DeletionTimestamp == nil) == (q.pod.DeletionTimestamp == nil) &&
		(p.pod.Status.StartTime == nil) == (q.pod.Status.StartTime == nil)
}

// hostPorts lists what pod's containers and sidecars claim of their node.
func hostPorts(pod *corev1.Pod) []hostPort {
	var out []hostPort
	add := func(c *corev1.Container) {
		for _, p := range c.Ports {
			if p.HostPort <= 0 {
				continue
			}
			h := hostPort{ip: p.HostIP, protocol: p.Protocol, port: p.HostPort}
			if h.ip == "" {
				h.ip = anyAddress
			}
			if h.protocol == "" {
				h.protocol = corev1.ProtocolTCP
			}
			out = append(out, h)
		}
	}
	for i := range pod.Spec.InitContainers {
		if c := &pod.Spec.InitContainers[i]; c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			add(c)
		}
	}
	for i := range pod.Spec.Containers {
		add(&pod.Spec.Containers[i])
	}
	return out
}
