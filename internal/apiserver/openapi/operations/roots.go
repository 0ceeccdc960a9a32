package operations

import (
	"net/http"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/version"

	"canopus/internal/kinds"
)

// Document is a part of the API that is published as one OpenAPI document.
type Document struct {
	Name       string              // its place below /openapi/v3/: "apis/apps/v1"
	GV         schema.GroupVersion // empty for the documents above kinds
	Operations []Operation
}

// Documents returns what is published for set, by name.
func Documents(set *kinds.Set) []Document {
	out := []Document{
		{Name: "api", Operations: []Operation{get("/api/", "getCoreAPIVersions", "core", "get available API versions", metav1.APIVersions{})}},
		{Name: "apis", Operations: []Operation{get("/apis/", "getAPIVersions", "apis", "get available API versions", metav1.APIGroupList{})}},
		{Name: "version", Operations: []Operation{serverVersion()}},
	}
	groups, versions := map[string]bool{}, map[schema.GroupVersion]bool{}
	for _, s := range set.Served() {
		gv := s.GVK.GroupVersion()
		if gv.Group != "" && !groups[gv.Group] {
			groups[gv.Group] = true
			name := groupName(gv.Group)
			out = append(out, Document{Name: "apis/" + gv.Group, Operations: []Operation{
				get("/apis/"+gv.Group+"/", "get"+title(name)+"APIGroup", name, "get information of a group", metav1.APIGroup{}),
			}})
		}
		if !versions[gv] {
			versions[gv] = true
			out = append(out, Document{Name: root(gv)[1:], GV: gv, Operations: Of(set, gv)})
		}
	}
	return out
}

func get(path, id, tag, description string, response any) Operation {
	return Operation{
		Method: http.MethodGet, Path: path, ID: id, Tag: tag, Description: description,
		Produces: objectTypes(), Responses: []int{http.StatusOK}, Response: response,
	}
}

func serverVersion() Operation {
	o := get("/version/", "getCodeVersion", "version", "get the version information for this server", version.Info{})
	o.Produces = []string{"application/json"}
	return o
}

func resourcesOf(gv schema.GroupVersion) Operation {
	id := "get" + title(groupName(gv.Group)) + title(gv.Version) + "APIResources"
	return get(root(gv)+"/", id, tag(gv), "get available resources", metav1.APIResourceList{})
}
