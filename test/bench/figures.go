package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"text/tabwriter"
	"time"
)

// figure is one measured value, and what it is compared with.
type figure struct {
	Name   string  `json:"name"`
	Value  float64 `json:"value"`
	Unit   string  `json:"unit"`
	Limit  float64 `json:"limit,omitempty"` // what the machine allows, measured in the same run
	Ratio  float64 `json:"ratio,omitempty"` // of value to limit
	Target string  `json:"target,omitempty"`
	Met    *bool   `json:"met,omitempty"` // nil: there is no target
	Gate   bool    `json:"gate,omitempty"`
}

// target is what a figure must reach: its absolute value or its part of the limit, whichever is easier on this machine.
type target struct {
	atLeast, atMost float64
	share           float64 // at least this part of the limit
	times, plus     float64 // at most so many times the limit, plus so much
	gate            bool
}

// targets are those of the design, by figure.
func targets() map[string]target {
	return map[string]target{
		"start.ready":            {atMost: 0.8},
		"idle.rss":               {atMost: 120},
		"idle.rss.restart":       {atMost: 120},
		"idle.cpu":               {atMost: 1},
		"node.start.ready":       {atMost: 5, gate: true},
		"node.rss":               {atMost: 150, gate: true},
		"node.rss.restart":       {atMost: 150},
		"node.idle.cpu":          {atMost: 1},
		"api.create.rate":        {atLeast: 5000, share: 0.36},
		"api.get.rate":           {atLeast: 12000, share: 0.72},
		"api.update.rate":        {atLeast: 4500, share: 0.34},
		"api.patch.rate":         {atLeast: 4500, share: 0.34},
		"pod.create.rate":        {atLeast: 3500},
		"pod.patchstatus.rate":   {atLeast: 3500},
		"list.pods.proto.p50":    {atMost: 20},
		"list.pods.json.p50":     {atMost: 30},
		"list.pods.proto.x16":    {atMost: 250},
		"list.pods.selector.p50": {atMost: 1.5},
		"rss.after-list":         {atMost: 250},
		"watch.fanout.rate":      {atLeast: 50000, share: 0.7},
		"watch.fanout.p50":       {atMost: 3},
		"nodewatch.create.rate":  {atLeast: 3000},
		"nodewatch.seen.p50":     {atMost: 8},
		"sched.rate":             {atLeast: 2000},
		"rss.after-sched":        {atMost: 400},
		"deploy.rate":            {atLeast: 3000},
		"rss.after-many":         {atMost: 600},
		"pod.start.one.p50":      {times: 1, plus: 150},
		"pod.start.burst50":      {times: 1.25},
		"pod.start.burst100":     {times: 1.25},
	}
}

// met judges f.
func (t target) met(f figure) bool {
	switch {
	case t.atMost > 0:
		return f.Value <= t.atMost
	case t.times > 0:
		return f.Limit > 0 && f.Value <= t.times*f.Limit+t.plus
	case t.share > 0 && f.Limit > 0 && f.Value >= t.share*f.Limit:
		return true
	}
	return f.Value >= t.atLeast
}

// String says the target in the table's words.
func (t target) String() string {
	switch {
	case t.atMost > 0:
		return fmt.Sprintf("≤ %g", t.atMost)
	case t.times > 0 && t.plus > 0:
		return fmt.Sprintf("≤ limit + %g", t.plus)
	case t.times > 0:
		return fmt.Sprintf("≤ %g × limit", t.times)
	case t.share > 0:
		return fmt.Sprintf("≥ %g or %.0f %%", t.atLeast, 100*t.share)
	}
	return fmt.Sprintf("≥ %g", t.atLeast)
}

// judge completes a figure with its ratio and its target.
func judge(f figure) figure {
	if f.Limit > 0 {
		f.Ratio = f.Value / f.Limit
	}
	t, ok := targets()[f.Name]
	if r := rowOf(f.Name); r != nil {
		t, ok = target{atLeast: r.floor}, true
	}
	if !ok {
		return f
	}
	met := t.met(f)
	f.Target, f.Met, f.Gate = t.String(), &met, t.gate
	return f
}

// say records a figure; limit is 0 if nothing but the server sets one.
func (b *bench) say(name string, value float64, unit string, limit float64) {
	f := judge(figure{Name: name, Value: value, Unit: unit, Limit: limit})
	b.figures = append(b.figures, f)
	fmt.Fprintf(os.Stderr, "  %-24s %12s %s\n", f.Name, number(f.Value), f.Unit)
}

func (b *bench) missedGates() []string {
	var out []string
	for _, f := range b.figures {
		if f.Gate && !*f.Met {
			out = append(out, fmt.Sprintf("%s is %s %s, target %s", f.Name, number(f.Value), f.Unit, f.Target))
		}
	}
	return out
}

// print writes all figures where and how the flags say.
func (b *bench) print() error {
	var w io.Writer = os.Stdout
	if b.out != "" {
		f, err := os.Create(b.out)
		if err != nil {
			return fmt.Errorf("write the figures: %w", err)
		}
		defer f.Close()
		w = f
	}
	switch b.format {
	case "json":
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		return e.Encode(b.figures)
	case "markdown":
		return b.markdown(w)
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, strings.Join(header(), "\t")+"\t")
	for _, f := range b.figures {
		fmt.Fprintln(t, strings.Join(f.cells(), "\t")+"\t")
	}
	return t.Flush()
}

// markdown writes a table for the README, with the conditions under which it was measured.
func (b *bench) markdown(w io.Writer) error {
	fmt.Fprintf(w, "Measured by `make bench` on %s with %d CPUs, client on the same machine. *limit* is what the same client reaches\n"+
		"against constant answers over HTTPS, or bare etcd, or bare CRI calls, in the same run. Absolute figures drift with the machine.\n\n",
		time.Now().Format(time.DateOnly), runtime.NumCPU())
	cells := header()
	fmt.Fprintf(w, "| %s |\n|---|--:|---|--:|--:|---|---|\n", strings.Join(cells, " | "))
	for _, f := range b.figures {
		fmt.Fprintf(w, "| %s |\n", strings.Join(f.cells(), " | "))
	}
	return nil
}

func header() []string { return []string{"figure", "value", "unit", "limit", "ratio", "target", ""} }

func (f figure) cells() []string {
	c := []string{f.Name, number(f.Value), f.Unit, "", "", f.Target, ""}
	if f.Limit > 0 {
		c[3], c[4] = number(f.Limit), fmt.Sprintf("%.0f %%", 100*f.Ratio)
	}
	if f.Met != nil {
		c[6] = map[bool]string{true: "met", false: "not met"}[*f.Met]
	}
	return c
}

// number has as many digits as mean something.
func number(v float64) string {
	switch {
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}
