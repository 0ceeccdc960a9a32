package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"

	"canopus/test/plane"
)

// series is what the group scale leaves in a file: the conditions, figures of each phase, and samples over time.
// tools/scaleplot reads it.
type series struct {
	Conditions conditions
	Phases     []*phase
	Samples    []sample
	Faults     []string // what must never be and was, as the ledger of package scale saw it
}

// conditions are what was measured, where, and how.
type conditions struct {
	Date        string  `json:"date"`
	Version     string  `json:"version"`
	CPUs        int     `json:"cpus"`
	MemoryGiB   float64 `json:"memoryGiB"`
	Kernel      string  `json:"kernel"`
	Nodes       int     `json:"nodes"`
	Rack        int     `json:"rack"`
	Pods        int     `json:"pods"`
	Deployments int     `json:"deployments"`
	Backlog     int     `json:"backlog"`
	ProbeRate   float64 `json:"probeRate"` // requests a second, all verbs together
	PageSize    int     `json:"pageSize"`
	Note        string  `json:"note,omitempty"`
}

// phase is a part of the run. Memory is in MiB, times are in seconds, latencies in milliseconds.
type phase struct {
	Name    string             `json:"name"`
	What    string             `json:"what"`
	Start   float64            `json:"start"`
	Seconds float64            `json:"seconds"`
	Count   int                `json:"count,omitempty"` // of Unit, that it dealt with
	Unit    string             `json:"unit,omitempty"`
	Error   string             `json:"error,omitempty"`
	Memory  memory             `json:"memory"` // of the server at the end
	Peak    memory             `json:"peak"`
	CPU     usage              `json:"cpu"`              // seconds
	API     map[string]spread  `json:"api"`              // by verb
	Starts  *spread            `json:"starts,omitempty"` // of pods that were created and became Ready
	Errors  map[string]string  `json:"errors,omitempty"` // by verb, the last of each
	window  map[string]*counts // not written
}

type memory struct {
	RSS  float64 `json:"rss"`
	Anon float64 `json:"anon"`
}

// usage is CPU time by who took it.
type usage struct {
	Server float64 `json:"server"`
	Nodes  float64 `json:"nodes"`  // all hollow nodes
	Client float64 `json:"client"` // this program: its watches and requests
}

// spread is how long many things took.
type spread struct {
	Count  int     `json:"count"`
	Failed int     `json:"failed,omitempty"`
	P50    float64 `json:"p50"`
	P90    float64 `json:"p90"`
	P99    float64 `json:"p99"`
	Max    float64 `json:"max"`
}

// sample is the state at one time, and what happened since the one before.
type sample struct {
	T       float64          `json:"t"`
	Phase   string           `json:"phase"`
	Memory  memory           `json:"memory"`
	CPU     usage            `json:"cpu"` // cores
	Pods    int              `json:"pods"`
	Running int              `json:"running"`
	Ready   int              `json:"ready"` // nodes
	API     map[string]worst `json:"api"`   // by verb
}

type worst struct {
	P50 float64 `json:"p50"`
	Max float64 `json:"max"`
}

// counts are the requests of one verb.
type counts struct {
	took   plane.Latencies
	failed int
}

func (c *counts) spread() spread {
	return spread{
		Count: len(c.took), Failed: c.failed,
		P50: short(c.took.Quantile(.5)), P90: short(c.took.Quantile(.9)), P99: short(c.took.Quantile(.99)), Max: short(c.took.Quantile(1)),
	}
}

// short drops digits that mean nothing.
func short(v float64) float64 { return math.Round(100*v) / 100 }

// write replaces file with the series: a line for each phase and each sample.
func (s *series) write(file string) error {
	var b bytes.Buffer
	if err := s.encode(&b); err != nil {
		return fmt.Errorf("write the series: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return fmt.Errorf("write the series: %w", err)
	}
	if err := os.WriteFile(file+".new", b.Bytes(), 0o644); err != nil {
		return fmt.Errorf("write the series: %w", err)
	}
	return os.Rename(file+".new", file)
}

func (s *series) encode(b *bytes.Buffer) error {
	c, err := json.Marshal(s.Conditions)
	if err != nil {
		return err
	}
	fmt.Fprintf(b, "{\n\"conditions\": %s", c)
	if err := lines(b, "phases", s.Phases); err != nil {
		return err
	}
	if err := lines(b, "faults", s.Faults); err != nil {
		return err
	}
	if err := lines(b, "samples", s.Samples); err != nil {
		return err
	}
	b.WriteString("\n}\n")
	return nil
}

func lines[T any](b *bytes.Buffer, name string, items []T) error {
	fmt.Fprintf(b, ",\n%q: [", name)
	for i, item := range items {
		data, err := json.Marshal(item)
		if err != nil {
			return err
		}
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString("\n")
		b.Write(data)
	}
	b.WriteString("]")
	return nil
}
