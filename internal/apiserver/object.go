package apiserver

import (
	"canopus/internal/kinds"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// writeObject answers with an object in the hub version that is not stored: one that was only tried, or is gone.
func (s *Server) writeObject(rq *request, ep *endpoint, code int, obj kinds.Object, f format) error {
	switch f.shape {
	case shapeTable:
		return s.writeObjectTable(rq, ep, code, obj, f)
	case shapePartial:
		body, err := partialHead(f, "").encode(kinds.Metadata(obj), f)
		if err != nil {
			return err
		}
		rq.writeBody(code, f.media.contentType(), body)
		return nil
	case shapePartialList:
		return errNotAcceptable("you requested PartialObjectMetadataList, but the requested object is not a list")
	}
	out, err := ep.FromHub(obj)
	if err != nil {
		return err
	}
	return rq.writeAs(ep.head, code, out, f)
}

// writeAs answers with an object whose kind and apiVersion are h's.
func (rq *request) writeAs(h head, code int, obj runtime.Object, f format) error {
	body, err := h.encode(obj, f)
	if err != nil {
		return err
	}
	rq.writeBody(code, f.media.contentType(), body)
	return nil
}

func (s *Server) writeObjectTable(rq *request, ep *endpoint, code int, obj kinds.Object, f format) error {
	include := rq.tableOptions()
	if err := checkInclude(include); err != nil {
		return err
	}
	row, err := s.rowOf(ep, obj, include, f)
	if err != nil {
		return err
	}
	t := &metav1.Table{ListMeta: metav1.ListMeta{ResourceVersion: obj.GetResourceVersion()}, ColumnDefinitions: ep.Kind.Columns, Rows: []metav1.TableRow{row}}
	return rq.writeAs(headOf(f.metaVersion(), "Table"), code, t, f)
}

// rowOf shows an object that is not stored as a row of a table.
func (s *Server) rowOf(ep *endpoint, obj kinds.Object, include metav1.IncludeObjectPolicy, f format) (metav1.TableRow, error) {
	row := metav1.TableRow{Cells: ep.Kind.Cells(obj, s.clock.Now())}
	var err error
	switch include {
	case metav1.IncludeMetadata:
		row.Object.Raw, err = partialHead(f, "").encode(kinds.Metadata(obj), format{})
	case metav1.IncludeObject:
		var shown runtime.Object
		if shown, err = ep.FromHub(obj); err == nil {
			row.Object.Raw, err = ep.head.encode(shown, format{})
		}
	}
	return row, err
}
