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
	"k8s.io/client-go/tools/cache"

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
	is := func(text string) bool {
		a, err := netip.ParseAddr(text)
		return err == nil && a.Is4() == (family == corev1.IPv4Protocol)
	}
	if is(pod.Status.PodIP) {
		return pod.Status.PodIP
	}
	for i := range pod.Status.PodIPs {
		if is(pod.Status.PodIPs[i].IP) {
			return pod.Status.PodIPs[i].IP
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
	for i := range pod.Spec.Containers {
		if number, ok := portOf(&pod.Spec.Containers[i], port); ok {
			return number, true
		}
	}
	for i := range pod.Spec.InitContainers {
		c := &pod.Spec.InitContainers[i]
		if c.RestartPolicy == nil || *c.RestartPolicy != corev1.ContainerRestartPolicyAlways {
			continue
		}
		if number, ok := portOf(c, port); ok {
			return number, true
		}
	}
	return 0, false
}

// None stands for a port that a pod does not have.
const None int32 = -1

// TargetPorts resolves all of svc's ports in pod, in their order, into a slice that it appends to. Pods of one template have the same.
func TargetPorts(svc *corev1.Service, pod *corev1.Pod, into []int32) []int32 {
	for _, p := range svc.Spec.Ports {
		number, ok := TargetPort(pod, p)
		if !ok {
			number = None
		}
		into = append(into, number)
	}
	return into
}

// portOf finds a named target port among those of a container.
func portOf(c *corev1.Container, port corev1.ServicePort) (int32, bool) {
	for i := range c.Ports {
		p := &c.Ports[i]
		if p.Name == port.TargetPort.StrVal && protocol(p.Protocol) == protocol(port.Protocol) {
			return p.ContainerPort, true
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
		if len(svc.Spec.Selector) > 0 && slices.ContainsFunc(sets, func(s labels.Set) bool { return selects(svc, s) }) {
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

// Since returns the time of the earliest change since t; zero if there was none.
func (t Triggers) Since(svc *corev1.Service, pods []*corev1.Pod) time.Time {
	var first time.Time
	note := func(at time.Time) {
		if first.IsZero() || at.Before(first) {
			first = at
		}
	}
	if svc.CreationTimestamp.After(t.Service) {
		note(svc.CreationTimestamp.Time)
	}
	for _, p := range pods {
		if c := podstate.Condition(p, corev1.PodReady); c != nil && c.LastTransitionTime.After(t.Pods[p.UID]) {
			note(c.LastTransitionTime.Time)
		}
	}
	return first
}

// Noted returns t with svc and pods as they are now. It takes over what t holds: t is of no use afterwards.
func (t Triggers) Noted(svc *corev1.Service, pods []*corev1.Pod) Triggers {
	t.Service = svc.CreationTimestamp.Time
	if t.Pods == nil {
		t.Pods = make(map[types.UID]time.Time, len(pods))
	}
	there := 0
	for _, p := range pods {
		c := podstate.Condition(p, corev1.PodReady)
		if c == nil {
			continue
		}
		there++
		if was, known := t.Pods[p.UID]; !known || !was.Equal(c.LastTransitionTime.Time) {
			t.Pods[p.UID] = c.LastTransitionTime.Time
		}
	}
	if there == len(t.Pods) {
		return t
	}
	left := make(map[types.UID]time.Time, there)
	for _, p := range pods {
		if podstate.Condition(p, corev1.PodReady) != nil {
			left[p.UID] = t.Pods[p.UID]
		}
	}
	t.Pods = left
	return t
}

// Stamp is a trigger time as the annotation endpoints.kubernetes.io/last-change-trigger-time carries it.
func Stamp(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }

// selects reports whether svc's selector, which is not empty, matches a pod with these labels.
func selects(svc *corev1.Service, pod labels.Set) bool {
	for key, value := range svc.Spec.Selector {
		if got, has := pod[key]; !has || got != value {
			return false
		}
	}
	return true
}

// byLabel is an index of pods by each of their labels: a Service must not cost a look at every pod of its namespace.
const byLabel = "canopus/label"

// Index prepares pods for Selected.
func Index(pods cache.SharedIndexInformer) error {
	if err := reconcile.Index(pods, cache.NamespaceIndex, cache.MetaNamespaceIndexFunc); err != nil {
		return err
	}
	return reconcile.Index(pods, byLabel, podLabels)
}

func podLabels(obj any) ([]string, error) {
	p, ok := obj.(*corev1.Pod)
	if !ok {
		return nil, nil
	}
	values := make([]string, 0, len(p.Labels))
	for key, value := range p.Labels {
		values = append(values, labelled(p.Namespace, key, value))
	}
	return values, nil
}

func labelled(namespace, key, value string) string { return namespace + "/" + key + "=" + value }

// Selected returns the pods of svc's namespace that it selects, all of them if its selector is empty.
func Selected(pods cache.SharedIndexInformer, svc *corev1.Service) ([]*corev1.Pod, error) {
	if len(svc.Spec.Selector) == 0 {
		return reconcile.Indexed[*corev1.Pod](pods, cache.NamespaceIndex, svc.Namespace)
	}
	var fewest []*corev1.Pod
	for key, value := range svc.Spec.Selector {
		found, err := reconcile.Indexed[*corev1.Pod](pods, byLabel, labelled(svc.Namespace, key, value))
		if err != nil {
			return nil, fmt.Errorf("list the pods of service %s: %w", reconcile.Key(svc), err)
		}
		if len(found) == 0 {
			return nil, nil
		}
		if fewest == nil || len(found) < len(fewest) {
			fewest = found
		}
	}
	return slices.DeleteFunc(fewest, func(p *corev1.Pod) bool { return !selects(svc, p.Labels) }), nil
}
