package apiserver

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"

	"canopus/internal/kinds"
	"canopus/internal/store"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apimachinery/pkg/watch"
)

// minWatch is how long a watch lasts if the client does not say: between this and twice as long, so that the watches of
// a restarted server do not all end together.
const minWatch = 30 * time.Minute

// watch streams changes until its time is over, the client goes, or history is lost.
func (s *Server) watch(rq *request, ep *endpoint) error {
	f, err := rq.negotiate(ep, true)
	if err != nil {
		return err
	}
	if f.shape == shapePartialList {
		return errNotAcceptable("you requested PartialObjectMetadataList, but the requested object is not a list")
	}
	o, sel, err := rq.listOptions(ep)
	if err != nil {
		return err
	}
	wo, err := watchOptions(o)
	if err != nil {
		return err
	}
	wo.Selector = sel
	life := minWatch + rand.N(minWatch)
	if o.TimeoutSeconds != nil && *o.TimeoutSeconds > 0 {
		life = time.Duration(min(*o.TimeoutSeconds, int64(24*3600))) * time.Second
	}
	ctx, cancel := context.WithTimeout(rq.Context(), life)
	defer cancel()
	st := &stream{s: s, rq: rq, ep: ep, f: f, bookmarks: o.AllowWatchBookmarks, table: rq.tableOptions()}
	if err := checkInclude(st.table); err != nil {
		return err
	}
	st.watcher, err = ep.res.Watch(ctx, wo)
	var expired *store.Expired
	switch {
	case errors.As(err, &expired):
		st.open()
		st.end(ctx, err)
		return nil
	case err != nil:
		return readError(ep, "", err)
	}
	defer st.watcher.Close()
	s.metrics.enterLong(rq)
	return st.run(ctx)
}

// watchOptions turns the parameters of a watch into the store's terms.
func watchOptions(o *metav1.ListOptions) (store.WatchOptions, error) {
	wo := store.WatchOptions{Bookmarks: o.AllowWatchBookmarks}
	if o.ResourceVersion != "" {
		n, err := parseRevision(o.ResourceVersion)
		if err != nil {
			return wo, err
		}
		wo.Revision = n
	}
	if o.SendInitialEvents != nil {
		if *o.SendInitialEvents && !o.AllowWatchBookmarks {
			return wo, apierrors.NewInvalid(metav1.SchemeGroupVersion.WithKind("ListOptions").GroupKind(), "", field.ErrorList{field.Forbidden(
				field.NewPath("allowWatchBookmarks"), "sendInitialEvents requires allowWatchBookmarks: a bookmark ends the initial events")})
		}
		wo.InitialEvents = *o.SendInitialEvents
		wo.Consistent = *o.SendInitialEvents && o.ResourceVersion == ""
	}
	return wo, nil
}

// stream is one watch being answered. It belongs to its request's goroutine.
type stream struct {
	s         *Server
	rq        *request
	ep        *endpoint
	f         format
	watcher   *store.Watcher
	bookmarks bool
	table     metav1.IncludeObjectPolicy
	rows      int // table frames sent: only the first names the columns
	buf       []byte
}

// flushAbove is how many bytes of events are gathered before they are sent although more are waiting.
const flushAbove = 64 << 10

// open begins the answer.
func (st *stream) open() {
	contentType := typeJSON
	if st.f.media == mediaProtobuf {
		contentType = typeProtobuf + ";stream=watch"
	}
	st.rq.w.Header()["Content-Type"] = []string{contentType}
	st.rq.w.WriteHeader(http.StatusOK)
	st.rq.w.Flush()
}

func (st *stream) run(ctx context.Context) error {
	st.open()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer st.s.streams.add(cancel)()
	for {
		events, err := st.watcher.Next(ctx)
		if err != nil {
			st.end(ctx, err)
			return nil
		}
		if err := st.send(events); err != nil {
			return nil // the client is gone
		}
	}
}

// send frames the events and hands them to the connection.
func (st *stream) send(events []store.Event) error {
	st.buf = st.buf[:0]
	for i := range events {
		if err := st.frame(&events[i]); err != nil {
			st.s.log.Error("event left out of a watch", "path", st.rq.URL.Path, "error", err)
			continue
		}
		if len(st.buf) > flushAbove {
			if err := st.write(); err != nil {
				return err
			}
		}
	}
	if err := st.write(); err != nil {
		return err
	}
	st.rq.w.Flush()
	if cap(st.buf) > 4*flushAbove {
		st.buf = nil
	}
	return nil
}

func (st *stream) write() error {
	if len(st.buf) == 0 {
		return nil
	}
	_, err := st.rq.w.Write(st.buf)
	st.buf = st.buf[:0]
	return err
}

// end sends what a client should know at the end of its watch: where it stands, or that it must list again.
func (st *stream) end(ctx context.Context, err error) {
	var expired *store.Expired
	switch {
	case st.rq.Context().Err() != nil:
		return
	case errors.Is(err, store.ErrOvertaken), errors.As(err, &expired):
		gone := apierrors.NewResourceExpired("too old resource version: " + err.Error())
		st.buf = st.appendError(st.buf[:0], &gone.ErrStatus)
		_ = st.write()
	case ctx.Err() != nil && st.bookmarks:
		if last, ok := st.watcher.Bookmark(); ok {
			_ = st.send([]store.Event{last})
		}
	}
}

// appendError appends an ERROR event.
func (st *stream) appendError(dst []byte, status *metav1.Status) []byte {
	body, err := statusHead().encode(withoutKind(status), format{media: st.f.media})
	if err != nil {
		return dst
	}
	return st.appendEvent(dst, watch.Error, body)
}

// frame appends one event to buf.
func (st *stream) frame(e *store.Event) error {
	if e.Type == watch.Bookmark {
		body, err := st.bookmark(e)
		if err != nil {
			return err
		}
		st.buf = st.appendEvent(st.buf, e.Type, body)
		return nil
	}
	if st.f.shape == shapeFull && st.ep.raw {
		return st.frameStored(e)
	}
	body, err := st.shaped(e)
	if err != nil {
		return err
	}
	st.buf = st.appendEvent(st.buf, e.Type, body)
	return nil
}

// frameStored appends an event from the store's ready bytes.
func (st *stream) frameStored(e *store.Event) error {
	h := st.ep.head
	if st.f.media == mediaProtobuf {
		body := e.Entry.Body()
		st.buf = openFrame(st.buf, e.Type, h.protoSize(len(body)))
		st.buf = h.appendProto(st.buf, body)
		return nil
	}
	doc, err := e.Entry.JSON()
	if err != nil {
		return err
	}
	st.buf = appendType(st.buf, e.Type)
	st.buf = h.appendJSON(st.buf, doc)
	st.buf = append(st.buf, "}\n"...)
	return nil
}

// shaped encodes the object of an event as a table, as metadata alone, or in a version that is not stored.
func (st *stream) shaped(e *store.Event) ([]byte, error) {
	plain := format{media: st.f.media, beta: st.f.beta}
	switch st.f.shape {
	case shapeTable:
		st.rows++
		return st.s.tableBytes(st.ep, []*store.Entry{e.Entry}, tableRequest{
			include: st.table, format: plain, noColumns: st.rows > 1,
			meta: metav1.ListMeta{ResourceVersion: strconv.FormatInt(e.Entry.Revision, 10)},
		})
	case shapePartial:
		return partialBytes(e.Entry, plain, st.ep.raw && st.ep.proto)
	}
	return st.s.entryBytes(st.ep, e.Entry, plain)
}

// initialEventsEnd marks the bookmark that closes the initial events.
const initialEventsEnd = metav1.InitialEventsAnnotationKey

// bookmark encodes an otherwise empty object that carries the revision.
func (st *stream) bookmark(e *store.Event) ([]byte, error) {
	plain := format{media: st.f.media, beta: st.f.beta}
	meta := metav1.ObjectMeta{ResourceVersion: strconv.FormatInt(e.Revision, 10)}
	if e.Initial {
		meta.Annotations = map[string]string{initialEventsEnd: "true"}
	}
	switch st.f.shape {
	case shapePartial:
		return partialHead(plain, "").encode(&metav1.PartialObjectMetadata{ObjectMeta: meta}, plain)
	case shapeTable:
		return st.s.bookmarkTable(plain, &meta)
	}
	obj, ok := st.ep.New().(kinds.Object)
	if !ok {
		return nil, fmt.Errorf("%s has no metadata", st.ep.GVK)
	}
	obj.SetResourceVersion(meta.ResourceVersion)
	obj.SetAnnotations(meta.Annotations)
	return st.ep.head.encode(obj, plain)
}

// appendEvent appends an event around a whole encoded object.
func (st *stream) appendEvent(dst []byte, t watch.EventType, object []byte) []byte {
	if st.f.media == mediaProtobuf {
		dst = openFrame(dst, t, len(object))
		return append(dst, object...)
	}
	dst = appendType(dst, t)
	for len(object) > 0 && object[len(object)-1] == '\n' {
		object = object[:len(object)-1]
	}
	dst = append(dst, object...)
	return append(dst, "}\n"...)
}

func appendType(dst []byte, t watch.EventType) []byte {
	dst = append(dst, `{"type":"`...)
	dst = append(dst, t...)
	return append(dst, `","object":`...)
}

// openFrame appends what comes before the n bytes of an object in a protobuf frame: the frame's length, then a
// metav1.WatchEvent with its type in field 1 and in field 2 a RawExtension whose field 1 is the object.
func openFrame(dst []byte, t watch.EventType, n int) []byte {
	raw := fieldSize(n)
	dst = binary.BigEndian.AppendUint32(dst, uint32(fieldSize(len(t))+fieldSize(raw)))
	dst = appendField(dst, tag1, string(t))
	dst = append(dst, tag2)
	dst = binary.AppendUvarint(dst, uint64(raw))
	dst = append(dst, tag1)
	return binary.AppendUvarint(dst, uint64(n))
}
