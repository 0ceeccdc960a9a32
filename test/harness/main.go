// Package harness starts Canopus for tests as its users do, in network namespaces with directories and cgroups of its own,
// and gives tests a kubectl, a client and a way to kill its processes. Nothing of it is seen by the machine it runs on or
// by another run beside it, and nothing stays when the tests end, however they end.
//
//	func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }
//
//	func TestSomething(t *testing.T) {
//		c := harness.Start(t, harness.OneProcess)
//		c.Kubectl(t, "get", "nodes")
//
// Reading order: this file (where tests run), machine.go, cluster.go (what is started), process.go, kubectl.go, wait.go, dump.go.
package harness

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"canopus/internal/testns"

	"golang.org/x/sys/unix"
)

// Environment of the processes that a run of tests consists of.
const (
	runVariable    = "CANOPUS_HARNESS_RUN"    // the name of the run, made by the first process
	reapedVariable = "CANOPUS_HARNESS_REAPED" // set once process 1 of the namespace is a reaper
	// KeepVariable makes a run leave its files when set.
	KeepVariable = "CANOPUS_HARNESS_KEEP"
	// BinaryVariable names a canopus to test instead of bin/canopus.
	BinaryVariable = "CANOPUS_HARNESS_BINARY"
)

const prefix = "canopus-e2e-"

// Main runs m in namespaces of its own (see package testns) and removes afterwards what those do not take along: files and
// cgroups. Process 1 of the namespace collects orphans, as on any machine.
func Main(m *testing.M) int {
	switch {
	case os.Geteuid() != 0:
		return m.Run()
	case os.Getenv(runVariable) == "":
		sweep()
		name := prefix + strconv.Itoa(os.Getpid())
		if err := os.Setenv(runVariable, name); err != nil {
			fmt.Fprintln(os.Stderr, "harness:", err)
			return 1
		}
		defer remove(name)
		return testns.Run(m)
	case os.Getenv(reapedVariable) == "":
		code, err := reap()
		if err != nil {
			fmt.Fprintln(os.Stderr, "harness:", err)
		}
		return code
	}
	return testns.Run(m)
}

// reap runs the tests as a child and collects every process that ends, which is the duty of process 1.
func reap() (int, error) {
	if err := os.Setenv(reapedVariable, "1"); err != nil {
		return 1, err
	}
	files := []uintptr{0, 1, 2}
	child, err := syscall.ForkExec("/proc/self/exe", os.Args, &syscall.ProcAttr{Env: os.Environ(), Files: files})
	if err != nil {
		return 1, fmt.Errorf("start the tests: %w", err)
	}
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, 0, nil)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return 1, fmt.Errorf("wait for the tests: %w", err)
		case pid == child && status.Exited():
			return status.ExitStatus(), nil
		case pid == child:
			return 1, fmt.Errorf("the tests ended by signal %v", status.Signal())
		}
	}
}

// runName is that of this run: of its directories and its cgroup.
func runName() string { return os.Getenv(runVariable) }

func filesDir(name string) string { return filepath.Join(os.TempDir(), name) }

// socketsDir is short, because paths of sockets have 107 bytes.
func socketsDir(name string) string { return filepath.Join("/run", name) }

// remove takes away what a run that has ended leaves behind.
func remove(name string) {
	removeCgroups(name)
	if os.Getenv(KeepVariable) != "" {
		fmt.Fprintf(os.Stderr, "harness: %s is set: files are left in %s\n", KeepVariable, filesDir(name))
		return
	}
	for _, dir := range []string{filesDir(name), socketsDir(name)} {
		if err := os.RemoveAll(dir); err != nil {
			fmt.Fprintln(os.Stderr, "harness:", err)
		}
	}
}

// sweep removes what runs left that were killed themselves.
func sweep() {
	found, _ := filepath.Glob(filesDir(prefix + "*")) // the pattern is well-formed
	for _, dir := range found {
		name := filepath.Base(dir)
		pid, err := strconv.Atoi(strings.TrimPrefix(name, prefix))
		if err == nil && errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
			remove(name)
		}
	}
}

func removeCgroups(name string) {
	for _, dir := range cgroupDirs(name) {
		_ = os.Remove(dir) // a process that is just ending keeps it: the next run sweeps
	}
}

// cgroupDirs are all cgroups at and below name, deepest first, in every hierarchy.
func cgroupDirs(name string) []string {
	roots, _ := filepath.Glob("/sys/fs/cgroup/*/" + name) // well-formed
	var dirs []string
	for _, root := range append(roots, "/sys/fs/cgroup/"+name) {
		_ = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				dirs = append(dirs, path)
			}
			return nil
		})
	}
	slices.Reverse(dirs)
	return dirs
}

// Require skips t without root and ends it when something is not built.
func Require(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: it starts Canopus with real containers in network namespaces")
	}
	testns.Require(t)
	for _, f := range []struct{ path, how string }{
		{Binary(), "make build"}, {testImage(), "make -C runtime test-image"},
	} {
		if _, err := os.Stat(f.path); err != nil {
			t.Fatalf("%v: run `%s` first", err, f.how)
		}
	}
	for _, program := range []string{"nft", "ip"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Fatalf("%v: run `make test-deps` first", err)
		}
	}
}

// root is the top of the source tree: tests run in their package's directory.
func root() string {
	dir, err := filepath.Abs(".")
	if err != nil {
		return "."
	}
	for d := dir; d != "/"; d = filepath.Dir(d) {
		if _, err := os.Stat(filepath.Join(d, "go.mod")); err == nil {
			return d
		}
	}
	return dir
}

// Binary is the canopus under test.
func Binary() string {
	if b := os.Getenv(BinaryVariable); b != "" {
		return b
	}
	return filepath.Join(root(), "bin", "canopus")
}

func testImage() string { return filepath.Join(root(), "runtime", "out", "test-image.tar") }
