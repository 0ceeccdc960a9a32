package apiserver

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
)

// cut is a connection that breaks with the first byte of a body.
type cut struct{ http.ResponseWriter }

func (cut) Write([]byte) (int, error) { return 0, errors.New("stream closed") }

// TestBuffersOfBrokenAnswersAreNotLentAgain: net/http may still be reading them.
func TestBuffersOfBrokenAnswersAreNotLentAgain(t *testing.T) {
	t.Parallel()
	long := func(rq *request) {
		b := rq.newBulk(http.StatusOK, typeProtobuf)
		b.buf = append(b.buf, "message"...)
		b.close()
	}
	short := func(rq *request) { rq.s.writeProto(rq, head{}, http.StatusOK, []byte("message")) }
	for name, write := range map[string]func(*request){"long": long, "short": short} {
		again := 0
		for range 20 {
			if lentAgain(t, cut{httptest.NewRecorder()}, write) {
				t.Fatalf("%s: the buffer of an answer that was cut is lent again", name)
			}
			if lentAgain(t, httptest.NewRecorder(), write) {
				again++
			}
		}
		if again == 0 {
			t.Errorf("%s: buffers of good answers are never lent again", name)
		}
	}
}

// lentAgain reports whether a server that gives one answer has a buffer to lend afterwards.
func lentAgain(t *testing.T, w http.ResponseWriter, write func(*request)) bool {
	t.Helper()
	s := &Server{buffers: buffers{size: chunk}, singles: buffers{size: single}}
	rq := &request{Request: httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil), s: s}
	rq.w = &response{ResponseWriter: w, rq: rq}
	write(rq)
	return s.buffers.pool.Get() != nil || s.singles.pool.Get() != nil
}
