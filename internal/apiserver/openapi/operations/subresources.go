package operations

import (
	"net/http"
	"reflect"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"canopus/internal/kinds"
)

// subresource adds the operations of sub. One whose kind ends in Options is a connection: its body is not an object,
// its options are query parameters.
func (k *kindOps) subresource(sub kinds.Subresource) {
	gvk := sub.GVK
	if gvk.Empty() || gvk == k.served.Kind.GVK {
		gvk = k.served.GVK
	}
	if strings.HasSuffix(gvk.Kind, "Options") {
		k.connect(sub)
		return
	}
	body := k.served.New()
	if sub.New != nil && gvk != k.served.GVK {
		body = sub.New()
	}
	kind, path := k.served.GVK.Kind, k.scoped()+"/{name}/"+sub.Name
	for _, verb := range sub.Verbs {
		var o Operation
		switch verb {
		case "get":
			o = k.op(http.MethodGet, path, "read", "read "+sub.Name+" of the specified "+kind)
			o.Action = "get"
		case "update":
			o = replace(k.op(http.MethodPut, path, "replace", "replace "+sub.Name+" of the specified "+kind), body)
		case "patch":
			o = partial(k.op(http.MethodPatch, path, "patch", "partially update "+sub.Name+" of the specified "+kind), body)
		case "create":
			o = k.create(path)
			o.Description, o.Body = "create "+sub.Name+" of "+withArticle(kind), body
		default:
			continue
		}
		o.ID += title(sub.Name)
		o.GVK, o.Response = gvk, body
		if verb == "create" && gvk != k.served.GVK {
			o.Params = rename(o.Params, gvk.Kind)
		}
		if verb == "get" && sub.Name == "log" {
			o.Response = ""
			o.Produces = append([]string{"text/plain"}, o.Produces...)
			o.Params = append(o.Params, structParams(corev1.PodLogOptions{})...)
		}
		k.add(o)
	}
}

// rename names the object of a path after the kind that is posted to it.
func rename(params []Param, kind string) []Param {
	out := slices.Clone(params)
	for i := range out {
		if out[i].Path && out[i].Name == "name" {
			out[i].Description = nameOf(kind)
		}
	}
	return out
}

// connect adds the methods of a connection, such as exec or proxy. A proxy also passes on what HTTP has beyond verbs.
func (k *kindOps) connect(sub kinds.Subresource) {
	methods := map[string]string{
		"get": http.MethodGet, "create": http.MethodPost, "update": http.MethodPut, "patch": http.MethodPatch, "delete": http.MethodDelete,
	}
	var used []string
	for _, verb := range sub.Verbs {
		if m, ok := methods[verb]; ok {
			used = append(used, m)
		}
	}
	proxy := slices.Contains(used, http.MethodDelete)
	if proxy {
		used = append(used, http.MethodHead, http.MethodOptions)
	}
	for _, m := range used {
		path := k.scoped() + "/{name}/" + sub.Name
		o := k.op(m, path, "connect", "connect "+m+" requests to "+sub.Name+" of "+k.served.GVK.Kind)
		o.ID = k.id("connect", "", title(strings.ToLower(m))) + title(sub.Name)
		o.Action, o.GVK, o.Produces, o.Response = "connect", sub.GVK, anyType(), ""
		o.Params = rename(slices.DeleteFunc(o.Params, func(p Param) bool { return p.Name == "pretty" }), sub.GVK.Kind)
		o.Params = append(o.Params, connectParams(sub)...)
		k.add(o)
		if proxy {
			o.Path += "/{path}"
			o.ID += "WithPath"
			o.Params = append(slices.Clone(o.Params), Param{Name: "path", Path: true, Type: "string", Description: "path to the resource"})
			k.add(o)
		}
	}
}

// connectParams reads the options of a connection off the Go struct of its kind.
func connectParams(sub kinds.Subresource) []Param {
	if sub.New != nil {
		if _, custom := sub.New().(runtime.Unstructured); !custom {
			return structParams(reflect.ValueOf(sub.New()).Elem().Interface())
		}
	}
	for _, options := range []any{
		corev1.PodAttachOptions{}, corev1.PodExecOptions{}, corev1.PodPortForwardOptions{}, corev1.PodProxyOptions{},
		corev1.ServiceProxyOptions{}, corev1.NodeProxyOptions{},
	} {
		if reflect.TypeOf(options).Name() == sub.GVK.Kind {
			return structParams(options)
		}
	}
	return nil
}
