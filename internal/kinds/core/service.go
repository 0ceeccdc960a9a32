package core

import (
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"

	"canopus/internal/kinds"
	"canopus/internal/kinds/show"
)

// affinitySeconds is how long a client stays with its endpoint.
const affinitySeconds int32 = 10800

// Service is v1 services. Addresses, node ports and IP families are given out by the API server's allocator.
func Service() *kinds.Kind {
	return kinds.New(kinds.Spec[corev1.Service, *corev1.Service]{
		GVK:        corev1.SchemeGroupVersion.WithKind("Service"),
		Plural:     "services",
		ShortNames: []string{"svc"},
		Categories: []string{"all"},
		Namespaced: true,
		Prefix:     "services/specs/",
		NewList:    func() runtime.Object { return &corev1.ServiceList{} },
		NameRule:   apivalidation.NameIsDNSLabel,

		CreateOnUpdate: true,
		ReturnDeleted:  true,
		Default:        defaultService,
		PrepareCreate:  func(s *corev1.Service) { s.Status = corev1.ServiceStatus{} },
		PrepareUpdate:  prepareServiceUpdate,
		Validate:       validateService,
		ValidateUpdate: validateServiceUpdate,
		Warnings:       serviceWarnings,
		Columns:        serviceColumns(),
		Cells:          serviceCells,
		Fields: map[string]func(*corev1.Service) string{
			"spec.clusterIP": func(s *corev1.Service) string { return s.Spec.ClusterIP },
			"spec.type":      func(s *corev1.Service) string { return string(s.Spec.Type) },
		},
		Subresources: []kinds.Subresource{
			{Name: "proxy", GVK: corev1.SchemeGroupVersion.WithKind("ServiceProxyOptions"), Verbs: proxyVerbs()},
			kinds.Status(func(obj, old *corev1.Service) { obj.Spec = old.Spec }, validateServiceStatus),
		},
	})
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

func setDefaultPtr[T any](field **T, value T) {
	if *field == nil {
		*field = &value
	}
}

func defaultService(s *corev1.Service) {
	spec := &s.Spec
	setDefault(&spec.SessionAffinity, corev1.ServiceAffinityNone)
	setDefault(&spec.Type, corev1.ServiceTypeClusterIP)
	if spec.SessionAffinity == corev1.ServiceAffinityNone {
		spec.SessionAffinityConfig = nil
	}
	if spec.SessionAffinity == corev1.ServiceAffinityClientIP {
		c := spec.SessionAffinityConfig
		if c == nil || c.ClientIP == nil || c.ClientIP.TimeoutSeconds == nil {
			timeout := affinitySeconds
			spec.SessionAffinityConfig = &corev1.SessionAffinityConfig{ClientIP: &corev1.ClientIPConfig{TimeoutSeconds: &timeout}}
		}
	}
	for i := range spec.Ports {
		p := &spec.Ports[i]
		setDefault(&p.Protocol, corev1.ProtocolTCP)
		if p.TargetPort == intstr.FromInt32(0) || p.TargetPort == intstr.FromString("") {
			p.TargetPort = intstr.FromInt32(p.Port)
		}
	}
	if reachedFromOutside(spec) {
		setDefault(&spec.ExternalTrafficPolicy, corev1.ServiceExternalTrafficPolicyCluster)
	}
	if spec.Type != corev1.ServiceTypeExternalName {
		setDefaultPtr(&spec.InternalTrafficPolicy, corev1.ServiceInternalTrafficPolicyCluster)
	}
	if spec.Type == corev1.ServiceTypeLoadBalancer {
		setDefaultPtr(&spec.AllocateLoadBalancerNodePorts, true)
	}
	if spec.Type == corev1.ServiceTypeLoadBalancer {
		for i := range s.Status.LoadBalancer.Ingress {
			if in := &s.Status.LoadBalancer.Ingress[i]; in.IP != "" {
				setDefaultPtr(&in.IPMode, corev1.LoadBalancerIPModeVIP)
			}
		}
	}
	// clusterIP is the first of clusterIPs; old clients write only the one. A change of clusterIP alone by such a client
	// is seen in prepareServiceUpdate, which knows the old object.
	if spec.ClusterIP != "" && len(spec.ClusterIPs) == 0 {
		spec.ClusterIPs = []string{spec.ClusterIP}
	}
	if spec.ClusterIP == "" && len(spec.ClusterIPs) > 0 && spec.Type != corev1.ServiceTypeExternalName {
		spec.ClusterIP = spec.ClusterIPs[0]
	}
}

// reachedFromOutside says whether traffic from outside the cluster can arrive.
func reachedFromOutside(spec *corev1.ServiceSpec) bool {
	return spec.Type == corev1.ServiceTypeLoadBalancer || spec.Type == corev1.ServiceTypeNodePort ||
		(spec.Type == corev1.ServiceTypeClusterIP && len(spec.ExternalIPs) > 0)
}

// prepareServiceUpdate keeps the status and what an update that does not mention it keeps: the addresses, the families,
// the node ports of the same ports, the health check port. It lets go of what the new type does not have.
func prepareServiceUpdate(obj, old *corev1.Service) {
	obj.Status = old.Status
	now, was := &obj.Spec, &old.Spec
	if now.Type != corev1.ServiceTypeExternalName && was.Type != corev1.ServiceTypeExternalName {
		keepAddresses(now, was)
	}
	keepNodePorts(now, was)
	if needsHealthPort(now) && needsHealthPort(was) && now.HealthCheckNodePort == 0 {
		now.HealthCheckNodePort = was.HealthCheckNodePort
	}
	dropByType(now, was)
	if now.Type != corev1.ServiceTypeLoadBalancer {
		obj.Status.LoadBalancer = corev1.LoadBalancerStatus{}
	}
}

// keepAddresses fills in what the client left out, and follows a client that knows only clusterIP.
func keepAddresses(now, was *corev1.ServiceSpec) {
	sameList := len(now.ClusterIPs) == len(was.ClusterIPs) && equal(now.ClusterIPs, was.ClusterIPs)
	switch {
	case now.ClusterIP == "" && len(now.ClusterIPs) == 0:
		now.ClusterIP, now.ClusterIPs = was.ClusterIP, was.ClusterIPs
	case now.ClusterIP != was.ClusterIP && sameList:
		now.ClusterIPs = nil
		if now.ClusterIP != "" {
			now.ClusterIPs = []string{now.ClusterIP}
		}
	}
	setDefault(&now.ClusterIP, was.ClusterIP)
	if len(now.IPFamilies) == 0 && now.ClusterIP == was.ClusterIP {
		now.IPFamilies = was.IPFamilies
	}
	if now.IPFamilyPolicy == nil {
		now.IPFamilyPolicy = was.IPFamilyPolicy
	}
}

// keepNodePorts carries node ports over by protocol and port, unless another port asks for them.
func keepNodePorts(now, was *corev1.ServiceSpec) {
	needs := func(s *corev1.ServiceSpec) bool {
		return s.Type == corev1.ServiceTypeNodePort || (s.Type == corev1.ServiceTypeLoadBalancer && isTrue(s.AllocateLoadBalancerNodePorts))
	}
	if !needs(now) || !needs(was) {
		return
	}
	type port struct {
		protocol corev1.Protocol
		number   int32
	}
	had, taken := map[port]int32{}, map[port]bool{}
	for _, p := range was.Ports {
		had[port{p.Protocol, p.Port}] = p.NodePort
	}
	for _, p := range now.Ports {
		if p.NodePort != 0 {
			taken[port{p.Protocol, p.NodePort}] = true
		}
	}
	for i := range now.Ports {
		p := &now.Ports[i]
		if kept := had[port{p.Protocol, p.Port}]; p.NodePort == 0 && !taken[port{p.Protocol, kept}] {
			p.NodePort = kept
			taken[port{p.Protocol, kept}] = true
		}
	}
}

func needsHealthPort(s *corev1.ServiceSpec) bool {
	return s.Type == corev1.ServiceTypeLoadBalancer && s.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal
}

// dropByType clears what belonged to the old type, where the client merely left it as it was.
func dropByType(now, was *corev1.ServiceSpec) {
	if now.Type == corev1.ServiceTypeExternalName && was.Type != corev1.ServiceTypeExternalName {
		if now.ClusterIP == was.ClusterIP && equal(now.ClusterIPs, was.ClusterIPs) {
			now.ClusterIP, now.ClusterIPs = "", nil
		}
		now.IPFamilies, now.IPFamilyPolicy = nil, nil
		if equal(now.InternalTrafficPolicy, was.InternalTrafficPolicy) {
			now.InternalTrafficPolicy = nil
		}
	}
	portsBefore := was.Type == corev1.ServiceTypeNodePort || was.Type == corev1.ServiceTypeLoadBalancer
	portsNow := now.Type == corev1.ServiceTypeNodePort || now.Type == corev1.ServiceTypeLoadBalancer
	if portsBefore && !portsNow {
		for i := range now.Ports {
			if i < len(was.Ports) && now.Ports[i].NodePort == was.Ports[i].NodePort {
				now.Ports[i].NodePort = 0
			}
		}
	}
	if needsHealthPort(was) && !needsHealthPort(now) && now.HealthCheckNodePort == was.HealthCheckNodePort {
		now.HealthCheckNodePort = 0
	}
	if was.Type == corev1.ServiceTypeLoadBalancer && now.Type != corev1.ServiceTypeLoadBalancer {
		if equal(now.AllocateLoadBalancerNodePorts, was.AllocateLoadBalancerNodePorts) {
			now.AllocateLoadBalancerNodePorts = nil
		}
		if equal(now.LoadBalancerClass, was.LoadBalancerClass) {
			now.LoadBalancerClass = nil
		}
	}
	if reachedFromOutside(was) && !reachedFromOutside(now) && now.ExternalTrafficPolicy == was.ExternalTrafficPolicy {
		now.ExternalTrafficPolicy = ""
	}
}

func serviceColumns() []metav1.TableColumnDefinition {
	doc := corev1.ServiceSpec{}.SwaggerDoc()
	return []metav1.TableColumnDefinition{
		show.Name(),
		show.Column("Type", "string", doc["type"]),
		show.Column("Cluster-IP", "string", doc["clusterIP"]),
		show.Column("External-IP", "string", doc["externalIPs"]),
		show.Column("Port(s)", "string", doc["ports"]),
		show.AgeColumn(),
		show.Wide("Selector", "string", doc["selector"]),
	}
}

func serviceCells(s *corev1.Service, now time.Time) []any {
	ip := show.None
	if len(s.Spec.ClusterIPs) > 0 {
		ip = s.Spec.ClusterIPs[0]
	}
	ports := make([]string, len(s.Spec.Ports))
	for i, p := range s.Spec.Ports {
		ports[i] = fmt.Sprintf("%d/%s", p.Port, p.Protocol)
		if p.NodePort > 0 {
			ports[i] = fmt.Sprintf("%d:%d/%s", p.Port, p.NodePort, p.Protocol)
		}
	}
	return []any{
		s.Name, string(s.Spec.Type), ip, externalIP(s), show.List(ports), show.Age(s.CreationTimestamp, now), show.Labels(s.Spec.Selector),
	}
}

// externalIP says where the service is reached from outside.
func externalIP(s *corev1.Service) string {
	switch s.Spec.Type {
	case corev1.ServiceTypeClusterIP, corev1.ServiceTypeNodePort:
		return show.List(s.Spec.ExternalIPs)
	case corev1.ServiceTypeExternalName:
		return s.Spec.ExternalName
	case corev1.ServiceTypeLoadBalancer:
		var all []string
		for _, in := range s.Status.LoadBalancer.Ingress {
			if in.IP != "" {
				all = append(all, in.IP)
			} else if in.Hostname != "" {
				all = append(all, in.Hostname)
			}
		}
		all = append(all, s.Spec.ExternalIPs...)
		if len(all) == 0 {
			return "<pending>"
		}
		return strings.Join(all, ",")
	}
	return show.Unknown
}
