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
		file := "apis__" + s.GVK.Group + "__" + s.GVK.Version + ".json"
		if s.GVK.Group == "" {
			file = "api__v1.json"
		}
		data, err := os.ReadFile(filepath.Join(dir, "discovery", file))
		if err != nil {
			t.Errorf("%s: %v", s.GVK, err)
			continue
		}
		var list metav1.APIResourceList
		if err := json.Unmarshal(data, &list); err != nil {
			t.Fatal(err)
		}
		want := map[string]metav1.APIResource{}
		for _, r := range list.APIResources {
			if name, _, _ := strings.Cut(r.Name, "/"); name == s.Kind.Plural {
				want[r.Name] = r
			}
		}
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
}
