package networking

import (
	"net/netip"
	"strings"
	"time"

	networkingv1 "k8s.io/api/networking/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/api/validation/path"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"canopus/internal/kinds"
	"canopus/internal/kinds/check"
	"canopus/internal/kinds/show"
)

// IPAddress is networking.k8s.io/v1 ipaddresses: the name is an address that the parent holds.
func IPAddress() *kinds.Kind {
	return kinds.New(kinds.Spec[networkingv1.IPAddress, *networkingv1.IPAddress]{
		GVK:        networkingv1.SchemeGroupVersion.WithKind("IPAddress"),
		Plural:     "ipaddresses",
		Singular:   "ipaddress",
		ShortNames: []string{"ip"},
		NewList:    func() runtime.Object { return &networkingv1.IPAddressList{} },
		NameRule:   addressName,
		Validate:   func(a *networkingv1.IPAddress) field.ErrorList { return validateParent(a.Spec.ParentRef) },
		ValidateUpdate: func(a, old *networkingv1.IPAddress) field.ErrorList {
			return append(apivalidation.ValidateImmutableField(a.Spec.ParentRef, old.Spec.ParentRef, field.NewPath("spec", "parentRef")),
				validateParent(a.Spec.ParentRef)...)
		},
		Columns: []metav1.TableColumnDefinition{
			show.Name(), show.Column("ParentRef", "string", networkingv1.IPAddressSpec{}.SwaggerDoc()["parentRef"]), show.AgeColumn(),
		},
		Cells: func(a *networkingv1.IPAddress, now time.Time) []any {
			return []any{a.Name, parentCell(a.Spec.ParentRef), show.Age(a.CreationTimestamp, now)}
		},
	})
}

// addressName: the address in its one canonical form, so that it can be given out once only.
func addressName(name string, _ bool) []string {
	var msgs []string
	for _, err := range validation.IsValidIP(nil, name) {
		msgs = append(msgs, err.Detail)
	}
	return msgs
}

func validateParent(p *networkingv1.ParentReference) field.ErrorList {
	at := field.NewPath("spec", "parentRef")
	if p == nil {
		return field.ErrorList{field.Required(at, "")}
	}
	var errs field.ErrorList
	if p.Group != "" {
		errs = append(errs, check.Subdomain(p.Group, at.Child("group"))...)
	}
	segment := func(name, value string, required bool) {
		switch {
		case value != "":
			errs = append(errs, check.Messages(at.Child(name), value, path.IsValidPathSegmentName(value))...)
		case required:
			errs = append(errs, field.Required(at.Child(name), ""))
		}
	}
	segment("resource", p.Resource, true)
	segment("name", p.Name, true)
	segment("namespace", p.Namespace, false)
	return errs
}

func parentCell(p *networkingv1.ParentReference) string {
	if p == nil {
		return show.None
	}
	resource := p.Resource
	if p.Group != "" {
		resource += "." + p.Group
	}
	if p.Namespace == "" {
		return resource + "/" + p.Name
	}
	return resource + "/" + p.Namespace + "/" + p.Name
}

// ServiceCIDR is networking.k8s.io/v1 servicecidrs: the ranges that ClusterIPs come from.
func ServiceCIDR() *kinds.Kind {
	return kinds.New(kinds.Spec[networkingv1.ServiceCIDR, *networkingv1.ServiceCIDR]{
		GVK:     networkingv1.SchemeGroupVersion.WithKind("ServiceCIDR"),
		Plural:  "servicecidrs",
		NewList: func() runtime.Object { return &networkingv1.ServiceCIDRList{} },

		PrepareCreate: func(c *networkingv1.ServiceCIDR) { c.Status = networkingv1.ServiceCIDRStatus{} },
		PrepareUpdate: func(c, old *networkingv1.ServiceCIDR) { c.Status = old.Status },
		Validate: func(c *networkingv1.ServiceCIDR) field.ErrorList {
			return validateCIDRs(c.Spec.CIDRs, field.NewPath("spec", "cidrs"))
		},
		ValidateUpdate: validateServiceCIDRUpdate,
		Subresources: []kinds.Subresource{kinds.Status(
			func(obj, old *networkingv1.ServiceCIDR) { obj.Spec = old.Spec }, nil)},
		Columns: []metav1.TableColumnDefinition{
			show.Name(), show.Column("CIDRs", "string", networkingv1.ServiceCIDRSpec{}.SwaggerDoc()["cidrs"]), show.AgeColumn(),
		},
		Cells: func(c *networkingv1.ServiceCIDR, now time.Time) []any {
			return []any{c.Name, strings.Join(c.Spec.CIDRs, ","), show.Age(c.CreationTimestamp, now)}
		},
	})
}

func validateCIDRs(cidrs []string, at *field.Path) field.ErrorList {
	if len(cidrs) == 0 {
		return field.ErrorList{field.Required(at, "at least one CIDR required")}
	}
	if len(cidrs) > 2 {
		return field.ErrorList{field.Invalid(at, cidrs, "may only hold up to 2 values")}
	}
	var errs field.ErrorList
	families := map[bool]bool{}
	for i, c := range cidrs {
		errs = append(errs, validation.IsValidCIDR(at.Index(i), c)...)
		if p, err := netip.ParsePrefix(c); err == nil {
			families[p.Addr().Is6()] = true
		}
	}
	if len(errs) == 0 && len(families) < len(cidrs) {
		errs = append(errs, field.Invalid(at, cidrs, "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/96"))
	}
	return errs
}

// validateServiceCIDRUpdate lets a single-stack range gain the other family, and nothing else change.
func validateServiceCIDRUpdate(c, old *networkingv1.ServiceCIDR) field.ErrorList {
	at := field.NewPath("spec", "cidrs")
	if len(old.Spec.CIDRs) == 1 && len(c.Spec.CIDRs) == 2 {
		return append(apivalidation.ValidateImmutableField(c.Spec.CIDRs[0], old.Spec.CIDRs[0], at.Index(0)), validateCIDRs(c.Spec.CIDRs, at)...)
	}
	return apivalidation.ValidateImmutableField(c.Spec.CIDRs, old.Spec.CIDRs, at)
}
