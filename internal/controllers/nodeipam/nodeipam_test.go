package nodeipam

import (
	"net/netip"
	"slices"
	"strconv"
	"testing"

	"k8s.io/apimachinery/pkg/types"
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
			p := newPool(tc.ranges)
			for i, cidr := range prefixes(tc.used) {
				p.observe(types.UID(strconv.Itoa(i)), []netip.Prefix{cidr})
			}
			got, err := p.take("new", "new")
			if (err != nil) != (tc.want == nil) || !slices.Equal(got, prefixes(tc.want)) {
				t.Errorf("got %v, %v; want %v", got, err, tc.want)
			}
		})
	}
}

func TestEveryPartIsHandedOutOnce(t *testing.T) {
	t.Parallel()
	p := newPool([]Range{{netip.MustParsePrefix("10.96.0.0/13"), 21}})
	seen := map[netip.Prefix]bool{}
	for i := range 256 {
		got, err := p.take(types.UID(strconv.Itoa(i)), "")
		if err != nil {
			t.Fatal(err)
		}
		if seen[got[0]] {
			t.Fatalf("%s twice", got[0])
		}
		seen[got[0]] = true
		if again, err := p.take(types.UID(strconv.Itoa(i)), ""); again != nil || err != nil {
			t.Fatalf("node %d got %v, %v as well", i, again, err)
		}
	}
	for range 2 {
		if got, err := p.take("late", "late"); err == nil {
			t.Errorf("a full range gave %v", got)
		}
	}
	if woken := p.giveBack("77"); !slices.Equal(woken, []string{"late"}) {
		t.Errorf("a part was given back, and %v learned of it", woken)
	}
	if got, err := p.take("late", "late"); err != nil || !slices.Equal(got, prefixes([]string{"10.98.104.0/21"})) {
		t.Errorf("after that: %v, %v", got, err)
	}
}

// TestSharedByHand: a part that two nodes have is free when both are gone.
func TestSharedByHand(t *testing.T) {
	t.Parallel()
	p := newPool([]Range{{netip.MustParsePrefix("10.0.0.0/23"), 24}})
	one := prefixes([]string{"10.0.0.0/24"})
	p.observe("a", one)
	p.observe("b", one)
	p.observe("b", one)
	p.giveBack("a")
	if got, err := p.take("c", "c"); err != nil || got[0] == one[0] {
		t.Errorf("got %v, %v, which another node has", got, err)
	}
	p.giveBack("b")
	if got, err := p.take("d", "d"); err != nil || got[0] != one[0] {
		t.Errorf("got %v, %v", got, err)
	}
}

func prefixes(texts []string) []netip.Prefix {
	var out []netip.Prefix
	for _, text := range texts {
		out = append(out, netip.MustParsePrefix(text))
	}
	return out
}
