package discovery

import (
	"crypto/sha256"
	"encoding/base64"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"canopus/internal/kinds"
)

// list describes the resources and subresources of v by name. That of the core group has no apiVersion.
func (v groupVersion) list() *metav1.APIResourceList {
	out := &metav1.APIResourceList{TypeMeta: metav1.TypeMeta{Kind: "APIResourceList"}, GroupVersion: v.gv.String()}
	if v.gv.Group != "" {
		out.APIVersion = "v1"
	}
	out.APIResources = []metav1.APIResource{}
	for _, s := range v.served {
		out.APIResources = append(out.APIResources, resource(s))
		for _, sub := range s.Kind.Subresources {
			out.APIResources = append(out.APIResources, subresource(s, sub))
		}
	}
	slices.SortFunc(out.APIResources, func(a, b metav1.APIResource) int { return strings.Compare(a.Name, b.Name) })
	return out
}

func resource(s kinds.Served) metav1.APIResource {
	k := s.Kind
	return metav1.APIResource{
		Name:               k.Plural,
		SingularName:       k.Singular,
		Namespaced:         k.Namespaced,
		Kind:               s.GVK.Kind,
		Verbs:              sorted(k.Verbs),
		ShortNames:         k.ShortNames,
		Categories:         k.Categories,
		StorageVersionHash: storageHash(k),
	}
}

func subresource(s kinds.Served, sub kinds.Subresource) metav1.APIResource {
	gvk := bodyOf(s, sub)
	r := metav1.APIResource{
		Name:       s.Kind.Plural + "/" + sub.Name,
		Namespaced: s.Kind.Namespaced,
		Kind:       gvk.Kind,
		Verbs:      sorted(sub.Verbs),
	}
	if gvk.GroupVersion() != s.GVK.GroupVersion() { // said only when it is not the list's
		r.Group, r.Version = gvk.Group, gvk.Version
	}
	return r
}

// bodyOf returns the kind of what sub reads and writes; a parent in another version shows itself in that version.
func bodyOf(s kinds.Served, sub kinds.Subresource) schema.GroupVersionKind {
	if sub.GVK.Empty() || sub.GVK == s.Kind.GVK {
		return s.GVK
	}
	return sub.GVK
}

// storageHash changes when the stored version does, so that a migration knows that it has work. Opaque to clients.
func storageHash(k *kinds.Kind) string {
	if k.Virtual {
		return ""
	}
	sum := sha256.Sum256([]byte(k.GVK.Group + "/" + k.GVK.Version + "/" + k.GVK.Kind))
	return base64.StdEncoding.EncodeToString(sum[:8])
}

func sorted(in []string) []string {
	out := slices.Clone(in)
	slices.Sort(out)
	return out
}
