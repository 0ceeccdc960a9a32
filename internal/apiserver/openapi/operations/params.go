package operations

import (
	"reflect"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// listParams are the query parameters of a list; with watch also those that make it a watch, which are described for kinds
// that cannot be watched too. Selecting a shard of a
// collection is alpha upstream and not served.
func listParams(watch bool) []Param {
	without := []string{"shardSelector"}
	if !watch {
		without = append(without, "watch", "allowWatchBookmarks")
	}
	return drop(structParams(metav1.ListOptions{}), without...)
}

func deleteParams() []Param {
	return drop(structParams(metav1.DeleteOptions{}), "resourceVersion", "uid")
}

func writeParams() []Param { return structParams(metav1.CreateOptions{}) }

func forceParam() Param {
	for _, p := range structParams(metav1.PatchOptions{}) {
		if p.Name == "force" {
			return p
		}
	}
	panic("operations: PatchOptions has lost its force field")
}

func drop(params []Param, names ...string) []Param {
	return slices.DeleteFunc(params, func(p Param) bool { return slices.Contains(names, p.Name) })
}

// pathParams are the parameters that path names, and pretty, which every path has.
func pathParams(path, kind string) []Param {
	var out []Param
	if strings.Contains(path, "{name}") {
		out = append(out, Param{Name: "name", Path: true, Type: "string", Description: nameOf(kind)})
	}
	if strings.Contains(path, "{namespace}") {
		out = append(out, Param{Name: "namespace", Path: true, Type: "string", Description: "namespace of the object"})
	}
	return append(out, Param{
		Name: "pretty", Type: "string",
		Description: "\"true\" indents the answer; without it, answers are indented for browsers, curl and wget only",
	})
}

func nameOf(kind string) string { return "name of the " + kind }

// structParams turns the simple fields of an options struct into parameters, with the field's own documentation.
func structParams(options any) []Param {
	var docs map[string]string
	if d, ok := options.(interface{ SwaggerDoc() map[string]string }); ok {
		docs = d.SwaggerDoc()
	}
	var out []Param
	t := reflect.TypeOf(options)
	for i := range t.NumField() {
		name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
		kind := paramType(t.Field(i).Type)
		if name == "" || kind == "" {
			continue
		}
		out = append(out, Param{Name: name, Description: docs[name], Type: kind})
	}
	return out
}

// paramType returns the type of a query parameter that fills a field of type t, "" for structures.
func paramType(t reflect.Type) string {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
		t = t.Elem()
	}
	switch t.Kind() {
	case reflect.String:
		return "string"
	case reflect.Bool:
		return "boolean"
	case reflect.Int, reflect.Int32, reflect.Int64:
		return "integer"
	}
	return ""
}

func anyType() []string { return []string{"*/*"} }

func objectTypes() []string {
	return []string{"application/json", "application/yaml", "application/vnd.kubernetes.protobuf"}
}

func streamTypes() []string {
	return append(objectTypes(), "application/json;stream=watch", "application/vnd.kubernetes.protobuf;stream=watch")
}
