package store

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// check fails unless t holds exactly want and every node keeps its invariants.
func check(t *testing.T, tr tree, want map[string]*Entry) {
	t.Helper()
	keys := make([]string, 0, len(want))
	for k := range want {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	var got []string
	for e := range tr.from("") {
		got = append(got, e.key)
		if want[e.key] != e {
			t.Fatalf("%s is another entry", e.key)
		}
	}
	if !slices.Equal(got, keys) {
		t.Fatalf("tree has %d keys, want %d", len(got), len(keys))
	}
	if tr.len() != len(keys) {
		t.Fatalf("len %d, want %d", tr.len(), len(keys))
	}
	if tr.root != nil {
		checkNode(t, tr.root)
	}
}

func checkNode(t *testing.T, n *node) (depth int) {
	t.Helper()
	if n.size() == 0 || n.size() > fanout || (n.kids != nil && n.entries != nil) {
		t.Fatalf("node with %d entries and %d kids", len(n.entries), len(n.kids))
	}
	if n.kids == nil {
		if n.first != n.entries[0].key || n.count != len(n.entries) {
			t.Fatalf("leaf says first %q, count %d", n.first, n.count)
		}
		return 0
	}
	count := 0
	for i, k := range n.kids {
		d := checkNode(t, k)
		if i > 0 && d != depth {
			t.Fatalf("depths differ: %d and %d", d, depth)
		}
		depth, count = d, count+k.count
	}
	if n.first != n.kids[0].first || n.count != count {
		t.Fatalf("inner node says first %q, count %d of %d", n.first, n.count, count)
	}
	return depth + 1
}

// Random sets and deletes against a map; old roots must not change.
func TestTreeAgainstMap(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(1, 2))
	var tr tree
	model := map[string]*Entry{}
	var oldTree tree
	var oldModel map[string]*Entry
	for step := range 60_000 {
		key := fmt.Sprintf("k%04d", rng.IntN(3000))
		grow := (step/10_000)%2 == 0
		if put := rng.IntN(10); (grow && put < 8) || (!grow && put < 2) {
			e := &Entry{key: key}
			tr, model[key] = tr.set(e), e
		} else {
			tr = tr.delete(key)
			delete(model, key)
		}
		if step%4999 == 0 {
			check(t, tr, model)
			check(t, oldTree, oldModel)
			oldTree, oldModel = tr, map[string]*Entry{}
			for k, e := range model {
				oldModel[k] = e
			}
		}
	}
	check(t, tr, model)
	for k := range model {
		tr = tr.delete(k)
	}
	check(t, tr, nil)
}

func TestTreeRankAndFrom(t *testing.T) {
	t.Parallel()
	for _, n := range []int{0, 1, 24, 25, 700, 20_000} {
		var entries []*Entry
		model := map[string]*Entry{}
		for i := range n {
			e := &Entry{key: fmt.Sprintf("%06d", 2*i)}
			entries, model[e.key] = append(entries, e), e
		}
		tr := treeOf(entries)
		check(t, tr, model)
		for _, i := range []int{0, 1, n / 2, n - 1, n} {
			if i < 0 || i > n {
				continue
			}
			exact, between := fmt.Sprintf("%06d", 2*i), fmt.Sprintf("%06d", 2*i-1)
			if i > 0 && tr.rank(between) != i {
				t.Errorf("n=%d rank(%s)=%d, want %d", n, between, tr.rank(between), i)
			}
			if tr.rank(exact) != i {
				t.Errorf("n=%d rank(%s)=%d, want %d", n, exact, tr.rank(exact), i)
			}
			count := 0
			for range tr.from(exact) {
				count++
			}
			if count != n-i {
				t.Errorf("n=%d from(%s) gives %d, want %d", n, exact, count, n-i)
			}
		}
	}
}

func TestRing(t *testing.T) {
	t.Parallel()
	var g ring
	rev, low := int64(0), int64(0)
	rng := rand.New(rand.NewPCG(3, 4))
	for range 20_000 {
		if g.len() > 0 && rng.IntN(5) < 2 || g.len() > 500 {
			low = g.pop().rev
			continue
		}
		rev += int64(rng.IntN(3))
		g.push(&record{rev: rev})
		at := low + rng.Int64N(rev-low+1)
		i := g.after(at)
		if i > g.first && g.at(i-1).rev > at || i < g.end && g.at(i).rev <= at {
			t.Fatalf("after(%d) is wrong", at)
		}
	}
}

func TestJSONBudget(t *testing.T) {
	t.Parallel()
	c := jsonCache{limit: 10_000}
	hot := c.keep(make([]byte, 100))
	var cells []*jsonCell
	for range 1000 {
		if hot.load() == nil {
			t.Fatal("a cell in constant use was dropped")
		}
		cells = append(cells, c.keep(make([]byte, 436))) // 500 with overhead
	}
	kept := 0
	for _, cell := range cells {
		if cell.load() != nil {
			kept++
		}
	}
	if kept == 0 || kept > 20 || c.bytes > c.limit {
		t.Errorf("%d cells kept, %d bytes", kept, c.bytes)
	}
}
