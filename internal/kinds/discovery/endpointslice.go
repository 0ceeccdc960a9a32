// Package discovery describes endpoint slices.
package discovery

import (
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"canopus/internal/kinds"
	"canopus/internal/kinds/check"
	"canopus/internal/kinds/show"
)

// Bounds of one slice.
const (
	maxEndpoints = 1000
	maxAddresses = 100
	maxPorts     = 20000
	maxHints     = 8
	maxTopology  = 16
)

// EndpointSlice is discovery.k8s.io/v1 endpointslices.
func EndpointSlice() *kinds.Kind {
	doc := discoveryv1.EndpointSlice{}.SwaggerDoc()
	return kinds.New(kinds.Spec[discoveryv1.EndpointSlice, *discoveryv1.EndpointSlice]{
		GVK:        discoveryv1.SchemeGroupVersion.WithKind("EndpointSlice"),
		Plural:     "endpointslices",
		Namespaced: true,
		NewList:    func() runtime.Object { return &discoveryv1.EndpointSliceList{} },

		Default:    defaultSlice,
		Generation: true,
		PrepareUpdate: func(obj, old *discoveryv1.EndpointSlice) {
			same := apiequality.Semantic.DeepEqual
			kinds.Bump(obj, old, !same(obj.Endpoints, old.Endpoints) || !same(obj.Ports, old.Ports) ||
				obj.AddressType != old.AddressType || !same(obj.Labels, old.Labels))
		},
		Validate: validateSlice,
		ValidateUpdate: func(obj, old *discoveryv1.EndpointSlice) field.ErrorList {
			return append(validateSlice(obj), apivalidation.ValidateImmutableField(obj.AddressType, old.AddressType, field.NewPath("addressType"))...)
		},
		Warnings: sliceWarnings,
		Columns: []metav1.TableColumnDefinition{
			show.Name(), show.Column("AddressType", "string", doc["addressType"]), show.Column("Ports", "string", doc["ports"]),
			show.Column("Endpoints", "string", doc["endpoints"]), show.AgeColumn(),
		},
		Cells: func(s *discoveryv1.EndpointSlice, now time.Time) []any {
			return []any{s.Name, string(s.AddressType), portsCell(s.Ports), endpointsCell(s.Endpoints), show.Age(s.CreationTimestamp, now)}
		},
	})
}

func defaultSlice(s *discoveryv1.EndpointSlice) {
	for i := range s.Ports {
		if s.Ports[i].Name == nil {
			s.Ports[i].Name = new(string)
		}
		if s.Ports[i].Protocol == nil {
			tcp := corev1.ProtocolTCP
			s.Ports[i].Protocol = &tcp
		}
	}
}

func validateSlice(s *discoveryv1.EndpointSlice) field.ErrorList {
	errs := check.RequiredOneOf(s.AddressType, field.NewPath("addressType"),
		discoveryv1.AddressTypeFQDN, discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv6)
	endpoints := field.NewPath("endpoints")
	if len(s.Endpoints) > maxEndpoints {
		errs = append(errs, field.TooMany(endpoints, len(s.Endpoints), maxEndpoints))
	} else {
		for i := range s.Endpoints {
			errs = append(errs, validateEndpoint(&s.Endpoints[i], s.AddressType, endpoints.Index(i))...)
		}
	}
	return append(errs, validatePorts(s.Ports, field.NewPath("ports"))...)
}

func validateEndpoint(e *discoveryv1.Endpoint, t discoveryv1.AddressType, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	addresses := path.Child("addresses")
	switch {
	case len(e.Addresses) == 0:
		errs = append(errs, field.Required(addresses, "must contain at least 1 address"))
	case len(e.Addresses) > maxAddresses:
		errs = append(errs, field.TooMany(addresses, len(e.Addresses), maxAddresses))
	}
	for i, a := range e.Addresses {
		errs = append(errs, validateAddress(a, t, addresses.Index(i))...)
	}
	if e.NodeName != nil {
		errs = append(errs, check.Subdomain(*e.NodeName, path.Child("nodeName"))...)
	}
	if e.Hostname != nil {
		errs = append(errs, check.Label(*e.Hostname, path.Child("hostname"))...)
	}
	if len(e.DeprecatedTopology) > maxTopology {
		errs = append(errs, field.TooMany(path.Child("deprecatedTopology"), len(e.DeprecatedTopology), maxTopology))
	}
	for _, key := range slices.Sorted(maps.Keys(e.DeprecatedTopology)) {
		value := e.DeprecatedTopology[key]
		errs = append(errs, check.Qualified(key, path.Child("deprecatedTopology"))...)
		errs = append(errs, check.Messages(path.Child("deprecatedTopology").Key(key), value, validation.IsValidLabelValue(value))...)
	}
	if _, ok := e.DeprecatedTopology[corev1.LabelHostname]; ok {
		errs = append(errs, field.Invalid(path.Child("deprecatedTopology").Key(corev1.LabelHostname), "", "may not be set; use nodeName"))
	}
	return append(errs, validateHints(e.Hints, path.Child("hints"))...)
}

func validateAddress(a string, t discoveryv1.AddressType, path *field.Path) field.ErrorList {
	if t == discoveryv1.AddressTypeFQDN {
		return validation.IsFullyQualifiedDomainName(path, a)
	}
	errs := check.LegacyIP(a, path)
	ip := net.ParseIP(a)
	if len(errs) > 0 || ip == nil {
		return errs
	}
	if t == discoveryv1.AddressTypeIPv4 && ip.To4() == nil {
		return field.ErrorList{field.Invalid(path, a, "must be an IPv4 address")}
	}
	if t == discoveryv1.AddressTypeIPv6 && ip.To4() != nil {
		return field.ErrorList{field.Invalid(path, a, "must be an IPv6 address")}
	}
	for _, r := range []struct {
		is   bool
		text string
	}{
		{ip.IsUnspecified(), "may not be unspecified (0.0.0.0 or ::)"},
		{ip.IsLoopback(), "may not be in the loopback range (127.0.0.0/8, ::1/128)"},
		{ip.IsLinkLocalUnicast(), "may not be in the link-local range (169.254.0.0/16, fe80::/10)"},
		{ip.IsLinkLocalMulticast(), "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)"},
	} {
		if r.is {
			errs = append(errs, field.Invalid(path, a, r.text))
		}
	}
	return errs
}

// sliceWarnings are about addresses: those that are names, and those that are not in the usual form.
func sliceWarnings(s, _ *discoveryv1.EndpointSlice) []string {
	if s.AddressType == discoveryv1.AddressTypeFQDN {
		return []string{"addressType: FQDN endpoints are deprecated"}
	}
	var out []string
	for i := range s.Endpoints {
		for j, a := range s.Endpoints[i].Addresses {
			out = append(out, check.IPWarnings(a, field.NewPath("endpoints").Index(i).Child("addresses").Index(j))...)
		}
	}
	return out
}

func validateHints(h *discoveryv1.EndpointHints, path *field.Path) field.ErrorList {
	if h == nil {
		return nil
	}
	var errs field.ErrorList
	if len(h.ForZones) > maxHints {
		errs = append(errs, field.TooMany(path.Child("forZones"), len(h.ForZones), maxHints))
	}
	zones := check.Duplicates[string]{}
	for i, z := range h.ForZones {
		at := path.Child("forZones").Index(i).Child("name")
		errs = append(errs, zones.Check(z.Name, at)...)
		errs = append(errs, check.Messages(at, z.Name, validation.IsValidLabelValue(z.Name))...)
	}
	if len(h.ForNodes) > maxHints {
		errs = append(errs, field.TooMany(path.Child("forNodes"), len(h.ForNodes), maxHints))
	}
	nodes := check.Duplicates[string]{}
	for i, n := range h.ForNodes {
		at := path.Child("forNodes").Index(i).Child("name")
		errs = append(errs, nodes.Check(n.Name, at)...)
		errs = append(errs, check.Subdomain(n.Name, at)...)
	}
	return errs
}

func validatePorts(ports []discoveryv1.EndpointPort, path *field.Path) field.ErrorList {
	if len(ports) > maxPorts {
		return field.ErrorList{field.TooMany(path, len(ports), maxPorts)}
	}
	var errs field.ErrorList
	names := check.Duplicates[string]{}
	for i := range ports {
		p, at := &ports[i], path.Index(i)
		if p.Name != nil {
			if *p.Name != "" {
				errs = append(errs, check.Label(*p.Name, at.Child("name"))...)
			}
			errs = append(errs, names.Check(*p.Name, at.Child("name"))...)
		}
		if p.Port != nil {
			errs = append(errs, check.Port(*p.Port, at.Child("port"))...)
		}
		if p.Protocol == nil {
			errs = append(errs, field.Required(at.Child("protocol"), ""))
		} else {
			errs = append(errs, check.OneOf(*p.Protocol, at.Child("protocol"), corev1.ProtocolSCTP, corev1.ProtocolTCP, corev1.ProtocolUDP)...)
		}
		if p.AppProtocol != nil {
			errs = append(errs, check.Messages(at.Child("appProtocol"), *p.AppProtocol, validation.IsQualifiedName(*p.AppProtocol))...)
		}
	}
	return errs
}

func portsCell(ports []discoveryv1.EndpointPort) string {
	all := make([]string, len(ports))
	for i, p := range ports {
		switch {
		case p.Port != nil:
			all[i] = strconv.Itoa(int(*p.Port))
		case p.Name != nil && *p.Name != "":
			all[i] = *p.Name
		default:
			all[i] = "*"
		}
	}
	return firstThree(all)
}

func endpointsCell(endpoints []discoveryv1.Endpoint) string {
	var all []string
	for _, e := range endpoints {
		all = append(all, e.Addresses...)
	}
	return firstThree(all)
}

// firstThree lists the first three items and counts the others.
func firstThree(all []string) string {
	const most = 3
	switch {
	case len(all) == 0:
		return "<unset>"
	case len(all) > most:
		return fmt.Sprintf("%s + %d more...", strings.Join(all[:most], ","), len(all)-most)
	default:
		return strings.Join(all, ",")
	}
}
