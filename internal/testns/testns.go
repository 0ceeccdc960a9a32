// Package testns runs a package's tests inside Linux namespaces of their own (network, processes, mounts), so that tests
// with real bridges, nftables tables, daemons and containers disturb neither the machine nor each other, and whatever they
// start or mount is gone when they end, however they end.
//
//	func TestMain(m *testing.M) { os.Exit(testns.Run(m)) }
//
//	func TestTraffic(t *testing.T) {
//		testns.Require(t)
package testns

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// marker is set in the environment of the process inside.
const marker = "CANOPUS_TESTNS"

// Run runs m inside new namespaces when we are root, and as it is otherwise, and returns the exit code.
func Run(m *testing.M) int {
	switch {
	case os.Getenv(marker) != "":
		if err := settle(); err != nil {
			fmt.Fprintln(os.Stderr, "testns:", err)
			return 1
		}
		return m.Run()
	case os.Geteuid() != 0:
		return m.Run()
	}
	code, err := enter()
	if err != nil {
		fmt.Fprintln(os.Stderr, "testns:", err)
	}
	return code
}

// enter starts this program again inside and waits for it.
func enter() (int, error) {
	// The child dies with the thread that started it.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Args[0] = os.Args[0]
	cmd.Env = append(os.Environ(), marker+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWPID | unix.CLONE_NEWNS,
		Pdeathsig:  syscall.SIGKILL,
	}
	err := cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return exit.ExitCode(), nil
	}
	if err != nil {
		return 1, fmt.Errorf("start the tests in namespaces of their own: %w", err)
	}
	return 0, nil
}

// settle makes the new namespaces usable: mounts that do not spread, a /proc of our processes, a loopback that is up.
func settle() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	return loopbackUp()
}

func loopbackUp() error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("find lo: %w", err)
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		return fmt.Errorf("set lo up: %w", err)
	}
	return nil
}

// Require skips t when the tests do not run inside namespaces.
func Require(t testing.TB) {
	t.Helper()
	if os.Getenv(marker) == "" {
		t.Skip("needs root: it makes network namespaces, mounts and containers")
	}
}

// NS is one more network namespace: a machine or a pod of a test.
type NS struct {
	handle netns.NsHandle
}

// New makes a network namespace with loopback up. It goes with the test.
func New(t testing.TB) *NS {
	t.Helper()
	Require(t)
	n := &NS{}
	err := onThread(func() error {
		var err error
		if n.handle, err = netns.New(); err != nil {
			return fmt.Errorf("make a network namespace: %w", err)
		}
		return loopbackUp()
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.handle.Close() })
	return n
}

// Fd is the namespace's file descriptor, for netlink.LinkSetNsFd.
func (n *NS) Fd() int { return int(n.handle) }

// Do calls f on a thread inside the namespace. Sockets that f opens stay in it; goroutines that f starts do not.
func (n *NS) Do(f func() error) error {
	return onThread(func() error {
		if err := netns.Set(n.handle); err != nil {
			return fmt.Errorf("enter a network namespace: %w", err)
		}
		return f()
	})
}

// onThread calls f on a thread that ends afterwards, so that its namespace does not leak into other goroutines.
func onThread(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the runtime ends the thread with the goroutine
		done <- f()
	}()
	return <-done
}

// Veth joins two namespaces by a pair of interfaces with the given names and addresses ("10.0.0.1/24"), both up. A nil
// namespace is the one the tests run in.
func Veth(t testing.TB, a, b End) {
	t.Helper()
	Require(t)
	attrs := netlink.NewLinkAttrs()
	attrs.Name = a.Name
	pair := &netlink.Veth{LinkAttrs: attrs, PeerName: b.Name}
	if err := netlink.LinkAdd(pair); err != nil {
		t.Fatalf("make %s and %s: %v", a.Name, b.Name, err)
	}
	t.Cleanup(func() { _ = netlink.LinkDel(pair) }) // at once, if it is still here: a namespace takes its interfaces along later
	for _, e := range []End{a, b} {
		if err := e.settle(); err != nil {
			t.Fatalf("set up %s: %v", e.Name, err)
		}
	}
}

// End is one end of a Veth.
type End struct {
	NS      *NS
	Name    string
	Address string // "": none
}

func (e End) settle() error {
	if e.NS == nil {
		return e.up()
	}
	link, err := netlink.LinkByName(e.Name)
	if err != nil {
		return err
	}
	if err := netlink.LinkSetNsFd(link, e.NS.Fd()); err != nil {
		return err
	}
	return e.NS.Do(e.up)
}

func (e End) up() error {
	link, err := netlink.LinkByName(e.Name)
	if err != nil {
		return err
	}
	if e.Address != "" {
		addr, err := netlink.ParseAddr(e.Address)
		if err != nil {
			return err
		}
		if err := netlink.AddrAdd(link, addr); err != nil {
			return err
		}
	}
	return netlink.LinkSetUp(link)
}
