package apiserver

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"canopus/internal/auth"
	"canopus/internal/store"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// fail answers with err as a Status, in the encoding that the client asked for. Once an answer has begun, it only notes the error.
func (rq *request) fail(err error) {
	if rq.w.code != 0 {
		rq.s.log.Debug("error after the answer had begun", "path", rq.URL.Path, "audit", rq.id, "error", err)
		return
	}
	var page plainError
	if errors.As(err, &page) {
		page.write(rq.w)
		return
	}
	st := statusOf(err)
	if st.Code >= 500 && st.Reason == metav1.StatusReasonInternalError {
		rq.s.log.Error("request failed", "verb", rq.route.verb, "path", rq.URL.Path, "audit", rq.id, "error", err)
	}
	rq.writeStatus(&st)
}

// writeStatus answers with st and its code.
func (rq *request) writeStatus(st *metav1.Status) {
	if st.Details != nil && st.Details.RetryAfterSeconds > 0 {
		rq.w.Header().Set("Retry-After", strconv.Itoa(int(st.Details.RetryAfterSeconds)))
	}
	if st.Code == http.StatusUnauthorized {
		rq.w.Header().Set("WWW-Authenticate", `Bearer realm="canopus"`)
	}
	f, ok := formatFor(rq.Request, false)
	if !ok {
		f = format{}
	}
	body, err := statusHead().encode(withoutKind(st), f)
	if err != nil {
		body, _ = json.Marshal(st)
		f.media = mediaJSON
	}
	code := int(st.Code)
	if code == 0 { // the success of a delete says none
		code = http.StatusOK
	}
	rq.writeBody(code, f.media.contentType(), body)
}

func withoutKind(st *metav1.Status) *metav1.Status {
	c := *st
	c.TypeMeta = metav1.TypeMeta{}
	return &c
}

// statusOf says err in the API's terms. Errors that carry no Status are the server's own fault.
func statusOf(err error) metav1.Status {
	var api apierrors.APIStatus
	switch {
	case errors.As(err, &api):
		st := api.Status()
		if st.Code == 0 {
			st.Code = http.StatusInternalServerError
		}
		if st.Status == "" {
			st.Status = metav1.StatusFailure
		}
		return st
	case errors.Is(err, context.DeadlineExceeded):
		return apierrors.NewTimeoutError("request did not complete within the allotted duration", 0).Status()
	case errors.Is(err, context.Canceled):
		st := apierrors.NewTimeoutError("the client went away before the request was complete", 0).Status()
		st.Code = 499
		return st
	}
	return apierrors.NewInternalError(err).Status()
}

// plainError is answered as a text page, as net/http would.
type plainError struct {
	code int
	text string
}

func (e plainError) Error() string { return e.text }

func (e plainError) write(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(e.code)
	_, _ = fmt.Fprintln(w, e.text)
}

// errNoPage answers paths that nobody serves.
func errNoPage() error { return plainError{http.StatusNotFound, "404 page not found"} }

// errNoResource answers paths below a served group-version that name nothing in it.
func errNoResource() error {
	return &apierrors.StatusError{ErrStatus: metav1.Status{
		Status: metav1.StatusFailure, Code: http.StatusNotFound, Reason: metav1.StatusReasonNotFound,
		Message: "the server could not find the requested resource",
		Details: &metav1.StatusDetails{},
	}}
}

func errMethod() error {
	return &apierrors.StatusError{ErrStatus: metav1.Status{
		Status: metav1.StatusFailure, Code: http.StatusMethodNotAllowed, Reason: metav1.StatusReasonMethodNotAllowed,
		Message: "the server does not allow this method on the requested resource",
		Details: &metav1.StatusDetails{},
	}}
}

func errNotAcceptable(text string) error {
	return &apierrors.StatusError{ErrStatus: metav1.Status{
		Status: metav1.StatusFailure, Code: http.StatusNotAcceptable, Reason: metav1.StatusReasonNotAcceptable, Message: text,
	}}
}

func errMediaType(accepted string) error {
	return &apierrors.StatusError{ErrStatus: metav1.Status{
		Status: metav1.StatusFailure, Code: http.StatusUnsupportedMediaType, Reason: metav1.StatusReasonUnsupportedMediaType,
		Message: "the body of the request was in an unknown format - accepted media types include: " + accepted,
	}}
}

func errTooLarge(text string) error { return apierrors.NewRequestEntityTooLargeError(text) }

// forbidden is the refusal of a, in the words that clients look for.
func forbidden(a *auth.Attributes, reason string) error {
	name := "unknown"
	if a.User != nil {
		name = a.User.Name
	}
	if !a.IsResource {
		text := fmt.Sprintf("User %q cannot %s path %q", name, a.Verb, a.Path)
		if reason != "" {
			text += ": " + reason
		}
		return apierrors.NewForbidden(schema.GroupResource{}, "", errors.New(text))
	}
	resource := a.Resource
	if a.Subresource != "" {
		resource += "/" + a.Subresource
	}
	text := fmt.Sprintf("User %q cannot %s resource %q in API group %q", name, a.Verb, resource, a.Group)
	if a.Namespace != "" {
		text += fmt.Sprintf(" in the namespace %q", a.Namespace)
	} else {
		text += " at the cluster scope"
	}
	if reason != "" {
		text += ": " + reason
	}
	return apierrors.NewForbidden(schema.GroupResource{Group: a.Group, Resource: a.Resource}, a.Name, errors.New(text))
}

func tooLargeRevision(e *store.TooLargeRevision) error {
	return &apierrors.StatusError{ErrStatus: metav1.Status{
		Status: metav1.StatusFailure, Code: http.StatusGatewayTimeout, Reason: metav1.StatusReasonTimeout,
		Message: fmt.Sprintf("Too large resource version: %d, current: %d", e.Asked, e.Applied),
		Details: &metav1.StatusDetails{
			RetryAfterSeconds: 1,
			Causes:            []metav1.StatusCause{{Type: metav1.CauseTypeResourceVersionTooLarge, Message: "Too large resource version"}},
		},
	}}
}

// expiredError tells a client that its history is gone. For a paged list it carries a token that goes on at the latest state.
func expiredError(e *store.Expired) error {
	if e.Continue == "" {
		return apierrors.NewResourceExpired(fmt.Sprintf("The resourceVersion for the provided watch is too old: revision %d is compacted", e.Revision))
	}
	err := apierrors.NewResourceExpired("the state that the continue token pages through is compacted away: list again from the start, " +
		"or go on with the token of this answer, which yields the remaining objects as they are now")
	err.ErrStatus.ListMeta.Continue = e.Continue
	return err
}

func corruptError(ep *endpoint, name string, e *store.Corrupt) error {
	err := apierrors.NewInternalError(e)
	err.ErrStatus.Reason = metav1.StatusReasonStoreReadError
	err.ErrStatus.Details.Group, err.ErrStatus.Details.Kind, err.ErrStatus.Details.Name = ep.gr.Group, ep.gr.Resource, name
	return err
}

func statusHead() head { return headOf("v1", "Status") }
