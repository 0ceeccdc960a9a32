package apiserver

import (
	"encoding/json"
	"fmt"
	"net/http"

	"canopus/internal/store"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// converted is a stored object in the version that ep serves.
func (s *Server) converted(ep *endpoint, e *store.Entry) (runtime.Object, error) {
	obj, err := e.Object()
	if err != nil {
		return nil, err
	}
	return ep.FromHub(obj)
}

// itemJSON is a stored object as an element of a JSON list, which carries no kind and apiVersion.
func (s *Server) itemJSON(ep *endpoint, e *store.Entry) ([]byte, error) {
	if ep.raw {
		return e.JSON()
	}
	obj, err := s.converted(ep, e)
	if err != nil {
		return nil, err
	}
	body, err := json.Marshal(obj)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", ep.GVK.Kind, err)
	}
	return body, nil
}

// writeJSONList sends a list as JSON, item by item, or as one text where the format wants the whole of it.
func (s *Server) writeJSONList(rq *request, ep *endpoint, l *store.List, meta metav1.ListMeta, f format) error {
	return rq.writeJSONItems(ep.listHead, meta, len(l.Entries), f, func(i int) ([]byte, error) { return s.itemJSON(ep, l.Entries[i]) })
}

// writeJSONItems sends n JSON documents as the items of a list. An item that cannot be made is the end of the answer: by
// then others have been sent.
func (rq *request) writeJSONItems(h head, meta metav1.ListMeta, n int, f format, item func(int) ([]byte, error)) error {
	mb, err := json.Marshal(meta)
	if err != nil {
		return fmt.Errorf("encode list metadata: %w", err)
	}
	if f.media == mediaYAML || f.pretty {
		return rq.writeTextItems(h, mb, n, f, item)
	}
	b := rq.newBulk(http.StatusOK, typeJSON)
	b.buf = appendListOpen(b.buf, h, mb)
	for i := range n {
		doc, err := item(i)
		if err != nil {
			return b.abort(err)
		}
		b.room(len(doc) + 1)
		if i > 0 {
			b.buf = append(b.buf, ',')
		}
		b.buf = append(b.buf, doc...)
	}
	b.room(3)
	b.buf = append(b.buf, "]}\n"...)
	b.close()
	return nil
}

func appendListOpen(dst []byte, h head, meta []byte) []byte {
	dst = append(dst, h.json...)
	dst = append(dst, `,"metadata":`...)
	dst = append(dst, meta...)
	return append(dst, `,"items":[`...)
}

func (rq *request) writeTextItems(h head, meta []byte, n int, f format, item func(int) ([]byte, error)) error {
	doc := appendListOpen(nil, h, meta)
	for i := range n {
		one, err := item(i)
		if err != nil {
			return err
		}
		if i > 0 {
			doc = append(doc, ',')
		}
		doc = append(doc, one...)
	}
	text, err := finishText(append(doc, "]}"...), f)
	if err != nil {
		return err
	}
	rq.writeBody(http.StatusOK, f.media.contentType(), text)
	return nil
}

// abort ends a list that cannot be completed: with a Status if nothing was sent, else by cutting the answer short.
func (b *bulk) abort(err error) error {
	b.rq.s.buffers.takeBack(b.buf, b.rq)
	if b.out == nil {
		return err
	}
	b.rq.s.log.Error("list cut short", "path", b.rq.URL.Path, "error", err)
	panic(http.ErrAbortHandler)
}
