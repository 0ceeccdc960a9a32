package heap

import (
	"context"
	"math/rand/v2"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"testing"
	"time"

	"k8s.io/utils/clock"
)

func TestPercent(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		live uint64
		busy bool
		want int
	}{
		"at rest, little alive":            {20 << 20, false, 100},
		"at rest, much alive":              {4 << 30, false, 50},
		"busy, nothing alive":              {0, true, 1600},
		"busy, a third of the floor":       {32 << 20, true, 300},
		"busy, as much as the floor":       {96 << 20, true, 100},
		"busy, much alive":                 {4 << 30, true, 100},
		"at rest, between floor and large": {200 << 20, false, 100},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := percent(c.live, c.busy); got != c.want {
				t.Errorf("got %d, want %d", got, c.want)
			}
		})
	}
}

// The garbage allowed to a busy process is the floor, or what is alive where that is more.
func TestPercentAllowsTheFloor(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 2))
	for range 10_000 {
		live := uint64(floor/16) + r.Uint64N(8<<30)
		garbage := live / 100 * uint64(percent(live, true))
		if want := max(floor, live); garbage > want+want/50 || garbage < want-want/50 {
			t.Fatalf("%d bytes alive: %d bytes of garbage, want about %d", live, garbage, want)
		}
	}
}

func TestBusyFollowsTheRate(t *testing.T) {
	t.Parallel()
	now := reading{at: time.Unix(1000, 0), live: 32 << 20}
	s := state{seen: now, percent: usual}
	for i, c := range []struct {
		after     time.Duration
		allocated uint64 // bytes
		busy      bool
	}{
		{time.Minute, 200 << 20, false},          // slowly
		{200 * time.Millisecond, 5 << 20, false}, // 25 MiB/s: between the rates, stays
		{time.Second, 64 << 20, true},
		{time.Second, 20 << 20, true},    // between the rates, stays
		{10 * time.Millisecond, 0, true}, // too short to tell
		{500 * time.Millisecond, 1 << 20, false},
	} {
		now.at, now.allocated = now.at.Add(c.after), now.allocated+c.allocated
		s = s.next(now)
		if s.busy != c.busy || s.percent != percent(now.live, c.busy) {
			t.Errorf("step %d: busy %v at %d %%, want busy %v", i, s.busy, s.percent, c.busy)
		}
	}
}

func TestMemoryIsReturnedAtRest(t *testing.T) {
	t.Parallel()
	began := time.Unix(1000, 0)
	for name, c := range map[string]struct {
		state             state
		wasteful, settled bool
	}{
		"at rest, much unused":               {state{seen: reading{at: began, live: 100 << 20, held: 200 << 20}}, true, false},
		"at rest, the garbage of a slow day": {state{seen: reading{at: began, live: 100 << 20, held: 170 << 20}}, false, true},
		"at rest, much unused, just returned": {
			state{seen: reading{at: began, live: 100 << 20, held: 200 << 20}, keep: began.Add(1)}, false, false,
		},
		"at rest, just started": {state{seen: reading{at: began, live: 20 << 20, held: 50 << 20}, starting: true}, true, false},
		"moving, much unused":   {state{seen: reading{at: began, live: 100 << 20, held: 200 << 20}, rate: restRate}, false, false},
		"moving, in order":      {state{seen: reading{at: began, live: 100 << 20, held: 120 << 20}, rate: restRate}, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if c.state.wasteful() != c.wasteful || c.state.settled() != c.settled {
				t.Errorf("wasteful %v, settled %v; want %v, %v", c.state.wasteful(), c.state.settled(), c.wasteful, c.settled)
			}
		})
	}
}

func TestReturningMemoryIsRationed(t *testing.T) {
	t.Parallel()
	began := reading{at: time.Unix(1000, 0)}
	s := state{seen: began}.returned(reading{at: began.at.Add(2 * time.Second)})
	if want := began.at.Add(52 * time.Second); !s.keep.Equal(want) {
		t.Errorf("the next return is allowed at %v, want %v", s.keep, want)
	}
}

func TestNewRefusesNoClock(t *testing.T) {
	t.Parallel()
	if _, err := New(nil); err == nil {
		t.Error("no error")
	}
}

// The real thing: a process that allocates fast is given the floor; once it stops, the usual again, and what it held and no longer
// needs goes back to the kernel. Not parallel: it changes the whole process.
func TestRunGivesAndTakes(t *testing.T) {
	p, err := New(clock.RealClock{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	var sink [][]byte
	for i := 0; current() <= usual || i < 256; i++ {
		sink = append(sink[max(0, len(sink)-64):], make([]byte, 1<<20))
	}
	runtime.KeepAlive(sink)
	wait(t, "the floor stays though nothing is allocated", func() bool { return current() == usual })
	wait(t, "memory is kept", func() bool { return !state{seen: p.read()}.unused() })
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if got := debug.SetGCPercent(usual); got != usual {
		t.Errorf("Run leaves the collector at %d %%", got)
	}
}

func wait(t *testing.T, complaint string, done func() bool) {
	t.Helper()
	for !done() {
		select {
		case <-t.Context().Done():
			t.Fatal(complaint)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// current is the percentage that the collector works with.
func current() uint64 {
	sample := []metrics.Sample{{Name: "/gc/gogc:percent"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}
