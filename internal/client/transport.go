package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime/debug"
	"sync"
	"time"

	"canopus/internal/auth"
)

// transport hands requests to a handler of this process as user, without sockets. A response is complete when RoundTrip
// returns, unless the handler flushes: then it streams, as a watch does.
type transport struct {
	handler http.Handler
	user    *auth.User
}

// RoundTrip implements http.RoundTripper.
func (t *transport) RoundTrip(r *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancel(auth.WithUser(r.Context(), t.user))
	in := r.Clone(ctx)
	in.Proto, in.ProtoMajor, in.ProtoMinor = "HTTP/2.0", 2, 0
	in.RequestURI = r.URL.RequestURI()
	in.RemoteAddr = "127.0.0.1:0"
	if in.Body == nil {
		in.Body = http.NoBody
	}
	w := &response{header: http.Header{}, begun: make(chan struct{}), cancel: cancel}
	w.moved.L = &w.mu
	// A reader that waits ends with the request, whether the handler notices or not.
	unhook := context.AfterFunc(r.Context(), func() { w.end(r.Context().Err()) })
	go func() {
		defer in.Body.Close()
		defer unhook()
		w.end(t.serve(w, in))
	}()
	<-w.begun
	if err := w.failed(); err != nil {
		cancel()
		return nil, err
	}
	return &http.Response{
		Status: fmt.Sprintf("%d %s", w.status, http.StatusText(w.status)), StatusCode: w.status, Proto: "HTTP/2.0", ProtoMajor: 2,
		Header: w.sent, Body: w, ContentLength: -1, Request: r,
	}, nil
}

// serve runs the handler. What a connection would be cut for, and a panic, is an error here: net/http is not there to
// recover.
func (t *transport) serve(w http.ResponseWriter, r *http.Request) (err error) {
	defer func() {
		switch p := recover(); p {
		case nil:
		case http.ErrAbortHandler:
			err = errCut
		default:
			err = fmt.Errorf("%s %s: the handler panicked, this is a bug: %v\n%s", r.Method, r.URL.Path, p, debug.Stack())
		}
	}()
	t.handler.ServeHTTP(w, r)
	return r.Context().Err() // a response whose client has gone is not complete
}

// errCut is what a client sees of a response that the handler broke off.
var errCut = errors.New("the server broke off its response")

// maxUnread is how far a streaming handler may run ahead of its reader.
const maxUnread = 256 << 10

// response is the handler's ResponseWriter and the client's body in one: a buffer with one writer and one reader.
type response struct {
	header http.Header
	begun  chan struct{} // closed when status and sent are set and the client may look
	cancel context.CancelFunc

	mu        sync.Mutex
	moved     sync.Cond // buffer, streaming, ended or closed changed
	buffer    bytes.Buffer
	status    int
	sent      http.Header // header as it was when the status was written
	streaming bool
	ended     bool  // the handler returned, or was given up
	err       error // why it ended before its response was complete
	closed    bool  // the client closed the body
}

// Header implements http.ResponseWriter.
func (w *response) Header() http.Header { return w.header }

// WriteHeader implements http.ResponseWriter.
func (w *response) WriteHeader(status int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.writeHeader(status)
}

func (w *response) writeHeader(status int) {
	if w.status == 0 {
		w.status = status
		w.sent = w.header.Clone()
	}
}

// Write implements http.ResponseWriter.
func (w *response) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.writeHeader(http.StatusOK)
	for w.streaming && w.buffer.Len() > maxUnread && !w.closed && !w.ended {
		w.moved.Wait()
	}
	if w.closed || w.ended {
		return 0, io.ErrClosedPipe
	}
	w.moved.Broadcast()
	return w.buffer.Write(p)
}

// Flush implements http.Flusher: from now on the client reads along.
func (w *response) Flush() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.writeHeader(http.StatusOK)
	w.begin()
}

// begin lets the client look; it may be called again.
func (w *response) begin() {
	if !w.streaming {
		w.streaming = true
		close(w.begun)
	}
	w.moved.Broadcast()
}

// SetWriteDeadline implements what http.ResponseController looks for. A deadline that is over cuts the response; there is no
// connection on which another could matter.
func (w *response) SetWriteDeadline(deadline time.Time) error {
	if !deadline.IsZero() && time.Until(deadline) < 0 {
		w.end(errCut)
	}
	return nil
}

// end closes the response, for err when it is not complete. Only the first call counts.
func (w *response) end(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ended {
		return
	}
	w.writeHeader(http.StatusOK)
	w.ended, w.err = true, err
	w.begin()
}

// failed is the error of a response that ended before it had any byte.
func (w *response) failed() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.buffer.Len() > 0 {
		return nil
	}
	return w.err
}

// Read implements the body's io.Reader.
func (w *response) Read(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for w.buffer.Len() == 0 && !w.ended && !w.closed {
		w.moved.Wait()
	}
	if w.closed {
		return 0, http.ErrBodyReadAfterClose
	}
	if w.buffer.Len() == 0 {
		w.cancel()
		if w.err != nil {
			return 0, w.err
		}
		return 0, io.EOF
	}
	w.moved.Broadcast()
	return w.buffer.Read(p)
}

// Close implements the body's io.Closer: the handler's context ends.
func (w *response) Close() error {
	w.cancel()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	w.moved.Broadcast()
	return nil
}
