package why

import (
	"fmt"
	"io"
	"strings"
	"unicode"
)

// Print writes the report for people: the state in a line, what holds it up in the order of the chain, and what to do.
func Print(out io.Writer, r *Report) error {
	var b strings.Builder
	mark := map[State]string{Fine: "✓", OnWay: "…", Broken: "✗"}[r.State]
	fmt.Fprintf(&b, "%s %s/%s", mark, r.Kind, r.Name)
	if r.Namespace != "" {
		fmt.Fprintf(&b, " in namespace %s", r.Namespace)
	}
	fmt.Fprintf(&b, ": %s\n", plain(r.Summary))
	for _, line := range placement(r.Verdict) {
		fmt.Fprintf(&b, "  %s\n", plain(line))
	}
	for i := range r.Findings {
		printFinding(&b, r, &r.Findings[i])
	}
	printAdvice(&b, r)
	for _, u := range r.Unseen {
		fmt.Fprintf(&b, "\nNot seen: %s\n", plain(u))
	}
	_, err := io.WriteString(out, b.String())
	return err
}

func printFinding(b *strings.Builder, r *Report, f *Finding) {
	mark := map[Severity]string{Error: "✗", Warning: "!", Waiting: "…", Note: "·"}[f.Severity]
	fmt.Fprintf(b, "\n%s %s", mark, f.Link)
	if f.Reason != "" {
		fmt.Fprintf(b, " (%s)", f.Reason)
	}
	b.WriteString(": ")
	switch {
	case f.Of > 1 && f.Count < f.Of:
		fmt.Fprintf(b, "%d of %d pods (%s): ", f.Count, f.Of, some(f.Objects))
	case f.Of > 1:
		fmt.Fprintf(b, "all %d pods (%s): ", f.Of, some(f.Objects))
	case f.Of == 1:
		fmt.Fprintf(b, "%s: ", f.Object)
	case f.Object != r.Kind+"/"+r.Name:
		fmt.Fprintf(b, "%s: ", f.Object)
	}
	fmt.Fprintf(b, "%s\n", plain(f.Message))
	for _, d := range f.Details {
		fmt.Fprintf(b, "    %s\n", plain(d))
	}
	if f.Log == nil {
		return
	}
	of := "container " + f.Container
	if f.Previous {
		of += ", the one before"
	}
	if f.Of > 1 {
		of = f.Object + ", " + of
	}
	if len(f.Log) == 0 {
		fmt.Fprintf(b, "    no log (%s)\n", of)
		return
	}
	fmt.Fprintf(b, "    last lines of its log (%s):\n", of)
	for _, line := range f.Log {
		fmt.Fprintf(b, "    | %s\n", plain(line))
	}
}

// printAdvice ends the report with what to do, each advice once.
func printAdvice(b *strings.Builder, r *Report) {
	var list []string
	seen := map[string]bool{}
	for _, f := range r.Findings {
		if f.Do != "" && !seen[f.Do] {
			seen[f.Do] = true
			list = append(list, f.Do)
		}
	}
	if len(list) == 0 {
		return
	}
	b.WriteString("\nWhat to do:\n")
	for _, do := range list {
		fmt.Fprintf(b, "  → %s\n", plain(do))
	}
}

// plain keeps what programs and peers wrote from moving the cursor or colouring the terminal.
func plain(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\t':
			return r
		case r == '\n':
			return ' '
		case unicode.IsControl(r):
			return '·'
		}
		return r
	}, s)
}
