// Package operations lists what can be done at each path of the API, in the words of OpenAPI: derived from a kinds.Set,
// so that the published documents can be made from it and checked against it.
//
// Read operations.go (paths of a kind), subresources.go, params.go (query parameters), roots.go (paths above kinds),
// names.go (operation ids).
package operations

import (
	"net/http"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"canopus/internal/kinds"
)

// Operation is one method at one path.
type Operation struct {
	Method, Path string
	ID, Tag      string
	Description  string
	Action       string                  // x-kubernetes-action; "" for none
	GVK          schema.GroupVersionKind // x-kubernetes-group-version-kind; empty for none
	Params       []Param
	Body         any // an empty value of the request's type; nil for none
	BodyRequired bool
	Consumes     []string // media types of the body
	Produces     []string
	Responses    []int // status codes, all with a body like Response
	Response     any   // an empty value of the response's type; a string for text
}

// Param is a path or query parameter.
type Param struct {
	Name, Description string
	Path              bool   // in the path and required; else in the query and optional
	Type              string // string, boolean or integer
}

// kindOps makes the operations of one kind in one version.
type kindOps struct {
	served kinds.Served
	out    []Operation
}

// Of returns the operations of a group-version, sorted by path and method.
func Of(set *kinds.Set, gv schema.GroupVersion) []Operation {
	out := []Operation{resourcesOf(gv)}
	for _, s := range set.Served() {
		if s.GVK.GroupVersion() != gv {
			continue
		}
		k := kindOps{served: s}
		k.collection()
		k.object()
		k.watches()
		for _, sub := range s.Kind.Subresources {
			k.subresource(sub)
		}
		out = append(out, k.out...)
	}
	sortOperations(out)
	return out
}

// root returns the path of the group-version.
func root(gv schema.GroupVersion) string {
	if gv.Group == "" {
		return "/api/" + gv.Version
	}
	return "/apis/" + gv.Group + "/" + gv.Version
}

func (k *kindOps) scoped() string {
	if k.served.Kind.Namespaced {
		return "/namespaces/{namespace}/" + k.served.Kind.Plural
	}
	return "/" + k.served.Kind.Plural
}

func (k *kindOps) can(verb string) bool { return slices.Contains(k.served.Kind.Verbs, verb) }

// op starts an operation of the kind below root.
func (k *kindOps) op(method, path, verb, description string) Operation {
	gv := k.served.GVK.GroupVersion()
	o := Operation{
		Method: method, Path: root(gv) + path, ID: k.id(verb, ""), Tag: tag(gv),
		Description: description, GVK: k.served.GVK, Produces: objectTypes(),
		Responses: []int{http.StatusOK}, Response: k.served.New(),
	}
	o.Params = pathParams(path, k.served.GVK.Kind)
	return o
}

func (k *kindOps) add(o Operation) { k.out = append(k.out, o) }

func (k *kindOps) collection() {
	kind := k.served.GVK.Kind
	if k.can("list") {
		o := k.op(http.MethodGet, k.scoped(), "list", "list or watch objects of kind "+kind)
		o.Action, o.Produces, o.Response = "list", streamTypes(), k.served.NewList()
		o.Params = append(o.Params, listParams(true)...)
		k.add(o)
		if k.served.Kind.Namespaced {
			everywhere := o
			everywhere.Path = root(k.served.GVK.GroupVersion()) + "/" + k.served.Kind.Plural
			everywhere.ID = k.clusterID("list", "ForAllNamespaces")
			everywhere.Params = append(pathParams("", ""), listParams(true)...)
			k.add(everywhere)
		}
	}
	if k.can("create") {
		k.add(k.create(k.scoped()))
	}
	if k.can("deletecollection") {
		o := k.op(http.MethodDelete, k.scoped(), "deleteCollection", "delete collection of "+kind)
		o.ID = k.collectionID()
		o.Action, o.Body, o.Consumes, o.Response = "deletecollection", metav1.DeleteOptions{}, anyType(), metav1.Status{}
		o.Params = append(o.Params, deleteParams()...)
		o.Params = append(o.Params, listParams(false)...)
		k.add(o)
	}
}

func (k *kindOps) create(path string) Operation {
	o := k.op(http.MethodPost, path, "create", article(k.served.GVK.Kind, "create"))
	o.Action, o.Body, o.BodyRequired, o.Consumes = "post", k.served.New(), true, anyType()
	o.Responses = []int{http.StatusOK, http.StatusCreated, http.StatusAccepted}
	o.Params = append(o.Params, writeParams()...)
	return o
}

func (k *kindOps) object() {
	kind, path := k.served.GVK.Kind, k.scoped()+"/{name}"
	if k.can("get") {
		o := k.op(http.MethodGet, path, "read", "read the specified "+kind)
		o.Action = "get"
		k.add(o)
	}
	if k.can("update") {
		k.add(replace(k.op(http.MethodPut, path, "replace", "replace the specified "+kind), k.served.New()))
	}
	if k.can("patch") {
		k.add(partial(k.op(http.MethodPatch, path, "patch", "partially update the specified "+kind), k.served.New()))
	}
	if k.can("delete") {
		o := k.op(http.MethodDelete, path, "delete", article(kind, "delete"))
		o.Action, o.Body, o.Consumes = "delete", metav1.DeleteOptions{}, anyType()
		if !k.served.Kind.ReturnDeleted {
			o.Response = metav1.Status{}
		}
		o.Responses = []int{http.StatusOK, http.StatusAccepted}
		o.Params = append(o.Params, deleteParams()...)
		k.add(o)
	}
}

// replace turns o into a PUT of body.
func replace(o Operation, body runtime.Object) Operation {
	o.Action, o.Body, o.BodyRequired, o.Consumes = "put", body, true, anyType()
	o.Responses = []int{http.StatusOK, http.StatusCreated}
	o.Params = append(o.Params, writeParams()...)
	return o
}

// partial turns o into a PATCH of an object like body.
func partial(o Operation, body runtime.Object) Operation {
	o.Action, o.Body, o.BodyRequired = "patch", metav1.Patch{}, true
	o.Consumes = []string{"application/json-patch+json", "application/merge-patch+json"}
	if _, custom := body.(runtime.Unstructured); !custom {
		o.Consumes = append(o.Consumes, "application/strategic-merge-patch+json")
	}
	o.Consumes = append(o.Consumes, "application/apply-patch+yaml")
	o.Responses = []int{http.StatusOK, http.StatusCreated}
	o.Params = append(o.Params, writeParams()...)
	o.Params = append(o.Params, forceParam())
	return o
}

// watches adds the deprecated paths that watch without a query parameter.
func (k *kindOps) watches() {
	if !k.can("watch") {
		return
	}
	const hint = ". deprecated: use the 'watch' parameter with a list operation instead"
	kind, plural := k.served.GVK.Kind, k.served.Kind.Plural
	list := k.op(http.MethodGet, "/watch"+k.scoped(), "watch", "watch individual changes to a list of "+kind+hint+".")
	list.ID, list.Action = k.id("watch", "List"), "watchlist"
	k.addWatch(list)
	one := k.op(http.MethodGet, "/watch"+k.scoped()+"/{name}", "watch",
		"watch changes to an object of kind "+kind+hint+", filtered to a single item with the 'fieldSelector' parameter.")
	one.Action = "watch"
	k.addWatch(one)
	if k.served.Kind.Namespaced {
		everywhere := k.op(http.MethodGet, "/watch/"+plural, "watch", list.Description)
		everywhere.ID, everywhere.Action = k.clusterID("watch", "ListForAllNamespaces"), "watchlist"
		k.addWatch(everywhere)
	}
}

func (k *kindOps) addWatch(o Operation) {
	o.Produces, o.Response = streamTypes(), metav1.WatchEvent{}
	o.Params = append(o.Params, listParams(true)...)
	k.add(o)
}
