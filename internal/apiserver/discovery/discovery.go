// Package discovery says which groups, versions and resources are served, in the three forms that clients ask for:
// aggregated (apidiscovery.k8s.io/v2, two documents for everything), and per group and per version below /api and /apis.
// Everything is derived from a kinds.Set once; a changed set gets new Documents.
//
// Read discovery.go (the documents by path), resources.go (what is said of each kind), aggregated.go, order.go (the
// order of groups), page.go (HTTP).
package discovery

import (
	"fmt"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/version"

	"canopus/internal/kinds"
)

// Documents holds all discovery documents of one set of kinds. Immutable.
type Documents struct {
	pages map[string]*Page
}

// New returns the documents of set. address is the host and port that clients without a configuration of their own are
// told to use.
func New(set *kinds.Set, address string) (*Documents, error) {
	groups := groupsOf(set)
	b := builder{pages: map[string]*Page{}}
	b.add("/api", legacyVersions(groups, address), aggregated(groups, isCore))
	list := &metav1.APIGroupList{TypeMeta: metav1.TypeMeta{Kind: "APIGroupList", APIVersion: "v1"}, Groups: []metav1.APIGroup{}}
	for _, g := range groups {
		if g.name == "" {
			continue
		}
		described := g.describe()
		list.Groups = append(list.Groups, described)
		described.TypeMeta = metav1.TypeMeta{Kind: "APIGroup", APIVersion: "v1"}
		b.add("/apis/"+g.name, &described, nil)
	}
	b.add("/apis", list, aggregated(groups, func(g group) bool { return !isCore(g) }))
	for _, g := range groups {
		for _, v := range g.versions {
			b.add(Path(v.gv), v.list(), nil)
		}
	}
	return &Documents{pages: b.pages}, b.err
}

// Page returns what is served at path, a trailing slash ignored, or nil.
func (d *Documents) Page(path string) *Page {
	return d.pages[strings.TrimSuffix(path, "/")]
}

// Path returns where a group-version is served: /api/v1, /apis/apps/v1.
func Path(gv schema.GroupVersion) string {
	if gv.Group == "" {
		return "/api/" + gv.Version
	}
	return "/apis/" + gv.Group + "/" + gv.Version
}

// builder collects pages; the first error stays.
type builder struct {
	pages map[string]*Page
	err   error
}

func (b *builder) add(path string, plain, aggregated runtime.Object) {
	if b.err != nil {
		return
	}
	p, err := newPage(plain, aggregated)
	if err != nil {
		b.err = fmt.Errorf("discovery at %s: %w", path, err)
		return
	}
	b.pages[path] = p
}

// group is a served API group with its versions, preferred first.
type group struct {
	name     string
	versions []groupVersion
}

// groupVersion is what one version of a group serves, by resource name.
type groupVersion struct {
	gv     schema.GroupVersion
	served []kinds.Served
}

func isCore(g group) bool { return g.name == "" }

// groupsOf sorts what set serves by group, version and resource.
func groupsOf(set *kinds.Set) []group {
	byGV := map[schema.GroupVersion][]kinds.Served{}
	for _, s := range set.Served() {
		gv := s.GVK.GroupVersion()
		byGV[gv] = append(byGV[gv], s)
	}
	byName := map[string]*group{}
	for gv, served := range byGV {
		slices.SortFunc(served, func(a, b kinds.Served) int { return strings.Compare(a.Kind.Plural, b.Kind.Plural) })
		g := byName[gv.Group]
		if g == nil {
			g = &group{name: gv.Group}
			byName[gv.Group] = g
		}
		g.versions = append(g.versions, groupVersion{gv: gv, served: served})
	}
	var out []group
	for _, g := range byName {
		slices.SortFunc(g.versions, func(a, b groupVersion) int {
			return version.CompareKubeAwareVersionStrings(b.gv.Version, a.gv.Version)
		})
		out = append(out, *g)
	}
	slices.SortFunc(out, compareGroups)
	return out
}

func (g group) describe() metav1.APIGroup {
	out := metav1.APIGroup{Name: g.name}
	for _, v := range g.versions {
		out.Versions = append(out.Versions, metav1.GroupVersionForDiscovery{GroupVersion: v.gv.String(), Version: v.gv.Version})
	}
	out.PreferredVersion = out.Versions[0]
	return out
}

// legacyVersions describes the core group in the form it had before there were groups: without an apiVersion.
func legacyVersions(groups []group, address string) *metav1.APIVersions {
	out := &metav1.APIVersions{
		TypeMeta:                   metav1.TypeMeta{Kind: "APIVersions"},
		Versions:                   []string{},
		ServerAddressByClientCIDRs: []metav1.ServerAddressByClientCIDR{{ClientCIDR: "0.0.0.0/0", ServerAddress: address}},
	}
	for _, g := range groups {
		for _, v := range g.versions {
			if isCore(g) {
				out.Versions = append(out.Versions, v.gv.Version)
			}
		}
	}
	return out
}
