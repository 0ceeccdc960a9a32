package apiserver

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	"canopus/internal/kinds"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
)

// Computed answers reads of a kind that is never stored. Objects are the caller's, in the hub version.
type Computed interface {
	// Get returns one object, or an error with a Status: NotFound for what is not there.
	Get(ctx context.Context, namespace, name string) (kinds.Object, error)
	// List returns the objects of a namespace, "" for all, with these labels.
	List(ctx context.Context, namespace string, selector labels.Selector) ([]kinds.Object, error)
}

// readComputed answers a get or list of such a kind.
func (s *Server) readComputed(rq *request, ep *endpoint) error {
	from := s.cfg.Computed[ep.Kind.GroupResource()]
	if from == nil {
		return errNotServed(ep.gr.String())
	}
	f, err := rq.negotiate(ep, false)
	if err != nil {
		return err
	}
	if rq.route.verb == "get" {
		obj, err := from.Get(rq.Context(), rq.namespaceOf(ep), rq.route.name)
		if err != nil {
			return err
		}
		return s.writeObject(rq, ep, http.StatusOK, obj, f)
	}
	_, sel, err := rq.listOptions(ep)
	if err != nil {
		return err
	}
	if sel.Labels == nil {
		sel.Labels = labels.Everything()
	}
	all, err := from.List(rq.Context(), sel.Namespace, sel.Labels)
	if err != nil {
		return err
	}
	var picked []kinds.Object
	for _, o := range all {
		if sel.Fields == nil || sel.Fields.Matches(fields.Set{"metadata.name": o.GetName(), "metadata.namespace": o.GetNamespace()}) {
			picked = append(picked, o)
		}
	}
	return s.writeObjects(rq, ep, picked, f)
}

// writeObjects answers with a list of objects that are not stored.
func (s *Server) writeObjects(rq *request, ep *endpoint, objs []kinds.Object, f format) error {
	switch {
	case f.shape == shapeTable:
		return s.writeObjectsTable(rq, ep, objs, f)
	case f.shape == shapePartialList:
		list := metav1.PartialObjectMetadataList{Items: []metav1.PartialObjectMetadata{}}
		for _, o := range objs {
			list.Items = append(list.Items, *kinds.Metadata(o))
		}
		return rq.writeAs(partialHead(f, "List"), http.StatusOK, &list, f)
	case f.shape == shapePartial:
		return errNotAcceptable("you requested PartialObjectMetadata, but the requested object is a list")
	case f.media == mediaProtobuf:
		items := make([][]byte, len(objs))
		for i, o := range objs {
			m, ok := o.(interface{ Marshal() ([]byte, error) })
			if !ok {
				return fmt.Errorf("%T has no protobuf form: ask for application/json", o)
			}
			var err error
			if items[i], err = m.Marshal(); err != nil {
				return fmt.Errorf("encode %s: %w", ep.GVK.Kind, err)
			}
		}
		return writeProtoList(rq, ep.listHead, metav1.ListMeta{}, len(items), func(i int) []byte { return items[i] })
	}
	return rq.writeJSONItems(ep.listHead, metav1.ListMeta{}, len(objs), f, func(i int) ([]byte, error) {
		body, err := json.Marshal(objs[i])
		if err != nil {
			return nil, fmt.Errorf("encode %s: %w", ep.GVK.Kind, err)
		}
		return body, nil
	})
}

// writeObjectsTable answers with a row for each object.
func (s *Server) writeObjectsTable(rq *request, ep *endpoint, objs []kinds.Object, f format) error {
	include := rq.tableOptions()
	if err := checkInclude(include); err != nil {
		return err
	}
	t := metav1.Table{ColumnDefinitions: ep.Kind.Columns, Rows: make([]metav1.TableRow, 0, len(objs))}
	for _, o := range objs {
		row, err := s.rowOf(ep, o, include, f)
		if err != nil {
			return err
		}
		t.Rows = append(t.Rows, row)
	}
	return rq.writeAs(headOf(f.metaVersion(), "Table"), http.StatusOK, &t, f)
}
