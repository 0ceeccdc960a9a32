package nodeipam

import (
	"net/netip"
	"slices"
	"testing"
)

func TestChoose(t *testing.T) {
	t.Parallel()
	v4 := Range{netip.MustParsePrefix("10.244.0.0/16"), 24}
	v6 := Range{netip.MustParsePrefix("fd00:10:244::/56"), 64}
	for _, tc := range []struct {
		name   string
		ranges []Range
		used   []string
		want   []string
	}{
		{"first", []Range{v4}, nil, []string{"10.244.0.0/24"}},
		{"gap", []Range{v4}, []string{"10.244.0.0/24", "10.244.2.0/24"}, []string{"10.244.1.0/24"}},
		{"foreign ranges do not count", []Range{v4}, []string{"192.168.0.0/24"}, []string{"10.244.0.0/24"}},
		{"larger part", []Range{v4}, []string{"10.244.0.0/22"}, []string{"10.244.4.0/24"}},
		{"smaller part", []Range{v4}, []string{"10.244.0.128/25"}, []string{"10.244.1.0/24"}},
		{"dual stack", []Range{v4, v6}, []string{"10.244.0.0/24", "fd00:10:244::/64"}, []string{"10.244.1.0/24", "fd00:10:244:1::/64"}},
		{"full", []Range{{netip.MustParsePrefix("10.0.0.0/24"), 25}}, []string{"10.0.0.0/25", "10.0.0.128/25"}, nil},
		{"covered", []Range{v4}, []string{"10.0.0.0/8"}, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			got, err := choose(tc.ranges, prefixes(tc.used))
			if (err != nil) != (tc.want == nil) || !slices.Equal(got, prefixes(tc.want)) {
				t.Errorf("got %v, %v; want %v", got, err, tc.want)
			}
		})
	}
}

func TestEveryPartIsHandedOutOnce(t *testing.T) {
	t.Parallel()
	r := Range{netip.MustParsePrefix("10.96.0.0/13"), 21}
	var used []netip.Prefix
	for range 256 {
		got, err := choose([]Range{r}, used)
		if err != nil {
			t.Fatal(err)
		}
		for _, u := range used {
			if u.Overlaps(got[0]) {
				t.Fatalf("%s overlaps %s", got[0], u)
			}
		}
		used = append(used, got[0])
	}
	if got, err := choose([]Range{r}, used); err == nil {
		t.Errorf("a full range gave %v", got)
	}
}

func prefixes(texts []string) []netip.Prefix {
	var out []netip.Prefix
	for _, text := range texts {
		out = append(out, netip.MustParsePrefix(text))
	}
	return out
}
