package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"canopus/test/plane"
)

// bench is one run: its flags, its directory, and the figures so far.
type bench struct {
	options
	work    string
	servers int // started so far, for names of directories
	figures []figure
}

func newBench(o options) (*bench, error) {
	binary, err := filepath.Abs(o.binary)
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(binary); err != nil {
		return nil, fmt.Errorf("%w: build it first (make build), or name another with -binary", err)
	}
	o.binary = binary
	work, err := os.MkdirTemp(o.dir, "canopus-bench-")
	if err != nil {
		return nil, err
	}
	return &bench{options: o, work: work}, nil
}

func (b *bench) close() {
	if b.keepFiles {
		fmt.Fprintln(os.Stderr, "files are in", b.work)
		return
	}
	if err := os.RemoveAll(b.work); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
	}
}

var errGone = errors.New("the watch ended before all was seen")

// controlPlane starts a control plane on an empty disk and returns when it is ready. more are further flags.
func (b *bench) controlPlane(ctx context.Context, more ...string) (*plane.Server, error) {
	return b.start(ctx, append([]string{"--no-agent"}, more...)...)
}

// start starts `canopus server` on an empty disk and returns when its API server is ready.
func (b *bench) start(ctx context.Context, more ...string) (*plane.Server, error) {
	b.servers++
	return plane.Start(ctx, b.binary, filepath.Join(b.work, strconv.Itoa(b.servers)), more...)
}

// settle waits until the server is done with what follows from what was asked of it so far: until it is at rest for a moment.
func (b *bench) settle(ctx context.Context, s *plane.Server) error {
	const moment = 500 * time.Millisecond
	return plane.Until(ctx, patience, func(ctx context.Context) error {
		before, err := plane.CPUOf(s.PID())
		if err != nil {
			return err
		}
		if err := plane.Pause(ctx, moment); err != nil {
			return err
		}
		after, err := plane.CPUOf(s.PID())
		if err == nil && after-before > moment/10 {
			err = fmt.Errorf("the server is still busy: %v of CPU in %v", after-before, moment)
		}
		return err
	})
}

// sayMemory records what the server occupies.
func (b *bench) sayMemory(s *plane.Server, name string) error {
	m, err := plane.MemoryOf(s.PID())
	if err != nil {
		return err
	}
	b.say(name, m.RSS, "MiB", 0)
	b.say(name+".anon", m.Anon, "MiB", 0)
	return nil
}

// sayIdleCPU records how much of a core the process takes at rest.
func (b *bench) sayIdleCPU(ctx context.Context, s *plane.Server, name string) error {
	before, err := plane.CPUOf(s.PID())
	if err != nil {
		return err
	}
	began := time.Now()
	if err := plane.Pause(ctx, time.Duration(b.idle)*time.Second); err != nil {
		return err
	}
	after, err := plane.CPUOf(s.PID())
	if err != nil {
		return err
	}
	b.say(name, 100*(after-before).Seconds()/time.Since(began).Seconds(), "% of a core", 0)
	return nil
}
