package main

import (
	"net/http"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/kube-openapi/pkg/common"

	"canopus/internal/apiserver/openapi/operations"
)

// webService is a document's operations as the builders read them.
type webService struct{ doc operations.Document }

func container(d operations.Document) common.RouteContainer { return webService{d} }

func (s webService) RootPath() string                   { return "/" + s.doc.Name }
func (s webService) PathParameters() []common.Parameter { return nil }

func (s webService) Routes() []common.Route {
	out := make([]common.Route, 0, len(s.doc.Operations))
	for _, o := range s.doc.Operations {
		out = append(out, route{o})
	}
	return out
}

// route is one operation.
type route struct{ op operations.Operation }

func (r route) Method() string                     { return r.op.Method }
func (r route) Path() string                       { return r.op.Path }
func (r route) OperationName() string              { return r.op.ID }
func (r route) Description() string                { return r.op.Description }
func (r route) Consumes() []string                 { return r.op.Consumes }
func (r route) Produces() []string                 { return r.op.Produces }
func (r route) RequestPayloadSample() interface{}  { return r.op.Body }
func (r route) ResponsePayloadSample() interface{} { return r.op.Response }

func (r route) Metadata() map[string]interface{} {
	out := map[string]interface{}{}
	if r.op.Action != "" {
		out["x-kubernetes-action"] = r.op.Action
	}
	if !r.op.GVK.Empty() {
		out["x-kubernetes-group-version-kind"] = extension(r.op.GVK)
	}
	return out
}

func extension(gvk schema.GroupVersionKind) map[string]interface{} {
	return map[string]interface{}{"group": gvk.Group, "version": gvk.Version, "kind": gvk.Kind}
}

func (r route) Parameters() []common.Parameter {
	var out []common.Parameter
	if r.op.Body != nil {
		out = append(out, body{r.op.BodyRequired})
	}
	for _, p := range r.op.Params {
		out = append(out, param{p})
	}
	return out
}

func (r route) StatusCodeResponses() []common.StatusCodeResponse {
	var out []common.StatusCodeResponse
	for _, code := range r.op.Responses {
		out = append(out, response{code, r.op.Response})
	}
	return out
}

type response struct {
	code  int
	model interface{}
}

func (r response) Code() int          { return r.code }
func (r response) Message() string    { return http.StatusText(r.code) }
func (r response) Model() interface{} { return r.model }

type param struct{ p operations.Param }

func (p param) Name() string        { return p.p.Name }
func (p param) Description() string { return p.p.Description }
func (p param) Required() bool      { return p.p.Path }
func (p param) DataType() string    { return p.p.Type }
func (p param) AllowMultiple() bool { return false }

func (p param) Kind() common.ParameterKind {
	if p.p.Path {
		return common.PathParameterKind
	}
	return common.QueryParameterKind
}

type body struct{ required bool }

func (b body) Name() string               { return "body" }
func (b body) Description() string        { return "" }
func (b body) Required() bool             { return b.required }
func (b body) Kind() common.ParameterKind { return common.BodyParameterKind }
func (b body) DataType() string           { return "string" }
func (b body) AllowMultiple() bool        { return false }
