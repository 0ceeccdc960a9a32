package scheduler

import (
	"cmp"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"canopus/internal/verdict"
)

// note keeps how a decision came about, for whoever asks why.
func (s *Scheduler) note(w *queued, d *decision, rules []rule) {
	if s.Verdicts == nil {
		return
	}
	told := *d
	told.helpful, told.plan = nil, plan{} // of the scheduling goroutine
	v := verdict.Verdict{
		Namespace: w.info.key.Namespace, Name: w.info.key.Name, UID: w.info.pod.UID, Scheduler: w.info.pod.Spec.SchedulerName,
		Time: metav1.NewTime(w.tried), Attempts: w.attempts, Node: d.node, Nodes: d.total, Looked: d.looked,
	}
	if d.node == "" {
		v.Message, v.Nominated = d.message(), s.cluster.nominated(w.info.pod.UID)
	}
	for _, victim := range d.plan.victims {
		v.Victims = append(v.Victims, victim.key.String())
	}
	s.Verdicts.Put(w.info.key, d.node != "", func() verdict.Verdict {
		v := v
		v.Refusals, v.Scores = told.refusals(rules), told.trace.scores(rules)
		if v.Node != "" && v.Scores == nil {
			v.Scores = []verdict.Score{{Node: v.Node}} // the only one that fits
		}
		return v
	})
}

// refusals lists the nodes by what refused them.
func (d *decision) refusals(rules []rule) []verdict.Refusal {
	var out []verdict.Refusal
	if d.whole.refuses() {
		for i := range rules {
			if d.blockers.has(i) {
				out = append(out, verdict.Refusal{Plugin: rules[i].name, Reason: d.whole.text, Count: d.total})
			}
		}
		return out
	}
	for _, row := range d.tally.rows {
		out = append(out, verdict.Refusal{Plugin: rules[row.rule].name, Reason: strings.ReplaceAll(row.why.text, "\n", ", "), Evictable: !row.why.final, Count: row.nodes})
	}
	for at, code := range d.trace.codes {
		if row := int(code) - firstRow; row >= 0 && row < len(out) {
			out[row].Nodes = append(out[row].Nodes, d.trace.names[at])
		}
	}
	slices.SortStableFunc(out, func(a, b verdict.Refusal) int { return cmp.Compare(b.Count, a.Count) })
	return out
}

// scores lists what the nodes to choose from got, the best first.
func (t *trace) scores(rules []rule) []verdict.Score {
	if len(t.chose) == 0 {
		return nil
	}
	out := make([]verdict.Score, len(t.chose))
	for i, at := range t.chose {
		out[i] = verdict.Score{Node: t.names[at], Plugins: map[string]int64{}}
		for k, rule := range t.rules {
			points := int64(t.given[k*len(t.chose)+i])
			out[i].Plugins[rules[rule].name] = points
			out[i].Total += points * rules[rule].weight
		}
	}
	slices.SortStableFunc(out, func(a, b verdict.Score) int { return cmp.Compare(b.Total, a.Total) })
	return out
}
