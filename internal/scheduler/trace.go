package scheduler

import "math"

// trace is how a decision came about, node by node, in few bytes: it is made for every decision. Not changed once the decision
// is made, so that others may read it.
type trace struct {
	names []string // of the nodes, by node.at; shared by all traces of one order
	codes []uint8  // by node.at: 0 not refused, from 1 on the refusal's row in the tally; nil when no node was
	rules []int    // that gave points
	chose []int32  // node.at of those that got points
	given []uint8  // points brought to 0..100: for each of rules those of each of chose
}

const firstRow = 1

func (t *trace) begin(c *cluster) { t.names = c.names }

func (t *trace) refused(n *node, row int) {
	if t.codes == nil {
		t.codes = make([]uint8, len(t.names))
	}
	t.codes[n.at] = uint8(min(row+firstRow, math.MaxUint8))
}

// scored notes the points that one rule gave to the nodes to choose from.
func (t *trace) scored(nodes []*node, rule int, points []int64) {
	if t.chose == nil {
		const rulesExpected = 6
		t.chose = make([]int32, len(nodes))
		t.given = make([]uint8, 0, rulesExpected*len(nodes))
		for i, n := range nodes {
			t.chose[i] = int32(n.at)
		}
	}
	t.rules = append(t.rules, rule)
	for _, p := range points {
		t.given = append(t.given, uint8(max(0, min(p, math.MaxUint8))))
	}
}
