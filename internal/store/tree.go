package store

import (
	"iter"
	"slices"
	"sort"
)

// A tree is a persistent ordered set of entries: a B+tree whose nodes never change once published. Setting or deleting a
// key copies the path from the root and shares everything else, so a reader walks the root it holds without a lock while
// the applier makes the next one.
type tree struct{ root *node }

// node is a leaf (entries) or an inner node (kids); never both, never empty but for no node at all.
type node struct {
	first   string // smallest key below
	count   int    // entries below
	entries []*Entry
	kids    []*node
}

// A node holds at most fanout elements; one below fanout/4 is joined with a neighbour.
const fanout = 32

func leafOf(entries []*Entry) *node {
	return &node{first: entries[0].key, count: len(entries), entries: entries}
}

func innerOf(kids []*node) *node {
	n := &node{first: kids[0].first, kids: kids}
	for _, k := range kids {
		n.count += k.count
	}
	return n
}

// treeOf builds a tree from entries in key order, without the garbage of single inserts.
func treeOf(entries []*Entry) tree {
	if len(entries) == 0 {
		return tree{}
	}
	const fill = fanout * 3 / 4 // leaves room, so that the first inserts do not split everything
	var level []*node
	for chunk := range slices.Chunk(entries, fill) {
		level = append(level, leafOf(slices.Clone(chunk)))
	}
	for len(level) > 1 {
		var up []*node
		for chunk := range slices.Chunk(level, fill) {
			up = append(up, innerOf(slices.Clone(chunk)))
		}
		level = up
	}
	return tree{level[0]}
}

func (t tree) len() int {
	if t.root == nil {
		return 0
	}
	return t.root.count
}

func (t tree) get(key string) *Entry {
	n := t.root
	if n == nil {
		return nil
	}
	for n.kids != nil {
		n = n.kids[n.kid(key)]
	}
	if i, ok := n.find(key); ok {
		return n.entries[i]
	}
	return nil
}

// set returns the tree with e in place of whatever had its key.
func (t tree) set(e *Entry) tree {
	if t.root == nil {
		return tree{leafOf([]*Entry{e})}
	}
	nodes := t.root.set(e)
	if len(nodes) == 1 {
		return tree{nodes[0]}
	}
	return tree{innerOf(nodes)}
}

// delete returns the tree without key.
func (t tree) delete(key string) tree {
	if t.root == nil {
		return t
	}
	n := t.root.delete(key)
	for n != nil && len(n.kids) == 1 {
		n = n.kids[0]
	}
	return tree{n}
}

// rank is the number of entries before key.
func (t tree) rank(key string) int {
	n, rank := t.root, 0
	if n == nil {
		return 0
	}
	for n.kids != nil {
		i := n.kid(key)
		for _, k := range n.kids[:i] {
			rank += k.count
		}
		n = n.kids[i]
	}
	i, _ := n.find(key)
	return rank + i
}

// from walks the entries whose key is at least start, in order.
func (t tree) from(start string) iter.Seq[*Entry] {
	return func(yield func(*Entry) bool) {
		if t.root != nil {
			t.root.walk(start, yield)
		}
	}
}

func (n *node) walk(start string, yield func(*Entry) bool) bool {
	if n.kids == nil {
		i, _ := n.find(start)
		for _, e := range n.entries[i:] {
			if !yield(e) {
				return false
			}
		}
		return true
	}
	for _, k := range n.kids[n.kid(start):] {
		if !k.walk(start, yield) {
			return false
		}
	}
	return true
}

// kid is the index of the child that has key or would take it.
func (n *node) kid(key string) int {
	i := sort.Search(len(n.kids), func(i int) bool { return n.kids[i].first > key })
	return max(i-1, 0)
}

func (n *node) find(key string) (int, bool) {
	i := sort.Search(len(n.entries), func(i int) bool { return n.entries[i].key >= key })
	return i, i < len(n.entries) && n.entries[i].key == key
}

// set returns one node, or two when n had to split.
func (n *node) set(e *Entry) []*node {
	if n.kids == nil {
		i, found := n.find(e.key)
		if found {
			entries := slices.Clone(n.entries)
			entries[i] = e
			return []*node{leafOf(entries)}
		}
		return leaves(slices.Concat(n.entries[:i], []*Entry{e}, n.entries[i:]))
	}
	i := n.kid(e.key)
	return inners(slices.Concat(n.kids[:i], n.kids[i].set(e), n.kids[i+1:]))
}

// delete returns nil when nothing is left, and n itself when key is not there.
func (n *node) delete(key string) *node {
	if n.kids == nil {
		i, found := n.find(key)
		switch {
		case !found:
			return n
		case len(n.entries) == 1:
			return nil
		}
		return leafOf(slices.Concat(n.entries[:i], n.entries[i+1:]))
	}
	i := n.kid(key)
	kid := n.kids[i].delete(key)
	switch {
	case kid == n.kids[i]:
		return n
	case kid == nil && len(n.kids) == 1:
		return nil
	case kid == nil:
		return innerOf(slices.Concat(n.kids[:i], n.kids[i+1:]))
	case kid.size() >= fanout/4 || len(n.kids) == 1:
		kids := slices.Clone(n.kids)
		kids[i] = kid
		return innerOf(kids)
	}
	return n.joined(i, kid)
}

// joined puts kid in place i and joins it with a neighbour.
func (n *node) joined(i int, kid *node) *node {
	lo, left, right := i, kid, (*node)(nil)
	if i+1 < len(n.kids) {
		right = n.kids[i+1]
	} else {
		lo, left, right = i-1, n.kids[i-1], kid
	}
	var nodes []*node
	if kid.kids == nil {
		nodes = leaves(slices.Concat(left.entries, right.entries))
	} else {
		nodes = inners(slices.Concat(left.kids, right.kids))
	}
	return innerOf(slices.Concat(n.kids[:lo], nodes, n.kids[lo+2:]))
}

func (n *node) size() int { return len(n.entries) + len(n.kids) }

func leaves(entries []*Entry) []*node {
	if len(entries) <= fanout {
		return []*node{leafOf(entries)}
	}
	half := len(entries) / 2
	return []*node{leafOf(slices.Clone(entries[:half])), leafOf(slices.Clone(entries[half:]))}
}

func inners(kids []*node) []*node {
	if len(kids) <= fanout {
		return []*node{innerOf(kids)}
	}
	half := len(kids) / 2
	return []*node{innerOf(slices.Clone(kids[:half])), innerOf(slices.Clone(kids[half:]))}
}
