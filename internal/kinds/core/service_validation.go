package core

import (
	"fmt"
	"net"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metavalidation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"canopus/internal/kinds/check"
)

func validateService(s *corev1.Service) field.ErrorList {
	spec, path := &s.Spec, field.NewPath("spec")
	errs := validateByType(spec, path)
	headless := spec.ClusterIP == corev1.ClusterIPNone
	if len(spec.Ports) == 0 && !headless && spec.Type != corev1.ServiceTypeExternalName {
		errs = append(errs, field.Required(path.Child("ports"), ""))
	}
	errs = append(errs, validateServicePorts(spec, path.Child("ports"))...)
	errs = append(errs, metavalidation.ValidateLabels(spec.Selector, path.Child("selector"))...)
	errs = append(errs, check.RequiredOneOf(spec.SessionAffinity, path.Child("sessionAffinity"), corev1.ServiceAffinityClientIP, corev1.ServiceAffinityNone)...)
	errs = append(errs, validateAffinityConfig(spec, path)...)
	errs = append(errs, validateClusterIPs(spec, path)...)
	for i, ip := range spec.ExternalIPs {
		at := path.Child("externalIPs").Index(i)
		if more := check.LegacyIP(ip, at); len(more) > 0 {
			errs = append(errs, more...)
		} else {
			errs = append(errs, validateForwardable(ip, at)...)
		}
	}
	errs = append(errs, validateLoadBalancer(spec, path)...)
	return append(errs, validateTraffic(spec, path)...)
}

func validateByType(spec *corev1.ServiceSpec, path *field.Path) field.ErrorList {
	errs := check.RequiredOneOf(spec.Type, path.Child("type"),
		corev1.ServiceTypeClusterIP, corev1.ServiceTypeNodePort, corev1.ServiceTypeLoadBalancer, corev1.ServiceTypeExternalName)
	switch spec.Type {
	case corev1.ServiceTypeLoadBalancer:
		if spec.ClusterIP == corev1.ClusterIPNone {
			errs = append(errs, field.Invalid(path.Child("clusterIPs").Index(0), spec.ClusterIP, "may not be set to 'None' for LoadBalancer services"))
		}
		for i, p := range spec.Ports {
			if p.Port == 10250 { // the node agent's own port, which load balancers would open to the world
				errs = append(errs, field.Invalid(path.Child("ports").Index(i), p.Port, "may not expose port 10250 externally since it is used by kubelet"))
			}
		}
	case corev1.ServiceTypeNodePort:
		if spec.ClusterIP == corev1.ClusterIPNone {
			errs = append(errs, field.Invalid(path.Child("clusterIPs").Index(0), spec.ClusterIP, "may not be set to 'None' for NodePort services"))
		}
	case corev1.ServiceTypeExternalName:
		if len(spec.ClusterIPs) > 0 || spec.ClusterIP != "" {
			errs = append(errs, field.Forbidden(path.Child("clusterIPs"), "may not be set for ExternalName services"))
		}
		if len(spec.IPFamilies) > 0 {
			errs = append(errs, field.Forbidden(path.Child("ipFamilies"), "may not be set for ExternalName services"))
		}
		if spec.IPFamilyPolicy != nil {
			errs = append(errs, field.Forbidden(path.Child("ipFamilyPolicy"), "may not be set for ExternalName services"))
		}
		name := strings.TrimSuffix(spec.ExternalName, ".")
		if name == "" {
			errs = append(errs, field.Required(path.Child("externalName"), ""))
		} else {
			errs = append(errs, check.Subdomain(name, path.Child("externalName"))...)
		}
	}
	return errs
}

func validateServicePorts(spec *corev1.ServiceSpec, path *field.Path) field.ErrorList {
	type key struct {
		protocol corev1.Protocol
		port     int32
	}
	var errs field.ErrorList
	names, ports, nodePorts := check.Duplicates[string]{}, map[key]bool{}, map[key]bool{}
	for i := range spec.Ports {
		p, at := &spec.Ports[i], path.Index(i)
		if p.Name == "" && len(spec.Ports) > 1 {
			errs = append(errs, field.Required(at.Child("name"), ""))
		} else if p.Name != "" {
			errs = append(errs, check.Label(p.Name, at.Child("name"))...)
			errs = append(errs, names.Check(p.Name, at.Child("name"))...)
		}
		errs = append(errs, check.Port(p.Port, at.Child("port"))...)
		errs = append(errs, check.RequiredOneOf(p.Protocol, at.Child("protocol"), corev1.ProtocolTCP, corev1.ProtocolUDP, corev1.ProtocolSCTP)...)
		errs = append(errs, check.PortOrName(p.TargetPort, at.Child("targetPort"))...)
		if p.AppProtocol != nil {
			errs = append(errs, check.Messages(at.Child("appProtocol"), *p.AppProtocol, validation.IsQualifiedName(*p.AppProtocol))...)
		}
		if ports[key{p.Protocol, p.Port}] {
			errs = append(errs, field.Duplicate(at, corev1.ServicePort{Protocol: p.Protocol, Port: p.Port}))
		}
		ports[key{p.Protocol, p.Port}] = true
		if p.NodePort == 0 {
			continue
		}
		if spec.Type == corev1.ServiceTypeClusterIP || spec.Type == corev1.ServiceTypeExternalName {
			errs = append(errs, field.Forbidden(at.Child("nodePort"), fmt.Sprintf("may not be used when `type` is '%s'", spec.Type)))
		}
		if nodePorts[key{p.Protocol, p.NodePort}] {
			errs = append(errs, field.Duplicate(at.Child("nodePort"), p.NodePort))
		}
		nodePorts[key{p.Protocol, p.NodePort}] = true
	}
	return errs
}

func validateAffinityConfig(spec *corev1.ServiceSpec, path *field.Path) field.ErrorList {
	at := path.Child("sessionAffinityConfig")
	c := spec.SessionAffinityConfig
	if spec.SessionAffinity == corev1.ServiceAffinityNone && c != nil {
		return field.ErrorList{field.Forbidden(at, fmt.Sprintf("must not be set when session affinity is %s", corev1.ServiceAffinityNone))}
	}
	if spec.SessionAffinity != corev1.ServiceAffinityClientIP {
		return nil
	}
	timeout := at.Child("clientIP", "timeoutSeconds")
	if c == nil || c.ClientIP == nil || c.ClientIP.TimeoutSeconds == nil {
		return field.ErrorList{field.Required(timeout, fmt.Sprintf("when session affinity type is %s", corev1.ServiceAffinityClientIP))}
	}
	if s := *c.ClientIP.TimeoutSeconds; s <= 0 || s > 86400 {
		return field.ErrorList{field.Invalid(timeout, s, "must be greater than 0 and less than 86400")}
	}
	return nil
}

func validateClusterIPs(spec *corev1.ServiceSpec, path *field.Path) field.ErrorList {
	if spec.Type == corev1.ServiceTypeExternalName {
		return nil
	}
	var errs field.ErrorList
	at := path.Child("clusterIPs")
	if spec.ClusterIP != "" && len(spec.ClusterIPs) > 0 && spec.ClusterIP != spec.ClusterIPs[0] {
		errs = append(errs, field.Invalid(at, spec.ClusterIPs, "first value must match `clusterIP`"))
	}
	if len(spec.ClusterIPs) > 2 {
		errs = append(errs, field.Invalid(at, spec.ClusterIPs, "may only hold up to 2 values"))
	}
	families := map[corev1.IPFamily]bool{}
	for i, ip := range spec.ClusterIPs {
		switch {
		case ip == corev1.ClusterIPNone && len(spec.ClusterIPs) > 1:
			errs = append(errs, field.Invalid(at, spec.ClusterIPs, "'None' must be the first and only value"))
		case ip == corev1.ClusterIPNone:
		case ip == "":
			if i > 0 || spec.ClusterIP != "" {
				errs = append(errs, field.Invalid(at.Index(i), ip, "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"))
			}
		default:
			errs = append(errs, check.LegacyIP(ip, at.Index(i))...)
			f := familyOf(ip)
			if families[f] && f != "" {
				errs = append(errs, field.Invalid(at, spec.ClusterIPs, "may specify no more than one IP for each IP family"))
			}
			families[f] = true
			if f != "" && i < len(spec.IPFamilies) && spec.IPFamilies[i] != f {
				errs = append(errs, field.Invalid(at.Index(i), ip, fmt.Sprintf("expected an %s value as indicated by `ipFamilies[%d]`", spec.IPFamilies[i], i)))
			}
		}
	}
	return append(errs, validateFamilies(spec, path)...)
}

func familyOf(ip string) corev1.IPFamily {
	switch parsed := net.ParseIP(ip); {
	case parsed == nil:
		return ""
	case parsed.To4() != nil:
		return corev1.IPv4Protocol
	default:
		return corev1.IPv6Protocol
	}
}

func validateFamilies(spec *corev1.ServiceSpec, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	seen := check.Duplicates[corev1.IPFamily]{}
	for i, f := range spec.IPFamilies {
		at := path.Child("ipFamilies").Index(i)
		errs = append(errs, check.OneOf(f, at, corev1.IPv4Protocol, corev1.IPv6Protocol)...)
		errs = append(errs, seen.Check(f, at)...)
	}
	p := spec.IPFamilyPolicy
	if p == nil {
		return errs
	}
	at := path.Child("ipFamilyPolicy")
	errs = append(errs, check.OneOf(*p, at, corev1.IPFamilyPolicySingleStack, corev1.IPFamilyPolicyPreferDualStack, corev1.IPFamilyPolicyRequireDualStack)...)
	if *p == corev1.IPFamilyPolicySingleStack {
		if len(spec.ClusterIPs) == 2 {
			errs = append(errs, field.Invalid(at, *p, "must be RequireDualStack or PreferDualStack when multiple `clusterIPs` are specified"))
		}
		if len(spec.IPFamilies) == 2 {
			errs = append(errs, field.Invalid(at, *p, "must be RequireDualStack or PreferDualStack when multiple `ipFamilies` are specified"))
		}
	}
	return errs
}

// validateForwardable refuses addresses that mean something else on every machine.
func validateForwardable(value string, path *field.Path) field.ErrorList {
	ip := net.ParseIP(value)
	var errs field.ErrorList
	refuse := func(is bool, text string) {
		if is {
			errs = append(errs, field.Invalid(path, value, text))
		}
	}
	refuse(ip.IsUnspecified(), "may not be unspecified (0.0.0.0 or ::)")
	refuse(ip.IsLoopback(), "may not be in the loopback range (127.0.0.0/8, ::1/128)")
	refuse(ip.IsLinkLocalUnicast(), "may not be in the link-local range (169.254.0.0/16, fe80::/10)")
	refuse(ip.IsLinkLocalMulticast(), "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)")
	return errs
}

func validateLoadBalancer(spec *corev1.ServiceSpec, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	balanced := spec.Type == corev1.ServiceTypeLoadBalancer
	if len(spec.LoadBalancerSourceRanges) > 0 {
		at := path.Child("loadBalancerSourceRanges")
		if !balanced {
			errs = append(errs, field.Forbidden(at, "may only be used when `type` is 'LoadBalancer'"))
		}
		for i, cidr := range spec.LoadBalancerSourceRanges {
			errs = append(errs, validation.IsValidCIDRForLegacyField(at.Index(i), strings.TrimSpace(cidr), false, nil)...)
		}
	}
	if spec.AllocateLoadBalancerNodePorts != nil && !balanced {
		errs = append(errs, field.Forbidden(path.Child("allocateLoadBalancerNodePorts"), "may only be used when `type` is 'LoadBalancer'"))
	}
	if balanced && spec.AllocateLoadBalancerNodePorts == nil {
		errs = append(errs, field.Required(path.Child("allocateLoadBalancerNodePorts"), ""))
	}
	if c := spec.LoadBalancerClass; c != nil {
		at := path.Child("loadBalancerClass")
		if !balanced {
			errs = append(errs, field.Forbidden(at, "may only be used when `type` is 'LoadBalancer'"))
		}
		errs = append(errs, check.Messages(at, *c, validation.IsQualifiedName(*c))...)
	}
	return errs
}

func validateTraffic(spec *corev1.ServiceSpec, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	external := path.Child("externalTrafficPolicy")
	switch {
	case !reachedFromOutside(spec) && spec.ExternalTrafficPolicy != "":
		errs = append(errs, field.Invalid(external, spec.ExternalTrafficPolicy, "may only be set for externally-accessible services"))
	case reachedFromOutside(spec):
		errs = append(errs, check.RequiredOneOf(spec.ExternalTrafficPolicy, external,
			corev1.ServiceExternalTrafficPolicyCluster, corev1.ServiceExternalTrafficPolicyLocal)...)
	}
	health := path.Child("healthCheckNodePort")
	if spec.HealthCheckNodePort < 0 {
		errs = append(errs, field.Invalid(health, spec.HealthCheckNodePort, check.NotPositive))
	} else if spec.HealthCheckNodePort > 0 && !needsHealthPort(spec) {
		errs = append(errs, field.Invalid(health, spec.HealthCheckNodePort, "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'"))
	}
	if p := spec.InternalTrafficPolicy; p != nil {
		errs = append(errs, check.OneOf(*p, path.Child("internalTrafficPolicy"), corev1.ServiceInternalTrafficPolicyCluster, corev1.ServiceInternalTrafficPolicyLocal)...)
	} else if spec.Type != corev1.ServiceTypeExternalName && spec.Type != "" {
		errs = append(errs, field.Required(path.Child("internalTrafficPolicy"), ""))
	}
	if d := spec.TrafficDistribution; d != nil {
		errs = append(errs, check.OneOf(*d, path.Child("trafficDistribution"),
			corev1.ServiceTrafficDistributionPreferClose, corev1.ServiceTrafficDistributionPreferSameZone, corev1.ServiceTrafficDistributionPreferSameNode)...)
	}
	return errs
}

func validateServiceUpdate(obj, old *corev1.Service) field.ErrorList {
	now, was, path := &obj.Spec, &old.Spec, field.NewPath("spec")
	var errs field.ErrorList
	both := now.Type != corev1.ServiceTypeExternalName && was.Type != corev1.ServiceTypeExternalName
	if both && len(was.ClusterIPs) > 0 && (len(now.ClusterIPs) == 0 || was.ClusterIPs[0] != now.ClusterIPs[0]) && was.ClusterIPs[0] != "" {
		errs = append(errs, field.Invalid(path.Child("clusterIPs").Index(0), now.ClusterIPs, "may not change once set"))
	}
	if both && len(was.IPFamilies) > 0 && len(now.IPFamilies) > 0 && was.IPFamilies[0] != now.IPFamilies[0] {
		errs = append(errs, field.Invalid(path.Child("ipFamilies").Index(0), now.IPFamilies, "may not change once set"))
	}
	if now.Type == corev1.ServiceTypeLoadBalancer && was.Type == corev1.ServiceTypeLoadBalancer && !equal(now.LoadBalancerClass, was.LoadBalancerClass) {
		errs = append(errs, field.Invalid(path.Child("loadBalancerClass"), now.LoadBalancerClass, "may not change once set"))
	}
	if needsHealthPort(now) && needsHealthPort(was) && now.HealthCheckNodePort != was.HealthCheckNodePort {
		errs = append(errs, field.Forbidden(path.Child("healthCheckNodePort"), "field is immutable"))
	}
	return append(errs, validateService(obj)...)
}

func validateServiceStatus(obj, _ *corev1.Service) field.ErrorList {
	path := field.NewPath("status", "loadBalancer", "ingress")
	ingress := obj.Status.LoadBalancer.Ingress
	var errs field.ErrorList
	if obj.Spec.Type != corev1.ServiceTypeLoadBalancer && len(ingress) > 0 {
		errs = append(errs, field.Forbidden(path, "may only be used when `spec.type` is LoadBalancer"))
	}
	for i, in := range ingress {
		at := path.Index(i)
		if in.IP != "" {
			errs = append(errs, check.LegacyIP(in.IP, at.Child("ip"))...)
			if in.IPMode == nil {
				errs = append(errs, field.Required(at.Child("ipMode"), "must be specified when `ip` is set"))
			}
		} else if in.IPMode != nil {
			errs = append(errs, field.Forbidden(at.Child("ipMode"), "may not be specified when `ip` is not set"))
		}
		if in.IPMode != nil {
			modes := []corev1.LoadBalancerIPMode{corev1.LoadBalancerIPModeProxy, corev1.LoadBalancerIPModeVIP}
			if !slices.Contains(modes, *in.IPMode) {
				errs = append(errs, field.NotSupported(at.Child("ipMode"), *in.IPMode, modes))
			}
		}
		if in.Hostname != "" {
			errs = append(errs, check.Subdomain(in.Hostname, at.Child("hostname"))...)
			if net.ParseIP(in.Hostname) != nil {
				errs = append(errs, field.Invalid(at.Child("hostname"), in.Hostname, "must be a DNS name, not an IP address"))
			}
		}
	}
	return errs
}
