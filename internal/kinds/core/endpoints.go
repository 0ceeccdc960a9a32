package core

import (
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"canopus/internal/kinds"
	"canopus/internal/kinds/check"
	"canopus/internal/kinds/show"
)

// Endpoints is v1 endpoints.
func Endpoints() *kinds.Kind {
	return kinds.New(kinds.Spec[corev1.Endpoints, *corev1.Endpoints]{
		GVK:        corev1.SchemeGroupVersion.WithKind("Endpoints"),
		Plural:     "endpoints",
		ShortNames: []string{"ep"},
		Namespaced: true,
		Prefix:     "services/endpoints/",
		NewList:    func() runtime.Object { return &corev1.EndpointsList{} },

		CreateOnUpdate: true,
		Deprecated:     "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice",
		Default: func(e *corev1.Endpoints) {
			for i := range e.Subsets {
				for j := range e.Subsets[i].Ports {
					setDefault(&e.Subsets[i].Ports[j].Protocol, corev1.ProtocolTCP)
				}
			}
		},
		Validate:       validateEndpoints,
		ValidateUpdate: validateEndpointsUpdate,
		Warnings:       endpointsWarnings,
		Columns: []metav1.TableColumnDefinition{
			show.Name(), show.Column("Endpoints", "string", corev1.Endpoints{}.SwaggerDoc()["subsets"]), show.AgeColumn(),
		},
		Cells: func(e *corev1.Endpoints, now time.Time) []any {
			return []any{e.Name, endpointsCell(e), show.Age(e.CreationTimestamp, now)}
		},
	})
}

func validateEndpoints(e *corev1.Endpoints) field.ErrorList {
	var errs field.ErrorList
	for i := range e.Subsets {
		s, path := &e.Subsets[i], field.NewPath("subsets").Index(i)
		if len(s.Addresses) == 0 && len(s.NotReadyAddresses) == 0 {
			errs = append(errs, field.Required(path, "must specify `addresses` or `notReadyAddresses`"))
		}
		for j := range s.Addresses {
			errs = append(errs, validateEndpointAddress(&s.Addresses[j], path.Child("addresses").Index(j))...)
		}
		for j := range s.NotReadyAddresses {
			errs = append(errs, validateEndpointAddress(&s.NotReadyAddresses[j], path.Child("notReadyAddresses").Index(j))...)
		}
		for j := range s.Ports {
			errs = append(errs, validateEndpointPort(&s.Ports[j], len(s.Ports) > 1, path.Child("ports").Index(j))...)
		}
	}
	return errs
}

// endpointsWarnings are about addresses that are not in the usual form.
func endpointsWarnings(e, _ *corev1.Endpoints) []string {
	var out []string
	for i := range e.Subsets {
		s, path := &e.Subsets[i], field.NewPath("subsets").Index(i)
		for j := range s.Addresses {
			out = append(out, check.IPWarnings(s.Addresses[j].IP, path.Child("addresses").Index(j).Child("ip"))...)
		}
		for j := range s.NotReadyAddresses {
			out = append(out, check.IPWarnings(s.NotReadyAddresses[j].IP, path.Child("notReadyAddresses").Index(j).Child("ip"))...)
		}
	}
	return out
}

func validateEndpointAddress(a *corev1.EndpointAddress, path *field.Path) field.ErrorList {
	errs := check.LegacyIP(a.IP, path.Child("ip"))
	if a.Hostname != "" {
		errs = append(errs, check.Label(a.Hostname, path.Child("hostname"))...)
	}
	if a.NodeName != nil {
		errs = append(errs, check.Subdomain(*a.NodeName, path.Child("nodeName"))...)
	}
	if len(errs) == 0 {
		errs = validateForwardable(a.IP, path.Child("ip"))
	}
	return errs
}

func validateEndpointPort(p *corev1.EndpointPort, named bool, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if p.Name != "" {
		errs = append(errs, check.Label(p.Name, path.Child("name"))...)
	} else if named {
		errs = append(errs, field.Required(path.Child("name"), ""))
	}
	errs = append(errs, check.Port(p.Port, path.Child("port"))...)
	errs = append(errs, check.RequiredOneOf(p.Protocol, path.Child("protocol"), corev1.ProtocolTCP, corev1.ProtocolUDP, corev1.ProtocolSCTP)...)
	if p.AppProtocol != nil {
		errs = append(errs, check.Messages(path.Child("appProtocol"), *p.AppProtocol, validation.IsQualifiedName(*p.AppProtocol))...)
	}
	return errs
}

func validateEndpointsUpdate(obj, old *corev1.Endpoints) field.ErrorList {
	was := map[string]string{}
	for _, s := range old.Subsets {
		for _, a := range append(append([]corev1.EndpointAddress{}, s.Addresses...), s.NotReadyAddresses...) {
			if a.NodeName != nil {
				was[a.IP] = *a.NodeName
			}
		}
	}
	errs := validateEndpoints(obj)
	for i, s := range obj.Subsets {
		for j, a := range s.Addresses {
			if before, ok := was[a.IP]; ok && a.NodeName != nil && *a.NodeName != before {
				errs = append(errs, field.Forbidden(field.NewPath("subsets").Index(i).Child("addresses").Index(j).Child("nodeName"),
					fmt.Sprintf("Cannot change NodeName for %s to %s", a.IP, *a.NodeName)))
			}
		}
	}
	return errs
}

// endpointsCell lists the first three ready endpoints and counts the others.
func endpointsCell(e *corev1.Endpoints) string {
	var all []string
	for _, s := range e.Subsets {
		if len(s.Ports) == 0 { // a headless service without ports
			for _, a := range s.Addresses {
				all = append(all, a.IP)
			}
		}
		for _, p := range s.Ports {
			for _, a := range s.Addresses {
				all = append(all, net.JoinHostPort(a.IP, strconv.Itoa(int(p.Port))))
			}
		}
	}
	const most = 3
	if len(all) > most {
		return fmt.Sprintf("%s + %d more...", strings.Join(all[:most], ","), len(all)-most)
	}
	return show.List(all)
}
