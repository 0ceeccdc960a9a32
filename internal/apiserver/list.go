package apiserver

import (
	"encoding/binary"
	"fmt"
	"net/http"
	"strconv"

	"canopus/internal/store"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/internalversion"
	"k8s.io/apimachinery/pkg/apis/meta/internalversion/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// list answers with many objects.
func (s *Server) list(rq *request, ep *endpoint) error {
	f, err := rq.negotiate(ep, false)
	if err != nil {
		return err
	}
	o, sel, err := rq.listOptions(ep)
	if err != nil {
		return err
	}
	lo, err := readOptions(o)
	if err != nil {
		return err
	}
	lo.Selector = sel
	l, err := ep.res.List(rq.Context(), lo)
	if err != nil {
		return readError(ep, "", err)
	}
	return s.writeList(rq, ep, &l, f)
}

// listOptions reads and checks the parameters of list, watch and deletecollection.
func (rq *request) listOptions(ep *endpoint) (*metav1.ListOptions, store.Selector, error) {
	var o metav1.ListOptions
	var sel store.Selector
	if rq.query != nil {
		if err := metav1.Convert_url_Values_To_v1_ListOptions(&rq.query, &o, nil); err != nil {
			return nil, sel, apierrors.NewBadRequest(err.Error())
		}
	}
	o.Watch = rq.route.verb == "watch"
	if errs := validation.ValidateListOptions(&internalversion.ListOptions{
		Watch: o.Watch, ResourceVersion: o.ResourceVersion, ResourceVersionMatch: o.ResourceVersionMatch,
		Continue: o.Continue, Limit: o.Limit, SendInitialEvents: o.SendInitialEvents,
	}, true); len(errs) > 0 {
		return nil, sel, apierrors.NewInvalid(schema.GroupKind{Group: metav1.GroupName, Kind: "ListOptions"}, "", errs)
	}
	sel.Namespace = rq.namespaceOf(ep)
	if o.LabelSelector != "" {
		ls, err := labels.Parse(o.LabelSelector)
		if err != nil {
			return nil, sel, apierrors.NewBadRequest(err.Error())
		}
		sel.Labels = ls
	}
	fs, err := rq.fieldSelector(ep, o.FieldSelector)
	if err != nil {
		return nil, sel, err
	}
	sel.Fields = fs
	return &o, sel, nil
}

// fieldSelector reads a field selector and adds the name that a path may carry.
func (rq *request) fieldSelector(ep *endpoint, text string) (fields.Selector, error) {
	var sel fields.Selector
	if text != "" {
		fs, err := fields.ParseSelector(text)
		if err != nil {
			return nil, apierrors.NewBadRequest(err.Error())
		}
		for _, r := range fs.Requirements() {
			if !ep.selectable(r.Field) {
				return nil, apierrors.NewBadRequest(ep.notSelectable(r.Field))
			}
		}
		sel = fs
	}
	if rq.route.name == "" {
		return sel, nil
	}
	byName := fields.OneTermEqualSelector("metadata.name", rq.route.name)
	if sel == nil {
		return byName, nil
	}
	if name, ok := sel.RequiresExactMatch("metadata.name"); ok && name == rq.route.name {
		return sel, nil
	}
	return fields.AndSelectors(sel, byName), nil
}

// selectable says whether a field selector may name a field of the kind.
func (ep *endpoint) selectable(name string) bool {
	return name == "metadata.name" || name == "metadata.namespace" && ep.Kind.Namespaced || ep.Kind.Fields[name] != nil
}

// notSelectable says that it may not, in the words of kinds with and without fields of their own.
func (ep *endpoint) notSelectable(name string) string {
	if len(ep.Kind.Fields) == 0 {
		return fmt.Sprintf("%q is not a known field selector: only \"metadata.name\", \"metadata.namespace\"", name)
	}
	return "field label not supported: " + name
}

// readOptions turns the resourceVersion rules of a list into the store's terms.
func readOptions(o *metav1.ListOptions) (store.ListOptions, error) {
	lo := store.ListOptions{Limit: max(o.Limit, 0), Continue: o.Continue}
	if o.Continue != "" {
		if o.ResourceVersion != "" && o.ResourceVersion != "0" {
			return lo, apierrors.NewBadRequest("specifying resource version is not allowed when using continue")
		}
		return lo, nil
	}
	switch o.ResourceVersion {
	case "":
		return lo, nil
	case "0":
		lo.Match = store.Any
		return lo, nil
	}
	n, err := parseRevision(o.ResourceVersion)
	if err != nil {
		return lo, err
	}
	lo.Revision = n
	switch {
	case o.ResourceVersionMatch == metav1.ResourceVersionMatchExact, o.ResourceVersionMatch == "" && o.Limit > 0:
		lo.Match = store.Exact
	default:
		lo.Match = store.NotOlderThan
	}
	return lo, nil
}

// writeList answers with a page of objects.
func (s *Server) writeList(rq *request, ep *endpoint, l *store.List, f format) error {
	meta := listMeta(l)
	switch {
	case f.shape == shapeTable:
		return s.writeTable(rq, ep, l, meta, f)
	case f.shape == shapePartialList:
		return s.writePartialList(rq, l, meta, f, ep.raw && ep.proto)
	case f.shape == shapePartial:
		return errNotAcceptable("you requested PartialObjectMetadata, but the requested object is a list")
	case f.media == mediaProtobuf && ep.raw:
		return writeProtoList(rq, ep.listHead, meta, len(l.Entries), func(i int) []byte { return l.Entries[i].Body() })
	case f.media == mediaProtobuf:
		return s.writeConvertedList(rq, ep, l, meta)
	}
	return s.writeJSONList(rq, ep, l, meta, f)
}

func listMeta(l *store.List) metav1.ListMeta {
	return metav1.ListMeta{ResourceVersion: strconv.FormatInt(l.Revision, 10), Continue: l.Continue, RemainingItemCount: l.Remaining}
}

// writeProtoList sends n messages as a list: every list of the API has its metadata in field 1 and its items in field 2.
func writeProtoList(rq *request, h head, meta metav1.ListMeta, n int, item func(int) []byte) error {
	mb, err := meta.Marshal()
	if err != nil {
		return fmt.Errorf("encode list metadata: %w", err)
	}
	size := fieldSize(len(mb))
	for i := range n {
		size += fieldSize(len(item(i)))
	}
	b := rq.newBulk(http.StatusOK, typeProtobuf)
	defer b.close()
	b.buf = h.openProto(b.buf, size)
	b.buf = appendField(b.buf, tag1, mb)
	for i := range n {
		m := item(i)
		b.room(len(m) + 16)
		b.buf = append(b.buf, tag2)
		b.buf = binary.AppendUvarint(b.buf, uint64(len(m)))
		b.buf = append(b.buf, m...)
	}
	b.room(4)
	b.buf = closeProto(b.buf)
	return nil
}

// writeConvertedList sends a list in a version that is not stored.
func (s *Server) writeConvertedList(rq *request, ep *endpoint, l *store.List, meta metav1.ListMeta) error {
	items := make([][]byte, len(l.Entries))
	for i, e := range l.Entries {
		obj, err := s.converted(ep, e)
		if err != nil {
			return err
		}
		m, ok := obj.(interface{ Marshal() ([]byte, error) })
		if !ok {
			return fmt.Errorf("%T has no protobuf form: ask for application/json", obj)
		}
		if items[i], err = m.Marshal(); err != nil {
			return fmt.Errorf("encode %s: %w", ep.GVK.Kind, err)
		}
	}
	return writeProtoList(rq, ep.listHead, meta, len(items), func(i int) []byte { return items[i] })
}
