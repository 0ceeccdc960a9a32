package builtin_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metricsv1beta1 "k8s.io/metrics/pkg/apis/metrics/v1beta1"

	"canopus/internal/kinds"
	"canopus/internal/kinds/builtin"
)

// TestDiscoveryParity compares names, verbs and subresources with captured discovery documents. It runs where SPEC names
// their directory: make parity SPEC=…
func TestDiscoveryParity(t *testing.T) {
	dir := os.Getenv("SPEC")
	if dir == "" {
		t.Skip("SPEC does not name a directory with published API data")
	}
	for _, s := range builtin.Set().Served() {
		if s.GVK.Group == metricsv1beta1.GroupName {
			continue // served by an add-on elsewhere
		}
		want, since := publishedAs(t, filepath.Join(dir, "discovery"), s)
		if since == "" {
			t.Errorf("%s: no version of it was ever published", s.GVR())
			continue
		}
		if since != s.GVK.Version {
			t.Logf("%s is only ours: the data are of a release that had it in %s, which it is compared with", s.GVR(), since)
		}
		compareDiscovery(t, s, want)
	}
}

// publishedAs returns what is published of a kind and its subresources, and in which version: that of s, or, of a kind that
// has been promoted since, the latest before it.
func publishedAs(t *testing.T, dir string, s kinds.Served) (found map[string]metav1.APIResource, version string) {
	t.Helper()
	pattern := "apis__" + s.GVK.Group + "__v*.json"
	if s.GVK.Group == "" {
		pattern = "api__v1.json"
	}
	files, err := filepath.Glob(filepath.Join(dir, pattern))
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(files) // v1 before v1alpha1 before v1beta1
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var list metav1.APIResourceList
		if err := json.Unmarshal(data, &list); err != nil {
			t.Fatal(err)
		}
		here := map[string]metav1.APIResource{}
		for _, r := range list.APIResources {
			if name, _, _ := strings.Cut(r.Name, "/"); name == s.Kind.Plural {
				here[r.Name] = r
			}
		}
		if len(here) == 0 {
			continue
		}
		_, v, _ := strings.Cut(list.GroupVersion, "/")
		if v == "" {
			v = list.GroupVersion
		}
		if found, version = here, v; v == s.GVK.Version {
			break
		}
	}
	return found, version
}

// compareDiscovery compares a kind with what is published of it and its subresources.
func compareDiscovery(t *testing.T, s kinds.Served, want map[string]metav1.APIResource) {
	t.Helper()
	r := want[s.Kind.Plural]
	if r.Kind != s.GVK.Kind || r.SingularName != s.Kind.Singular || r.Namespaced != s.Kind.Namespaced ||
		!slices.Equal(r.Verbs, s.Kind.Verbs) || !slices.Equal(r.ShortNames, s.Kind.ShortNames) || !slices.Equal(r.Categories, s.Kind.Categories) {
		t.Errorf("%s: ours %q %v %v %v, published %+v", s.GVR(), s.Kind.Singular, s.Kind.Verbs, s.Kind.ShortNames, s.Kind.Categories, r)
	}
	delete(want, s.Kind.Plural)
	for _, sub := range s.Kind.Subresources {
		name := s.Kind.Plural + "/" + sub.Name
		gvk := sub.GVK
		if gvk.Kind == "" {
			gvk = s.GVK
		}
		published := want[name]
		if published.Group != "" && published.Group != gvk.Group || published.Version != "" && published.Version != gvk.Version ||
			published.Kind != gvk.Kind || !slices.Equal(published.Verbs, sub.Verbs) {
			t.Errorf("%s: ours %s %v, published %+v", name, gvk, sub.Verbs, published)
		}
		delete(want, name)
	}
	for name := range want {
		t.Errorf("%s: %s is missing", s.GVK, name)
	}
}
