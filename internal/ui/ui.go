// Package ui is how commands talk to people: steps with their times on a terminal, plain lines elsewhere, tables.
package ui

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"golang.org/x/term"
)

// IsTerminal reports whether w is a terminal.
func IsTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// Steps prints one line per step of a longer piece of work, with the time it took. On a terminal the step under way is shown
// with a running clock.
type Steps struct {
	out  io.Writer
	live bool
}

// NewSteps prints to out.
func NewSteps(out io.Writer) *Steps { return &Steps{out: out, live: IsTerminal(out)} }

const stepWidth = 44

// Do runs work as a step called name. work may say what it waits for through note; it is shown on a terminal, and in the
// line that reports a failure.
func (s *Steps) Do(name string, work func(note func(string)) error) error {
	began := time.Now()
	p := &progress{steps: s, name: name, began: began}
	stop := p.show()
	err := work(p.setNote)
	stop()
	took := time.Since(began)
	if err != nil {
		fmt.Fprintf(s.out, "%s✗ %-*s %6.1f s\n", s.clear(), stepWidth, name, took.Seconds())
		return err
	}
	fmt.Fprintf(s.out, "%s✓ %-*s %6.1f s\n", s.clear(), stepWidth, name, took.Seconds())
	return nil
}

func (s *Steps) clear() string {
	if s.live {
		return "\r\x1b[K"
	}
	return ""
}

type progress struct {
	steps *Steps
	name  string
	began time.Time

	mu   sync.Mutex
	note string
}

func (p *progress) setNote(note string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.note = note
}

// show redraws the line five times a second until the returned function is called.
func (p *progress) show() (stop func()) {
	if !p.steps.live {
		return func() {}
	}
	done, gone := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(gone)
		tick := time.NewTicker(200 * time.Millisecond)
		defer tick.Stop()
		for {
			p.mu.Lock()
			note := p.note
			p.mu.Unlock()
			if note != "" {
				note = "  " + note
			}
			fmt.Fprintf(p.steps.out, "%s… %-*s %6.1f s%s", p.steps.clear(), stepWidth, p.name, time.Since(p.began).Seconds(), note)
			select {
			case <-done:
				return
			case <-tick.C:
			}
		}
	}()
	return func() { close(done); <-gone }
}

// Table prints rows below header in aligned columns.
func Table(out io.Writer, header []string, rows [][]string) error {
	w := tabwriter.NewWriter(out, 0, 0, 3, ' ', 0)
	fmt.Fprintln(w, strings.ToUpper(strings.Join(header, "\t")))
	for _, r := range rows {
		fmt.Fprintln(w, strings.Join(r, "\t"))
	}
	return w.Flush()
}
