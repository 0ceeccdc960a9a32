package apiserver

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strconv"

	"canopus/internal/store"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utilnet "k8s.io/apimachinery/pkg/util/net"
)

// nodeAddress is where a node's agent listens, as its Node object tells.
func (s *Server) nodeAddress(ctx context.Context, name string) (string, error) {
	nodes := s.served.Load().stored[schema.GroupResource{Resource: "nodes"}]
	if nodes.resource() == nil {
		return "", fmt.Errorf("nodes are not served")
	}
	e, err := nodes.res.Get(ctx, "", name, store.Freshness{Match: store.Any})
	if err != nil {
		return "", fmt.Errorf("look up node %s: %w", name, err)
	}
	o, err := e.Object()
	if err != nil {
		return "", err
	}
	node, ok := o.(*corev1.Node)
	if !ok {
		return "", fmt.Errorf("node %s is a %T", name, o)
	}
	port := int(node.Status.DaemonEndpoints.KubeletEndpoint.Port)
	if port == 0 {
		port = agentPort
	}
	for _, t := range []corev1.NodeAddressType{corev1.NodeInternalIP, corev1.NodeExternalIP, corev1.NodeInternalDNS, corev1.NodeHostName} {
		for _, a := range node.Status.Addresses {
			if a.Type == t && a.Address != "" {
				return net.JoinHostPort(a.Address, strconv.Itoa(port)), nil
			}
		}
	}
	return "", fmt.Errorf("node %s has no address yet: is its agent running?", name)
}

// proxied splits what a proxy path names: [scheme:]name[:port]. It answers with a redirect, and false, where a path
// lacks the slash that relative links need.
func (rq *request) proxied() (scheme, name, port string, ok bool, err error) {
	scheme, name, port, valid := utilnet.SplitSchemeNamePort(rq.route.name)
	if !valid {
		return "", "", "", false, apierrors.NewBadRequest(fmt.Sprintf("invalid proxy target %q: it must be name, name:port or scheme:name:port", rq.route.name))
	}
	if rq.route.tail == "" && (rq.Method == http.MethodGet || rq.Method == http.MethodHead) && rq.Header.Get("Upgrade") == "" {
		to := url.URL{Path: rq.URL.Path + "/", RawQuery: rq.URL.RawQuery}
		rq.w.Header().Set("Location", to.String())
		rq.w.WriteHeader(http.StatusMovedPermanently)
		return "", "", "", false, nil
	}
	return scheme, name, port, true, nil
}

func (rq *request) tail() string {
	if rq.route.tail == "" {
		return "/"
	}
	return rq.route.tail
}

// nodeProxy hands a request on to a node's agent.
func (s *Server) nodeProxy(rq *request, ep *endpoint) error {
	if s.proxies.agents == nil {
		return errNotServed("nodes/proxy")
	}
	_, name, port, ok, err := rq.proxied()
	if err != nil || !ok {
		return err
	}
	if port != "" && port != strconv.Itoa(agentPort) {
		return apierrors.NewBadRequest(fmt.Sprintf("only the node agent's own port can be reached through a node: leave %q out", port))
	}
	if err := s.admitConnect(rq, ep); err != nil {
		return err
	}
	if _, err := lookUp[*corev1.Node](rq, ep.gr, "", name); err != nil {
		return err
	}
	return s.toAgent(rq, name, rq.tail(), rq.query)
}

// podProxy hands a request on to a port of a pod.
func (s *Server) podProxy(rq *request, ep *endpoint) error {
	scheme, name, port, ok, err := rq.proxied()
	if err != nil || !ok {
		return err
	}
	if err := s.admitConnect(rq, ep); err != nil {
		return err
	}
	pod, err := lookUp[*corev1.Pod](rq, ep.gr, rq.route.namespace, name)
	if err != nil {
		return err
	}
	if port == "" {
		port = firstPort(pod)
	}
	if pod.Status.PodIP == "" {
		return apierrors.NewBadRequest("address not allowed: the pod has no IP yet")
	}
	return s.toPod(rq, scheme, pod.Status.PodIP, port)
}

func firstPort(pod *corev1.Pod) string {
	for _, c := range pod.Spec.Containers {
		if len(c.Ports) > 0 {
			return strconv.Itoa(int(c.Ports[0].ContainerPort))
		}
	}
	return ""
}

// toPod hands a request on to an address in the cluster, never to one on this machine.
func (s *Server) toPod(rq *request, scheme, ip, port string) error {
	if addr := net.ParseIP(ip); addr == nil || addr.IsLoopback() || addr.IsLinkLocalUnicast() || addr.IsLinkLocalMulticast() || addr.IsUnspecified() {
		return apierrors.NewBadRequest("address not allowed")
	}
	if scheme == "" {
		scheme = "http"
	}
	u := &url.URL{Scheme: scheme, Host: ip, RawQuery: rq.URL.RawQuery}
	if port != "" {
		u.Host = net.JoinHostPort(ip, port)
	}
	if err := setPath(u, rq.tail()); err != nil {
		return err
	}
	return s.handOn(rq, u, s.proxies.pods, false)
}

// serviceProxy hands a request on to one of the ready endpoints of a service.
func (s *Server) serviceProxy(rq *request, ep *endpoint) error {
	scheme, name, port, ok, err := rq.proxied()
	if err != nil || !ok {
		return err
	}
	if err := s.admitConnect(rq, ep); err != nil {
		return err
	}
	svc, err := lookUp[*corev1.Service](rq, ep.gr, rq.route.namespace, name)
	if err != nil {
		return err
	}
	portName, err := servicePort(svc, port)
	if err != nil {
		return err
	}
	ip, target, err := s.readyEndpoint(rq, svc, portName)
	if err != nil {
		return err
	}
	return s.toPod(rq, scheme, ip, target)
}

// servicePort finds the name of the port that a path means by name, by number, or by there being only one.
func servicePort(svc *corev1.Service, asked string) (string, error) {
	for _, p := range svc.Spec.Ports {
		if asked == "" && len(svc.Spec.Ports) == 1 || asked != "" && (p.Name == asked || strconv.Itoa(int(p.Port)) == asked) {
			return p.Name, nil
		}
	}
	return "", apierrors.NewServiceUnavailable(fmt.Sprintf("no service port %q found for service %q", asked, svc.Name))
}

// readyEndpoint picks an address of a service at random.
func (s *Server) readyEndpoint(rq *request, svc *corev1.Service, port string) (ip, number string, err error) {
	none := apierrors.NewServiceUnavailable(fmt.Sprintf("no endpoints available for service %q", svc.Name))
	slices := s.served.Load().stored[schema.GroupResource{Group: "discovery.k8s.io", Resource: "endpointslices"}]
	if slices.resource() == nil {
		return "", "", none
	}
	l, err := slices.res.List(rq.Context(), store.ListOptions{Match: store.Any, Selector: store.Selector{
		Namespace: svc.Namespace, Labels: labels.SelectorFromSet(labels.Set{discoveryv1.LabelServiceName: svc.Name})}})
	if err != nil {
		return "", "", err
	}
	var found [][2]string
	for _, e := range l.Entries {
		o, err := e.Object()
		if err != nil {
			return "", "", err
		}
		if slice, ok := o.(*discoveryv1.EndpointSlice); ok {
			found = append(found, readyIn(slice, port)...)
		}
	}
	if len(found) == 0 {
		return "", "", none
	}
	one := found[rand.IntN(len(found))]
	return one[0], one[1], nil
}

func readyIn(slice *discoveryv1.EndpointSlice, port string) (out [][2]string) {
	for _, p := range slice.Ports {
		if p.Port == nil || p.Name != nil && *p.Name != port || p.Name == nil && port != "" {
			continue
		}
		for _, ep := range slice.Endpoints {
			if len(ep.Addresses) > 0 && (ep.Conditions.Ready == nil || *ep.Conditions.Ready) {
				out = append(out, [2]string{ep.Addresses[0], strconv.Itoa(int(*p.Port))})
			}
		}
	}
	return out
}
