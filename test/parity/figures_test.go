package main

import (
	"slices"
	"strings"
	"testing"
)

func TestFigures(t *testing.T) {
	t.Parallel()
	got := map[string]*family{}
	page := `# HELP a Something {with="x"}.
# TYPE a histogram
a_bucket{b="q\"},c=",d="",le="0.5"} 1
a_bucket{b="q\"},c=",d="",le="+Inf"} 1
a_sum{b="q\"},c=",d=""} 1
# TYPE e counter
e 3
# TYPE f gauge
f{g="x"} 3 1700000000000
`
	if err := read(got, strings.NewReader(page)); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		figure figure
		found  []string
	}{
		{figure{Name: "a", Type: "Histogram", Labels: []string{"d", "b"}, Buckets: []float64{0.5}}, nil},
		{figure{Name: "a", Type: "Custom", Labels: []string{"b", "d"}}, nil},
		{figure{Name: "a", Type: "Counter", Labels: []string{"b"}, Buckets: []float64{0.5, 1}}, []string{
			"metric a: theirs is a counter, ours a histogram", "metric a: theirs has labels [b], ours [b d]", "metric a: theirs has buckets [0.5 1], ours [0.5]",
		}},
		{figure{Name: "e", Type: "Counter"}, nil},
		{figure{Name: "f", Type: "Gauge", Labels: []string{"g"}}, nil},
	} {
		d := &differ{}
		served := got[tt.figure.fullName()]
		if served == nil {
			t.Fatalf("%s is not read", tt.figure.Name)
		}
		d.figure(tt.figure.Name, &tt.figure, served)
		if !slices.Equal(d.found, tt.found) {
			t.Errorf("%+v: found %q, want %q", tt.figure, d.found, tt.found)
		}
	}
}
