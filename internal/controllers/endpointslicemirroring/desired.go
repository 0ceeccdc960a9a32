package endpointslicemirroring

import (
	"maps"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/leaderelection/resourcelock"

	"canopus/internal/controllers/slicepack"
)

const (
	managedBy = "endpointslicemirroring-controller.k8s.io"
	// mostPerSubset bounds what is mirrored of one subset.
	mostPerSubset = 1000
	managedByKey  = "endpoints.kubernetes.io/managed-by"
)

// mirrored reports whether ep is to be mirrored for its Service: it is written by hand, for a Service that selects nothing.
func mirrored(ep *corev1.Endpoints, svc *corev1.Service) bool {
	if ep == nil || svc == nil || ep.DeletionTimestamp != nil || svc.Spec.Selector != nil || svc.Spec.Type == corev1.ServiceTypeExternalName {
		return false
	}
	_, lock := ep.Annotations[resourcelock.LeaderElectionRecordAnnotationKey]
	return !lock && ep.Labels[discoveryv1.LabelSkipMirror] != "true"
}

// desired computes the endpoints that ep lists, and how many of them are too many to be mirrored. Addresses that are no IP addresses
// are left out; the API admits none.
func desired(ep *corev1.Endpoints) (groups []slicepack.Group, skipped int) {
	byKey := map[string]*slicepack.Group{}
	type identity struct {
		group    string
		endpoint slicepack.ID
	}
	seen := map[identity]bool{}
	for _, subset := range ep.Subsets {
		left := mostPerSubset
		ports := portsOf(subset)
		add := func(addresses []corev1.EndpointAddress, ready bool) {
			for _, a := range addresses {
				ip, err := netip.ParseAddr(a.IP)
				if err != nil {
					continue
				}
				g := slicepack.Group{Family: discoveryv1.AddressTypeIPv6, Ports: ports}
				if ip.Is4() {
					g.Family = discoveryv1.AddressTypeIPv4
				}
				e := endpoint(a, ready)
				id := identity{g.Key(), slicepack.Identity(&e)}
				if seen[id] {
					continue // listed twice: the first, a ready one if any, counts
				}
				if left == 0 {
					skipped++
					continue
				}
				seen[id] = true
				left--
				if byKey[g.Key()] == nil {
					byKey[g.Key()] = &g
				}
				byKey[g.Key()].Endpoints = append(byKey[g.Key()].Endpoints, e)
			}
		}
		add(subset.Addresses, true)
		add(subset.NotReadyAddresses, false)
	}
	for _, key := range slices.Sorted(maps.Keys(byKey)) {
		g := byKey[key]
		slices.SortFunc(g.Endpoints, func(a, b discoveryv1.Endpoint) int {
			return slicepack.Compare(&a, &b)
		})
		groups = append(groups, *g)
	}
	return groups, skipped
}

func portsOf(subset corev1.EndpointSubset) []discoveryv1.EndpointPort {
	out := []discoveryv1.EndpointPort{}
	for _, p := range subset.Ports {
		out = append(out, discoveryv1.EndpointPort{Name: &p.Name, Port: &p.Port, Protocol: &p.Protocol, AppProtocol: p.AppProtocol})
	}
	return out
}

func endpoint(a corev1.EndpointAddress, ready bool) discoveryv1.Endpoint {
	e := discoveryv1.Endpoint{
		Addresses: []string{a.IP}, Conditions: discoveryv1.EndpointConditions{Ready: &ready}, TargetRef: a.TargetRef, NodeName: a.NodeName,
	}
	if a.Hostname != "" {
		e.Hostname = &a.Hostname
	}
	return e
}

// target is what the slices of ep are like.
func target(ep *corev1.Endpoints) slicepack.Target {
	labels := make(map[string]string, len(ep.Labels)+2)
	maps.Copy(labels, ep.Labels)
	delete(labels, managedByKey)
	labels[discoveryv1.LabelServiceName] = ep.Name
	labels[discoveryv1.LabelManagedBy] = managedBy
	annotations := make(map[string]string, len(ep.Annotations))
	maps.Copy(annotations, ep.Annotations)
	delete(annotations, corev1.LastAppliedConfigAnnotation)
	delete(annotations, corev1.EndpointsLastChangeTriggerTime)
	return slicepack.Target{Labels: labels, Annotations: annotations, New: func(family discoveryv1.AddressType) *discoveryv1.EndpointSlice {
		return &discoveryv1.EndpointSlice{
			ObjectMeta: metav1.ObjectMeta{
				GenerateName: ep.Name + "-", Namespace: ep.Namespace, Labels: maps.Clone(labels), Annotations: maps.Clone(annotations),
				OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(ep, corev1.SchemeGroupVersion.WithKind("Endpoints"))},
			},
			AddressType: family, Endpoints: []discoveryv1.Endpoint{}, Ports: []discoveryv1.EndpointPort{},
		}
	}}
}
