// Command report reads the output of `go test -json` and prints what one wants to know of it: a line per test with its
// result and time, the figures it noted (its attributes), why tests were skipped, everything a failed test printed, and at the end how many there were.
//
//	go test -json ./test/e2e/... | go run ./test/report
//	go test -json ./test/conformance | go run ./test/report -conformance -missing
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
)

func main() {
	counted := flag.Bool("conformance", false, "count the behaviours of package conformance by area")
	missing := flag.Bool("missing", false, "name the behaviours without a passed test")
	packages := flag.Bool("packages", false, "tell of packages that are well, not of each of their tests")
	flag.Parse()
	passed := map[string]bool{}
	failed, err := report(os.Stdin, os.Stdout, passed, *packages)
	if err == nil && *counted {
		err = conform(os.Stdout, passed, *missing)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "report:", err)
		os.Exit(2)
	}
	if failed {
		os.Exit(1)
	}
}

// event is a line of `go test -json`.
type event struct {
	Action, Package, Test, Output string
	Key, Value                    string // of an attribute
	Elapsed                       float64
}

// test is what is known of a test or, without a name, of a package.
type test struct {
	output   []string
	children bool // it has subtests
	broken   bool // and one of them failed
}

// tally counts results of tests that have no subtests; one with subtests counts when it failed and none of them did.
type tally struct {
	passed, failed, skipped int
	broken                  bool // a package failed outside its tests
	packages                bool // that are well are told of, not their tests
}

// report reads events until in ends, and notes in passed the names of the tests that did. What is no event, such as a
// message of the compiler, is passed on. With packages, what went well is told by package.
func report(in io.Reader, out io.Writer, passed map[string]bool, packages bool) (failed bool, err error) {
	tests, n, any := map[string]*test{}, tally{packages: packages}, false
	lines := bufio.NewReader(in)
	for {
		line, err := lines.ReadString('\n')
		if line != "" {
			var e event
			if json.Unmarshal([]byte(line), &e) != nil || e.Action == "" {
				fmt.Fprint(out, line)
			} else {
				any = true
				n.take(out, tests, e)
				if e.Action == "pass" {
					passed[e.Test] = true
				}
			}
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return true, fmt.Errorf("read: %w", err)
		}
	}
	if !any {
		return true, errors.New("no test output: pipe `go test -json` into this")
	}
	fmt.Fprintf(out, "\n%d passed, %d failed, %d skipped\n", n.passed, n.failed, n.skipped)
	return n.failed > 0 || n.broken, nil
}

func key(e event) string { return e.Package + " " + e.Test }

func (n *tally) take(out io.Writer, tests map[string]*test, e event) {
	t := tests[key(e)]
	if t == nil {
		t = &test{}
		tests[key(e)] = t
	}
	switch e.Action {
	case "run":
		if p := parent(tests, e); p != nil {
			p.children = true
		}
	case "output", "build-output":
		t.output = append(t.output, e.Output)
	case "attr": // a figure of the test, told as soon as it is known
		fmt.Fprintf(out, "note  %s%s %s: %s\n", indentation(e), e.Test, e.Key, e.Value)
	case "pass", "fail", "skip":
		n.finish(out, t, e)
		if p := parent(tests, e); p != nil && e.Action == "fail" {
			p.broken = true
		}
		delete(tests, key(e))
	case "build-fail":
		n.broken = true
		fmt.Fprint(out, strings.Join(t.output, ""))
	}
}

// parent is the test that e's test is a subtest of, or nil.
func parent(tests map[string]*test, e event) *test {
	i := strings.LastIndex(e.Test, "/")
	if i < 0 {
		return nil
	}
	return tests[e.Package+" "+e.Test[:i]]
}

// finish prints a result. Parents print nothing but what they said themselves when they fail.
func (n *tally) finish(out io.Writer, t *test, e event) {
	took := time.Duration(e.Elapsed * float64(time.Second)).Round(10 * time.Millisecond)
	if e.Test == "" {
		switch {
		case e.Action == "fail":
			n.broken = true
			fmt.Fprintf(out, "package %s failed\n%s", e.Package, indent(t.output))
		case e.Action == "pass" && n.packages:
			fmt.Fprintf(out, "ok    %s (%v)\n", e.Package, took)
		}
		return
	}
	depth := indentation(e)
	switch {
	case e.Action == "skip":
		n.skipped++
		fmt.Fprintf(out, "skip  %s%s: %s\n", depth, e.Test, reason(t.output))
	case e.Action == "fail":
		if !t.broken {
			n.failed++
		}
		fmt.Fprintf(out, "FAIL  %s%s (%v)\n%s", depth, e.Test, took, indent(t.output))
	case !t.children:
		n.passed++
		if !n.packages {
			fmt.Fprintf(out, "ok    %s%s (%v)\n", depth, e.Test, took)
		}
	}
}

func indentation(e event) string { return strings.Repeat("  ", strings.Count(e.Test, "/")) }

// said is what a test printed, without the frame that the go command puts around it.
func said(output []string) []string {
	var rest []string
	for _, line := range output {
		text := strings.TrimSpace(line)
		if text == "" || strings.HasPrefix(text, "=== ") || strings.HasPrefix(text, "--- ") {
			continue
		}
		rest = append(rest, line)
	}
	return rest
}

func indent(output []string) string {
	var b strings.Builder
	for _, line := range said(output) {
		b.WriteString("      " + strings.TrimRight(line, "\n") + "\n")
	}
	return b.String()
}

// reason is the message of t.Skip, without the place it was called at.
func reason(output []string) string {
	var words []string
	for _, line := range said(output) {
		text := strings.TrimSpace(line)
		if place, message, ok := strings.Cut(text, ": "); ok && strings.Contains(place, ".go:") {
			text = message
		}
		words = append(words, text)
	}
	return strings.Join(words, " ")
}
