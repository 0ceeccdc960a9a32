package dns

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"
)

// service is what names are answered from. Its JSON form is that of the snapshot file.
type service struct {
	Namespace string       `json:"namespace"`
	Name      string       `json:"name"`
	IPs       []netip.Addr `json:"ips,omitempty"`      // cluster IPs
	External  string       `json:"external,omitempty"` // externalName, lower case, fully qualified
	Ports     []port       `json:"ports,omitempty"`    // of a Service with cluster IPs
	Endpoints []endpoint   `json:"endpoints,omitempty"`
}

// headless Services are known by the addresses of their endpoints.
func (s *service) headless() bool { return len(s.IPs) == 0 && s.External == "" }

type port struct {
	Name     string `json:"name,omitempty"`
	Protocol string `json:"protocol"` // lower case
	Number   uint16 `json:"number"`
}

// endpoint is one ready address of a headless Service.
type endpoint struct {
	Host  string     `json:"host"` // the pod's hostname, else the address with dashes
	IP    netip.Addr `json:"ip"`
	Ports []port     `json:"ports,omitempty"`
}

// records holds all services. Safe for concurrent use; a stored *service is never changed.
type records struct {
	mu         sync.RWMutex
	services   map[types.NamespacedName]*service
	namespaces map[string]int                                 // number of services in each
	byIP       map[netip.Addr]map[types.NamespacedName]string // reverse names below the service's domain: "" or "host"
	changes    uint64
}

func newRecords() *records {
	r := &records{}
	r.clear()
	return r
}

func (r *records) clear() {
	r.services = map[types.NamespacedName]*service{}
	r.namespaces = map[string]int{}
	r.byIP = map[netip.Addr]map[types.NamespacedName]string{}
}

func (s *service) key() types.NamespacedName {
	return types.NamespacedName{Namespace: s.Namespace, Name: s.Name}
}

// reverse returns the addresses that lead to s and the host part of each one's name.
func (s *service) reverse() map[netip.Addr]string {
	names := map[netip.Addr]string{}
	for _, ip := range s.IPs {
		names[ip] = ""
	}
	for _, e := range s.Endpoints {
		names[e.IP] = e.Host
	}
	return names
}

// put stores s in place of what was known under its name.
func (r *records) put(s *service) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.drop(s.key())
	r.changes++
	r.services[s.key()] = s
	r.namespaces[s.Namespace]++
	for ip, host := range s.reverse() {
		if r.byIP[ip] == nil {
			r.byIP[ip] = map[types.NamespacedName]string{}
		}
		r.byIP[ip][s.key()] = host
	}
}

func (r *records) delete(key types.NamespacedName) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.drop(key)
}

// drop is delete with the lock held.
func (r *records) drop(key types.NamespacedName) {
	old := r.services[key]
	if old == nil {
		return
	}
	r.changes++
	delete(r.services, key)
	if r.namespaces[key.Namespace]--; r.namespaces[key.Namespace] == 0 {
		delete(r.namespaces, key.Namespace)
	}
	for ip := range old.reverse() {
		if delete(r.byIP[ip], key); len(r.byIP[ip]) == 0 {
			delete(r.byIP, ip)
		}
	}
}

// keepOnly drops all services that are not in present.
func (r *records) keepOnly(present map[types.NamespacedName]bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for key := range r.services {
		if !present[key] {
			r.drop(key)
		}
	}
}

func (r *records) get(namespace, name string) *service {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.services[types.NamespacedName{Namespace: namespace, Name: name}]
}

func (r *records) hasNamespace(name string) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.namespaces[name] > 0
}

// reversed returns the names for ip below the services' domain, sorted: "web.default" or "host.web.default".
func (r *records) reversed(ip netip.Addr) []string {
	r.mu.RLock()
	defer r.mu.RUnlock()
	var names []string
	for key, host := range r.byIP[ip] {
		name := key.Name + "." + key.Namespace
		if host != "" {
			name = host + "." + name
		}
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// all returns every service, sorted, and the count of changes that led there.
func (r *records) all() ([]*service, uint64) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	var list []*service
	for _, s := range r.services {
		list = append(list, s)
	}
	slices.SortFunc(list, func(a, b *service) int {
		return cmp.Or(strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Name, b.Name))
	})
	return list, r.changes
}

// toRecord returns what is known of svc with its slices; nil if nothing is to be answered.
func toRecord(svc *corev1.Service, slicesOf []*discoveryv1.EndpointSlice) *service {
	s := &service{Namespace: svc.Namespace, Name: svc.Name}
	if svc.Spec.Type == corev1.ServiceTypeExternalName {
		s.External = strings.ToLower(strings.TrimSuffix(svc.Spec.ExternalName, ".")) + "."
		return s
	}
	if svc.Spec.ClusterIP == "" {
		return nil // no address yet
	}
	if svc.Spec.ClusterIP == corev1.ClusterIPNone {
		s.Endpoints = readyEndpoints(slicesOf)
		return s
	}
	ips := svc.Spec.ClusterIPs
	if len(ips) == 0 {
		ips = []string{svc.Spec.ClusterIP}
	}
	for _, text := range ips {
		if ip, err := netip.ParseAddr(text); err == nil {
			s.IPs = append(s.IPs, ip)
		}
	}
	for _, p := range svc.Spec.Ports {
		s.Ports = append(s.Ports, port{Name: strings.ToLower(p.Name), Protocol: strings.ToLower(cmp.Or(string(p.Protocol), "TCP")), Number: uint16(p.Port)})
	}
	return s
}

// readyEndpoints reads slices; an address that is in two of them, because it moves, counts once.
func readyEndpoints(slicesOf []*discoveryv1.EndpointSlice) []endpoint {
	var found []endpoint
	for _, slice := range slicesOf {
		var ports []port
		for _, p := range slice.Ports {
			if p.Port == nil {
				continue
			}
			one := port{Protocol: "tcp", Number: uint16(*p.Port)}
			if p.Name != nil {
				one.Name = strings.ToLower(*p.Name)
			}
			if p.Protocol != nil {
				one.Protocol = strings.ToLower(string(*p.Protocol))
			}
			ports = append(ports, one)
		}
		for _, e := range slice.Endpoints {
			if e.Conditions.Ready != nil && !*e.Conditions.Ready || len(e.Addresses) == 0 {
				continue
			}
			ip, err := netip.ParseAddr(e.Addresses[0])
			if err != nil {
				continue
			}
			host := strings.NewReplacer(".", "-", ":", "-").Replace(ip.String())
			if e.Hostname != nil && *e.Hostname != "" {
				host = strings.ToLower(*e.Hostname)
			}
			found = append(found, endpoint{Host: host, IP: ip, Ports: ports})
		}
	}
	slices.SortFunc(found, func(a, b endpoint) int { return cmp.Or(a.IP.Compare(b.IP), strings.Compare(a.Host, b.Host)) })
	return slices.CompactFunc(found, func(a, b endpoint) bool { return a.IP == b.IP && a.Host == b.Host })
}
