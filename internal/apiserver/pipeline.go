package apiserver

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"runtime/debug"
	"time"

	"canopus/internal/auth"
	"canopus/internal/verdict"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/uuid"
)

// request is one request on its way through the stages. It belongs to the goroutine that serves it.
type request struct {
	*http.Request
	s     *Server
	w     *response
	route route
	query url.Values
	user  *auth.User
	from  *auth.User // who authenticated, when user is impersonated
	id    string
	began time.Time
	warns func(string) // where warnings go instead, if set
	ends  []func()     // run in reverse when the request ends
}

// ServeHTTP takes a request through all stages. Each stage either passes the request on or ends it with an error, which
// the client gets as a Status. The order is: authenticate, audit, impersonate, limit, authorize, serve (route, handle, encode).
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	growStack(len(r.Method))
	rq := s.begin(w, r)
	defer rq.end()
	for _, stage := range [...]func(*request) error{
		s.authenticate,
		s.audit,
		s.impersonate,
		s.deadline,
		s.limit,
		s.authorize,
		s.serve,
	} {
		if err := stage(rq); err != nil {
			rq.fail(err)
			return
		}
	}
}

// growStack makes room for the whole of a request at once. A goroutine starts with a small stack, HTTP/2 starts one per
// request, and doubling it on the way down, each time with more frames to move, was 6 % of the time that a write takes.
// What a watch does not need afterwards the garbage collector takes back.
//
//go:noinline
func growStack(i int) byte {
	var room [14 << 10]byte
	return room[i&1]
}

func (s *Server) begin(w http.ResponseWriter, r *http.Request) *request {
	rq := &request{Request: r, s: s, began: s.clock.Now()}
	rq.w = &response{ResponseWriter: w, rq: rq}
	rq.route = parseRoute(r.Method, r.URL.Path, r.URL.EscapedPath())
	if r.URL.RawQuery != "" {
		rq.query = r.URL.Query()
		rq.refineVerb()
	}
	rq.id = r.Header.Get("Audit-Id")
	if rq.id == "" || len(rq.id) > 64 {
		rq.id = string(uuid.NewUUID())
	}
	h := w.Header()
	h["Audit-Id"] = []string{rq.id}
	h["Cache-Control"] = noCache
	return rq
}

// end closes what the stages opened, counts the request and turns a panic into an answer.
func (rq *request) end() {
	if p := recover(); p != nil {
		if p == http.ErrAbortHandler {
			defer panic(p) // the connection is to be cut; net/http knows how
		} else {
			rq.s.log.Error("request panicked, this is a bug", "verb", rq.route.verb, "path", rq.URL.Path, "audit", rq.id,
				"panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			rq.failPanic()
		}
	}
	for i := len(rq.ends) - 1; i >= 0; i-- {
		rq.ends[i]()
	}
	rq.s.metrics.done(rq)
}

// failPanic answers a request that panicked; when an answer had already begun, it cuts the connection.
func (rq *request) failPanic() {
	if rq.w.code != 0 {
		defer func() { _ = recover() }()
		rc := http.NewResponseController(rq.w.ResponseWriter)
		_ = rc.SetWriteDeadline(time.Unix(1, 0))
		return
	}
	rq.fail(apierrors.NewInternalError(errors.New("the server panicked while it handled this request: see its log for audit id " + rq.id)))
}

// authenticate finds out who sends the request. In-process clients come with their identity in the context.
func (s *Server) authenticate(rq *request) error {
	if u := auth.UserFrom(rq.Context()); u != nil {
		rq.user = u
		return nil
	}
	u, err := s.cfg.Authenticator.Authenticate(rq.Request)
	switch {
	case err != nil:
		s.log.Debug("authentication refused", "path", rq.URL.Path, "peer", rq.RemoteAddr, "error", err)
		return apierrors.NewUnauthorized("Unauthorized")
	case u != nil:
		rq.user = u
	case anonymousPath(rq.URL.Path):
		rq.user = &auth.User{Name: auth.AnonymousUser, Groups: []string{auth.UnauthenticatedGroup}}
	default:
		return apierrors.NewUnauthorized("Unauthorized")
	}
	return nil
}

// deadline gives the request's context its end, unless the request is meant to last.
func (s *Server) deadline(rq *request) error {
	if rq.longRunning() {
		return nil
	}
	d := s.cfg.RequestTimeout
	if asked := rq.query.Get("timeout"); asked != "" {
		t, err := time.ParseDuration(asked)
		if err != nil || t < 0 {
			return apierrors.NewBadRequest("invalid timeout specified in the request URL")
		}
		if t > 0 && t < d {
			d = t
		}
	}
	ctx, cancel := context.WithTimeout(rq.Context(), d)
	rq.Request = rq.WithContext(ctx)
	rq.ends = append(rq.ends, cancel)
	return nil
}

// longRunning is true for requests that last as long as the client wants: watches and streams to containers.
func (rq *request) longRunning() bool {
	switch rq.route.verb {
	case "watch", "proxy":
		return true
	}
	if !rq.route.resource {
		return false
	}
	switch rq.route.subresource {
	case "log", "exec", "attach", "portforward", "proxy":
		return true
	}
	return false
}

// authorize asks whether the sender may do this.
func (s *Server) authorize(rq *request) error {
	if !rq.route.resource && anonymousPath(rq.URL.Path) {
		return nil
	}
	return rq.allowed(rq.attributes())
}

// attributes is the request in the authorizer's terms.
func (rq *request) attributes() *auth.Attributes {
	rt := &rq.route
	a := &auth.Attributes{
		User: rq.user, Verb: rt.verb, IsResource: rt.resource,
		Group: rt.group, Version: rt.version, Resource: rt.plural, Subresource: rt.subresource,
		Namespace: rt.namespace, Name: rt.name, Path: rq.URL.Path,
	}
	if !rt.resource && rq.URL.Path == verdict.Path {
		return rq.verdictAttributes()
	}
	if rq.query == nil || rt.verb != "list" && rt.verb != "watch" && rt.verb != "deletecollection" {
		return a
	}
	if text := rq.query.Get("fieldSelector"); text != "" {
		if sel, err := fields.ParseSelector(text); err == nil {
			a.Fields = sel.Requirements()
		}
	}
	if text := rq.query.Get("labelSelector"); text != "" {
		if sel, err := labels.Parse(text); err == nil {
			a.Labels, _ = sel.Requirements()
		}
	}
	return a
}

// verdictAttributes: who may read a pod may read why it has its node or none, and who may write the status of any pod may say so.
func (rq *request) verdictAttributes() *auth.Attributes {
	a := &auth.Attributes{User: rq.user, IsResource: true, Version: "v1", Resource: "pods", Path: rq.URL.Path}
	if rq.Method == http.MethodGet {
		q := rq.URL.Query()
		a.Verb, a.Namespace, a.Name = "get", q.Get("namespace"), q.Get("name")
	} else {
		a.Verb, a.Subresource = "update", "status"
	}
	return a
}

// allowed returns nil if a is allowed, else the error to answer with.
func (rq *request) allowed(a *auth.Attributes) error {
	decision, reason, err := rq.s.cfg.Authorizer.Authorize(rq.Context(), a)
	if decision == auth.Allow {
		return nil
	}
	if err != nil && decision == auth.NoOpinion && rq.Context().Err() != nil {
		return rq.Context().Err()
	}
	if errors.Is(err, auth.ErrNotReady) && decision == auth.NoOpinion {
		return apierrors.NewServiceUnavailable(auth.ErrNotReady.Error())
	}
	if err != nil {
		rq.s.log.Debug("authorizer could not decide", "user", a.User.Name, "error", err)
	}
	return forbidden(a, reason)
}
