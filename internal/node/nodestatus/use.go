package nodestatus

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// Usage is what the whole machine uses.
type Usage struct {
	At, Boot                          time.Time
	CPUNanos                          uint64 // since boot, over all CPUs
	MemoryAvailable, MemoryWorkingSet uint64
	SwapAvailable, SwapUsed           uint64
}

// Use reads the machine's counters.
func Use(now time.Time) (Usage, error) {
	mem, err := memInfo()
	if err != nil {
		return Usage{}, err
	}
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return Usage{}, fmt.Errorf("cpu time of the machine: %w", err)
	}
	u := Usage{At: now, MemoryAvailable: uint64(mem["MemAvailable"]), MemoryWorkingSet: uint64(mem["MemTotal"] - mem["MemAvailable"]),
		SwapAvailable: uint64(mem["SwapFree"]), SwapUsed: uint64(mem["SwapTotal"] - mem["SwapFree"])}
	const nanosPerTick = 1e9 / 100 // the kernel shows hundredths of a second on every architecture
	for _, line := range strings.Split(string(b), "\n") {
		f := strings.Fields(line)
		switch {
		case len(f) > 8 && f[0] == "cpu":
			for i, v := range f[1:9] {
				if n, err := strconv.ParseUint(v, 10, 64); err == nil && i != 3 && i != 4 { // idle and waiting
					u.CPUNanos += n * nanosPerTick
				}
			}
		case len(f) == 2 && f[0] == "btime":
			if n, err := strconv.ParseInt(f[1], 10, 64); err == nil {
				u.Boot = time.Unix(n, 0)
			}
		}
	}
	return u, nil
}
