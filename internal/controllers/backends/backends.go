// Package backends says which pods stand behind a Service, and on which ports: what the endpoints and the endpointslice
// controller must agree on.
package backends

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/listers/core/v1"

	"canopus/internal/controllers/podstate"
	"canopus/internal/controllers/reconcile"
)

// Counts reports whether pod can be an endpoint at all: it has an address and its containers have not ended for good.
func Counts(pod *corev1.Pod, terminatingToo bool) bool {
	if podstate.Finished(pod) || len(pod.Status.PodIPs) == 0 && pod.Status.PodIP == "" {
		return false
	}
	return terminatingToo || pod.DeletionTimestamp == nil
}

// Address returns pod's first address of the family, "" if it has none.
func Address(pod *corev1.Pod, family corev1.IPFamily) string {
	texts := []string{pod.Status.PodIP}
	for _, ip := range pod.Status.PodIPs {
		texts = append(texts, ip.IP)
	}
	for _, text := range texts {
		if a, err := netip.ParseAddr(text); err == nil && a.Is4() == (family == corev1.IPv4Protocol) {
			return text
		}
	}
	return ""
}

// Headless reports whether svc has no virtual address.
func Headless(svc *corev1.Service) bool { return svc.Spec.ClusterIP == corev1.ClusterIPNone }

// Families returns the address families of svc's endpoints, the primary one first.
func Families(svc *corev1.Service) []corev1.IPFamily {
	if len(svc.Spec.IPFamilies) > 0 {
		return svc.Spec.IPFamilies
	}
	if a, err := netip.ParseAddr(svc.Spec.ClusterIP); err == nil && !a.Is4() {
		return []corev1.IPFamily{corev1.IPv6Protocol}
	}
	return []corev1.IPFamily{corev1.IPv4Protocol}
}

// TargetPort resolves a Service's port in pod. A named port may be another number in every pod, or not be there.
func TargetPort(pod *corev1.Pod, port corev1.ServicePort) (int32, bool) {
	if port.TargetPort.Type == intstr.Int {
		return port.TargetPort.IntVal, true
	}
	containers := slices.Clone(pod.Spec.Containers)
	for _, c := range pod.Spec.InitContainers {
		if c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			containers = append(containers, c)
		}
	}
	for _, c := range containers {
		for _, p := range c.Ports {
			if p.Name == port.TargetPort.StrVal && protocol(p.Protocol) == protocol(port.Protocol) {
				return p.ContainerPort, true
			}
		}
	}
	return 0, false
}

func protocol(p corev1.Protocol) corev1.Protocol {
	if p == "" {
		return corev1.ProtocolTCP
	}
	return p
}

// Hostname returns the name that pod has in the DNS of a headless svc, "" if it asks for none.
func Hostname(pod *corev1.Pod, svc *corev1.Service) string {
	if pod.Spec.Subdomain == svc.Name && svc.Namespace == pod.Namespace {
		return pod.Spec.Hostname
	}
	return ""
}

// Reference points at pod, as an endpoint's target.
func Reference(pod *corev1.Pod) *corev1.ObjectReference {
	return &corev1.ObjectReference{Kind: "Pod", Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID}
}

// Services returns the keys of the Services that a change of a pod concerns: those that select it, or selected it before.
func Services(services v1.ServiceLister, old, pod *corev1.Pod) []types.NamespacedName {
	if old != nil && pod != nil && !matters(old, pod) {
		return nil
	}
	namespace := ""
	var sets []labels.Set
	for _, p := range []*corev1.Pod{old, pod} {
		if p != nil {
			namespace = p.Namespace
			sets = append(sets, p.Labels)
		}
	}
	all, err := services.Services(namespace).List(labels.Everything())
	if err != nil {
		return nil
	}
	var keys []types.NamespacedName
	for _, svc := range all {
		if len(svc.Spec.Selector) == 0 {
			continue
		}
		selector := labels.SelectorFromSet(svc.Spec.Selector)
		if slices.ContainsFunc(sets, func(s labels.Set) bool { return selector.Matches(s) }) {
			keys = append(keys, reconcile.Key(svc))
		}
	}
	return keys
}

// matters reports whether an update of a pod can change an endpoint.
func matters(old, pod *corev1.Pod) bool {
	return old.UID != pod.UID ||
		(old.DeletionTimestamp == nil) != (pod.DeletionTimestamp == nil) ||
		podstate.Ready(old) != podstate.Ready(pod) ||
		podstate.Finished(old) != podstate.Finished(pod) ||
		old.Spec.NodeName != pod.Spec.NodeName ||
		old.Spec.Hostname != pod.Spec.Hostname || old.Spec.Subdomain != pod.Spec.Subdomain ||
		!equality.Semantic.DeepEqual(old.Status.PodIPs, pod.Status.PodIPs) || old.Status.PodIP != pod.Status.PodIP ||
		!equality.Semantic.DeepEqual(old.Labels, pod.Labels)
}

// Triggers remembers when a Service and its pods last changed, to say how long a change took to reach the endpoints.
type Triggers struct {
	Service time.Time
	Pods    map[types.UID]time.Time
}

// Next returns what to remember now, and the time of the earliest change since t; zero if there was none.
func (t Triggers) Next(svc *corev1.Service, pods []*corev1.Pod) (Triggers, time.Time) {
	next := Triggers{Service: svc.CreationTimestamp.Time, Pods: make(map[types.UID]time.Time, len(pods))}
	var first time.Time
	note := func(at time.Time) {
		if first.IsZero() || at.Before(first) {
			first = at
		}
	}
	if next.Service.After(t.Service) {
		note(next.Service)
	}
	for _, p := range pods {
		c := podstate.Condition(p, corev1.PodReady)
		if c == nil {
			continue
		}
		at := c.LastTransitionTime.Time
		next.Pods[p.UID] = at
		if at.After(t.Pods[p.UID]) {
			note(at)
		}
	}
	return next, first
}

// Stamp is a trigger time as the annotation endpoints.kubernetes.io/last-change-trigger-time carries it.
func Stamp(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }

// Selected returns the pods of svc's namespace that it selects.
func Selected(pods v1.PodLister, svc *corev1.Service) ([]*corev1.Pod, error) {
	found, err := pods.Pods(svc.Namespace).List(labels.SelectorFromSet(svc.Spec.Selector))
	if err != nil {
		return nil, fmt.Errorf("list the pods of service %s: %w", reconcile.Key(svc), err)
	}
	return found, nil
}
