package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"canopus/test/plane"
	"canopus/test/scale"
)

const (
	samplePeriod = 2 * time.Second
	savedEvery   = 15 // samples; progress is told as often
)

// recorder makes the series of a run. What it has is written after every phase, and now and then between.
type recorder struct {
	cluster *scale.Cluster
	file    string
	began   time.Time

	mu      sync.Mutex
	series  series
	current *phase
	window  map[string]*counts // requests since the last sample
}

// phase runs one part of the run. Its figures are written whether it fails or not.
func (r *recorder) phase(ctx context.Context, step scaleStep) error {
	p := &phase{Name: step.name, What: step.what, Count: step.count, Unit: step.unit, window: map[string]*counts{}, Errors: map[string]string{}}
	before, err := r.usage()
	if err != nil {
		return err
	}
	r.cluster.Ledger.Starts() // those of before
	r.mu.Lock()
	p.Start, r.current = r.since(), p
	r.series.Phases = append(r.series.Phases, p)
	r.mu.Unlock()
	fmt.Fprintf(os.Stderr, "  %-10s %s\n", step.name, step.what)

	limited, cancel := context.WithTimeout(ctx, step.limit)
	failed := step.do(limited)
	cancel()
	return errors.Join(failed, r.end(p, before, failed))
}

// end completes the figures of a phase.
func (r *recorder) end(p *phase, before usage, failed error) error {
	after, errUsage := r.usage()
	m, errMemory := r.memory()
	starts := &counts{took: r.cluster.Ledger.Starts()}
	r.mu.Lock()
	defer r.mu.Unlock()
	p.Seconds = short(r.since() - p.Start)
	p.CPU = usage{short(after.Server - before.Server), short(after.Nodes - before.Nodes), short(after.Client - before.Client)}
	p.Memory = m
	p.Peak.RSS, p.Peak.Anon = max(p.Peak.RSS, m.RSS), max(p.Peak.Anon, m.Anon)
	if failed != nil {
		p.Error = failed.Error()
	}
	p.API = map[string]spread{}
	for name, c := range p.window {
		p.API[name] = c.spread()
	}
	if len(starts.took) > 0 {
		s := starts.spread()
		p.Starts = &s
	}
	return errors.Join(errUsage, errMemory, r.series.write(r.file))
}

// since is the time of the run in seconds.
func (r *recorder) since() float64 { return short(time.Since(r.began).Seconds()) }

func (r *recorder) usage() (usage, error) {
	server, err := plane.CPUOf(r.cluster.Server.PID())
	client, errClient := plane.CPUOf(os.Getpid())
	return usage{Server: server.Seconds(), Nodes: r.cluster.NodesCPU.Total().Seconds(), Client: client.Seconds()}, errors.Join(err, errClient)
}

func (r *recorder) memory() (memory, error) {
	m, err := plane.MemoryOf(r.cluster.Server.PID())
	return memory{short(m.RSS), short(m.Anon)}, err
}

// note takes in a request of the probe.
func (r *recorder) note(verb string, took time.Duration, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	into := []map[string]*counts{r.window}
	if r.current != nil {
		into = append(into, r.current.window)
		if err != nil {
			r.current.Errors[verb] = err.Error()
		}
	}
	for _, w := range into {
		c := w[verb]
		if c == nil {
			c = &counts{}
			w[verb] = c
		}
		c.took = append(c.took, took)
		if err != nil {
			c.failed++
		}
	}
}

// sample takes samples until ctx ends.
func (r *recorder) sample(ctx context.Context) {
	tick := time.NewTicker(samplePeriod)
	defer tick.Stop()
	last, err := r.usage()
	at := time.Now()
	for n := 1; err == nil; n++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		var now usage
		if now, err = r.usage(); err == nil {
			err = r.take(last, now, time.Since(at).Seconds())
		}
		last, at = now, time.Now()
		if err == nil && n%savedEvery == 0 {
			err = r.save()
		}
	}
	fmt.Fprintln(os.Stderr, "  no more samples:", err) // the phase that goes on tells what is wrong
}

func (r *recorder) take(before, after usage, seconds float64) error {
	m, err := r.memory()
	if err != nil {
		return err
	}
	n := r.cluster.Ledger.Counts()
	r.mu.Lock()
	defer r.mu.Unlock()
	s := sample{
		T: r.since(), Memory: m, Pods: n.Pods, Running: n.Running, Ready: n.Ready, API: map[string]worst{},
		CPU: usage{short((after.Server - before.Server) / seconds), short((after.Nodes - before.Nodes) / seconds), short((after.Client - before.Client) / seconds)},
	}
	if p := r.current; p != nil {
		s.Phase = p.Name
		p.Peak.RSS, p.Peak.Anon = max(p.Peak.RSS, m.RSS), max(p.Peak.Anon, m.Anon)
	}
	for name, c := range r.window {
		s.API[name] = worst{short(c.took.Quantile(.5)), short(c.took.Quantile(1))}
	}
	r.window = map[string]*counts{}
	r.series.Samples = append(r.series.Samples, s)
	return nil
}

// save writes what there is, and tells how far the run is.
func (r *recorder) save() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.series.Samples[len(r.series.Samples)-1]
	fmt.Fprintf(os.Stderr, "  %6.0f s  %-10s %7d of %d pods Ready, %d nodes; server %5.0f MiB, %.2f cores; get %.1f ms, list %.1f ms\n",
		s.T, s.Phase, s.Running, s.Pods, s.Ready, s.Memory.RSS, s.CPU.Server, s.API["get"].Max, s.API["list"].Max)
	return r.series.write(r.file)
}
