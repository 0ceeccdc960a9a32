package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
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

// server is a running Canopus.
type server struct {
	dir     string
	args    []string
	binary  string
	config  *rest.Config
	proto   *kubernetes.Clientset
	json    *kubernetes.Clientset
	process *exec.Cmd
	ended   chan struct{}
	began   time.Time
}

// controlPlane starts a control plane on an empty disk and returns when it is ready. more are further flags.
func (b *bench) controlPlane(ctx context.Context, more ...string) (*server, error) {
	return b.start(ctx, append([]string{"--no-agent"}, more...)...)
}

// start starts `canopus server` on an empty disk and returns when its API server is ready.
func (b *bench) start(ctx context.Context, more ...string) (*server, error) {
	b.servers++
	s := &server{dir: filepath.Join(b.work, strconv.Itoa(b.servers)), binary: b.binary}
	for _, dir := range []string{"data", "etc", "run"} {
		if err := os.MkdirAll(filepath.Join(s.dir, dir), 0o755); err != nil {
			return nil, err
		}
	}
	if err := os.WriteFile(s.path("etc", "config.yaml"), nil, 0o644); err != nil { // so that the machine's is not read
		return nil, err
	}
	// Nodes are many here, and each takes 256 addresses for its pods.
	s.args = append([]string{
		"server", "--config", s.path("etc", "config.yaml"), "--data-dir", s.path("data"), "--run-dir", s.path("run"),
		"--kubeconfig", s.path("etc", "kubeconfig"), "--port", "0", "--cluster-cidr", "10.0.0.0/11",
	}, more...)
	return s, s.up(ctx)
}

func (s *server) path(elem ...string) string {
	return filepath.Join(append([]string{s.dir}, elem...)...)
}

// up starts the process and waits until it is ready.
func (s *server) up(ctx context.Context) error {
	log, err := os.OpenFile(s.path("log"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	if err := os.Remove(s.path("etc", "kubeconfig")); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	s.process = exec.Command(s.binary, s.args...) // ended by down, which gives it time
	s.process.Stdout, s.process.Stderr = log, log
	s.process.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // ^C is for us; we end it
	s.began, s.ended = time.Now(), make(chan struct{})
	if err := s.process.Start(); err != nil {
		return err
	}
	go func() { _ = s.process.Wait(); close(s.ended) }() // how it ended is in its log
	if err := until(ctx, time.Minute, s.ready); err != nil {
		s.down()
		return fmt.Errorf("start %s: %w\n%s", s.binary, err, s.lastWords())
	}
	return nil
}

// ready asks the server once whether it is.
func (s *server) ready(ctx context.Context) error {
	select {
	case <-s.ended:
		return errors.New("it has ended")
	default:
	}
	config, err := clientcmd.BuildConfigFromFlags("", s.path("etc", "kubeconfig"))
	if err != nil {
		return err
	}
	if s.config == nil || s.config.Host != config.Host {
		s.config = config
		if s.proto, err = client(config, protobuf, false); err != nil {
			return err
		}
		if s.json, err = client(config, jsonType, false); err != nil {
			return err
		}
	}
	var code int
	err = s.proto.RESTClient().Get().AbsPath("/readyz").Do(ctx).StatusCode(&code).Error()
	if err == nil && code != http.StatusOK {
		err = fmt.Errorf("/readyz answers %d", code)
	}
	return err
}

// down ends the process, by force if it takes longer than it should.
func (s *server) down() {
	_ = s.process.Process.Signal(syscall.SIGTERM) // it may have ended by itself
	t := time.NewTimer(20 * time.Second)
	defer t.Stop()
	select {
	case <-s.ended:
	case <-t.C:
		fmt.Fprintln(os.Stderr, "bench: canopus did not end within 20 s of SIGTERM")
		_ = s.process.Process.Kill()
		<-s.ended
	}
}

func (s *server) lastWords() string {
	data, err := os.ReadFile(s.path("log"))
	if err != nil {
		return err.Error()
	}
	return string(data[max(0, len(data)-4000):])
}

func (s *server) pid() int { return s.process.Process.Pid }

// memory is a process's resident memory in MiB.
type memory struct{ rss, anon float64 }

func memoryOf(pid int) (memory, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return memory{}, err
	}
	var m memory
	for line := range strings.Lines(string(data)) {
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		kib, _ := strconv.ParseFloat(f[1], 64) // 0 for what is no number
		switch f[0] {
		case "VmRSS:":
			m.rss = kib / 1024
		case "RssAnon:":
			m.anon = kib / 1024
		}
	}
	return m, nil
}

// cpuOf is the CPU time that a process has used. The kernel counts it in hundredths of a second on every architecture.
func cpuOf(pid int) (time.Duration, error) {
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

// sayMemory records what the server occupies.
func (b *bench) sayMemory(s *server, name string) error {
	m, err := memoryOf(s.pid())
	if err != nil {
		return err
	}
	b.say(name, m.rss, "MiB", 0)
	b.say(name+".anon", m.anon, "MiB", 0)
	return nil
}

// sayIdleCPU records how much of a core the process takes at rest.
func (b *bench) sayIdleCPU(ctx context.Context, s *server, name string) error {
	before, err := cpuOf(s.pid())
	if err != nil {
		return err
	}
	began := time.Now()
	if err := pause(ctx, time.Duration(b.idle)*time.Second); err != nil {
		return err
	}
	after, err := cpuOf(s.pid())
	if err != nil {
		return err
	}
	b.say(name, 100*(after-before).Seconds()/time.Since(began).Seconds(), "% of a core", 0)
	return nil
}
