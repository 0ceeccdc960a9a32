package endpointslice

import (
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"canopus/internal/controllers/backends"
	"canopus/internal/controllers/podstate"
	"canopus/internal/controllers/slicepack"
)

const managedBy = "endpointslice-controller.k8s.io"

// desired computes the endpoints of svc, grouped: the groups in a fixed order, their endpoints in that of pods. nodes is by name; pods whose node is not in it are left
// out, because their zone is not known: missing says so. A Service that publishes whatever there is has them all the same.
func desired(svc *corev1.Service, pods []*corev1.Pod, nodes map[string]*corev1.Node) (groups []slicepack.Group, missing bool) {
	if svc.Spec.Type == corev1.ServiceTypeExternalName {
		return nil, false
	}
	byKey := map[string]*slicepack.Group{}
	for _, family := range backends.Families(svc) {
		var in *slicepack.Group    // of the pod before,
		var numbers, these []int32 // whose ports were these
		for _, pod := range pods {
			address := backends.Address(pod, family)
			if address == "" || !backends.Counts(pod, true) {
				continue
			}
			node := nodes[pod.Spec.NodeName]
			if node == nil && pod.Spec.NodeName != "" {
				missing = true
				if !svc.Spec.PublishNotReadyAddresses {
					continue
				}
			}
			these = backends.TargetPorts(svc, pod, these[:0])
			if in == nil || !slices.Equal(these, numbers) {
				g := slicepack.Group{Family: discoveryv1.AddressType(family), Ports: ports(svc, these)}
				key := g.Key()
				if byKey[key] == nil {
					byKey[key] = &g
				}
				in, numbers = byKey[key], slices.Clone(these)
			}
			in.Endpoints = append(in.Endpoints, endpoint(svc, pod, node, address))
		}
	}
	for _, key := range slices.Sorted(maps.Keys(byKey)) {
		groups = append(groups, *byKey[key])
	}
	return groups, missing
}

// ports are svc's ports with their numbers in a pod; what the pod does not have is left out.
func ports(svc *corev1.Service, numbers []int32) []discoveryv1.EndpointPort {
	out := []discoveryv1.EndpointPort{}
	for i, p := range svc.Spec.Ports {
		number := numbers[i]
		if number == backends.None {
			continue
		}
		name, protocol := p.Name, p.Protocol
		if protocol == "" {
			protocol = corev1.ProtocolTCP
		}
		out = append(out, discoveryv1.EndpointPort{Name: &name, Port: &number, Protocol: &protocol, AppProtocol: p.AppProtocol})
	}
	return out
}

// endpoint is pod as svc's endpoint. It refers to strings of node, which like all of the cache nobody changes.
func endpoint(svc *corev1.Service, pod *corev1.Pod, node *corev1.Node, address string) discoveryv1.Endpoint {
	serving, terminating := podstate.Ready(pod), pod.DeletionTimestamp != nil
	// Consumers that know only "ready" must not send to a pod that is on its way out.
	ready := svc.Spec.PublishNotReadyAddresses || serving && !terminating
	// Thousands of them are made for each change of one: few and larger allocations.
	parts := &struct {
		address                     [1]string
		ready, serving, terminating bool
	}{[1]string{address}, ready, serving, terminating}
	e := discoveryv1.Endpoint{
		Addresses:  parts.address[:],
		Conditions: discoveryv1.EndpointConditions{Ready: &parts.ready, Serving: &parts.serving, Terminating: &parts.terminating},
		TargetRef:  backends.Reference(pod),
	}
	if node != nil {
		e.NodeName = &node.Name
		if zone := node.Labels[corev1.LabelTopologyZone]; zone != "" {
			e.Zone = &zone
		}
	}
	if hostname := backends.Hostname(pod, svc); hostname != "" {
		e.Hostname = &hostname
	}
	e.Hints = hints(svc, e, ready)
	return e
}

// hints says which zones and nodes a ready endpoint is meant for, by spec.trafficDistribution. The annotation that asks for hints
// by zone overrides it: see zones.go.
func hints(svc *corev1.Service, e discoveryv1.Endpoint, ready bool) *discoveryv1.EndpointHints {
	if svc.Spec.TrafficDistribution == nil || !ready || wantsZones(svc) {
		return nil
	}
	var h discoveryv1.EndpointHints
	switch *svc.Spec.TrafficDistribution {
	case corev1.ServiceTrafficDistributionPreferSameNode:
		if e.NodeName != nil {
			h.ForNodes = []discoveryv1.ForNode{{Name: *e.NodeName}}
		}
	case corev1.ServiceTrafficDistributionPreferSameZone, corev1.ServiceTrafficDistributionPreferClose:
	default:
		return nil
	}
	if e.Zone != nil {
		h.ForZones = []discoveryv1.ForZone{{Name: *e.Zone}}
	}
	if h.ForZones == nil && h.ForNodes == nil {
		return nil
	}
	return &h
}

// sliceLabels are those of svc, and the ones by which slices are found.
func sliceLabels(svc *corev1.Service) map[string]string {
	out := make(map[string]string, len(svc.Labels)+3)
	maps.Copy(out, svc.Labels)
	delete(out, corev1.IsHeadlessService)
	if backends.Headless(svc) {
		out[corev1.IsHeadlessService] = ""
	}
	out[discoveryv1.LabelServiceName] = svc.Name
	out[discoveryv1.LabelManagedBy] = managedBy
	return out
}

func newSlice(svc *corev1.Service, family discoveryv1.AddressType) *discoveryv1.EndpointSlice {
	return &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			GenerateName: svc.Name + "-", Namespace: svc.Namespace, Labels: sliceLabels(svc),
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(svc, corev1.SchemeGroupVersion.WithKind("Service"))},
		},
		AddressType: family, Endpoints: []discoveryv1.Endpoint{}, Ports: []discoveryv1.EndpointPort{},
	}
}

// target is what svc's slices are like. A family without endpoints keeps one empty slice, so that consumers know it is served.
func target(svc *corev1.Service) slicepack.Target {
	t := slicepack.Target{
		New:    func(family discoveryv1.AddressType) *discoveryv1.EndpointSlice { return newSlice(svc, family) },
		Labels: sliceLabels(svc),
	}
	if svc.Spec.Type != corev1.ServiceTypeExternalName {
		for _, family := range backends.Families(svc) {
			t.Keep = append(t.Keep, discoveryv1.AddressType(family))
		}
	}
	return t
}
