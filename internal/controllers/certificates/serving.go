package certificates

import (
	"crypto/x509"
	"fmt"
	"net/netip"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/informers"
	corelisters "k8s.io/client-go/listers/core/v1"
	discoverylisters "k8s.io/client-go/listers/discovery/v1"
	networkinglisters "k8s.io/client-go/listers/networking/v1"
	"k8s.io/client-go/tools/cache"
)

// world is what a node's claim to an address is held against.
type world struct {
	nodes    []*corev1.Node
	services []*networkingv1.ServiceCIDR
	servers  []*discoveryv1.EndpointSlice // of the kubernetes Service
}

// refuseServing says why a node does not get a serving certificate without a person's word, or "". A node writes its addresses
// itself, so that they alone prove nothing: it gets none that somebody else has, and no name but its own.
func refuseServing(req *x509.CertificateRequest, w world) string {
	name := strings.TrimPrefix(req.Subject.CommonName, nodeUser)
	for _, dns := range req.DNSNames {
		if dns != name {
			return fmt.Sprintf("DNS name %s is not the name of node %s", dns, name)
		}
	}
	for _, ip := range req.IPAddresses {
		a, ok := netip.AddrFromSlice(ip)
		if !ok {
			return "an address in the request cannot be read"
		}
		if refused := w.refuseAddress(name, a.Unmap()); refused != "" {
			return refused
		}
	}
	return ""
}

func (w world) refuseAddress(name string, a netip.Addr) string {
	if !a.IsGlobalUnicast() {
		return fmt.Sprintf("%s is not an address that others could reach", a)
	}
	for _, s := range w.services {
		for _, cidr := range s.Spec.CIDRs {
			if p, err := netip.ParsePrefix(cidr); err == nil && p.Contains(a) {
				return fmt.Sprintf("%s is an address of Services", a)
			}
		}
	}
	mine := false
	for _, n := range w.nodes {
		if !reachedAt(n, a) {
			continue
		}
		if n.Name != name {
			return fmt.Sprintf("%s is an address of node %s too", a, n.Name)
		}
		mine = true
	}
	if !mine {
		return fmt.Sprintf("%s is not among the addresses of node %s", a, name)
	}
	return w.refuseServer(name, a)
}

// refuseServer keeps API servers without a node of their own from being posed as. A server that is a node has another
// endpoint name than others: the addresses of nodes have told them apart already.
func (w world) refuseServer(name string, a netip.Addr) string {
	for _, s := range w.servers {
		for _, e := range s.Endpoints {
			for _, text := range e.Addresses {
				if server, err := netip.ParseAddr(text); err == nil && server.Unmap() == a {
					return fmt.Sprintf("%s is the address of an API server, whose certificates node %s does not get by itself", a, name)
				}
			}
		}
	}
	return ""
}

func reachedAt(n *corev1.Node, a netip.Addr) bool {
	for _, have := range n.Status.Addresses {
		if ip, err := netip.ParseAddr(have.Address); err == nil && ip.Unmap() == a {
			return true
		}
	}
	return false
}

// places observes the world.
type places struct {
	nodes    corelisters.NodeLister
	services networkinglisters.ServiceCIDRLister
	slices   discoverylisters.EndpointSliceLister
	informed []cache.SharedIndexInformer
}

func newPlaces(f informers.SharedInformerFactory) places {
	nodes, services, slices := f.Core().V1().Nodes(), f.Networking().V1().ServiceCIDRs(), f.Discovery().V1().EndpointSlices()
	return places{
		nodes: nodes.Lister(), services: services.Lister(), slices: slices.Lister(),
		informed: []cache.SharedIndexInformer{nodes.Informer(), services.Informer(), slices.Informer()},
	}
}

func (p places) caches() []cache.SharedIndexInformer { return p.informed }

func (p places) observe() (world, error) {
	var w world
	var err error
	if w.nodes, err = p.nodes.List(labels.Everything()); err != nil {
		return w, err
	}
	if w.services, err = p.services.List(labels.Everything()); err != nil {
		return w, err
	}
	kubernetes := labels.SelectorFromSet(labels.Set{discoveryv1.LabelServiceName: "kubernetes"})
	w.servers, err = p.slices.EndpointSlices(corev1.NamespaceDefault).List(kubernetes)
	return w, err
}
