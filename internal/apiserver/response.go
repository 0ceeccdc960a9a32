package apiserver

import (
	"bufio"
	"compress/gzip"
	"net"
	"net/http"
	"strconv"
	"strings"

	utilnet "k8s.io/apimachinery/pkg/util/net"
)

var noCache = []string{"no-cache, private"}

// response notes what was answered.
type response struct {
	http.ResponseWriter
	rq     *request
	code   int // 0: nothing was sent yet
	bytes  int64
	failed bool // a write did not go through
	warns  map[string]bool
}

// WriteHeader sends the head of the answer.
func (w *response) WriteHeader(code int) {
	if w.code == 0 && code >= 200 {
		w.code = code
	}
	w.ResponseWriter.WriteHeader(code)
}

// Write sends a part of the body.
func (w *response) Write(b []byte) (int, error) {
	if w.code == 0 {
		w.code = http.StatusOK
	}
	n, err := w.ResponseWriter.Write(b)
	w.bytes += int64(n)
	w.failed = w.failed || err != nil
	return n, err
}

// Unwrap lets http.ResponseController reach the connection.
func (w *response) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// Flush sends what is buffered.
func (w *response) Flush() { _ = http.NewResponseController(w.ResponseWriter).Flush() }

// Hijack gives the connection away, for protocol upgrades.
func (w *response) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	c, b, err := http.NewResponseController(w.ResponseWriter).Hijack()
	if err == nil && w.code == 0 {
		w.code = http.StatusSwitchingProtocols
	}
	return c, b, err
}

// warn adds a Warning header, once per text. It has no effect after the answer has begun.
func (rq *request) warn(text string) {
	if rq.warns != nil {
		rq.warns(text)
		return
	}
	if rq.w.warns[text] || len(rq.w.warns) >= 100 {
		return
	}
	header, err := utilnet.NewWarningHeader(299, "-", text)
	if err != nil {
		return
	}
	if rq.w.warns == nil {
		rq.w.warns = map[string]bool{}
	}
	rq.w.warns[text] = true
	rq.w.Header().Add("Warning", header)
}

// gzipAbove is the size from which a body is worth compressing, for peers on other machines.
const gzipAbove = 128 << 10

// writeBody sends a whole answer.
func (rq *request) writeBody(code int, contentType string, parts ...[]byte) {
	n := 0
	for _, p := range parts {
		n += len(p)
	}
	h := rq.w.Header()
	h["Content-Type"] = []string{contentType}
	if n > gzipAbove && rq.acceptsGzip() {
		rq.writeGzip(code, parts)
		return
	}
	h["Content-Length"] = []string{strconv.Itoa(n)}
	rq.w.WriteHeader(code)
	if rq.Method == http.MethodHead {
		return
	}
	for _, p := range parts {
		if _, err := rq.w.Write(p); err != nil {
			return
		}
	}
}

func (rq *request) writeGzip(code int, parts [][]byte) {
	h := rq.w.Header()
	h.Set("Content-Encoding", "gzip")
	h.Add("Vary", "Accept-Encoding")
	rq.w.WriteHeader(code)
	if rq.Method == http.MethodHead {
		return
	}
	z, err := gzip.NewWriterLevel(rq.w, gzip.BestSpeed)
	if err != nil {
		return
	}
	for _, p := range parts {
		if _, err := z.Write(p); err != nil {
			return
		}
	}
	_ = z.Close()
}

// acceptsGzip is true for peers on other machines that ask for gzip: on one machine copying is cheaper than compressing.
func (rq *request) acceptsGzip() bool {
	return strings.Contains(rq.Header.Get("Accept-Encoding"), "gzip") && !loopback(rq.RemoteAddr)
}

func loopback(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return true // in process
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}
