package containerd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"
)

const (
	firstBackoff = 100 * time.Millisecond
	longBackoff  = 10 * time.Second
	steady       = time.Minute // a daemon that ran this long starts again without delay
	startLimit   = 30 * time.Second
	probeEvery   = 20 * time.Millisecond
	logEvery     = time.Minute
)

// Run keeps the daemon running until ctx ends, and leaves it running then. It returns early only when it cannot ever
// succeed: another Canopus supervises the same directories, or they cannot be written.
func (r *Runtime) Run(ctx context.Context) error {
	release, err := r.lock()
	if err != nil {
		return err
	}
	defer release()
	want, err := r.prepare()
	if err != nil {
		return err
	}
	backoff := firstBackoff
	loaded := false
	for ctx.Err() == nil {
		began := r.Clock.Now()
		err := r.serve(ctx, want, &loaded)
		if ctx.Err() != nil {
			return nil
		}
		if r.Clock.Since(began) > steady {
			backoff = firstBackoff
		}
		r.Log.Error("containerd ended; starting it again", "error", err, "delay", backoff, "log", r.LogFile)
		select {
		case <-ctx.Done():
		case <-r.Clock.After(backoff):
		}
		backoff = min(2*backoff, longBackoff)
	}
	return nil
}

// desired is the daemon that ought to run.
type desired struct {
	host    host
	program string
	config  string // digest of the file
}

// lock keeps a second supervisor away from the same daemon.
func (c Config) lock() (release func(), err error) {
	if err := os.MkdirAll(c.State, 0o711); err != nil {
		return nil, fmt.Errorf("make containerd's run directory: %w", err)
	}
	path := filepath.Join(c.State, "supervisor.lock")
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock containerd's run directory: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, fmt.Errorf("another canopus supervises the containerd in %s: stop it first (canopus stop): %w", c.State, err)
	}
	return func() { f.Close() }, nil
}

// prepare writes the configuration and says what ought to run.
func (c Config) prepare() (desired, error) {
	h, err := inspect(c)
	if err != nil {
		return desired{}, err
	}
	config, err := render(c, h)
	if err != nil {
		return desired{}, fmt.Errorf("write containerd's configuration: %w", err)
	}
	program, err := filepath.EvalSymlinks(c.program("containerd"))
	if err != nil {
		return desired{}, fmt.Errorf("find containerd: %w", err)
	}
	for _, dir := range []string{filepath.Dir(c.LogFile), c.CNIConf} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return desired{}, fmt.Errorf("prepare for containerd: %w", err)
		}
	}
	if err := writeFile(c.configFile(), config); err != nil {
		return desired{}, fmt.Errorf("write containerd's configuration: %w", err)
	}
	return desired{host: h, program: program, config: digest(config)}, nil
}

func (c Config) configFile() string { return filepath.Join(c.State, "config.toml") }

// serve finds or starts the daemon, makes it useful and stays with it until it ends or ctx does.
func (r *Runtime) serve(ctx context.Context, want desired, loaded *bool) error {
	d, err := r.adopt(ctx, want)
	if err != nil {
		return err
	}
	if d == nil {
		if d, err = r.start(want); err != nil {
			return err
		}
	}
	defer d.close()
	ended, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := d.wait(ended); ended.Err() == nil {
			cancel(errors.Join(fmt.Errorf("process %d ended", d.pid), err))
		}
	}()
	err = r.attend(ended, want, loaded)
	cause := context.Cause(ended)
	cancel(nil)
	<-done
	if cause != nil {
		return cause
	}
	return errors.Join(err, d.end(ctx)) // it runs but does not do its work
}

// attend waits for the daemon to answer, loads images once, and then only keeps its log from growing.
func (r *Runtime) attend(ctx context.Context, want desired, loaded *bool) error {
	if err := r.answers(ctx); err != nil {
		return err
	}
	if !*loaded {
		if err := r.preload(ctx, want.host.snapshotter); err != nil {
			return err
		}
		*loaded = true
		close(r.ready)
	}
	tick := r.Clock.NewTicker(logEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C():
			if err := rotate(r.LogFile); err != nil {
				r.Log.Warn("containerd's log could not be cut", "error", err)
			}
		}
	}
}

// answers waits until the daemon serves CRI.
func (c Config) answers(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	conn, err := c.dial()
	if err != nil {
		return err
	}
	defer conn.Close()
	tick := c.Clock.NewTicker(probeEvery)
	defer tick.Stop()
	for {
		if _, err := os.Stat(c.Socket()); err == nil {
			conn.Connect()
			runtime, _ := services(conn)
			_, err = runtime.Version(ctx, &runtimev1.VersionRequest{})
			if err == nil {
				return nil
			}
			conn.ResetConnectBackoff()
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("containerd does not answer on %s; its log is %s: %w", c.Socket(), c.LogFile, context.Cause(ctx))
		case <-tick.C():
		}
	}
}

// adopt returns the running daemon if it is the one that ought to run. Another one of ours is ended first.
func (r *Runtime) adopt(ctx context.Context, want desired) (*daemon, error) {
	rec, err := r.readRecord()
	if err != nil || rec == nil {
		return nil, err
	}
	d, err := open(*rec)
	if err != nil || d == nil {
		return nil, err
	}
	if rec.Program == want.program && rec.Config == want.config {
		r.Log.Info("adopted the running containerd", "pid", rec.Pid)
		return d, nil
	}
	defer d.close()
	r.Log.Info("replacing the running containerd: its program or configuration changed", "pid", rec.Pid)
	return nil, d.end(ctx)
}

// start starts the daemon in a session of its own.
func (c Config) start(want desired) (*daemon, error) {
	logFile, err := os.OpenFile(c.LogFile, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o640)
	if err != nil {
		return nil, fmt.Errorf("open containerd's log: %w", err)
	}
	defer logFile.Close()
	cmd := exec.Command(want.program, "--config", c.configFile())
	cmd.Dir = "/"
	cmd.Env = append(os.Environ(), "PATH="+searchPath(os.Getenv("PATH")))
	cmd.Stdout, cmd.Stderr = logFile, logFile
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start containerd: %w", err)
	}
	pid := cmd.Process.Pid
	if err := cmd.Process.Release(); err != nil { // daemon.wait collects it
		return nil, err
	}
	d, err := hold(pid)
	if err != nil {
		return nil, err
	}
	if d == nil {
		return nil, fmt.Errorf("containerd ended at once; its log is %s", c.LogFile)
	}
	started, err := startTime(d.pid)
	if err != nil {
		return nil, fmt.Errorf("containerd ended at once; its log is %s: %w", c.LogFile, err)
	}
	err = c.writeRecord(record{Version: recordVersion, Pid: d.pid, Started: started, Program: want.program, Config: want.config})
	if err != nil {
		return nil, fmt.Errorf("record containerd's process: %w", err)
	}
	c.Log.Info("started containerd", "pid", d.pid, "snapshotter", want.host.snapshotter, "log", c.LogFile)
	return d, nil
}

// searchPath adds the directories in which the CNI plugins find nft and others to path.
func searchPath(path string) string {
	for _, dir := range []string{"/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/local/bin", "/usr/bin", "/bin"} {
		found := false
		for _, have := range filepath.SplitList(path) {
			found = found || have == dir
		}
		if !found {
			path += ":" + dir
		}
	}
	return path
}
