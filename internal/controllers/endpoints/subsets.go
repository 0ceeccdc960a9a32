package endpoints

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"canopus/internal/controllers/backends"
	"canopus/internal/controllers/podstate"
)

const (
	// mostAddresses bounds an Endpoints object; beyond it only EndpointSlices tell the whole.
	mostAddresses = 1000
	managedByKey  = "endpoints.kubernetes.io/managed-by"
	managedBy     = "endpoint-controller"
	truncated     = "truncated"
)

// subsets computes the addresses of svc in the canonical form: pods with the same ports together, all in a fixed order.
func subsets(svc *corev1.Service, pods []*corev1.Pod) []corev1.EndpointSubset {
	family := backends.Families(svc)[0]
	byPorts := map[string]*corev1.EndpointSubset{}
	var s *corev1.EndpointSubset // of the pod before,
	var numbers, these []int32   // whose ports were these
	for _, pod := range pods {
		ip := backends.Address(pod, family)
		if ip == "" || !backends.Counts(pod, svc.Spec.PublishNotReadyAddresses) {
			continue
		}
		these = backends.TargetPorts(svc, pod, these[:0])
		if s == nil || !slices.Equal(these, numbers) {
			ports := ports(svc, these)
			if len(ports) == 0 && len(svc.Spec.Ports) > 0 {
				continue // none of the Service's ports is in this pod
			}
			key := portTexts(ports)
			if byPorts[key] == nil {
				byPorts[key] = &corev1.EndpointSubset{Ports: ports}
			}
			s, numbers = byPorts[key], slices.Clone(these)
		}
		address := corev1.EndpointAddress{IP: ip, Hostname: backends.Hostname(pod, svc), TargetRef: backends.Reference(pod)}
		if name := pod.Spec.NodeName; name != "" {
			address.NodeName = &name
		}
		if podstate.Ready(pod) || svc.Spec.PublishNotReadyAddresses {
			s.Addresses = append(s.Addresses, address)
		} else {
			s.NotReadyAddresses = append(s.NotReadyAddresses, address)
		}
	}
	var out []corev1.EndpointSubset
	for _, key := range slices.Sorted(maps.Keys(byPorts)) {
		s := byPorts[key]
		slices.SortFunc(s.Addresses, byAddress)
		slices.SortFunc(s.NotReadyAddresses, byAddress)
		out = append(out, *s)
	}
	return out
}

func byAddress(a, b corev1.EndpointAddress) int {
	return cmp.Or(cmp.Compare(a.IP, b.IP), cmp.Compare(a.TargetRef.UID, b.TargetRef.UID))
}

func ports(svc *corev1.Service, numbers []int32) []corev1.EndpointPort {
	var out []corev1.EndpointPort
	for i, p := range svc.Spec.Ports {
		if number := numbers[i]; number != backends.None {
			protocol := p.Protocol
			if protocol == "" {
				protocol = corev1.ProtocolTCP
			}
			out = append(out, corev1.EndpointPort{Name: p.Name, Port: number, Protocol: protocol, AppProtocol: p.AppProtocol})
		}
	}
	slices.SortFunc(out, func(a, b corev1.EndpointPort) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Port, b.Port), cmp.Compare(a.Protocol, b.Protocol))
	})
	return out
}

func portTexts(ports []corev1.EndpointPort) string {
	var texts []string
	for _, p := range ports {
		app := ""
		if p.AppProtocol != nil {
			app = *p.AppProtocol
		}
		texts = append(texts, fmt.Sprintf("%s/%s/%d/%s", p.Name, p.Protocol, p.Port, app))
	}
	return strings.Join(texts, " ")
}

// truncate keeps at most mostAddresses, ready ones before others, and reports whether it had to drop any.
func truncate(in []corev1.EndpointSubset) ([]corev1.EndpointSubset, bool) {
	total := 0
	for _, s := range in {
		total += len(s.Addresses) + len(s.NotReadyAddresses)
	}
	if total <= mostAddresses {
		return in, false
	}
	left := mostAddresses
	take := func(a []corev1.EndpointAddress) []corev1.EndpointAddress {
		n := min(left, len(a))
		left -= n
		return a[:n]
	}
	out := slices.Clone(in)
	for i := range out {
		out[i].Addresses = take(out[i].Addresses)
	}
	for i := range out {
		out[i].NotReadyAddresses = take(out[i].NotReadyAddresses)
	}
	out = slices.DeleteFunc(out, func(s corev1.EndpointSubset) bool { return len(s.Addresses)+len(s.NotReadyAddresses) == 0 })
	return out, true
}

// wanted returns the Endpoints to write for svc, nil when there is right. trigger is the annotation's new text, "" for none.
func wanted(svc *corev1.Service, pods []*corev1.Pod, there *corev1.Endpoints, trigger string) *corev1.Endpoints {
	want := &corev1.Endpoints{ObjectMeta: metav1.ObjectMeta{Name: svc.Name, Namespace: svc.Namespace}}
	if there != nil {
		want.ObjectMeta = *there.ObjectMeta.DeepCopy()
	}
	full := false
	want.Subsets, full = truncate(subsets(svc, pods))
	want.Labels = make(map[string]string, len(svc.Labels)+2)
	maps.Copy(want.Labels, svc.Labels)
	delete(want.Labels, corev1.IsHeadlessService)
	if backends.Headless(svc) {
		want.Labels[corev1.IsHeadlessService] = ""
	}
	want.Labels[managedByKey] = managedBy
	if want.Annotations == nil {
		want.Annotations = map[string]string{}
	}
	delete(want.Annotations, corev1.EndpointsOverCapacity)
	if full {
		want.Annotations[corev1.EndpointsOverCapacity] = truncated
	}
	if there != nil && maps.Equal(there.Labels, want.Labels) && maps.Equal(there.Annotations, want.Annotations) &&
		slices.EqualFunc(there.Subsets, want.Subsets, sameSubset) {
		return nil
	}
	delete(want.Annotations, corev1.EndpointsLastChangeTriggerTime)
	if trigger != "" {
		want.Annotations[corev1.EndpointsLastChangeTriggerTime] = trigger
	}
	return want
}

func sameSubset(a, b corev1.EndpointSubset) bool {
	return slices.EqualFunc(a.Addresses, b.Addresses, sameAddress) && slices.EqualFunc(a.NotReadyAddresses, b.NotReadyAddresses, sameAddress) &&
		slices.EqualFunc(a.Ports, b.Ports, func(p, q corev1.EndpointPort) bool {
			return p.Name == q.Name && p.Port == q.Port && p.Protocol == q.Protocol && ptr.Equal(p.AppProtocol, q.AppProtocol)
		})
}

func sameAddress(a, b corev1.EndpointAddress) bool {
	return a.IP == b.IP && a.Hostname == b.Hostname && ptr.Equal(a.NodeName, b.NodeName) && ptr.Equal(a.TargetRef, b.TargetRef)
}
