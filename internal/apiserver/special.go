package apiserver

import (
	"errors"
	"fmt"
	"net/http"

	"canopus/internal/admission"
	"canopus/internal/kinds"
	"canopus/internal/store"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// The handlers of paths that are not create, read, update and delete of a stored object.

type handler func(*request, *endpoint) error

// subHandler returns the handler of a subresource that has one of its own, or nil.
func (s *Server) subHandler(ep *endpoint, sub string) handler {
	switch (schema.GroupResource{Group: ep.gr.Group, Resource: ep.gr.Resource + "/" + sub}) {
	case schema.GroupResource{Resource: "pods/binding"}:
		return s.bindPod
	case schema.GroupResource{Resource: "pods/eviction"}:
		return s.evict
	case schema.GroupResource{Resource: "namespaces/finalize"}:
		return s.finalizeNamespace
	case schema.GroupResource{Resource: "serviceaccounts/token"}:
		return s.requestToken
	}
	return nil
}

// serveVirtual answers the create of a kind that is never stored.
func (s *Server) serveVirtual(rq *request, ep *endpoint) error {
	switch ep.Kind.GroupResource() {
	case schema.GroupResource{Resource: "bindings"}:
		return s.bindPod(rq, ep)
	case schema.GroupResource{Group: "authentication.k8s.io", Resource: "tokenreviews"}:
		return s.review(rq, ep, s.reviewToken)
	case schema.GroupResource{Group: "authentication.k8s.io", Resource: "selfsubjectreviews"}:
		return s.review(rq, ep, s.reviewSelf)
	case schema.GroupResource{Group: "authorization.k8s.io", Resource: "subjectaccessreviews"}:
		return s.review(rq, ep, s.reviewAccess)
	case schema.GroupResource{Group: "authorization.k8s.io", Resource: "localsubjectaccessreviews"}:
		return s.review(rq, ep, s.reviewLocalAccess)
	case schema.GroupResource{Group: "authorization.k8s.io", Resource: "selfsubjectaccessreviews"}:
		return s.review(rq, ep, s.reviewOwnAccess)
	case schema.GroupResource{Group: "authorization.k8s.io", Resource: "selfsubjectrulesreviews"}:
		return s.review(rq, ep, s.reviewRules)
	}
	return errNotServed(ep.gr.Resource)
}

// errNotServed answers paths that discovery names but this server is not set up to serve.
func errNotServed(what string) error {
	return &apierrors.StatusError{ErrStatus: metav1.Status{
		Status: metav1.StatusFailure, Code: http.StatusNotImplemented, Reason: metav1.StatusReasonMethodNotAllowed,
		Message: what + " is not served by this server: it was started without what is needed for it",
	}}
}

// createOptions reads the options of a create.
func (rq *request) createOptions() (*metav1.CreateOptions, error) {
	o := &metav1.CreateOptions{}
	if rq.query == nil {
		return o, nil
	}
	if err := metav1.Convert_url_Values_To_v1_CreateOptions(&rq.query, o, nil); err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	if errs := validation.ValidateCreateOptions(o); len(errs) > 0 {
		return nil, apierrors.NewInvalid(optionsKind("CreateOptions"), "", errs)
	}
	return o, nil
}

// posted is the body of a create that is not simply stored.
type posted struct {
	obj     runtime.Object
	options *metav1.CreateOptions
	format  format
}

// takePosted reads such a body: one of kind gvk, decoded into obj.
func (rq *request) takePosted(gvk schema.GroupVersionKind, obj runtime.Object) (*posted, error) {
	f, ok := formatFor(rq.Request, false)
	if !ok {
		return nil, errNotAcceptable("only the following media types are accepted: " + typeJSON + ", " + typeYAML + ", " + typeProtobuf)
	}
	o, err := rq.createOptions()
	if err != nil {
		return nil, err
	}
	b, err := rq.takeBody(true)
	if err != nil {
		return nil, err
	}
	if err := b.into(gvk, obj, rq.warn); err != nil {
		return nil, err
	}
	f.shape = shapeFull
	return &posted{obj: obj, options: o, format: f}, nil
}

// admitPosted lets admission look at a body that is not stored.
func (s *Server) admitPosted(rq *request, ep *endpoint, kind schema.GroupVersionKind, p *posted) error {
	r := &admission.Request{
		Operation: admission.Create, Kind: kind, Resource: ep.Kind.GVK.GroupVersion().WithResource(ep.Kind.Plural),
		Subresource: rq.route.subresource, Namespace: rq.namespaceOf(ep), Name: rq.route.name,
		Object: p.obj, Options: p.options, DryRun: len(p.options.DryRun) > 0, User: rq.user, Warn: rq.warn,
	}
	if err := s.admit(rq.Context(), r); err != nil {
		return err
	}
	return s.confirm(rq.Context(), r)
}

// lookUp reads an object of a kind that a handler knows by name.
func lookUp[T kinds.Object](rq *request, gr schema.GroupResource, namespace, name string) (T, error) {
	var zero T
	st := rq.s.served.Load().stored[gr]
	if st.resource() == nil {
		return zero, errNoPage()
	}
	e, err := st.res.Get(rq.Context(), namespace, name, store.Freshness{Match: store.Any})
	if errors.Is(err, store.ErrNotFound) {
		e, err = st.res.Get(rq.Context(), namespace, name, store.Freshness{})
	}
	if errors.Is(err, store.ErrNotFound) {
		return zero, apierrors.NewNotFound(gr, name)
	}
	if err != nil {
		return zero, err
	}
	o, err := e.Object()
	if err != nil {
		return zero, err
	}
	obj, ok := o.(T)
	if !ok {
		return zero, fmt.Errorf("%s %s is a %T", gr, name, o)
	}
	return obj, nil
}

// succeed answers with a Status that says so.
func (rq *request) succeed(code int) {
	rq.writeStatus(&metav1.Status{Status: metav1.StatusSuccess, Code: int32(code)})
}
