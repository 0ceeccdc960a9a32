package apiserver

import (
	"net/http"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// refineVerb looks at the parameters that make a list a watch, and at a selector of one name, which stands for that name
// when access is decided.
func (rq *request) refineVerb() {
	rt := &rq.route
	if !rt.resource || rq.Method != http.MethodGet && rq.Method != http.MethodHead {
		return
	}
	if rt.verb == "list" && rq.flag("watch") {
		rt.verb = "watch"
	}
	if rt.name != "" || rt.verb != "list" && rt.verb != "watch" {
		return
	}
	text := rq.query.Get("fieldSelector")
	if text == "" {
		return
	}
	selector, err := fields.ParseSelector(text)
	if err != nil {
		return // the handler says so
	}
	if name, ok := selector.RequiresExactMatch("metadata.name"); ok && validSegment(name) {
		rt.name = name
	}
}

// flag reads a parameter that is on unless it says otherwise: "?watch" is a watch, and so is "?watch=True".
func (rq *request) flag(name string) bool {
	values, ok := rq.query[name]
	if !ok || len(values) == 0 {
		return false
	}
	return values[0] != "0" && !strings.EqualFold(values[0], "false")
}

// validSegment says whether a name can be part of a path.
func validSegment(name string) bool {
	return name != "" && name != "." && name != ".." && !strings.ContainsAny(name, "/%")
}

// serve finds the handler of the route and runs it.
func (s *Server) serve(rq *request) error {
	if !rq.route.resource {
		return s.servePage(rq)
	}
	rt := &rq.route
	ep := s.served.Load().paths[pathKey{rt.group, rt.version, rt.plural}]
	if ep == nil {
		if s.served.Load().groups[schema.GroupVersion{Group: rt.group, Version: rt.version}] {
			return errNoResource()
		}
		return errNoPage()
	}
	if ep.Kind.Deprecated != "" {
		rq.warn(ep.Kind.Deprecated)
		s.metrics.deprecated(rt, ep.Kind)
	}
	if rt.watchPath && (rt.verb != "watch" || rt.subresource != "") {
		return errMethod() // the prefix is for watching objects, nothing else
	}
	if rt.subresource != "" {
		return s.serveSubresource(rq, ep)
	}
	if err := rq.checkScope(ep); err != nil {
		return err
	}
	if ep.Kind.Virtual {
		if (rt.verb == "get" || rt.verb == "list") && ep.supports(rt.verb) {
			return s.readComputed(rq, ep)
		}
		if !ep.supports("create") || rq.Method != http.MethodPost || rt.name != "" {
			return errMethod()
		}
		return s.serveVirtual(rq, ep)
	}
	if rt.verb == "" || !ep.supports(rt.verb) {
		return errMethod()
	}
	return s.serveVerb(rq, ep)
}

// serveVerb runs the handler of a verb on objects.
func (s *Server) serveVerb(rq *request, ep *endpoint) error {
	switch rq.route.verb {
	case "get":
		return s.get(rq, ep)
	case "list":
		return s.list(rq, ep)
	case "watch":
		return s.watch(rq, ep)
	case "create":
		return s.create(rq, ep)
	case "update":
		return s.update(rq, ep, nil)
	case "patch":
		return s.patch(rq, ep, nil)
	case "delete":
		return s.delete(rq, ep)
	case "deletecollection":
		return s.deleteCollection(rq, ep)
	}
	return errMethod()
}

// checkScope refuses paths that do not fit the kind: a namespace for kinds without, none for kinds with, a name in a create.
func (rq *request) checkScope(ep *endpoint) error {
	rt := &rq.route
	namespaced := rt.namespace != "" && !(rt.plural == "namespaces" && rt.group == "")
	if !ep.Kind.Namespaced {
		if namespaced {
			return errNoResource()
		}
		if rt.verb == "create" && rt.name != "" {
			return errMethod()
		}
		return nil
	}
	if rt.namespace == "" {
		switch {
		case rt.verb == "list", rt.verb == "watch":
			return nil
		case rt.verb == "create" && rt.name == "" && ep.Kind.Virtual:
			return nil
		case rt.name == "":
			return errMethod()
		}
		return errNoResource()
	}
	if rt.verb == "create" && rt.name != "" {
		return errMethod()
	}
	return nil
}

// namespaceOf is the namespace that objects of the request live in: none for kinds without.
func (rq *request) namespaceOf(ep *endpoint) string {
	if !ep.Kind.Namespaced {
		return ""
	}
	return rq.route.namespace
}

// serveSubresource runs the handler of a path below an object.
func (s *Server) serveSubresource(rq *request, ep *endpoint) error {
	rt := &rq.route
	sub := ep.Kind.Subresource(rt.subresource)
	if sub == nil {
		return errNoResource()
	}
	if err := rq.checkParent(ep); err != nil {
		return err
	}
	if h := s.connector(ep, rt.subresource); h != nil {
		return h(rq, ep)
	}
	if rt.tail != "" && rt.tail != "/" {
		return errNoResource()
	}
	if len(sub.Verbs) > 0 && !slices.Contains(sub.Verbs, rt.verb) {
		return errMethod()
	}
	if h := s.subHandler(ep, rt.subresource); h != nil {
		return h(rq, ep)
	}
	if rt.subresource == "scale" && ep.Kind.Scale != nil {
		return s.scale(rq, ep)
	}
	switch rt.verb {
	case "get":
		return s.get(rq, ep)
	case "update":
		return s.update(rq, ep, sub)
	case "patch":
		return s.patch(rq, ep, sub)
	}
	return errMethod()
}

// checkParent refuses a subresource path that does not name an object of the kind.
func (rq *request) checkParent(ep *endpoint) error {
	rt := &rq.route
	namespaced := rt.namespace != "" && !(rt.plural == "namespaces" && rt.group == "")
	if rt.name == "" || namespaced != ep.Kind.Namespaced {
		return errNoResource()
	}
	return nil
}

// negotiate picks the answer's format, or says what there is to pick from.
func (rq *request) negotiate(ep *endpoint, stream bool) (format, error) {
	f, ok := formatFor(rq.Request, stream)
	if ok && f.media == mediaProtobuf && f.shape == shapeFull && !ep.proto {
		f, ok = withoutProtobuf(rq, stream)
	}
	if !ok {
		return f, errNotAcceptable("only the following media types are accepted: " + strings.Join(spoken(ep, stream), ", "))
	}
	return f, nil
}

// withoutProtobuf negotiates again for a kind that has no protobuf form.
func withoutProtobuf(rq *request, stream bool) (format, bool) {
	var kept []string
	for clause := range strings.SplitSeq(rq.Header.Get("Accept"), ",") {
		if !strings.Contains(clause, typeProtobuf) {
			kept = append(kept, clause)
		}
	}
	if len(kept) == 0 {
		return format{}, false
	}
	return parseAccept(strings.Join(kept, ","), stream)
}

func spoken(ep *endpoint, stream bool) []string {
	out := []string{typeJSON}
	if !stream {
		out = append(out, typeYAML)
	}
	if ep.proto {
		out = append(out, typeProtobuf)
	}
	return out
}
