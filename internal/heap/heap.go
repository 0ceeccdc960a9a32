// Package heap trades memory for speed where it pays and gives it back where it does not. Go's collector lets garbage pile up to
// the size of what is alive: with little alive a busy process collects many times a second, with much alive a process at rest
// takes twice what it needs, and what its busiest moment took it keeps for minutes.
package heap

import (
	"context"
	"errors"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"time"

	"k8s.io/utils/clock"
)

const (
	usual = 100 // percent of what is alive that may pile up as garbage: Go's default

	// floor is the garbage that a busy process may always make before it is collected.
	floor = 96 << 20 // bytes

	// A process at rest that has more than large alive piles up less, restful percent: it collects rarely all the same.
	large   = 256 << 20 // bytes
	restful = 50

	// A process that allocates busyRate is busy; below restRate it is at rest again. The gap keeps it from changing to and fro.
	busyRate = 32 << 20 // bytes a second
	restRate = 8 << 20

	// look is how long after a collection the process is looked at, and again until it is at rest.
	look = 250 * time.Millisecond

	// Memory is returned when more than idle bytes and half of what is alive lie idle: what a process at rest piles up between
	// two collections is less.
	idle = 32 << 20

	// Returning memory costs a collection: after one, the next waits for returnEvery times what it took.
	returnEvery = 25
)

// Pacer sets how much garbage this process may pile up: a busy process is given a floor, one that comes to rest is collected once
// and returns what is free to the kernel. There can be one Pacer in a process.
type Pacer struct {
	clock  clock.WithTicker
	cycles chan struct{} // a collection has ended
}

// New returns a Pacer. Nothing changes before Run.
func New(c clock.WithTicker) (*Pacer, error) {
	if c == nil {
		return nil, errors.New("heap: a clock is required")
	}
	return &Pacer{clock: c, cycles: make(chan struct{}, 1)}, nil
}

// Run paces until ctx ends, and then leaves the collector as Go sets it.
func (p *Pacer) Run(ctx context.Context) error {
	defer debug.SetGCPercent(usual)
	s := state{seen: p.read(), percent: usual, starting: true}
	looking := p.clock.After(look)
	for p.listen(); ; {
		select {
		case <-ctx.Done():
			return nil
		case <-p.cycles:
			p.listen()
			s = s.next(p.read())
		case <-looking:
			looking = nil
			if s = s.next(p.read()); s.wasteful() {
				debug.FreeOSMemory()
				s = s.returned(p.read())
			}
			if s.settled() {
				continue // until the next collection
			}
		}
		debug.SetGCPercent(s.percent)
		if looking == nil {
			looking = p.clock.After(look)
		}
	}
}

// listen has p told of the end of the next collection: that is when an object that nobody holds is found.
func (p *Pacer) listen() {
	type sentinel struct{ _ *byte } // has a pointer, so that it does not share its memory with others
	runtime.AddCleanup(new(sentinel), func(cycles chan<- struct{}) {
		select {
		case cycles <- struct{}{}:
		default: // told already
		}
	}, p.cycles)
}

// reading is what the runtime says of the heap.
type reading struct {
	at        time.Time
	allocated uint64 // bytes, ever
	live      uint64 // bytes that the last collection found alive
	held      uint64 // bytes that the process has from the kernel, alive, garbage or free
}

func (p *Pacer) read() reading {
	samples := []metrics.Sample{
		{Name: "/gc/heap/allocs:bytes"}, {Name: "/gc/heap/live:bytes"},
		{Name: "/memory/classes/heap/objects:bytes"}, {Name: "/memory/classes/heap/unused:bytes"}, {Name: "/memory/classes/heap/free:bytes"},
	}
	metrics.Read(samples)
	value := func(i int) uint64 { return samples[i].Value.Uint64() }
	return reading{at: p.clock.Now(), allocated: value(0), live: value(1), held: value(2) + value(3) + value(4)}
}

// state is what a Pacer knows, and what it decided.
type state struct {
	seen     reading
	rate     float64   // bytes a second that were allocated before the last reading
	busy     bool      // garbage is made fast
	starting bool      // memory has not been returned yet: what it took to start is not needed again
	percent  int       // of what is alive may pile up
	keep     time.Time // until when memory is not returned
}

// next is the state after another reading. One that comes soon after the last tells no rate.
func (s state) next(now reading) state {
	elapsed := now.at.Sub(s.seen.at)
	if elapsed < look/10 {
		return s
	}
	s.rate = float64(now.allocated-s.seen.allocated) / elapsed.Seconds()
	s.busy = s.rate >= busyRate || s.busy && s.rate >= restRate
	s.percent = percent(now.live, s.busy)
	s.seen = now
	return s
}

// unused says whether so much is held that nobody uses that returning it is worth a collection.
func (s state) unused() bool {
	if s.starting {
		return s.seen.held > s.seen.live+s.seen.live/4
	}
	return s.seen.held > s.seen.live+s.seen.live/2+idle
}

// wasteful says whether to return memory now.
func (s state) wasteful() bool { return s.rate < restRate && s.unused() && !s.seen.at.Before(s.keep) }

// settled says whether there is nothing to do before the next collection.
func (s state) settled() bool { return s.rate < restRate && !s.unused() }

// returned is the state once memory was returned, which began when s was read.
func (s state) returned(now reading) state {
	s.starting = false
	s.keep = now.at.Add(returnEvery * now.at.Sub(s.seen.at))
	s.seen = now
	return s
}

// percent of live bytes may pile up as garbage.
func percent(live uint64, busy bool) int {
	switch {
	case busy && live < floor:
		return int(floor * usual / max(live, floor/16))
	case !busy && live > large:
		return restful
	}
	return usual
}
