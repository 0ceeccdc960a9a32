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

// summary counts refusals by reason, in upstream's form.
func summary(total int, refused map[reason]int) string {
	counts := map[string]int{}
	for why, count := range refused {
		for text := range strings.SplitSeq(why.text, "\n") {
			counts[text] += count
		}
	}
	parts := make([]string, 0, len(counts))
	for text, count := range counts {
		parts = append(parts, fmt.Sprintf("%d %s", count, text))
	}
	slices.Sort(parts)
	return fmt.Sprintf("0/%d nodes are available: %s.", total, strings.Join(parts, ", "))
}
