package apiserver

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"canopus/internal/store"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// get answers with one object.
func (s *Server) get(rq *request, ep *endpoint) error {
	f, err := rq.negotiate(ep, false)
	if err != nil {
		return err
	}
	fresh, err := rq.freshness()
	if err != nil {
		return err
	}
	e, err := ep.res.Get(rq.Context(), rq.namespaceOf(ep), rq.route.name, fresh)
	if err != nil {
		return readError(ep, rq.route.name, err)
	}
	return s.writeEntry(rq, ep, http.StatusOK, e, f)
}

// freshness reads how recent a get must be.
func (rq *request) freshness() (store.Freshness, error) {
	if rq.query == nil {
		return store.Freshness{}, nil
	}
	rv := rq.query.Get("resourceVersion")
	switch rv {
	case "":
		return store.Freshness{}, nil
	case "0":
		return store.Freshness{Match: store.Any}, nil
	}
	n, err := parseRevision(rv)
	return store.Freshness{Match: store.NotOlderThan, Revision: n}, err
}

func parseRevision(rv string) (int64, error) {
	n, err := strconv.ParseInt(rv, 10, 64)
	if err != nil || n < 0 {
		return 0, apierrors.NewBadRequest(fmt.Sprintf("resourceVersion: Invalid value: %q: it must be a number that this API returned", rv))
	}
	return n, nil
}

// readError says a store's error in the API's terms. name is empty for lists.
func readError(ep *endpoint, name string, err error) error {
	var tooLarge *store.TooLargeRevision
	var expired *store.Expired
	var token *store.InvalidContinue
	var corrupt *store.Corrupt
	switch {
	case errors.Is(err, store.ErrNotFound):
		return apierrors.NewNotFound(ep.gr, name)
	case errors.As(err, &tooLarge):
		return tooLargeRevision(tooLarge)
	case errors.As(err, &expired):
		return expiredError(expired)
	case errors.As(err, &token):
		return apierrors.NewBadRequest(token.Error())
	case errors.As(err, &corrupt):
		return corruptError(ep, name, corrupt)
	case errors.Is(err, store.ErrUnregistered):
		return errNoPage()
	}
	return err
}

// writeEntry answers with a stored object, from its ready bytes where the format allows.
func (s *Server) writeEntry(rq *request, ep *endpoint, code int, e *store.Entry, f format) error {
	switch f.shape {
	case shapeTable:
		return s.writeTableOfOne(rq, ep, code, e, f)
	case shapePartial:
		return s.writePartial(rq, code, e, f)
	case shapePartialList:
		return errNotAcceptable("you requested PartialObjectMetadataList, but the requested object is not a list")
	}
	if f.media == mediaProtobuf && ep.raw {
		s.writeProto(rq, ep.head, code, e.Body())
		return nil
	}
	body, err := s.entryBytes(ep, e, f)
	if err != nil {
		return err
	}
	rq.writeBody(code, f.media.contentType(), body)
	return nil
}

// writeProto answers with an object's message in its envelope: in one buffer, so that it travels as one frame.
func (s *Server) writeProto(rq *request, h head, code int, message []byte) {
	n := h.protoSize(len(message))
	if n > s.singles.size {
		rq.writeBody(code, typeProtobuf, h.appendProto(make([]byte, 0, n), message))
		return
	}
	body := h.appendProto(s.singles.get(), message)
	rq.writeBody(code, typeProtobuf, body)
	s.singles.takeBack(body, rq)
}

// entryBytes encodes a stored object whole.
func (s *Server) entryBytes(ep *endpoint, e *store.Entry, f format) ([]byte, error) {
	if !ep.raw {
		obj, err := e.Object()
		if err != nil {
			return nil, err
		}
		if obj, err = ep.FromHub(obj); err != nil {
			return nil, err
		}
		return ep.head.encode(obj, f)
	}
	if f.media == mediaProtobuf {
		return ep.head.appendProto(nil, e.Body()), nil
	}
	doc, err := e.JSON()
	if err != nil {
		return nil, err
	}
	return finishText(ep.head.appendJSON(make([]byte, 0, len(ep.head.json)+len(doc)+2), doc), f)
}
