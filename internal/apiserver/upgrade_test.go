package apiserver_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"canopus/internal/apiserver"
	"canopus/internal/apiserver/apitest"

	"github.com/gorilla/websocket"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/httpstream"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/client-go/transport/spdy"
	agentforward "k8s.io/cri-streaming/pkg/streaming/portforward"
	agentcommand "k8s.io/cri-streaming/pkg/streaming/remotecommand"
)

// container is what runs behind the stand-in agent: it copies its input to its output, and says on its standard error
// what was asked of it.
type container struct{}

// ExecInContainer implements the agent's Executor.
func (container) ExecInContainer(_ context.Context, pod string, _ string, name string, cmd []string, in io.Reader, out, stderr io.WriteCloser, tty bool,
	_ <-chan agentcommand.TerminalSize, _ time.Duration) error {
	return echo(fmt.Sprintf("%s/%s %s tty=%v", pod, name, strings.Join(cmd, " "), tty), in, out, stderr)
}

// AttachContainer implements the agent's Attacher.
func (container) AttachContainer(_ context.Context, pod string, _ string, name string, in io.Reader, out, stderr io.WriteCloser, tty bool,
	_ <-chan agentcommand.TerminalSize) error {
	return echo(fmt.Sprintf("%s/%s attached tty=%v", pod, name, tty), in, out, stderr)
}

func echo(note string, in io.Reader, out, stderr io.WriteCloser) error {
	if stderr != nil {
		if _, err := io.WriteString(stderr, note); err != nil {
			return err
		}
	}
	if in == nil {
		return errors.New("nothing to read")
	}
	_, err := io.Copy(out, in)
	return err
}

// PortForward implements the agent's PortForwarder: what is sent to a port comes back after the port's number.
func (container) PortForward(_ context.Context, _ string, _ string, port int32, stream io.ReadWriteCloser) error {
	defer stream.Close()
	if _, err := fmt.Fprintf(stream, "%d:", port); err != nil {
		return err
	}
	_, err := io.CopyN(stream, stream, 5)
	return err
}

// streamingAgent stands where a node agent would, and speaks the streaming protocols as one does.
func streamingAgent(t *testing.T) *httptest.Server {
	t.Helper()
	commands := []string{"v4.channel.k8s.io", "v3.channel.k8s.io", "v2.channel.k8s.io", "channel.k8s.io"}
	agent := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seg := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
		switch subprotocols := websocket.Subprotocols(r); {
		case slices.Contains(subprotocols, "v5.channel.k8s.io"):
			serveChannels(t, w, r)
			return
		case slices.Contains(subprotocols, "SPDY/3.1+portforward.k8s.io"):
			serveTunnel(t, w, r)
			return
		}
		switch seg[0] {
		case "exec", "attach":
			o := &agentcommand.Options{}
			q := r.URL.Query()
			o.Stdin, o.Stdout, o.Stderr, o.TTY = q.Get("input") == "1", q.Get("output") == "1", q.Get("error") == "1", q.Get("tty") == "1"
			if seg[0] == "exec" {
				agentcommand.ServeExec(w, r, container{}, seg[2], "", seg[3], q["command"], o, time.Minute, 10*time.Second, commands)
			} else {
				agentcommand.ServeAttach(w, r, container{}, seg[2], "", seg[3], o, time.Minute, 10*time.Second, commands)
			}
		case "portForward":
			o, err := agentforward.NewV4Options(r)
			if err != nil {
				http.Error(w, err.Error(), http.StatusBadRequest)
				return
			}
			agentforward.ServePortForward(w, r, container{}, seg[2], "", o, time.Minute, 10*time.Second, []string{"portforward.k8s.io"})
		default:
			http.NotFound(w, r)
		}
	}))
	t.Cleanup(agent.Close)
	return agent
}

// serveChannels answers a command in the protocol whose messages begin with the number of their stream: 0 is input, 1
// output, 2 standard error, 3 the end; 255 closes the stream that its next byte names.
func serveChannels(t *testing.T, w http.ResponseWriter, r *http.Request) {
	up := websocket.Upgrader{Subprotocols: []string{"v5.channel.k8s.io"}}
	c, err := up.Upgrade(w, r, nil)
	if err != nil {
		t.Errorf("upgrade: %v", err)
		return
	}
	defer c.Close()
	in, fed := io.Pipe()
	if r.URL.Query().Get("input") != "1" {
		in = nil
	}
	go func() {
		for {
			_, m, err := c.ReadMessage()
			if err != nil || len(m) > 1 && m[0] == 255 {
				_ = fed.CloseWithError(io.EOF)
				return
			}
			_, _ = fed.Write(m[1:])
		}
	}()
	status := `{"status":"Success"}`
	var input io.Reader
	if in != nil {
		input = in
	}
	seg := strings.Split(r.URL.Path, "/")
	note := fmt.Sprintf("%s/%s %s tty=false", seg[3], seg[4], strings.Join(r.URL.Query()["command"], " "))
	if seg[1] == "attach" {
		note = fmt.Sprintf("%s/%s attached tty=false", seg[3], seg[4])
	}
	if err := echo(note, input, channel{c, 1}, channel{c, 2}); err != nil {
		status = fmt.Sprintf(`{"status":"Failure","message":%q}`, err)
	}
	_, _ = channel{c, 3}.Write([]byte(status))
	_ = c.WriteMessage(websocket.CloseMessage, websocket.FormatCloseMessage(websocket.CloseNormalClosure, ""))
}

// channel is one stream of a command.
type channel struct {
	c *websocket.Conn
	n byte
}

// Write implements io.Writer.
func (c channel) Write(b []byte) (int, error) {
	return len(b), c.c.WriteMessage(websocket.BinaryMessage, append([]byte{c.n}, b...))
}

// Close implements io.Closer.
func (channel) Close() error { return nil }

// serveTunnel carries a port forward's SPDY connection inside a WebSocket, to the stand-in's own SPDY side.
func serveTunnel(t *testing.T, w http.ResponseWriter, r *http.Request) {
	up := websocket.Upgrader{Subprotocols: []string{"SPDY/3.1+portforward.k8s.io"}}
	c, err := up.Upgrade(w, r, nil)
	if err != nil {
		t.Errorf("upgrade: %v", err)
		return
	}
	outer := portforward.NewTunnelingConnection("stand-in", c)
	defer outer.Close()
	local, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	inner, err := tls.Dial("tcp", local.String(), &tls.Config{InsecureSkipVerify: true}) //nolint:gosec // to ourselves
	if err != nil {
		t.Errorf("dial: %v", err)
		return
	}
	defer inner.Close()
	_, _ = fmt.Fprintf(inner, "POST %s HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: portforward.k8s.io\r\n\r\n", r.URL.Path)
	br := bufio.NewReader(inner)
	resp, err := http.ReadResponse(br, nil)
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		t.Errorf("the inner upgrade: %v %v", resp, err)
		return
	}
	go func() {
		_, _ = io.Copy(inner, outer)
		_ = inner.Close()
	}()
	_, _ = io.Copy(outer, br)
}

// withAgent makes agent the node agent of every node.
func withAgent(agent *httptest.Server) func(*apiserver.Config) {
	return func(c *apiserver.Config) {
		c.Nodes.TLS = agent.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
		c.Nodes.TLS.ServerName = "example.com"
		c.Nodes.Dial = dialTo(agent.Listener.Addr().String())
	}
}

// boundPod makes pod n/a, on node n1.
func boundPod(t *testing.T, s *apitest.Server) {
	t.Helper()
	mustCreate(t, s, pod("a"))
	if err := bind(t, s, "a", "n1"); err != nil {
		t.Fatal(err)
	}
}

// executors makes client-go's two ways to run a command.
func executors(t *testing.T, s *apitest.Server, action string, o *corev1.PodExecOptions) map[string]remotecommand.Executor {
	t.Helper()
	request := s.Client.CoreV1().RESTClient().Post().Resource("pods").Namespace("n").Name("a").SubResource(action).VersionedParams(o, scheme.ParameterCodec)
	u := request.URL()
	out := map[string]remotecommand.Executor{}
	var err error
	if out["SPDY"], err = remotecommand.NewSPDYExecutor(s.Admin, "POST", u); err != nil {
		t.Fatal(err)
	}
	if out["WebSocket"], err = remotecommand.NewWebSocketExecutor(s.Admin, "GET", u.String()); err != nil {
		t.Fatal(err)
	}
	return out
}

func TestCommandsThroughTheServer(t *testing.T) {
	t.Parallel()
	s := apitest.Start(t, withAgent(streamingAgent(t)))
	boundPod(t, s)
	long := strings.Repeat("0123456789abcdef", 32<<10) // 512 KiB: more than any buffer on the way
	for action, note := range map[string]string{"exec": "a/c cat - tty=false", "attach": "a/c attached tty=false"} {
		o := &corev1.PodExecOptions{Container: "c", Stdin: true, Stdout: true, Stderr: true}
		if action == "exec" {
			o.Command = []string{"cat", "-"}
		}
		for name, e := range executors(t, s, action, o) {
			t.Run(action+" "+name, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
				defer cancel()
				var out, stderr bytes.Buffer
				if err := e.StreamWithContext(ctx, remotecommand.StreamOptions{Stdin: strings.NewReader(long), Stdout: &out, Stderr: &stderr}); err != nil {
					t.Fatal(err)
				}
				if out.String() != long || stderr.String() != note {
					t.Errorf("%d bytes out, want %d; stderr %q, want %q", out.Len(), len(long), stderr.String(), note)
				}
			})
		}
	}
}

// TestFailedCommand sees the end of a command through the error stream.
func TestFailedCommand(t *testing.T) {
	t.Parallel()
	s := apitest.Start(t, withAgent(streamingAgent(t)))
	boundPod(t, s)
	o := &corev1.PodExecOptions{Container: "c", Stdout: true, Stderr: true, Command: []string{"false"}}
	for name, e := range executors(t, s, "exec", o) {
		var out, stderr bytes.Buffer
		err := e.StreamWithContext(t.Context(), remotecommand.StreamOptions{Stdout: &out, Stderr: &stderr})
		if err == nil || !strings.Contains(err.Error(), "nothing to read") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestPortForwardThroughTheServer(t *testing.T) {
	t.Parallel()
	s := apitest.Start(t, withAgent(streamingAgent(t)))
	boundPod(t, s)
	u := s.Client.CoreV1().RESTClient().Post().Resource("pods").Namespace("n").Name("a").SubResource("portforward").URL()
	transport, upgrader, err := spdy.RoundTripperFor(s.Admin)
	if err != nil {
		t.Fatal(err)
	}
	tunnel, err := portforward.NewSPDYOverWebsocketDialer(u, s.Admin)
	if err != nil {
		t.Fatal(err)
	}
	for name, dialer := range map[string]httpstream.Dialer{
		"SPDY": spdy.NewDialer(upgrader, &http.Client{Transport: transport}, "POST", u), "WebSocket": tunnel,
	} {
		t.Run(name, func(t *testing.T) { forwardPorts(t, dialer) })
	}
}

// forwardPorts forwards two ports and talks through both.
func forwardPorts(t *testing.T, dialer httpstream.Dialer) {
	ready, stop, ended := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	fw, err := portforward.New(dialer, []string{"0:80", "0:443"}, stop, ready, io.Discard, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	go func() { ended <- fw.ForwardPorts() }()
	defer func() { close(stop); <-ended }()
	select {
	case <-ready:
	case err := <-ended:
		ended <- err
		t.Fatal(err)
	case <-time.After(20 * time.Second):
		t.Fatal("ports are not forwarded after 20 s")
	}
	ports, err := fw.GetPorts()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range ports {
		c, err := net.Dial("tcp", "127.0.0.1:"+strconv.Itoa(int(p.Local)))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(c, "hello"); err != nil {
			t.Fatal(err)
		}
		answer, err := io.ReadAll(c)
		if want := fmt.Sprintf("%d:hello", p.Remote); err != nil || string(answer) != want {
			t.Errorf("port %d: %q %v, want %q", p.Remote, answer, err, want)
		}
		_ = c.Close()
	}
}
