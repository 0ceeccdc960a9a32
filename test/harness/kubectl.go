package harness

import (
	"context"
	"fmt"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// commandTime is how long one kubectl may take. What waits longer says so with a timeout of its own.
const commandTime = 90 * time.Second

// InstalledKubectl is the machine's own kubectl, or "".
func InstalledKubectl() string {
	path, err := exec.LookPath("kubectl")
	if err != nil {
		return ""
	}
	return path
}

// Using returns the same cluster with another kubectl.
func (c *Cluster) Using(program ...string) *Cluster {
	other := *c
	other.tool = program
	return &other
}

// Result is what a command printed and how it ended.
type Result struct {
	Command        string
	Stdout, Stderr string
	Code           int // -1 when it was killed
}

// String is all of it, for messages.
func (r Result) String() string {
	return fmt.Sprintf("$ %s\n%s%s(exit code %d)", r.Command, r.Stdout, r.Stderr, r.Code)
}

// Try runs kubectl with input and returns how that went.
func (c *Cluster) Try(t testing.TB, input string, args ...string) Result {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), commandTime)
	defer cancel()
	cmd := c.kubectl(ctx, args)
	var stdout, stderr lockedBuffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if input != "" {
		cmd.Stdin = strings.NewReader(input)
	}
	r := Result{Command: "kubectl " + strings.Join(args, " ")}
	if err := c.Control.Start(cmd); err != nil {
		t.Fatalf("%s: %v", r.Command, err)
	}
	err := cmd.Wait()
	r.Stdout, r.Stderr, r.Code = stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()
	if ctx.Err() != nil {
		t.Fatalf("%v\nended after %v: %v", r, commandTime, err)
	}
	return r
}

func (c *Cluster) kubectl(ctx context.Context, args []string) *exec.Cmd {
	cmd := c.Control.Command(ctx, c.tool[0], append(c.tool[1:len(c.tool):len(c.tool)], args...)...)
	cmd.WaitDelay = time.Second
	return cmd
}

// Kubectl runs kubectl, which must succeed, and returns what it printed.
func (c *Cluster) Kubectl(t testing.TB, args ...string) string {
	t.Helper()
	return c.Input(t, "", args...)
}

// Input is Kubectl with standard input.
func (c *Cluster) Input(t testing.TB, input string, args ...string) string {
	t.Helper()
	r := c.Try(t, input, args...)
	if r.Code != 0 {
		t.Fatal(r)
	}
	return r.Stdout
}

// Running is a kubectl in the background: logs -f, get -w, port-forward.
type Running struct {
	cmd  *exec.Cmd
	out  lockedBuffer
	err  lockedBuffer
	done chan struct{}
}

// Background starts kubectl and ends it with t.
func (c *Cluster) Background(t testing.TB, args ...string) *Running {
	t.Helper()
	r := &Running{cmd: c.kubectl(context.WithoutCancel(t.Context()), args), done: make(chan struct{})}
	r.cmd.Stdout, r.cmd.Stderr = &r.out, &r.err
	if err := c.Control.Start(r.cmd); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = r.cmd.Wait() // ended by Stop, or read by the test in what it printed
		close(r.done)
	}()
	t.Cleanup(r.Stop)
	return r
}

// Stdout is what was printed so far.
func (r *Running) Stdout() string { return r.out.String() }

// Stderr is what was printed to standard error so far.
func (r *Running) Stderr() string { return r.err.String() }

// Done is closed once it has ended.
func (r *Running) Done() <-chan struct{} { return r.done }

// Stop interrupts it, as a user would, and waits for its end.
func (r *Running) Stop() {
	_ = r.cmd.Process.Signal(syscall.SIGINT) // it may have ended
	patience := time.NewTimer(3 * time.Second)
	defer patience.Stop()
	select {
	case <-r.done:
	case <-patience.C:
		_ = r.cmd.Process.Kill()
		<-r.done
	}
}
