package scheduler

import (
	"fmt"
	"slices"
	"strings"
)

// reason is why a node is refused. The zero reason is no refusal.
type reason struct {
	text  string // in the words users know; several reasons of one rule are separated by newlines
	final bool   // evicting pods from the node would not help
}

func (r reason) refuses() bool { return r.text != "" }

// final is a refusal that evicting pods would not turn, passing one that it may.
func final(text string) reason   { return reason{text: text, final: true} }
func passing(text string) reason { return reason{text: text} }

// tally counts refused nodes by reason. There are few reasons, and runs of the same.
type tally struct {
	rows []tallied
	last int
}

type tallied struct {
	why   reason
	rule  int
	nodes int
}

// add counts a node and returns the row that it is counted in.
func (t *tally) add(why reason, rule int) int { return t.count(why, rule, 1) }

func (t *tally) count(why reason, rule, nodes int) int {
	if t.last >= len(t.rows) || t.rows[t.last].rule != rule || t.rows[t.last].why != why {
		t.last = slices.IndexFunc(t.rows, func(r tallied) bool { return r.rule == rule && r.why == why })
		if t.last < 0 {
			t.last = len(t.rows)
			t.rows = append(t.rows, tallied{why: why, rule: rule})
		}
	}
	t.rows[t.last].nodes += nodes
	return t.last
}

// summary counts refusals by reason, in upstream's form.
func (t *tally) summary(total int) string {
	counts := map[string]int{}
	for _, row := range t.rows {
		for text := range strings.SplitSeq(row.why.text, "\n") {
			counts[text] += row.nodes
		}
	}
	parts := make([]string, 0, len(counts))
	for text, count := range counts {
		parts = append(parts, fmt.Sprintf("%d %s", count, text))
	}
	slices.Sort(parts)
	return summaryOf(total, strings.Join(parts, ", "))
}

func summaryOf(total int, reasons string) string {
	return fmt.Sprintf("0/%d nodes are available: %s.", total, reasons)
}
