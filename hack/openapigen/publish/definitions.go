package main

import (
	"cmp"
	"fmt"
	"reflect"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/kube-openapi/pkg/common"
	"k8s.io/kube-openapi/pkg/spec3"
	"k8s.io/kube-openapi/pkg/validation/spec"
	metricsv1beta1 "k8s.io/metrics/pkg/apis/metrics/v1beta1"

	"canopus/hack/openapigen/zz"
	"canopus/internal/apiserver/openapi/operations"
)

const bearer = "BearerToken"

func configV3(d operations.Document) *common.OpenAPIV3Config {
	return &common.OpenAPIV3Config{
		Info:                           info(),
		CommonResponses:                map[int]*spec3.Response{401: {ResponseProps: spec3.ResponseProps{Description: "Unauthorized"}}},
		GetDefinitions:                 zz.GetOpenAPIDefinitions,
		GetOperationIDAndTagsFromRoute: idAndTags,
		GetDefinitionName:              definitionNames(d.GV),
		SecuritySchemes: spec3.SecuritySchemes{bearer: {SecuritySchemeProps: spec3.SecuritySchemeProps{
			Type: "apiKey", Name: "authorization", In: "header", Description: "Bearer token, as in the Authorization header",
		}}},
	}
}

func configV2(docs []operations.Document) *common.Config {
	var served []schema.GroupVersion
	for _, d := range docs {
		if !d.GV.Empty() {
			served = append(served, d.GV)
		}
	}
	return &common.Config{
		ProtocolList:                   []string{"https"},
		Info:                           info(),
		CommonResponses:                map[int]spec.Response{401: {ResponseProps: spec.ResponseProps{Description: "Unauthorized"}}},
		GetDefinitions:                 zz.GetOpenAPIDefinitions,
		GetOperationIDAndTagsFromRoute: idAndTags,
		GetDefinitionName:              definitionNames(served...),
		SecurityDefinitions: &spec.SecurityDefinitions{bearer: {SecuritySchemeProps: spec.SecuritySchemeProps{
			Type: "apiKey", Name: "authorization", In: "header", Description: "Bearer token, as in the Authorization header",
		}}},
		DefaultSecurity: []map[string][]string{{bearer: {}}},
	}
}

func info() *spec.Info {
	return &spec.Info{InfoProps: spec.InfoProps{Title: "Kubernetes", Version: "unversioned"}}
}

func idAndTags(r common.Route) (string, []string, error) {
	op, ok := r.(route)
	if !ok {
		return "", nil, fmt.Errorf("%T is not one of our routes", r)
	}
	return op.op.ID, []string{op.op.Tag}, nil
}

// known is every type that has a kind: those of k8s.io/api, and of the add-ons that are built in.
func known() *runtime.Scheme {
	s := runtime.NewScheme()
	utilruntime.Must(scheme.AddToScheme(s))
	utilruntime.Must(metricsv1beta1.AddToScheme(s))
	return s
}

// definitionNames names types as their packages do, and says which kinds each is. A type of meta/v1 belongs to every
// group; only the versions that the document is about are named, and v1.
func definitionNames(served ...schema.GroupVersion) func(string) (string, spec.Extensions) {
	kinds := map[string][]schema.GroupVersionKind{}
	for gvk, t := range known().AllKnownTypes() {
		namer, ok := reflect.New(t).Interface().(interface{ OpenAPIModelName() string })
		if !ok {
			continue
		}
		shared := t.PkgPath() == reflect.TypeOf(metav1.Status{}).PkgPath()
		if !shared || gvk.GroupVersion() == (schema.GroupVersion{Version: "v1"}) || slices.Contains(served, gvk.GroupVersion()) {
			kinds[namer.OpenAPIModelName()] = append(kinds[namer.OpenAPIModelName()], gvk)
		}
	}
	return func(name string) (string, spec.Extensions) {
		gvks := kinds[name]
		if len(gvks) == 0 {
			return name, nil
		}
		slices.SortFunc(gvks, func(a, b schema.GroupVersionKind) int {
			return cmp.Or(cmp.Compare(a.Group, b.Group), cmp.Compare(a.Version, b.Version), cmp.Compare(a.Kind, b.Kind))
		})
		list := make([]interface{}, 0, len(gvks))
		for _, gvk := range gvks {
			list = append(list, extension(gvk))
		}
		return name, spec.Extensions{"x-kubernetes-group-version-kind": list}
	}
}
