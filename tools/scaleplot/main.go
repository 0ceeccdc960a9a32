// Command scaleplot makes docs/scale.md and its plots from the series that `bench -only scale` leaves. Every figure of that
// page comes from the series: nothing in it is written by hand but the text of scale.md.tmpl.
//
//	go run ./scaleplot -in ../docs/scale.json -dir ../docs
package main

import (
	_ "embed"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"text/template"
)

// series is the part of the file of package bench that is shown. Units are there.
type series struct {
	Conditions struct {
		Date, Version, Kernel, Note string
		CPUs                        int
		MemoryGiB                   float64
		Nodes, Rack                 int
		Pods, Deployments, Backlog  int
		ProbeRate                   float64
		PageSize                    int
	}
	Phases  []phase
	Samples []sample
	Faults  []string
}

type phase struct {
	Name, What, Unit, Error string
	Start, Seconds          float64
	Count                   int
	Memory, Peak            memory
	CPU                     usage
	API                     map[string]spread
	Starts                  *spread
	Errors                  map[string]string
}

type memory struct{ RSS, Anon float64 }

type usage struct{ Server, Nodes, Client float64 }

type spread struct {
	Count, Failed      int
	P50, P90, P99, Max float64
}

type sample struct {
	T                    float64
	Memory               memory
	CPU                  usage
	Pods, Running, Ready int
	API                  map[string]struct{ P50, Max float64 }
}

//go:embed scale.md.tmpl
var page string

func main() {
	in := flag.String("in", filepath.Join("..", "docs", "scale.json"), "series of bench -only scale")
	dir := flag.String("dir", filepath.Join("..", "docs"), "where scale.md and its plots go")
	flag.Parse()
	if err := run(*in, *dir); err != nil {
		fmt.Fprintln(os.Stderr, "scaleplot:", err)
		os.Exit(1)
	}
}

func run(in, dir string) error {
	s, err := read(in)
	if err != nil {
		return err
	}
	for _, c := range charts(s) {
		if err := c.save(s, filepath.Join(dir, "scale-"+c.name+".svg")); err != nil {
			return fmt.Errorf("plot %s: %w", c.name, err)
		}
	}
	return writePage(s, filepath.Join(dir, "scale.md"))
}

func read(file string) (*series, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("%w: measure first (make scale-bench)", err)
	}
	s := &series{}
	if err := json.Unmarshal(data, s); err != nil {
		return nil, fmt.Errorf("%s is no series of bench -only scale: %w", file, err)
	}
	if len(s.Samples) < 2 || len(s.Phases) == 0 {
		return nil, errors.New(file + " has too few samples: the run ended too early")
	}
	return s, nil
}

func writePage(s *series, file string) error {
	t, err := template.New("scale.md").Funcs(template.FuncMap{
		"whole": whole, "seconds": seconds, "ms": milliseconds, "mib": mebibytes, "first": firstLine, "verbs": verbs,
	}).Parse(page)
	if err != nil {
		return err
	}
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	return errors.Join(t.Execute(f, s), f.Close())
}

// verbs are those of the probe, in the order in which they are shown.
func verbs() []string { return []string{"get", "list", "create", "patch", "delete"} }

// Rate is how many of its things the phase did in a second, for the table.
func (p phase) Rate() string {
	if p.Count == 0 || p.Seconds == 0 || p.Error != "" || p.Unit != "pods" {
		return ""
	}
	return fmt.Sprintf("%.0f/s", float64(p.Count)/p.Seconds)
}

// Cores is how many the server kept busy.
func (p phase) Cores() float64 { return p.CPU.Server / p.Seconds }

// Failed is how many requests of the probe had no answer, or a bad one.
func (p phase) Failed() string {
	n, all := 0, 0
	for _, s := range p.API {
		n, all = n+s.Failed, all+s.Count
	}
	if n == 0 {
		return fmt.Sprintf("0 of %s", whole(all))
	}
	return fmt.Sprintf("**%s** of %s", whole(n), whole(all))
}

// Phase is that of a name, or nil if it did not end well.
func (s *series) Phase(name string) *phase {
	for i := range s.Phases {
		if s.Phases[i].Name == name && s.Phases[i].Error == "" {
			return &s.Phases[i]
		}
	}
	return nil
}

// Seconds is how long the whole run took.
func (s *series) Seconds() float64 {
	last := s.Phases[len(s.Phases)-1]
	return last.Start + last.Seconds
}

// Peak is the most memory that the server had.
func (s *series) Peak() memory {
	var m memory
	for _, p := range s.Phases {
		m.RSS, m.Anon = max(m.RSS, p.Peak.RSS), max(m.Anon, p.Peak.Anon)
	}
	return m
}

// whole writes a number with commas.
func whole(n int) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

func seconds(v float64) string {
	if v >= 100 {
		return whole(int(v+0.5)) + " s"
	}
	return fmt.Sprintf("%.1f s", v)
}

func milliseconds(v float64) string {
	switch {
	case v >= 10_000:
		return fmt.Sprintf("%.1f s", v/1000)
	case v >= 1000:
		return fmt.Sprintf("%.2f s", v/1000)
	case v >= 10:
		return fmt.Sprintf("%.0f ms", v)
	}
	return fmt.Sprintf("%.1f ms", v)
}

func mebibytes(v float64) string {
	if v >= 1024 {
		return fmt.Sprintf("%.2f GiB", v/1024)
	}
	return fmt.Sprintf("%.0f MiB", v)
}

// firstLine keeps an error short.
func firstLine(s string) string {
	first, _, _ := strings.Cut(s, "\n")
	return first
}
