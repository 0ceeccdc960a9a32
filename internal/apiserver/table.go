package apiserver

import (
	"encoding/json"
	"fmt"
	"net/http"

	"canopus/internal/kinds"
	"canopus/internal/store"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// tableRequest says how a table is to look.
type tableRequest struct {
	include   metav1.IncludeObjectPolicy
	format    format
	noColumns bool
	meta      metav1.ListMeta
}

// tableOptions reads what rows are to carry of their objects.
func (rq *request) tableOptions() metav1.IncludeObjectPolicy {
	if v := rq.query.Get("includeObject"); v != "" {
		return metav1.IncludeObjectPolicy(v)
	}
	return metav1.IncludeMetadata
}

func checkInclude(p metav1.IncludeObjectPolicy) error {
	switch p {
	case metav1.IncludeNone, metav1.IncludeMetadata, metav1.IncludeObject:
		return nil
	}
	return apierrors.NewBadRequest(fmt.Sprintf("unrecognized includeObject value: %q", string(p)))
}

// writeTable answers a list as a table.
func (s *Server) writeTable(rq *request, ep *endpoint, l *store.List, meta metav1.ListMeta, f format) error {
	return s.sendTable(rq, ep, http.StatusOK, l.Entries, tableRequest{include: rq.tableOptions(), format: f, meta: meta})
}

// writeTableOfOne answers with one object as a table of one row.
func (s *Server) writeTableOfOne(rq *request, ep *endpoint, code int, e *store.Entry, f format) error {
	obj, err := e.Object()
	if err != nil {
		return err
	}
	meta := metav1.ListMeta{ResourceVersion: obj.(kinds.Object).GetResourceVersion()}
	return s.sendTable(rq, ep, code, []*store.Entry{e}, tableRequest{include: rq.tableOptions(), format: f, meta: meta})
}

func (s *Server) sendTable(rq *request, ep *endpoint, code int, entries []*store.Entry, tr tableRequest) error {
	if err := checkInclude(tr.include); err != nil {
		return err
	}
	body, err := s.tableBytes(ep, entries, tr)
	if err != nil {
		return err
	}
	rq.writeBody(code, tr.format.media.contentType(), body)
	return nil
}

// tableBytes shows entries as a table with the kind's columns.
func (s *Server) tableBytes(ep *endpoint, entries []*store.Entry, tr tableRequest) ([]byte, error) {
	t := metav1.Table{ListMeta: tr.meta, Rows: make([]metav1.TableRow, 0, len(entries))}
	if !tr.noColumns {
		t.ColumnDefinitions = ep.Kind.Columns
	}
	now := s.clock.Now()
	for _, e := range entries {
		obj, err := e.Object()
		if err != nil {
			return nil, err
		}
		row := metav1.TableRow{Cells: ep.Kind.Cells(obj.(kinds.Object), now)}
		if row.Object.Raw, err = s.rowObject(ep, e, tr); err != nil {
			return nil, err
		}
		t.Rows = append(t.Rows, row)
	}
	return headOf(tr.format.metaVersion(), "Table").encode(&t, tr.format)
}

// rowObject is what a row carries of its object, as JSON.
func (s *Server) rowObject(ep *endpoint, e *store.Entry, tr tableRequest) ([]byte, error) {
	switch tr.include {
	case metav1.IncludeObject:
		return s.entryBytes(ep, e, format{})
	case metav1.IncludeMetadata:
		return partialBytes(e, format{beta: tr.format.beta}, false)
	}
	return nil, nil
}

// bookmarkTable is a bookmark in a watch of tables: a table with one row whose object carries the revision.
func (s *Server) bookmarkTable(f format, meta *metav1.ObjectMeta) ([]byte, error) {
	raw, err := json.Marshal(&metav1.PartialObjectMetadata{
		TypeMeta:   metav1.TypeMeta{Kind: "PartialObjectMetadata", APIVersion: f.metaVersion()},
		ObjectMeta: *meta,
	})
	if err != nil {
		return nil, fmt.Errorf("encode bookmark: %w", err)
	}
	t := metav1.Table{
		ListMeta: metav1.ListMeta{ResourceVersion: meta.ResourceVersion},
		Rows:     []metav1.TableRow{{Cells: []any{}, Object: runtime.RawExtension{Raw: raw}}},
	}
	return headOf(f.metaVersion(), "Table").encode(&t, f)
}
