package scheduler

// best returns the node with the most points, one of them at random when several have the same.
func best(c *cluster, p *podInfo, o options, nodes []*node, d *decision) *node {
	if len(nodes) == 1 {
		return nodes[0]
	}
	t := c.table(p, o.rules)
	c.scratch.total = resized0(c.scratch.total, len(nodes))
	c.scratch.points = resized0(c.scratch.points, len(nodes))
	total, points := c.scratch.total, c.scratch.points
	for i := range o.rules {
		r := &o.rules[i]
		if r.score == nil {
			continue
		}
		if r.local {
			if t.scorers[i] == nil {
				continue
			}
			t.score(nodes, len(o.rules))
			for k, n := range nodes {
				points[k] = t.points[n.at*len(o.rules)+i]
			}
		} else {
			score := r.score(c, p)
			if score == nil {
				continue
			}
			for k, n := range nodes {
				points[k] = score(n)
			}
		}
		d.ran.scored.add(i)
		if r.normal != nil {
			r.normal(points)
		}
		d.trace.scored(nodes, i, points)
		for k := range nodes {
			total[k] += points[k] * r.weight
		}
	}
	return nodes[highest(total, o)]
}

// score brings the points of the local rules up to date for nodes.
func (t *table) score(nodes []*node, rules int) {
	for _, n := range nodes {
		at := &t.cells[n.at]
		if at.scored {
			continue
		}
		at.scored = true
		row := t.points[n.at*rules : (n.at+1)*rules]
		for i, score := range t.scorers {
			if score != nil {
				row[i] = score(n)
			}
		}
	}
}

// highest is the index of the most points.
func highest(total []int64, o options) int {
	top, ties := 0, 1
	for i := 1; i < len(total); i++ {
		switch {
		case total[i] > total[top]:
			top, ties = i, 1
		case total[i] == total[top]:
			if ties++; o.rand.IntN(ties) == 0 {
				top = i
			}
		}
	}
	return top
}

// resized0 is s with n zeros.
func resized0(s []int64, n int) []int64 {
	if cap(s) < n {
		return make([]int64, n)
	}
	s = s[:n]
	clear(s)
	return s
}
