package containerd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// record is what Canopus writes beside a daemon that it starts, so that a later Canopus can tell whether that daemon still
// runs and is the one it would start itself. Pid and Started together name a process for as long as the machine is up.
type record struct {
	Version int    `json:"version"`
	Pid     int    `json:"pid"`
	Started string `json:"started"` // field 22 of /proc/PID/stat
	Program string `json:"program"` // the executable, symbolic links resolved
	Config  string `json:"config"`  // digest of its configuration file
}

const recordVersion = 1

func (c Config) recordFile() string { return filepath.Join(c.State, "daemon.json") }

// readRecord returns nil when there is none.
func (c Config) readRecord() (*record, error) {
	data, err := os.ReadFile(c.recordFile())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read containerd's record: %w", err)
	}
	var r record
	if err := json.Unmarshal(data, &r); err != nil {
		return nil, fmt.Errorf("containerd's record %s is damaged: end containerd by hand, remove the file and start again: %w", c.recordFile(), err)
	}
	if r.Version > recordVersion {
		return nil, fmt.Errorf("containerd's record %s has version %d, this canopus knows %d: use the newer canopus", c.recordFile(), r.Version, recordVersion)
	}
	return &r, nil
}

func (c Config) writeRecord(r record) error {
	data, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return writeFile(c.recordFile(), data)
}

// writeFile replaces path whole or not at all.
func writeFile(path string, data []byte) error {
	temp := path + ".new"
	if err := os.WriteFile(temp, data, 0o600); err != nil {
		return err
	}
	return os.Rename(temp, path)
}

// daemon is a handle on a running process that cannot come to mean another one.
type daemon struct {
	pid  int
	file *os.File // a pidfd in Go's poller: readable once the process has ended
}

// open returns the process that r speaks of, or nil when it has ended.
func open(r record) (*daemon, error) {
	d, err := hold(r.Pid)
	if err != nil || d == nil {
		return nil, err
	}
	// Read after the handle was taken: if the pid was used again in between, this shows it.
	if started, err := startTime(r.Pid); err != nil || started != r.Started || d.ended() {
		d.close()
		return nil, nil
	}
	return d, nil
}

// ended says whether the process has ended, even if nobody has collected its exit status yet.
func (d *daemon) ended() bool {
	raw, err := d.file.SyscallConn()
	if err != nil {
		return true
	}
	ended := false
	err = raw.Control(func(fd uintptr) {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
		ended = err == nil && n > 0
	})
	return err != nil || ended
}

func hold(pid int) (*daemon, error) {
	fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
	if errors.Is(err, unix.ESRCH) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("take hold of process %d (Linux 5.10 or newer is needed): %w", pid, err)
	}
	return &daemon{pid: pid, file: os.NewFile(uintptr(fd), "pidfd")}, nil
}

func (d *daemon) close() { d.file.Close() }

// wait blocks until the process has ended (nil) or ctx does. One goroutine may wait at a time.
func (d *daemon) wait(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { _ = d.file.SetReadDeadline(time.Unix(1, 0)) })
	defer func() {
		if !stop() {
			_ = d.file.SetReadDeadline(time.Time{})
		}
	}()
	raw, err := d.file.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Read(func(fd uintptr) bool {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
		if err != nil && !errors.Is(err, unix.EINTR) {
			failed = err
		}
		return n > 0 || failed != nil
	})
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err := errors.Join(err, failed); err != nil {
		return err
	}
	// Collects the exit status if the process was our child. One that outlives us is collected by whoever inherits it.
	_, _ = unix.Wait4(d.pid, nil, unix.WNOHANG, nil)
	return nil
}

func (d *daemon) signal(s unix.Signal) error {
	raw, err := d.file.SyscallConn()
	if err != nil {
		return err
	}
	var sent error
	if err := raw.Control(func(fd uintptr) { sent = unix.PidfdSendSignal(int(fd), s, nil, 0) }); err != nil {
		return err
	}
	if errors.Is(sent, unix.ESRCH) {
		return nil
	}
	return sent
}

// patience is how long a daemon may take to end before it is killed.
const patience = 10 * time.Second

// end terminates the process and returns when it is gone. Containers go on: they belong to their shims.
func (d *daemon) end(ctx context.Context) error {
	if err := d.signal(unix.SIGTERM); err != nil {
		return fmt.Errorf("end containerd (process %d): %w", d.pid, err)
	}
	polite, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := d.wait(polite); err == nil || ctx.Err() != nil {
		return err
	}
	if err := d.signal(unix.SIGKILL); err != nil {
		return fmt.Errorf("kill containerd (process %d): %w", d.pid, err)
	}
	return d.wait(ctx)
}

// startTime returns when pid was started, in the kernel's clock ticks.
func startTime(pid int) (string, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", err
	}
	return statStart(string(data))
}

// statStart picks field 22. The second field, the program's name, may hold blanks and parentheses.
func statStart(stat string) (string, error) {
	end := strings.LastIndexByte(stat, ')')
	fields := strings.Fields(stat[end+1:])
	if end < 0 || len(fields) < 20 {
		return "", fmt.Errorf("unexpected process status %q", stat)
	}
	return fields[19], nil
}
