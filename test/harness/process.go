package harness

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Process is a canopus that is started again when it dies, by keep, as `canopus up` does without systemd.
type Process struct {
	Name    string
	Machine *Machine
	Log     string // file with what it printed

	started time.Time // of the running canopus, as far as Kill knows
	keeper  *exec.Cmd
	done    chan struct{} // closed once keep has ended
	err     error         // how; valid after done
}

// keep starts `canopus ARGS` on m below keep, which holds the sockets of the name server's address dns, if given.
func (c *Cluster) keep(t *testing.T, m *Machine, name, dns string, args ...string) *Process {
	t.Helper()
	p := &Process{Name: name, Machine: m, Log: m.path("log", name+".log"), done: make(chan struct{})}
	log, err := os.OpenFile(p.Log, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	flags := []string{"-pid", m.path("log", name+".keep.pid")}
	if dns != "" {
		flags = append(flags, "-dns", dns)
	}
	flags = append(append(flags, "--", c.binary), args...)
	// Not tied to a context: it outlives the test's, because cleaning up needs it.
	p.keeper = m.Command(context.WithoutCancel(t.Context()), m.Bin("keep"), flags...)
	p.keeper.Env = append(os.Environ(), "CANOPUS_CONFIG="+m.config())
	p.keeper.Stdout, p.keeper.Stderr = log, log
	if err := m.Start(p.keeper); err != nil {
		t.Fatalf("start %s: %v", name, err)
	}
	go func() {
		p.err = p.keeper.Wait()
		close(p.done)
	}()
	p.started = time.Now()
	c.Processes = append(c.Processes, p)
	return p
}

// Process is the process of that name.
func (c *Cluster) Process(t testing.TB, name string) *Process {
	t.Helper()
	for _, p := range c.Processes {
		if p.Name == name {
			return p
		}
	}
	t.Fatalf("no process %q in topology %s", name, c.Topology)
	return nil
}

// Server is the process with the API server.
func (c *Cluster) Server() *Process { return c.Processes[0] }

// Agent is the process with the node agent.
func (c *Cluster) Agent() *Process { return c.Processes[len(c.Processes)-1] }

// ended returns an error when keep has given up.
func (p *Process) ended() error {
	select {
	case <-p.done:
		return fmt.Errorf("%s has ended: %w", p.Name, errors.Join(errEnded, p.err))
	default:
		return nil
	}
}

var errEnded = errors.New("it should run")

// Pid is the process id of the running canopus, or 0 while there is none.
func (p *Process) Pid() int {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", p.keeper.Process.Pid))
	if err != nil || len(bytes.Fields(data)) == 0 {
		// keep is a Go program: any of its threads may be the parent.
		return childOf(p.keeper.Process.Pid)
	}
	pid, _ := strconv.Atoi(string(bytes.Fields(data)[0])) // the kernel writes numbers
	return pid
}

func childOf(parent int) int {
	tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", parent))
	if err != nil {
		return 0
	}
	for _, task := range tasks {
		data, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/children", parent, task.Name()))
		if fields := strings.Fields(string(data)); err == nil && len(fields) > 0 {
			pid, _ := strconv.Atoi(fields[0]) // the kernel writes numbers
			return pid
		}
	}
	return 0
}

// Kill kills canopus with SIGKILL and returns when another one has been started in its place.
func (p *Process) Kill(t testing.TB) {
	t.Helper()
	var old int
	Until(t, 10*time.Second, "a running "+p.Name, func() error {
		if old = p.Pid(); old == 0 {
			return errEnded
		}
		return nil
	})
	if err := syscall.Kill(old, syscall.SIGKILL); err != nil {
		t.Fatalf("kill %s: %v", p.Name, err)
	}
	Until(t, 10*time.Second, "a new "+p.Name, func() error {
		if pid := p.Pid(); pid == 0 || pid == old {
			return errEnded
		}
		return nil
	})
	p.started = time.Now()
}

// settled is how long keep wants canopus to live before it starts it again at once.
const settled = 10 * time.Second

// Settle returns when p has run for so long that keep takes its death for an accident and not for the next of a row.
func (p *Process) Settle(t testing.TB) {
	t.Helper()
	Pause(t.Context(), time.Until(p.started.Add(settled+time.Second)))
}

// stop ends canopus and its keeper as an administrator would, and by force when that takes too long.
func (p *Process) stop() error {
	if err := p.keeper.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	patience := time.NewTimer(15 * time.Second)
	defer patience.Stop()
	select {
	case <-p.done:
		return p.err
	case <-patience.C:
	}
	if pid := p.Pid(); pid != 0 {
		_ = syscall.Kill(pid, syscall.SIGQUIT) // its log then says where it hung
	}
	again := time.NewTimer(2 * time.Second)
	defer again.Stop()
	select {
	case <-p.done:
	case <-again.C:
		_ = syscall.Kill(p.Pid(), syscall.SIGKILL)
		_ = p.keeper.Process.Kill()
		<-p.done
	}
	return fmt.Errorf("%s did not end within 15 s of SIGTERM:\n%s", p.Name, tail(p.Log, 60))
}

// end stops all processes and what they have running. What is left goes with the namespaces.
func (c *Cluster) end(t *testing.T) {
	if t.Failed() {
		c.DumpLogs(t)
	}
	for i := len(c.Processes) - 1; i >= 0; i-- {
		p := c.Processes[i]
		if err := p.ended(); err != nil {
			continue
		}
		if err := p.stop(); err != nil {
			t.Errorf("stop %s: %v", p.Name, err)
		}
	}
	for _, m := range c.Nodes {
		m.killContainers()
	}
}

// killContainers ends what outlives Canopus. The containers of a machine are known by their cgroups.
func (m *Machine) killContainers() {
	for _, dir := range m.CgroupDirs() {
		data, err := os.ReadFile(dir + "/cgroup.procs")
		if err != nil {
			continue
		}
		for _, field := range strings.Fields(string(data)) {
			if pid, err := strconv.Atoi(field); err == nil && pid > 1 {
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
		}
	}
}

// lockedBuffer is a buffer that a process writes while a test reads.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
