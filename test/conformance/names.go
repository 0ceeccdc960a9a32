// Package conformance holds the names of the behaviours that every Kubernetes cluster must show, and tests that Canopus
// shows them: on real containers and two nodes, by the API alone. What each must do was published with its name; the tests
// are our own.
//
//	make conformance                                                            all of them, counted by area
//	go test ./test/conformance -run 'TestConformance/sig-apps/DaemonSet-Roll' -v  one
//
// Reading order: names.go, suite_test.go (how tests are found and run), space_test.go (what they are written with), then
// any file: one per kind.
package conformance

import (
	_ "embed"
	"fmt"
	"maps"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"
)

//go:embed names.yaml
var namesYAML []byte

// Area is a group of behaviours: those that one special interest group of Kubernetes cares for.
type Area struct {
	Name       string
	Behaviours []string // sorted; a name that stands twice is the name of two
}

// Areas returns all behaviours there are, tested or not.
func Areas() ([]Area, error) {
	byArea := map[string][]string{}
	if err := yaml.UnmarshalStrict(namesYAML, &byArea); err != nil {
		return nil, fmt.Errorf("read names.yaml: %w", err)
	}
	var out []Area
	for _, name := range slices.Sorted(maps.Keys(byArea)) {
		out = append(out, Area{Name: name, Behaviours: byArea[name]})
	}
	return out, nil
}

// TestNames are the names under which `go test` reports the tests of the behaviours, in their order.
func (a Area) TestNames() []string {
	seen := map[string]int{}
	var out []string
	for _, b := range a.Behaviours {
		name := "TestConformance/" + a.Name + "/" + strings.ReplaceAll(b, " ", "_")
		if n := seen[b]; n > 0 {
			name += fmt.Sprintf("#%02d", n)
		}
		seen[b]++
		out = append(out, name)
	}
	return out
}
