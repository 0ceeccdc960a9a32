package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"canopus/test/plane"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// optionsVariable carries the flags to the process inside.
const optionsVariable = "CANOPUS_BENCH_OPTIONS"

// nodeAddress is the machine's in its network namespace.
const nodeAddress = "192.168.52.2"

// measureNode measures a whole node. It does so in namespaces of its own (network, processes, mounts), in which this program
// runs once more: whatever it starts there is gone when it ends, however it ends.
func measureNode(ctx context.Context, b *bench) error {
	run, err := os.MkdirTemp("/run", "cb") // short, for paths of sockets
	if err != nil {
		return err
	}
	defer os.RemoveAll(run) // when nobody is left to write there: containerd outlives canopus
	flags, err := json.Marshal(insideOptions{Binary: b.binary, Work: b.work, Run: run, Idle: b.idle, Clients: b.clients})
	if err != nil {
		return err
	}
	runtime.LockOSThread() // the child dies with the thread that started it
	defer runtime.UnlockOSThread()
	cmd := exec.CommandContext(ctx, "/proc/self/exe")
	cmd.Env = append(os.Environ(), roleVariable+"="+roleNode, optionsVariable+"="+string(flags))
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWPID | unix.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	defer removeCgroups(b.cgroup())
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		var f figure
		if err := json.Unmarshal(lines.Bytes(), &f); err != nil {
			return errors.Join(fmt.Errorf("figures of a node: %w: %s", err, lines.Bytes()), cmd.Wait())
		}
		b.figures = append(b.figures, judge(f))
	}
	return errors.Join(lines.Err(), cmd.Wait())
}

// insideOptions are the flags that matter inside.
type insideOptions struct {
	Binary, Work, Run string
	Idle, Clients     int
}

// cgroup is the one below which the node's pods are.
func (b *bench) cgroup() string { return "/" + filepath.Base(b.work) }

func removeCgroups(name string) {
	roots, _ := filepath.Glob("/sys/fs/cgroup/*" + name) // well-formed
	for _, root := range append(roots, "/sys/fs/cgroup"+name) {
		for range 5 { // as deep as a container's is below
			_ = filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
				if err == nil && d.IsDir() {
					_ = os.Remove(path) // one with children goes in a later round
				}
				return nil
			})
		}
	}
}

// nodeChild is process 1 of the namespaces. It prints each figure as a line of JSON.
func nodeChild(ctx context.Context) error {
	var o insideOptions
	if err := json.Unmarshal([]byte(os.Getenv(optionsVariable)), &o); err != nil {
		return err
	}
	if err := settleIn(); err != nil {
		return err
	}
	b := &bench{options: options{binary: o.Binary, idle: o.Idle, clients: o.Clients}, work: o.Work, servers: 1000}
	err := b.wholeNode(ctx, o.Run)
	e := json.NewEncoder(os.Stdout)
	for _, f := range b.figures {
		err = errors.Join(err, e.Encode(f))
	}
	return err
}

// settleIn makes the namespaces look like a machine: own mounts and processes, loopback, an address and a default route.
func settleIn() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("find lo: %w", err)
	}
	wire := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "bench0"}, PeerName: "bench1"}
	if err := netlink.LinkAdd(wire); err != nil {
		return fmt.Errorf("make a wire: %w", err)
	}
	peer, err := netlink.LinkByName("bench1")
	if err != nil {
		return fmt.Errorf("find the wire's other end: %w", err)
	}
	for _, l := range []netlink.Link{lo, wire, peer} {
		if err := netlink.LinkSetUp(l); err != nil {
			return fmt.Errorf("set %s up: %w", l.Attrs().Name, err)
		}
	}
	address, err := netlink.ParseAddr(nodeAddress + "/24")
	if err != nil {
		return err
	}
	if err := netlink.AddrAdd(wire, address); err != nil {
		return fmt.Errorf("address of bench0: %w", err)
	}
	// It leads to nobody: nothing of a benchmark leaves the namespace.
	if err := netlink.RouteAdd(&netlink.Route{LinkIndex: wire.Index, Gw: net.IPv4(192, 168, 52, 1)}); err != nil {
		return fmt.Errorf("default route: %w", err)
	}
	return nil
}

// wholeNode is what a server with a node costs, and how fast pods start on it.
func (b *bench) wholeNode(ctx context.Context, run string) error {
	dir := filepath.Join(b.work, fmt.Sprint(b.servers+1))
	began := time.Now()
	s, err := b.start(ctx, "--run-dir", run, "--node-name", "node-1", "--advertise-address", nodeAddress, "--cgroup-root", b.cgroup(), "--max-pods", "250",
		"--kubelet-dir", filepath.Join(dir, "kubelet"), "--pod-logs-dir", filepath.Join(dir, "pods"), "--container-logs-dir", filepath.Join(dir, "containers"))
	if err != nil {
		return err
	}
	defer func() { s.Down() }()
	if err := plane.Until(ctx, time.Minute, func(ctx context.Context) error { return nodeReady(ctx, s) }); err != nil {
		return fmt.Errorf("%w\n%s", err, s.LastWords())
	}
	b.say("node.start.ready", time.Since(began).Seconds(), "s", 0)
	if err := b.restingNode(ctx, s, "node.rss"); err != nil {
		return err
	}
	if err := b.sayIdleCPU(ctx, s, "node.idle.cpu"); err != nil {
		return err
	}
	if err := b.measurePodStart(ctx, s, "unix://"+filepath.Join(run, "containerd", "containerd.sock")); err != nil {
		return fmt.Errorf("%w\n%s", err, s.LastWords())
	}
	s.Down()
	if err := s.Up(ctx); err != nil {
		return err
	}
	return b.restingNode(ctx, s, "node.rss.restart")
}

func nodeReady(ctx context.Context, s *plane.Server) error {
	select {
	case <-s.Ended():
		return errors.New("canopus has ended")
	default:
	}
	n, err := s.Proto.CoreV1().Nodes().Get(ctx, "node-1", metav1.GetOptions{})
	if err != nil {
		return err
	}
	for _, c := range n.Status.Conditions {
		if c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue {
			return nil
		}
	}
	return errors.New("the node is not Ready")
}

// restingNode records the memory of canopus and, beside it, of the processes that it has started.
func (b *bench) restingNode(ctx context.Context, s *plane.Server, name string) error {
	if err := plane.Pause(ctx, settle); err != nil {
		return err
	}
	if err := b.sayMemory(s, name); err != nil {
		return err
	}
	beside := map[string]float64{}
	all, err := filepath.Glob("/proc/[0-9]*/comm") // of our process namespace
	if err != nil {
		return err
	}
	for _, path := range all {
		comm, err := os.ReadFile(path)
		if err != nil {
			continue // it has just ended
		}
		var pid int
		if _, err := fmt.Sscanf(path, "/proc/%d/comm", &pid); err != nil {
			return err
		}
		for _, program := range []string{"containerd-shim", "containerd"} {
			if strings.HasPrefix(string(comm), program) {
				m, err := plane.MemoryOf(pid)
				if err == nil {
					beside[program] += m.RSS
				}
				break
			}
		}
	}
	b.say(name+".containerd", beside["containerd"], "MiB", 0)
	b.say(name+".shims", beside["containerd-shim"], "MiB", 0)
	return nil
}
