package discovery

import (
	"slices"
	"strings"

	apidiscoveryv2 "k8s.io/api/apidiscovery/v2"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"canopus/internal/kinds"
)

// aggregated describes everything that the chosen groups serve in one document.
func aggregated(groups []group, chosen func(group) bool) *apidiscoveryv2.APIGroupDiscoveryList {
	out := &apidiscoveryv2.APIGroupDiscoveryList{
		TypeMeta: metav1.TypeMeta{Kind: "APIGroupDiscoveryList", APIVersion: apidiscoveryv2.SchemeGroupVersion.String()},
		Items:    []apidiscoveryv2.APIGroupDiscovery{},
	}
	for _, g := range groups {
		if !chosen(g) {
			continue
		}
		item := apidiscoveryv2.APIGroupDiscovery{ObjectMeta: metav1.ObjectMeta{Name: g.name}}
		for _, v := range g.versions {
			item.Versions = append(item.Versions, v.aggregate())
		}
		out.Items = append(out.Items, item)
	}
	return out
}

func (v groupVersion) aggregate() apidiscoveryv2.APIVersionDiscovery {
	out := apidiscoveryv2.APIVersionDiscovery{Version: v.gv.Version, Freshness: apidiscoveryv2.DiscoveryFreshnessCurrent}
	for _, s := range v.served {
		k := s.Kind
		r := apidiscoveryv2.APIResourceDiscovery{
			Resource:         k.Plural,
			ResponseKind:     responseKind(s, s.GVK),
			Scope:            apidiscoveryv2.ScopeCluster,
			SingularResource: k.Singular,
			Verbs:            sorted(k.Verbs),
			ShortNames:       k.ShortNames,
			Categories:       k.Categories,
		}
		if k.Namespaced {
			r.Scope = apidiscoveryv2.ScopeNamespace
		}
		for _, sub := range k.Subresources {
			r.Subresources = append(r.Subresources, apidiscoveryv2.APISubresourceDiscovery{
				Subresource:  sub.Name,
				ResponseKind: responseKind(s, bodyOf(s, sub)),
				Verbs:        sorted(sub.Verbs),
			})
		}
		slices.SortFunc(r.Subresources, func(a, b apidiscoveryv2.APISubresourceDiscovery) int {
			return strings.Compare(a.Subresource, b.Subresource)
		})
		out.Resources = append(out.Resources, r)
	}
	return out
}

// responseKind leaves out group and version where they are those of the document's place.
func responseKind(s kinds.Served, gvk schema.GroupVersionKind) *metav1.GroupVersionKind {
	if gvk.GroupVersion() == s.GVK.GroupVersion() {
		return &metav1.GroupVersionKind{Kind: gvk.Kind}
	}
	return &metav1.GroupVersionKind{Group: gvk.Group, Version: gvk.Version, Kind: gvk.Kind}
}
