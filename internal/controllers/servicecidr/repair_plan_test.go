package servicecidr

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func serviceAt(name string, ips ...string) *corev1.Service {
	s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "apps", Name: name}, Spec: corev1.ServiceSpec{ClusterIPs: ips}}
	if len(ips) > 0 {
		s.Spec.ClusterIP = ips[0]
	}
	return s
}

// seen is a world of these objects and one range.
func seen(services []*corev1.Service, addresses ...*networkingv1.IPAddress) world {
	return world{
		ranges: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/24")},
		service: func(namespace, name string) *corev1.Service {
			for _, s := range services {
				if s.Namespace == namespace && s.Name == name {
					return s
				}
			}
			return nil
		},
		address: func(name string) *networkingv1.IPAddress {
			for _, a := range addresses {
				if a.Name == name {
					return a
				}
			}
			return nil
		},
	}
}

func TestPlanService(t *testing.T) {
	t.Parallel()
	const ip = "10.0.0.7"
	web, other := serviceAt("web", ip), serviceAt("other", "10.0.0.8")
	at := func(s *corev1.Service) *networkingv1.IPAddress { return newAddress(netip.MustParseAddr(ip), s) }
	bare := at(web)
	bare.Labels = map[string]string{"mine": "x"}
	node := at(web)
	node.Spec.ParentRef.Resource = "nodes"
	external := serviceAt("web", ip)
	external.Spec.Type = corev1.ServiceTypeExternalName
	for name, c := range map[string]struct {
		svc     *corev1.Service
		w       world
		reason  string
		message string
		does    string // write, rewrite, relabel
	}{
		"recorded":          {svc: web, w: seen(nil, at(web))},
		"headless":          {svc: serviceAt("web", "None"), w: seen(nil)},
		"none yet":          {svc: serviceAt("web"), w: seen(nil)},
		"external":          {svc: external, w: seen(nil)},
		"lost":              {web, seen(nil), "ClusterIPNotAllocated", "Cluster IP [IPv4]: 10.0.0.7 is not allocated; repairing", "write"},
		"no address":        {serviceAt("web", "x"), seen(nil), "ClusterIPNotValid", "not a valid IP", ""},
		"out of range":      {serviceAt("web", "10.0.1.7"), seen(nil), "ClusterIPOutOfRange", "not within any configured Service CIDR", ""},
		"of nobody":         {web, seen(nil, at(other)), "ClusterIPNotAllocated", "has a wrong reference; repairing", "rewrite"},
		"of who has it not": {web, seen([]*corev1.Service{other}, at(other)), "ClusterIPNotAllocated", "has a wrong reference; repairing", "rewrite"},
		"of who has it too": {web, seen([]*corev1.Service{serviceAt("other", ip)}, at(other)), "ClusterIPAlreadyAllocated", "was assigned to multiple services", ""},
		"of a node":         {web, seen(nil, node), "ClusterIPNotAllocated", "has a wrong reference", "rewrite"},
		"without labels":    {svc: web, w: seen(nil, bare), does: "relabel"},
	} {
		plan := planService(c.svc, c.w)
		if c.reason == "" && c.does == "" {
			if len(plan) > 0 {
				t.Errorf("%s: %+v", name, plan)
			}
			continue
		}
		if len(plan) != 1 {
			t.Errorf("%s: %+v", name, plan)
			continue
		}
		m, does := plan[0], ""
		switch {
		case m.update:
			does = "relabel"
		case m.write != nil && m.remove:
			does = "rewrite"
		case m.write != nil:
			does = "write"
		}
		if does != c.does || m.event.reason != c.reason || !strings.Contains(m.event.message, c.message) {
			t.Errorf("%s: %q %+v", name, does, m.event)
		}
		if m.write == nil {
			continue
		}
		if again := planService(c.svc, seen(nil, m.write)); len(again) > 0 {
			t.Errorf("%s: mended, it still needs %+v", name, again)
		}
		if m.update && m.write.Labels["mine"] != "x" {
			t.Errorf("%s: labels are lost: %v", name, m.write.Labels)
		}
	}
}

func TestPlanAddress(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_800_000_000, 0)
	web := serviceAt("web", "10.0.0.7")
	address := func(change func(*networkingv1.IPAddress)) *networkingv1.IPAddress {
		a := newAddress(netip.MustParseAddr("10.0.0.7"), web)
		a.CreationTimestamp = metav1.NewTime(now.Add(-time.Hour))
		change(a)
		return a
	}
	as := func(*networkingv1.IPAddress) {}
	for name, c := range map[string]struct {
		a      *networkingv1.IPAddress
		svc    *corev1.Service
		remove string // the reason
		wait   time.Duration
	}{
		"of its service":   {a: address(as), svc: web},
		"by hand":          {a: address(func(a *networkingv1.IPAddress) { a.Labels = nil })},
		"leaked":           {a: address(as), remove: "IPAddressNotAllocated"},
		"early":            {a: address(func(a *networkingv1.IPAddress) { a.CreationTimestamp = metav1.NewTime(now.Add(-20 * time.Second)) }), wait: 40 * time.Second},
		"of another thing": {a: address(func(a *networkingv1.IPAddress) { a.Spec.ParentRef.Resource = "nodes" }), svc: web, remove: "IPAddressNotAllocated"},
		"given back":       {a: address(as), svc: serviceAt("web", "10.0.0.8"), remove: "IPAddressWrongReference"},
	} {
		remove, why, wait := planAddress(c.a, c.svc, now)
		if remove != (c.remove != "") || why.reason != c.remove || wait != c.wait {
			t.Errorf("%s: %v, %+v, %s", name, remove, why, wait)
		}
	}
}

// TestSpelling is about a Service whose address is not written as the name of its record is: both are of the same address.
func TestSpelling(t *testing.T) {
	t.Parallel()
	const text = "FD00:0::A"
	svc := serviceAt("web", text)
	a := newAddress(netip.MustParseAddr(text), svc)
	w := seen([]*corev1.Service{svc}, a)
	w.ranges = append(w.ranges, netip.MustParsePrefix("fd00::/112"))
	if plan := planService(svc, w); len(plan) > 0 {
		t.Errorf("the service needs %+v", plan)
	}
	if remove, why, _ := planAddress(a, svc, a.CreationTimestamp.Time); remove {
		t.Errorf("an address in use is removed: %+v", why)
	}
	other := serviceAt("other", "fd00::a")
	if plan := planService(other, w); len(plan) != 1 || plan[0].event.reason != reasonTaken {
		t.Errorf("the address of another: %+v", plan)
	}
	if keys := serviceChanged(svc, nil); len(keys) != 1 || keys[0].Name != a.Name {
		t.Errorf("to look at are %v, not %s", keys, a.Name)
	}
}
