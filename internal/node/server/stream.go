package server

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/gorilla/websocket"
	"k8s.io/client-go/tools/portforward"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// The protocols that need more than handing the connection to the runtime's own streaming server, which speaks SPDY and
// the older WebSocket protocols.
const (
	protocolV5     = "v5.channel.k8s.io"
	protocolTunnel = "SPDY/3.1+portforward.k8s.io"
)

// exec runs a command in a container with its streams on the caller's connection.
func (s *Server) exec(w http.ResponseWriter, r *http.Request) {
	_, st, err := s.container(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusNotFound)
		return
	}
	o := streamOptions(r)
	resp, err := s.cfg.Runtime.Exec(r.Context(), &runtimeapi.ExecRequest{
		ContainerId: st.GetId(), Cmd: r.URL.Query()["command"], Tty: o.tty, Stdin: o.stdin, Stdout: o.stdout, Stderr: o.stderr})
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	s.stream(w, r, resp.GetUrl(), o)
}

// attach connects the caller to the streams of a container's process.
func (s *Server) attach(w http.ResponseWriter, r *http.Request) {
	_, st, err := s.container(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusNotFound)
		return
	}
	o := streamOptions(r)
	resp, err := s.cfg.Runtime.Attach(r.Context(), &runtimeapi.AttachRequest{
		ContainerId: st.GetId(), Tty: o.tty, Stdin: o.stdin, Stdout: o.stdout, Stderr: o.stderr})
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	s.stream(w, r, resp.GetUrl(), o)
}

// run runs a command to its end and writes its output.
func (s *Server) run(w http.ResponseWriter, r *http.Request) {
	_, st, err := s.container(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusNotFound)
		return
	}
	resp, err := s.cfg.Runtime.ExecSync(r.Context(), &runtimeapi.ExecSyncRequest{ContainerId: st.GetId(), Cmd: strings.Fields(r.URL.Query().Get("cmd"))})
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	_, _ = w.Write(append(resp.GetStdout(), resp.GetStderr()...))
}

// portForward connects the caller to ports of a pod.
func (s *Server) portForward(w http.ResponseWriter, r *http.Request) {
	rt, err := s.pod(r)
	if err != nil || rt.ReadySandbox() == nil {
		http.Error(w, fmt.Sprintf("pod not found or not running: %v", err), http.StatusNotFound)
		return
	}
	var ports []int32
	for _, v := range r.URL.Query()["port"] {
		var p int32
		if _, err := fmt.Sscan(v, &p); err != nil {
			http.Error(w, fmt.Sprintf("port %q is not a number", v), http.StatusBadRequest)
			return
		}
		ports = append(ports, p)
	}
	resp, err := s.cfg.Runtime.PortForward(r.Context(), &runtimeapi.PortForwardRequest{PodSandboxId: rt.ReadySandbox().GetId(), Port: ports})
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	target, err := url.Parse(resp.GetUrl())
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	if slices.Contains(websocket.Subprotocols(r), protocolTunnel) {
		s.tunnel(w, r, target)
		return
	}
	s.hand(w, r, target)
}

type options struct{ stdin, stdout, stderr, tty bool }

// streamOptions reads both spellings of the options: the node agent's own and the API's.
func streamOptions(r *http.Request) options {
	q := r.URL.Query()
	on := func(names ...string) bool {
		for _, n := range names {
			if v := q.Get(n); v == "1" || v == "true" {
				return true
			}
		}
		return false
	}
	o := options{stdin: on("input", "stdin"), stdout: on("output", "stdout"), stderr: on("error", "stderr"), tty: on("tty")}
	if o.tty {
		o.stderr = false // a terminal has one output
	}
	return o
}

// stream connects the caller to the runtime's streaming server.
func (s *Server) stream(w http.ResponseWriter, r *http.Request, rawURL string, o options) {
	target, err := url.Parse(rawURL)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	if slices.Contains(websocket.Subprotocols(r), protocolV5) {
		s.channels(w, r, target, o)
		return
	}
	s.hand(w, r, target)
}

// hand lets the runtime's streaming server answer the request itself.
func (s *Server) hand(w http.ResponseWriter, r *http.Request, target *url.URL) {
	p := &httputil.ReverseProxy{
		Rewrite: func(pr *httputil.ProxyRequest) {
			pr.Out.URL, pr.Out.Host = target, target.Host
			pr.Out.Header.Del("Authorization")
		},
		FlushInterval: -1,
		ErrorLog:      nil,
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			http.Error(w, fmt.Sprintf("the container runtime's streaming server does not answer: %v", err), http.StatusBadGateway)
		},
	}
	p.ServeHTTP(w, r)
}

// tunnel unwraps SPDY from a WebSocket and passes it on as it is.
func (s *Server) tunnel(w http.ResponseWriter, r *http.Request, target *url.URL) {
	back, err := dialSPDY(r.Context(), target)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer back.Close()
	up := websocket.Upgrader{Subprotocols: []string{protocolTunnel}, CheckOrigin: func(*http.Request) bool { return true }}
	ws, err := up.Upgrade(w, r, nil)
	if err != nil {
		return // Upgrade has answered
	}
	front := portforward.NewTunnelingConnection("node", ws)
	defer front.Close()
	pipe(r.Context(), front, back)
}

// pipe copies both ways until one side ends.
func pipe(ctx context.Context, a, b io.ReadWriteCloser) {
	done := make(chan struct{}, 2)
	cp := func(dst io.Writer, src io.Reader) {
		_, _ = io.Copy(dst, src)
		done <- struct{}{}
	}
	go cp(a, b)
	go cp(b, a)
	select {
	case <-done:
	case <-ctx.Done():
	}
	_ = a.Close()
	_ = b.Close()
}

// upgradeTimeout bounds the handshake with the runtime's streaming server.
const upgradeTimeout = 10 * time.Second

// dialSPDY opens a port-forward connection to the runtime's streaming server.
func dialSPDY(ctx context.Context, target *url.URL) (io.ReadWriteCloser, error) {
	conn, err := (&net.Dialer{Timeout: upgradeTimeout}).DialContext(ctx, "tcp", target.Host)
	if err != nil {
		return nil, fmt.Errorf("the container runtime's streaming server: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, target.String(), nil)
	if err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("the container runtime's streaming server: %w", err)
	}
	req.Header.Set("Connection", "Upgrade")
	req.Header.Set("Upgrade", "SPDY/3.1")
	req.Header.Set("X-Stream-Protocol-Version", "portforward.k8s.io")
	_ = conn.SetDeadline(time.Now().Add(upgradeTimeout))
	br := bufio.NewReader(conn)
	var resp *http.Response
	if err = req.Write(conn); err == nil {
		resp, err = http.ReadResponse(br, req)
	}
	if err == nil && resp.StatusCode != http.StatusSwitchingProtocols {
		err = errors.New(resp.Status)
	}
	if err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("the container runtime's streaming server: %w", err)
	}
	_ = conn.SetDeadline(time.Time{})
	return &buffered{Conn: conn, r: br}, nil
}

// buffered is a connection of which some bytes were read ahead.
type buffered struct {
	net.Conn
	r *bufio.Reader
}

func (b *buffered) Read(p []byte) (int, error) { return b.r.Read(p) }
