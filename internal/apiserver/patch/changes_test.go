package patch

import (
	"strconv"
	"strings"
	"testing"

	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"
)

// TestChangesAreRememberedForWhatTheyAre asks for changes that differ in one thing each, twice, and past the end of the ring.
func TestChangesAreRememberedForWhatTheyAre(t *testing.T) {
	t.Parallel()
	var m changes
	var sets setCache
	path := func(name string) []fieldpath.Path { return []fieldpath.Path{fieldpath.MakePathOrDie(name)} }
	ab := fieldpath.NewSet(append(path("a"), path("b")...)...)
	cases := []struct {
		c    change
		want string // "": none are left
	}{
		{change{from: ab, own: true, taken: path("c")}, `{"f:a":{},"f:b":{},"f:c":{}}`},
		{change{from: fieldpath.NewSet(), own: true, taken: path("c")}, `{"f:c":{}}`},
		{change{from: ab, own: true, taken: path("d")}, `{"f:a":{},"f:b":{},"f:d":{}}`},
		{change{from: ab, taken: path("b")}, `{"f:a":{}}`},
		{change{from: ab, removed: path("a")}, `{"f:b":{}}`},
		{change{from: ab, own: true, taken: path("c"), removed: path("a")}, `{"f:b":{},"f:c":{}}`},
		{change{from: ab, taken: path("b"), removed: path("a")}, ""},
	}
	for round := range 3 {
		for i, c := range cases {
			if !c.c.matters() {
				t.Errorf("case %d does not matter", i)
			}
			got, err := m.fields(&sets, c.c)
			switch {
			case err != nil:
				t.Fatal(err)
			case got == nil && c.want != "", got != nil && string(got.GetRawBytes()) != c.want:
				t.Errorf("round %d, case %d: %v, want %s", round, i, got, c.want)
			}
		}
		if round == 1 {
			if m.used != len(cases) {
				t.Errorf("%d changes are remembered of %d", m.used, len(cases))
			}
			for i := range 2 * maxChanges { // of others: what was known is forgotten
				if _, err := m.fields(&sets, change{from: fieldpath.NewSet(), own: true, taken: path(string(rune('A' + i)))}); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	var many []fieldpath.Path
	for i := range maxPaths + 1 {
		many = append(many, path(strconv.Itoa(i))...)
	}
	before := m.next
	if got, err := m.fields(&sets, change{from: ab, own: true, taken: many}); err != nil || !strings.Contains(string(got.GetRawBytes()), `"f:256":{}`) {
		t.Errorf("a large change: %v, %v", got, err)
	}
	if m.next != before {
		t.Error("a large change is kept")
	}
	for i, c := range []change{
		{from: ab}, {from: ab, taken: path("c")}, {from: ab, removed: path("c")}, {from: ab, own: true, taken: path("a")},
	} {
		if c.matters() {
			t.Errorf("change %d matters", i)
		}
	}
}
