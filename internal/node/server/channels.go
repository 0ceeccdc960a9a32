package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"

	"github.com/gorilla/websocket"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	restclient "k8s.io/client-go/rest"
	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/client-go/util/exec"
)

// The channels of v5.channel.k8s.io: the first byte of every message. A close message names the channel that ended.
const (
	chanStdin  = 0
	chanStdout = 1
	chanStderr = 2
	chanError  = 3
	chanResize = 4
	chanClose  = 255
)

const (
	pingPeriod   = 5 * time.Second
	writeTimeout = 10 * time.Second
)

// channels serves the newest WebSocket protocol: it translates between the caller's channels and the SPDY streams of the
// runtime's streaming server.
func (s *Server) channels(w http.ResponseWriter, r *http.Request, target *url.URL, o options) {
	up := websocket.Upgrader{Subprotocols: []string{protocolV5}, CheckOrigin: func(*http.Request) bool { return true }}
	ws, err := up.Upgrade(w, r, nil)
	if err != nil {
		return // Upgrade has answered
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	c := &channelConn{ws: ws, resizes: make(chan remotecommand.TerminalSize, 4), ended: ctx.Done()}
	stdin, feed := io.Pipe()
	var wg sync.WaitGroup
	wg.Add(2)
	go func() {
		defer wg.Done()
		defer cancel() // the caller is gone
		c.read(feed)
	}()
	go func() {
		defer wg.Done()
		c.keepAlive(ctx)
	}()
	err = c.run(ctx, target, o, stdin)
	c.send(chanError, status(err))
	c.close()
	cancel()
	_ = stdin.Close()
	wg.Wait()
}

// channelConn is a connection of channels.
type channelConn struct {
	ws      *websocket.Conn
	mu      sync.Mutex // one writer at a time
	resizes chan remotecommand.TerminalSize
	ended   <-chan struct{}
}

// run executes and returns when the process has ended.
func (c *channelConn) run(ctx context.Context, target *url.URL, o options, stdin io.Reader) error {
	e, err := remotecommand.NewSPDYExecutor(&restclient.Config{}, http.MethodPost, target)
	if err != nil {
		return fmt.Errorf("the container runtime's streaming server: %w", err)
	}
	opts := remotecommand.StreamOptions{Tty: o.tty}
	if o.stdin {
		opts.Stdin = stdin
	}
	if o.stdout {
		opts.Stdout = channelWriter{c, chanStdout}
	}
	if o.stderr {
		opts.Stderr = channelWriter{c, chanStderr}
	}
	if o.tty {
		opts.TerminalSizeQueue = c
	}
	return e.StreamWithContext(ctx, opts)
}

// read takes the caller's messages until the connection ends.
func (c *channelConn) read(stdin *io.PipeWriter) {
	defer stdin.Close()
	for {
		_, msg, err := c.ws.ReadMessage()
		if err != nil {
			return
		}
		if len(msg) == 0 {
			continue
		}
		switch body := msg[1:]; msg[0] {
		case chanStdin:
			if _, err := stdin.Write(body); err != nil {
				continue // the process reads no more; the end is on its way
			}
		case chanResize:
			var size remotecommand.TerminalSize
			if json.Unmarshal(body, &size) == nil {
				select {
				case c.resizes <- size:
				default: // a newer size will follow
				}
			}
		case chanClose:
			if len(body) == 1 && body[0] == chanStdin {
				_ = stdin.Close()
			}
		}
	}
}

// Next returns the next size of the caller's terminal, nil at the end.
func (c *channelConn) Next() *remotecommand.TerminalSize {
	select {
	case s := <-c.resizes:
		return &s
	case <-c.ended:
		return nil
	}
}

func (c *channelConn) keepAlive(ctx context.Context) {
	t := time.NewTicker(pingPeriod)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			_ = c.ws.WriteControl(websocket.PingMessage, nil, time.Now().Add(writeTimeout))
		}
	}
}

func (c *channelConn) send(channel byte, body []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	_ = c.ws.SetWriteDeadline(time.Now().Add(writeTimeout))
	_ = c.ws.WriteMessage(websocket.BinaryMessage, append([]byte{channel}, body...))
}

func (c *channelConn) close() {
	_ = c.ws.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(websocket.CloseNormalClosure, ""), time.Now().Add(writeTimeout))
	_ = c.ws.Close()
}

type channelWriter struct {
	c       *channelConn
	channel byte
}

// Write sends output; it blocks while the caller does not read, which holds the process back as a pipe would.
func (w channelWriter) Write(b []byte) (int, error) {
	w.c.mu.Lock()
	defer w.c.mu.Unlock()
	_ = w.c.ws.SetWriteDeadline(time.Time{})
	if err := w.c.ws.WriteMessage(websocket.BinaryMessage, append([]byte{w.channel}, b...)); err != nil {
		return 0, err
	}
	return len(b), nil
}

// status is how a process ended, as the error channel says it.
func status(err error) []byte {
	st := metav1.Status{Status: metav1.StatusSuccess}
	var code exec.CodeExitError
	switch {
	case err == nil:
	case errors.As(err, &code):
		st = metav1.Status{Status: metav1.StatusFailure, Reason: "NonZeroExitCode", Message: fmt.Sprintf("command terminated with non-zero exit code: %v", err),
			Details: &metav1.StatusDetails{Causes: []metav1.StatusCause{{Type: "ExitCode", Message: strconv.Itoa(code.Code)}}}}
	default:
		st = metav1.Status{Status: metav1.StatusFailure, Reason: metav1.StatusReasonInternalError, Code: http.StatusInternalServerError,
			Message: fmt.Sprintf("Internal error occurred: %v", err)}
	}
	b, merr := json.Marshal(st)
	if merr != nil {
		return []byte(`{"status":"Failure"}`)
	}
	return b
}
