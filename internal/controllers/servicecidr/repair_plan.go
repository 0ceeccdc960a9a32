package servicecidr

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	managedBy = "ipallocator.k8s.io"
	// orphanGrace is how old an address must be before it is taken from a Service that is not there: one that is made by other
	// means than ours may be written before its Service.
	orphanGrace = time.Minute
)

// Reasons of events, as clients know them.
const (
	reasonNotValid     = "ClusterIPNotValid"
	reasonOutOfRange   = "ClusterIPOutOfRange"
	reasonNotAllocated = "ClusterIPNotAllocated"
	reasonTaken        = "ClusterIPAlreadyAllocated"
	reasonLeaked       = "IPAddressNotAllocated"
	reasonWrong        = "IPAddressWrongReference"
)

// event is one to record; the zero value is none.
type event struct{ reason, message string }

// world is what a decision looks at.
type world struct {
	address func(name string) *networkingv1.IPAddress    // nil: there is none
	service func(namespace, name string) *corev1.Service // nil: there is none
	ranges  []netip.Prefix                               // of all ServiceCIDRs
}

// mend is what one address of a Service needs: nothing but an event, or to be written.
type mend struct {
	event  event
	write  *networkingv1.IPAddress // nil: nothing
	remove bool                    // what is there, before write
	update bool                    // write is what is there, changed
}

// planService returns what svc's addresses need so that each is recorded as svc's and nobody else's.
func planService(svc *corev1.Service, w world) []mend {
	if svc.Spec.Type == corev1.ServiceTypeExternalName || svc.Spec.ClusterIP == "" || svc.Spec.ClusterIP == corev1.ClusterIPNone {
		return nil
	}
	var out []mend
	for _, text := range svc.Spec.ClusterIPs {
		if m, ok := planClusterIP(svc, text, w); ok {
			out = append(out, m)
		}
	}
	return out
}

func planClusterIP(svc *corev1.Service, text string, w world) (mend, bool) {
	tell := func(reason, format string, args ...any) event { return event{reason, fmt.Sprintf(format, args...)} }
	ip, err := netip.ParseAddr(text)
	if err != nil {
		return mend{event: tell(reasonNotValid, "Cluster IP %s is not a valid IP; please recreate service", text)}, true
	}
	family := familyOf(ip)
	if len(w.ranges) > 0 && !slices.ContainsFunc(w.ranges, func(r netip.Prefix) bool { return r.Contains(ip) }) {
		return mend{event: tell(reasonOutOfRange, "Cluster IP [%v]: %s is not within any configured Service CIDR; please recreate service", family, ip)}, true
	}
	want := newAddress(ip, svc)
	have := w.address(ip.String())
	if have == nil {
		return mend{event: tell(reasonNotAllocated, "Cluster IP [%v]: %s is not allocated; repairing", family, ip), write: want}, true
	}
	ref := have.Spec.ParentRef
	wrong := mend{
		event: tell(reasonNotAllocated, "the ClusterIP [%v]: %s for Service %s/%s has a wrong reference; repairing", family, ip, svc.Namespace, svc.Name),
		write: want, remove: true,
	}
	switch {
	case ref == nil || ref.Group != "" || ref.Resource != "services":
		return wrong, true
	case ref.Namespace != svc.Namespace || ref.Name != svc.Name:
		if other := w.service(ref.Namespace, ref.Name); other == nil || !holds(other, have.Name) {
			return wrong, true
		}
		return mend{event: tell(reasonTaken, "Cluster IP [%v]: %s was assigned to multiple services; please recreate service", family, ip)}, true
	case have.Labels[networkingv1.LabelIPAddressFamily] == string(family) && have.Labels[networkingv1.LabelManagedBy] == managedBy:
		return mend{}, false
	}
	labelled := have.DeepCopy()
	if labelled.Labels == nil {
		labelled.Labels = map[string]string{}
	}
	for key, value := range want.Labels {
		labelled.Labels[key] = value
	}
	return mend{write: labelled, update: true}, true
}

// planAddress says whether an address that Services are given is to be removed, why, and when to look again; svc is the one that it
// refers to, nil if there is none.
func planAddress(a *networkingv1.IPAddress, svc *corev1.Service, now time.Time) (remove bool, why event, wait time.Duration) {
	if a.Labels[networkingv1.LabelManagedBy] != managedBy {
		return false, event{}, 0 // somebody else's
	}
	ref := a.Spec.ParentRef
	if ref == nil || ref.Group != "" || ref.Resource != "services" {
		return true, event{reasonLeaked, fmt.Sprintf("IPAddress %s appears to have been modified, not referencing a Service: cleaning up", a.Name)}, 0
	}
	switch {
	case svc == nil:
		if left := orphanGrace - now.Sub(a.CreationTimestamp.Time); left > 0 {
			return false, event{}, left
		}
		return true, event{reasonLeaked, fmt.Sprintf("IPAddress: %s for Service %s/%s appears to have leaked: cleaning up", a.Name, ref.Namespace, ref.Name)}, 0
	case !holds(svc, a.Name):
		return true, event{reasonWrong, fmt.Sprintf("IPAddress: %s for Service %s/%s has a wrong reference; cleaning up", a.Name, ref.Namespace, ref.Name)}, 0
	}
	return false, event{}, 0
}

// holds reports whether svc has the address whose record has this name.
func holds(svc *corev1.Service, name string) bool {
	return slices.ContainsFunc(svc.Spec.ClusterIPs, func(text string) bool { return recordOf(text) == name })
}

// recordOf names the record of an address, which Services may spell in other ways: FD00:0::A is fd00::a.
func recordOf(text string) string {
	ip, err := netip.ParseAddr(text)
	if err != nil {
		return text
	}
	return ip.String()
}

func familyOf(ip netip.Addr) corev1.IPFamily {
	if ip.Is4() {
		return corev1.IPv4Protocol
	}
	return corev1.IPv6Protocol
}

// newAddress is the record that ip is svc's, as it is made with a Service.
func newAddress(ip netip.Addr, svc *corev1.Service) *networkingv1.IPAddress {
	return &networkingv1.IPAddress{
		ObjectMeta: metav1.ObjectMeta{Name: ip.String(), Labels: map[string]string{
			networkingv1.LabelIPAddressFamily: string(familyOf(ip)), networkingv1.LabelManagedBy: managedBy,
		}},
		Spec: networkingv1.IPAddressSpec{ParentRef: &networkingv1.ParentReference{Resource: "services", Namespace: svc.Namespace, Name: svc.Name}},
	}
}
