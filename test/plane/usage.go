package plane

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Memory is a process's resident memory in MiB.
type Memory struct{ RSS, Anon float64 }

// MemoryOf reads what a process occupies.
func MemoryOf(pid int) (Memory, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return Memory{}, err
	}
	var m Memory
	for line := range strings.Lines(string(data)) {
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		kib, _ := strconv.ParseFloat(f[1], 64) // 0 for what is no number
		switch f[0] {
		case "VmRSS:":
			m.RSS = kib / 1024
		case "RssAnon:":
			m.Anon = kib / 1024
		}
	}
	return m, nil
}

// CPUOf is the CPU time that a process has used. The kernel counts it in hundredths of a second on every architecture.
func CPUOf(pid int) (time.Duration, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	f := strings.Fields(string(data[strings.LastIndexByte(string(data), ')')+1:])) // the name may hold spaces
	if len(f) < 13 {
		return 0, fmt.Errorf("/proc/%d/stat is not as known: %s", pid, data)
	}
	user, errUser := strconv.Atoi(f[11])
	system, errSystem := strconv.Atoi(f[12])
	return time.Duration(user+system) * 10 * time.Millisecond, errors.Join(errUser, errSystem)
}

// Meter adds up the CPU time of several processes, also of those that have ended: of these as much as was last seen. The zero
// value is ready.
type Meter struct {
	mu   sync.Mutex
	used map[int]time.Duration // by process
}

// Add has the process counted from now on, with all it has used before.
func (m *Meter) Add(pid int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.used == nil {
		m.used = map[int]time.Duration{}
	}
	m.used[pid] = 0
}

// Total is what all of them have used.
func (m *Meter) Total() time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	var sum time.Duration
	for pid, used := range m.used {
		if now, err := CPUOf(pid); err == nil { // else it has ended
			used = now
			m.used[pid] = now
		}
		sum += used
	}
	return sum
}
