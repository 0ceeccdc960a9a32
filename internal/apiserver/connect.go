package apiserver

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strconv"
	"strings"
	"time"

	"canopus/internal/admission"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Nodes says how to reach node agents and pods.
type Nodes struct {
	// TLS has the client certificate that node agents know this server by, and the roots of theirs. nil: log, exec and
	// the like answer 501.
	TLS *tls.Config
	// Dial opens a connection to a node agent. nil: to the address and port that the Node object tells.
	Dial func(ctx context.Context, node string) (net.Conn, error)
	// DialPod opens a connection to an address inside the cluster, for proxies. nil: the machine's own network.
	DialPod func(ctx context.Context, network, address string) (net.Conn, error)
}

// agentPort is where a node agent listens if its Node does not say.
const agentPort = 10250

// maxSessions is how many agents' TLS sessions are remembered.
const maxSessions = 2000

// proxies holds the transports of everything that is handed on.
type proxies struct {
	agents *http.Transport // nil: node agents cannot be reached
	pods   *http.Transport
}

func newProxies(s *Server) *proxies {
	p := &proxies{}
	dialer := &net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}
	dial := s.cfg.Nodes.DialPod
	if dial == nil {
		dial = dialer.DialContext
	}
	// What pods serve is theirs to prove: as upstream, their certificates are not checked.
	p.pods = &http.Transport{DialContext: dial, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, IdleConnTimeout: time.Minute, MaxIdleConns: 100} //nolint:gosec // see above
	if s.cfg.Nodes.TLS == nil {
		return p
	}
	conf := s.cfg.Nodes.TLS.Clone()
	// More agents are called now and then than connections are kept: a session spares the signatures of a new one.
	conf.ClientSessionCache = tls.NewLRUClientSessionCache(maxSessions)
	p.agents = &http.Transport{
		TLSClientConfig: conf, IdleConnTimeout: time.Minute, MaxIdleConns: 100, TLSHandshakeTimeout: 10 * time.Second,
		DialContext: func(ctx context.Context, _, address string) (net.Conn, error) {
			node, _, err := net.SplitHostPort(address)
			if err != nil {
				return nil, err
			}
			if s.cfg.Nodes.Dial != nil {
				return s.cfg.Nodes.Dial(ctx, node)
			}
			target, err := s.nodeAddress(ctx, node)
			if err != nil {
				return nil, err
			}
			return dialer.DialContext(ctx, "tcp", target)
		},
	}
	return p
}

// Agents carries requests to node agents, https://NODE:10250/…, with this server's identity: it finds the node's address and
// port. It is nil if the server cannot reach nodes.
func (s *Server) Agents() http.RoundTripper {
	if s.proxies.agents == nil {
		return nil
	}
	return s.proxies.agents
}

// connector returns the handler of a subresource that is handed on to a node or a pod, or nil.
func (s *Server) connector(ep *endpoint, sub string) handler {
	switch (schema.GroupResource{Group: ep.gr.Group, Resource: ep.gr.Resource + "/" + sub}) {
	case schema.GroupResource{Resource: "pods/log"}:
		return s.podLog
	case schema.GroupResource{Resource: "pods/exec"}:
		return s.podStream("exec")
	case schema.GroupResource{Resource: "pods/attach"}:
		return s.podStream("attach")
	case schema.GroupResource{Resource: "pods/portforward"}:
		return s.podPortForward
	case schema.GroupResource{Resource: "pods/proxy"}:
		return s.podProxy
	case schema.GroupResource{Resource: "services/proxy"}:
		return s.serviceProxy
	case schema.GroupResource{Resource: "nodes/proxy"}:
		return s.nodeProxy
	}
	return nil
}

// admitConnect lets admission look at a connection.
func (s *Server) admitConnect(rq *request, ep *endpoint) error {
	r := &admission.Request{
		Operation: admission.Connect, Kind: ep.Kind.GVK, Resource: ep.gvr, Subresource: rq.route.subresource,
		Namespace: rq.namespaceOf(ep), Name: rq.route.name, User: rq.user, Warn: rq.warn,
	}
	if err := s.admit(rq.Context(), r); err != nil {
		return err
	}
	return s.confirm(rq.Context(), r)
}

// podOnNode reads the pod of the request, and refuses one that has no node yet.
func (s *Server) podOnNode(rq *request, ep *endpoint) (*corev1.Pod, error) {
	if s.proxies.agents == nil {
		return nil, errNotServed(ep.gr.Resource + "/" + rq.route.subresource)
	}
	if err := s.admitConnect(rq, ep); err != nil {
		return nil, err
	}
	pod, err := lookUp[*corev1.Pod](rq, ep.gr, rq.route.namespace, rq.route.name)
	if err != nil {
		return nil, err
	}
	if pod.Spec.NodeName == "" && rq.route.subresource != "log" {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("pod %s does not have a host assigned", pod.Name))
	}
	return pod, nil
}

// containerOf finds the container a request means: the only one if it names none.
func containerOf(pod *corev1.Pod, asked string) (string, error) {
	var names, all []string
	for _, c := range pod.Spec.Containers {
		names = append(names, c.Name)
	}
	for _, c := range pod.Spec.InitContainers {
		all = append(all, c.Name)
	}
	for _, c := range pod.Spec.EphemeralContainers {
		all = append(all, c.Name)
	}
	if asked == "" {
		if len(names) == 1 {
			return names[0], nil
		}
		return "", apierrors.NewBadRequest(fmt.Sprintf("a container name must be specified for pod %s, choose one of: [%s]", pod.Name, strings.Join(names, " ")))
	}
	for _, name := range append(names, all...) {
		if name == asked {
			return asked, nil
		}
	}
	return "", apierrors.NewBadRequest(fmt.Sprintf("container %s is not valid for pod %s", asked, pod.Name))
}

// podLog hands a log on from the node agent.
func (s *Server) podLog(rq *request, ep *endpoint) error {
	if rq.route.verb != "get" {
		return errMethod()
	}
	pod, err := s.podOnNode(rq, ep)
	if err != nil {
		return err
	}
	container, err := containerOf(pod, rq.query.Get("container"))
	if err != nil {
		return err
	}
	if err := checkLogOptions(rq.query); err != nil {
		return err
	}
	if pod.Spec.NodeName == "" {
		rq.w.WriteHeader(http.StatusNoContent)
		return nil
	}
	query := url.Values{}
	for _, name := range []string{"follow", "previous", "sinceSeconds", "sinceTime", "timestamps", "tailLines", "limitBytes", "stream"} {
		if v, ok := rq.query[name]; ok {
			query[name] = v
		}
	}
	return s.toAgent(rq, pod.Spec.NodeName, "/containerLogs/"+url.PathEscape(pod.Namespace)+"/"+url.PathEscape(pod.Name)+"/"+url.PathEscape(container), query)
}

// checkLogOptions refuses numbers that the node agent could not read.
func checkLogOptions(q url.Values) error {
	for _, name := range []string{"sinceSeconds", "tailLines", "limitBytes"} {
		v := q.Get(name)
		if v == "" {
			continue
		}
		n, err := strconv.ParseInt(v, 10, 64)
		if err != nil || n < 0 || n == 0 && name != "tailLines" {
			return apierrors.NewBadRequest(fmt.Sprintf("%s: Invalid value: %q: it must be a positive number", name, v))
		}
	}
	if v := q.Get("sinceTime"); v != "" {
		if q.Get("sinceSeconds") != "" {
			return apierrors.NewBadRequest("at most one of `sinceTime` or `sinceSeconds` may be specified")
		}
		if _, err := time.Parse(time.RFC3339, v); err != nil {
			return apierrors.NewBadRequest(fmt.Sprintf("sinceTime: Invalid value: %q: it must be a time as in RFC 3339", v))
		}
	}
	return nil
}

// podStream hands exec and attach on to the node agent, which calls their options by other names.
func (s *Server) podStream(action string) handler {
	return func(rq *request, ep *endpoint) error {
		if rq.route.verb != "get" && rq.route.verb != "create" {
			return errMethod()
		}
		pod, err := s.podOnNode(rq, ep)
		if err != nil {
			return err
		}
		container, err := containerOf(pod, rq.query.Get("container"))
		if err != nil {
			return err
		}
		query := url.Values{}
		for _, o := range [][2]string{{"stdin", "input"}, {"stdout", "output"}, {"stderr", "error"}, {"tty", "tty"}} {
			if rq.flag(o[0]) {
				query.Set(o[1], "1")
			}
		}
		if action == "exec" {
			if len(rq.query["command"]) == 0 {
				return apierrors.NewBadRequest("you must specify at least 1 command for the container")
			}
			query["command"] = rq.query["command"]
		}
		return s.toAgent(rq, pod.Spec.NodeName, "/"+action+"/"+url.PathEscape(pod.Namespace)+"/"+url.PathEscape(pod.Name)+"/"+url.PathEscape(container), query)
	}
}

// podPortForward hands a port forward on to the node agent.
func (s *Server) podPortForward(rq *request, ep *endpoint) error {
	if rq.route.verb != "get" && rq.route.verb != "create" {
		return errMethod()
	}
	pod, err := s.podOnNode(rq, ep)
	if err != nil {
		return err
	}
	query := url.Values{}
	if ports := rq.query["ports"]; len(ports) > 0 {
		query["port"] = strings.Split(strings.Join(ports, ","), ",")
	}
	return s.toAgent(rq, pod.Spec.NodeName, "/portForward/"+url.PathEscape(pod.Namespace)+"/"+url.PathEscape(pod.Name), query)
}

// toAgent hands a request on to a node agent.
func (s *Server) toAgent(rq *request, node, path string, query url.Values) error {
	u := &url.URL{Scheme: "https", Host: net.JoinHostPort(node, strconv.Itoa(agentPort)), RawQuery: query.Encode()}
	if err := setPath(u, path); err != nil {
		return err
	}
	return s.handOn(rq, u, s.proxies.agents, true)
}

func setPath(u *url.URL, escaped string) error {
	plain, err := url.PathUnescape(escaped)
	if err != nil {
		return apierrors.NewBadRequest(fmt.Sprintf("the path cannot be read: %v", err))
	}
	u.Path, u.RawPath = plain, escaped
	return nil
}

// handOn lets target answer the request, upgrades of the connection included. Errors of a node agent become a Status.
func (s *Server) handOn(rq *request, target *url.URL, via *http.Transport, agent bool) error {
	ctx, cancel := context.WithCancel(rq.Context())
	defer cancel()
	defer s.streams.add(cancel)()
	s.metrics.enterLong(rq)
	var failed error
	proxy := &httputil.ReverseProxy{
		Transport:     via,
		FlushInterval: -1,
		Rewrite: func(pr *httputil.ProxyRequest) {
			pr.Out.URL, pr.Out.Host = target, ""
			pr.Out.Header.Del("Authorization")
			if !agent {
				pr.SetXForwarded()
			}
		},
		ErrorHandler: func(_ http.ResponseWriter, _ *http.Request, err error) { failed = err },
		ModifyResponse: func(resp *http.Response) error {
			resp.Header.Del("Audit-Id")
			if agent && resp.StatusCode >= 400 && rq.route.subresource != "proxy" {
				return agentError(rq, resp)
			}
			return nil
		},
	}
	proxy.ServeHTTP(rq.w, rq.WithContext(ctx))
	var status apierrors.APIStatus
	switch {
	case failed == nil, rq.w.code != 0:
		return nil
	case errors.As(failed, &status):
		return failed
	}
	s.log.Debug("handing on failed", "path", rq.URL.Path, "target", target.Host, "error", failed)
	return &apierrors.StatusError{ErrStatus: metav1.Status{
		Status: metav1.StatusFailure, Code: http.StatusBadGateway, Reason: metav1.StatusReasonInternalError,
		Message: fmt.Sprintf("error trying to reach %s: %v", target.Host, failed),
	}}
}

// agentError is a node agent's refusal as a Status.
func agentError(rq *request, resp *http.Response) error {
	text, err := io.ReadAll(io.LimitReader(resp.Body, 4096))
	_ = resp.Body.Close()
	if err != nil {
		return err
	}
	message := strings.TrimSpace(string(text))
	if resp.StatusCode == http.StatusBadRequest {
		return apierrors.NewBadRequest(message)
	}
	rt := &rq.route
	return apierrors.NewGenericServerResponse(resp.StatusCode, rt.verb, schema.GroupResource{Group: rt.group, Resource: rt.plural}, rt.name, message, 0, true)
}
