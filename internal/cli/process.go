// Package cli holds what the commands about the life of a cluster on one machine decide with: which processes are ours,
// whether what was observed is healthy, and what a removed cluster may have left behind. The commands themselves are in
// cmd/canopus.
//
// Reading order: process.go (finding and ending our processes), health.go (from observations to what is wrong), traces.go
// (mounts, cgroups, logs and files), demo.go, unit.go.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Process is one of our running processes. Its handle cannot come to mean another process.
type Process struct {
	Name string // server, agent, keep
	Pid  int
	fd   int
}

// FromLock returns the process that holds the lock on a pid file, or nil when nobody does. The lock, not the number in the
// file, says that it runs.
func FromLock(name, pidFile string) (*Process, error) {
	f, err := os.Open(pidFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_SH|syscall.LOCK_NB)
	if err == nil {
		return nil, nil // left by a process that was killed
	}
	if !errors.Is(err, syscall.EWOULDBLOCK) {
		return nil, fmt.Errorf("look at %s: %w", pidFile, err)
	}
	pid, err := readPid(pidFile)
	if err != nil || pid == 0 {
		return nil, err // just being started
	}
	return hold(name, pid)
}

// FromArguments returns the process that a pid file names if its arguments hold wanted, one after the other: a number alone
// may belong to anybody by now.
func FromArguments(name, pidFile string, wanted ...string) (*Process, error) {
	pid, err := readPid(pidFile)
	if err != nil || pid == 0 {
		return nil, err
	}
	p, err := hold(name, pid)
	if err != nil || p == nil {
		return nil, err
	}
	line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil || !holds(strings.Split(string(line), "\x00"), wanted) {
		p.Close()
		return nil, nil
	}
	return p, nil
}

func holds(args, wanted []string) bool {
	for i := range args {
		if len(args)-i >= len(wanted) && slices.Equal(args[i:i+len(wanted)], wanted) {
			return true
		}
	}
	return false
}

func readPid(file string) (int, error) {
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	text := strings.TrimSpace(string(data))
	if text == "" {
		return 0, nil
	}
	pid, err := strconv.Atoi(text)
	if err != nil || pid <= 1 {
		return 0, fmt.Errorf("%s does not hold a process id but %q: remove it", file, text)
	}
	return pid, nil
}

func hold(name string, pid int) (*Process, error) {
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("take hold of process %d (Linux 5.10 or newer is needed): %w", pid, err)
	}
	return &Process{Name: name, Pid: pid, fd: fd}, nil
}

// Close gives the handle back.
func (p *Process) Close() {
	if p != nil {
		_ = unix.Close(p.fd) // of a pidfd: cannot lose anything
	}
}

// Signal sends s; a process that has ended is no error.
func (p *Process) Signal(s syscall.Signal) error {
	if err := unix.PidfdSendSignal(p.fd, s, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("signal %s (process %d): %w", p.Name, p.Pid, err)
	}
	return nil
}

// pollStep is how late the end of a context may be noticed.
const pollStep = 100 * time.Millisecond

// Wait blocks until the process has ended (nil) or ctx does.
func (p *Process) Wait(ctx context.Context) error {
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(p.fd), Events: unix.POLLIN}}, int(pollStep.Milliseconds()))
		switch {
		case n > 0:
			return nil
		case err != nil && !errors.Is(err, unix.EINTR):
			return fmt.Errorf("wait for %s (process %d): %w", p.Name, p.Pid, err)
		case ctx.Err() != nil:
			return ctx.Err()
		}
	}
}

// Running says whether the process has not ended yet.
func (p *Process) Running() bool {
	n, err := unix.Poll([]unix.PollFd{{Fd: int32(p.fd), Events: unix.POLLIN}}, 0)
	return err == nil && n == 0
}

// End asks the process to end, and kills it when it has not within patience. killed says that it came to that.
func (p *Process) End(ctx context.Context, patience time.Duration) (killed bool, err error) {
	if err := p.Signal(syscall.SIGTERM); err != nil {
		return false, err
	}
	polite, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := p.Wait(polite); err == nil || ctx.Err() != nil {
		return false, err
	}
	if err := p.Signal(syscall.SIGKILL); err != nil {
		return true, err
	}
	last, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return true, p.Wait(last)
}

// Use is what a process takes and how long it has run.
type Use struct {
	RSS, Anon int64 // bytes resident; Anon are its own, the rest are pages of files
	Uptime    time.Duration
}

// Use looks the process up in /proc; zeros when it has ended.
func (p *Process) Use() Use {
	var u Use
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.Pid))
	if err != nil {
		return u
	}
	for line := range strings.Lines(string(data)) {
		name, value, _ := strings.Cut(line, ":")
		kb, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
		if err != nil {
			continue
		}
		switch name {
		case "VmRSS":
			u.RSS = kb << 10
		case "RssAnon":
			u.Anon = kb << 10
		}
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.Pid))
	if err != nil {
		return u
	}
	up, err := os.ReadFile("/proc/uptime")
	if err != nil {
		return u
	}
	u.Uptime = uptime(string(stat), string(up))
	return u
}

// ticks is how many units of /proc/PID/stat make a second: USER_HZ, the same on all of Linux' common architectures.
const ticks = 100

// uptime computes how long a process has run from its status line (field 22) and the machine's uptime.
func uptime(stat, machine string) time.Duration {
	fields := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	first, _, _ := strings.Cut(machine, " ")
	up, err := strconv.ParseFloat(first, 64)
	if err != nil || len(fields) < 20 {
		return 0
	}
	started, err := strconv.ParseFloat(fields[19], 64)
	if err != nil {
		return 0
	}
	return time.Duration((up - started/ticks) * float64(time.Second))
}

// Self returns the path of a file that runs this program again, even from a directory that is left.
func Self() (string, error) {
	exe, err := os.Executable()
	if err != nil {
		return "", err
	}
	return filepath.EvalSymlinks(exe)
}
