package apiserver

import (
	"compress/gzip"
	"io"
	"net/http"
	"strconv"
	"sync"
)

// chunk is how much of a long answer is gathered before it is sent.
const chunk = 128 << 10

// single is room for most objects.
const single = 8 << 10

// buffers lends buffers of a size.
type buffers struct {
	size int
	pool sync.Pool
}

func (b *buffers) get() []byte {
	if p, ok := b.pool.Get().(*[]byte); ok {
		return (*p)[:0]
	}
	return make([]byte, 0, b.size)
}

// takeBack makes a buffer that was lent to answer rq free for others. It does not when a write of the answer failed: of a stream
// that its client has ended, net/http's last write may still be under way, and would show what is put there next.
func (b *buffers) takeBack(buf []byte, rq *request) {
	if cap(buf) <= 4*b.size && !rq.w.failed {
		b.pool.Put(&buf)
	}
}

// bulk sends an answer whose length shows only as it is made. A short one goes out whole, with its length; a long one
// in chunks, compressed for peers on other machines.
type bulk struct {
	rq          *request
	code        int
	contentType string
	buf         []byte
	out         io.Writer // nil: nothing was sent yet
	zip         *gzip.Writer
	err         error
}

func (rq *request) newBulk(code int, contentType string) *bulk {
	return &bulk{rq: rq, code: code, contentType: contentType, buf: rq.s.buffers.get()}
}

// room makes sure that the next n bytes need no larger buffer.
func (b *bulk) room(n int) {
	if len(b.buf) > 0 && len(b.buf)+n > cap(b.buf) {
		b.flush()
	}
}

func (b *bulk) flush() {
	if b.err != nil {
		b.buf = b.buf[:0]
		return
	}
	if b.out == nil {
		b.open()
	}
	_, b.err = b.out.Write(b.buf)
	b.buf = b.buf[:0]
}

func (b *bulk) open() {
	h := b.rq.w.Header()
	h["Content-Type"] = []string{b.contentType}
	b.out = b.rq.w
	if b.rq.acceptsGzip() {
		h.Set("Content-Encoding", "gzip")
		h.Add("Vary", "Accept-Encoding")
		if z, err := gzip.NewWriterLevel(b.rq.w, gzip.BestSpeed); err == nil {
			b.zip, b.out = z, z
		}
	}
	b.rq.w.WriteHeader(b.code)
	if b.rq.Method == http.MethodHead {
		b.out = io.Discard
	}
}

// close sends what is left.
func (b *bulk) close() {
	if b.out == nil {
		b.rq.w.Header()["Content-Length"] = []string{strconv.Itoa(len(b.buf))}
		b.rq.writeBody(b.code, b.contentType, b.buf)
	} else {
		b.flush()
	}
	if b.zip != nil && b.err == nil {
		b.err = b.zip.Close()
	}
	b.rq.s.buffers.takeBack(b.buf, b.rq)
	b.buf = nil
}
