package store_test

import (
	"fmt"
	"slices"
	"testing"

	"canopus/internal/store"
	"canopus/internal/store/etcdtest"

	"k8s.io/apimachinery/pkg/labels"
)

// TestPagesOfThePast walks a list whose revision is older than anything in memory: each page holds and tells what it should, and
// what was written meanwhile is in none.
func TestPagesOfThePast(t *testing.T) {
	t.Parallel()
	c := config(etcdtest.Start(t))
	c.HistoryByte = 1 // nothing is kept in memory
	s := run(t, c)
	var all, odd []string
	for i := range 23 {
		l := map[string]string{"odd": fmt.Sprint(i % 2)}
		name := fmt.Sprintf("p%02d", i)
		s.create(t, pod([]string{"a", "b"}[i/12], name, l, ""))
		all = append(all, name)
		if i%2 == 1 {
			odd = append(odd, name)
		}
	}
	for _, tc := range []struct {
		name     string
		selector store.Selector
		want     []string
		rest     []int64 // told with the pages that are not the last
	}{
		{"all", store.Selector{}, all, []int64{18, 13, 8, 3}},
		{"of a namespace", store.Selector{Namespace: "b"}, all[12:], nil},
		{"by a label", store.Selector{Labels: labels.SelectorFromSet(labels.Set{"odd": "1"})}, odd, nil},
	} {
		first := must[store.List](t)(s.pods.List(t.Context(), store.ListOptions{Selector: tc.selector, Limit: 5}))
		s.create(t, pod("b", "a-"+string(tc.name[0]), map[string]string{"odd": "1"}, ""))
		var got []string
		var rest []int64
		pages := 0
		for l := first; ; l = must[store.List](t)(s.pods.List(t.Context(), store.ListOptions{Selector: tc.selector, Limit: 5, Continue: l.Continue})) {
			pages++
			for _, e := range l.Entries {
				if e.Name[0] == 'p' { // those of the cases before are in, too
					got = append(got, e.Name)
				}
			}
			if len(l.Entries) > 5 || l.Revision != first.Revision {
				t.Errorf("%s: a page of %d at revision %d, the first is of %d", tc.name, len(l.Entries), l.Revision, first.Revision)
			}
			if l.Remaining != nil {
				rest = append(rest, *l.Remaining)
			}
			if l.Continue == "" {
				break
			}
		}
		if !slices.Equal(got, tc.want) || pages != (len(got)+4)/5 && tc.name == "all" {
			t.Errorf("%s: %v on %d pages, want %v", tc.name, got, pages, tc.want)
		}
		if tc.name == "all" && !slices.Equal(rest, tc.rest) {
			t.Errorf("%s: %v remain, want %v", tc.name, rest, tc.rest)
		}
	}
	if e, err := s.pods.Get(t.Context(), "a", "p03", store.Freshness{Match: store.Exact, Revision: s.create(t, pod("c", "last", nil, "")).Revision - 1}); err != nil || e.Name != "p03" {
		t.Errorf("one object of the past: %v %v", e, err)
	}
}
