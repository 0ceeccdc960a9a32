package networking_test

import (
	"strings"
	"testing"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"canopus/internal/kinds/networking"
)

// refused lists errors as field: detail.
func refused(errs field.ErrorList) string {
	var out []string
	for _, e := range errs {
		out = append(out, e.Field+": "+e.Detail)
	}
	return strings.Join(out, "; ")
}

func TestIPAddress(t *testing.T) {
	t.Parallel()
	k := networking.IPAddress()
	parent := networkingv1.ParentReference{Resource: "services", Namespace: "default", Name: "kubernetes"}
	without := func(edit func(*networkingv1.ParentReference)) *networkingv1.ParentReference {
		p := parent
		edit(&p)
		return &p
	}
	for name, tc := range map[string]struct {
		address string
		parent  *networkingv1.ParentReference
		want    string
	}{
		"v4":             {"10.96.0.1", &parent, ""},
		"v6":             {"2001:db8::1", &parent, ""},
		"a name":         {"web", &parent, "metadata.name: must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"},
		"another form":   {"2001:db8:0::1", &parent, `metadata.name: must be in canonical form ("2001:db8::1")`},
		"nobody's":       {"10.96.0.1", nil, "spec.parentRef: "},
		"of no resource": {"10.96.0.1", without(func(p *networkingv1.ParentReference) { p.Resource = "" }), "spec.parentRef.resource: "},
		"of no name":     {"10.96.0.1", without(func(p *networkingv1.ParentReference) { p.Name = "" }), "spec.parentRef.name: "},
		"of a bad name":  {"10.96.0.1", without(func(p *networkingv1.ParentReference) { p.Name = "a/b" }), "spec.parentRef.name: may not contain '/'"},
		"in a bad namespace": {"10.96.0.1", without(func(p *networkingv1.ParentReference) { p.Namespace = ".." }),
			"spec.parentRef.namespace: may not be '..'"},
	} {
		obj := &networkingv1.IPAddress{ObjectMeta: metav1.ObjectMeta{Name: tc.address}, Spec: networkingv1.IPAddressSpec{ParentRef: tc.parent}}
		if got := refused(k.Validate(obj)); got != tc.want {
			t.Errorf("%s: %s, want %s", name, got, tc.want)
		}
	}
	old := &networkingv1.IPAddress{ObjectMeta: metav1.ObjectMeta{Name: "10.96.0.1", ResourceVersion: "1"}, Spec: networkingv1.IPAddressSpec{ParentRef: &parent}}
	moved := old.DeepCopy()
	moved.Spec.ParentRef.Name = "other"
	if got := refused(k.ValidateUpdate(moved, old)); got != "spec.parentRef: field is immutable" {
		t.Errorf("given to another: %s", got)
	}
}

func TestServiceCIDR(t *testing.T) {
	t.Parallel()
	k := networking.ServiceCIDR()
	of := func(cidrs ...string) *networkingv1.ServiceCIDR {
		return &networkingv1.ServiceCIDR{ObjectMeta: metav1.ObjectMeta{Name: "a", ResourceVersion: "1"}, Spec: networkingv1.ServiceCIDRSpec{CIDRs: cidrs}}
	}
	for name, tc := range map[string]struct {
		cidrs []string
		want  string
	}{
		"one":            {[]string{"10.96.0.0/12"}, ""},
		"one of each":    {[]string{"10.96.0.0/12", "2001:db8::/64"}, ""},
		"none":           {nil, "spec.cidrs: at least one CIDR required"},
		"two of a kind":  {[]string{"10.0.0.0/24", "10.0.1.0/24"}, "spec.cidrs: may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/96"},
		"three":          {[]string{"10.0.0.0/24", "10.0.1.0/24", "2001:db8::/64"}, "spec.cidrs: may only hold up to 2 values"},
		"no range":       {[]string{"10.0.0.0"}, "spec.cidrs[0]: must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"},
		"with host bits": {[]string{"10.0.0.1/24"}, "spec.cidrs[0]: must not have bits set beyond the prefix length"},
	} {
		if got := refused(k.Validate(of(tc.cidrs...))); got != tc.want {
			t.Errorf("%s: %s, want %s", name, got, tc.want)
		}
	}
	for name, tc := range map[string]struct {
		now, was []string
		want     string
	}{
		"kept":             {[]string{"10.0.0.0/24"}, []string{"10.0.0.0/24"}, ""},
		"the other family": {[]string{"10.0.0.0/24", "2001:db8::/64"}, []string{"10.0.0.0/24"}, ""},
		"another first":    {[]string{"10.1.0.0/24", "2001:db8::/64"}, []string{"10.0.0.0/24"}, "spec.cidrs[0]: field is immutable"},
		"another":          {[]string{"10.1.0.0/24"}, []string{"10.0.0.0/24"}, "spec.cidrs: field is immutable"},
		"one less":         {[]string{"10.0.0.0/24"}, []string{"10.0.0.0/24", "2001:db8::/64"}, "spec.cidrs: field is immutable"},
	} {
		if got := refused(k.ValidateUpdate(of(tc.now...), of(tc.was...))); got != tc.want {
			t.Errorf("%s: %s, want %s", name, got, tc.want)
		}
	}
}
