package harness

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"canopus/internal/testns"

	"github.com/vishvananda/netlink"
	"sigs.k8s.io/yaml"
)

// Machine is what one computer of a cluster has for itself: a network namespace, directories, a cgroup.
type Machine struct {
	Name    string
	Address string // at which the other machines and the tests reach it
	Dir     string // data/, etc/, kubelet/, pods/, containers/, log/
	Run     string // sockets and pid files
	ns      *testns.NS
	cgroup  string
}

// newMachine makes a computer with the given names of cluster and machine, that nothing has run on before. The run directory
// is short, for sockets.
func newMachine(t testing.TB, cluster, name string) *Machine {
	t.Helper()
	if err := os.MkdirAll(socketsDir(runName()), 0o755); err != nil {
		t.Fatal(err)
	}
	var number int // of the machine within the run
	run := func() string { return filepath.Join(socketsDir(runName()), strconv.Itoa(number)) }
	for err := os.Mkdir(run(), 0o755); err != nil; err = os.Mkdir(run(), 0o755) {
		if !errors.Is(err, os.ErrExist) {
			t.Fatal(err)
		}
		number++
	}
	place := fmt.Sprintf("%d-%s", number, cluster)
	m := &Machine{
		Name: name, ns: testns.New(t), Run: run(),
		Dir:    filepath.Join(filesDir(runName()), place, name),
		cgroup: filepath.Join("/", runName(), place),
	}
	for _, dir := range []string{m.path("data", "images"), m.path("etc"), m.path("kubelet"), m.path("log")} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return m
}

func (m *Machine) path(elem ...string) string {
	return filepath.Join(append([]string{m.Dir}, elem...)...)
}

// Bin is a program that canopus has unpacked on this machine.
func (m *Machine) Bin(program string) string { return m.path("data", "bin", "current", program) }

// CgroupDirs are the cgroups of this machine's pods that exist.
func (m *Machine) CgroupDirs() []string { return cgroupDirs(m.cgroup[1:]) }

// config is the machine's configuration file. Every canopus on it reads this one.
func (m *Machine) config() string { return m.path("etc", "config.yaml") }

// Kubeconfig is the administrator's, on a machine with a server.
func (m *Machine) Kubeconfig() string { return m.path("etc", "kubeconfig") }

// write makes the configuration file; more adds to what every machine has.
func (m *Machine) write(t testing.TB, more map[string]any) {
	t.Helper()
	settings := map[string]any{
		"data-dir": m.path("data"), "run-dir": m.Run, "kubeconfig": m.Kubeconfig(), "kubelet-dir": m.path("kubelet"),
		"pod-logs-dir": m.path("pods"), "container-logs-dir": m.path("containers"), "cgroup-root": m.cgroup,
		"advertise-address": m.Address, "node-name": m.Name,
	}
	for k, v := range more {
		settings[k] = v
	}
	data, err := yaml.Marshal(settings)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(m.config(), data, 0o644); err != nil {
		t.Fatal(err)
	}
}

// Start starts cmd on the machine.
func (m *Machine) Start(cmd *exec.Cmd) error { return m.ns.Do(cmd.Start) }

// Output runs a program on the machine and returns what it printed, errors included.
func (m *Machine) Output(ctx context.Context, program string, args ...string) (string, error) {
	cmd := m.Command(ctx, program, args...)
	out, err := m.combined(cmd)
	return out, err
}

// Command is a program that Start starts on the machine, for which canopus and kubectl find this machine's cluster.
func (m *Machine) Command(ctx context.Context, program string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir = m.Dir
	cmd.Env = append(os.Environ(), "CANOPUS_CONFIG="+m.config(), "KUBECONFIG="+m.Kubeconfig(), "HOME="+m.Dir, "KUBECACHEDIR="+m.path("cache"))
	return cmd
}

func (m *Machine) combined(cmd *exec.Cmd) (string, error) {
	var out lockedBuffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := m.Start(cmd); err != nil {
		return "", err
	}
	err := cmd.Wait()
	return out.String(), err
}

// Dial opens a connection from this machine, to an address and not a name: the lookup would leave the namespace.
func (m *Machine) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	var conn net.Conn
	err := m.ns.Do(func() error {
		var d net.Dialer
		var err error
		conn, err = d.DialContext(ctx, network, address)
		return err
	})
	return conn, err
}

// connect joins two machines, or one and the tests' own namespace (nil), by a wire.
func connect(t testing.TB, a, b *Machine, addresses [2]string) {
	t.Helper()
	end := func(m *Machine, peer, address string) testns.End {
		e := testns.End{Name: "w-" + peer, Address: address}
		if m != nil {
			e.NS = m.ns
		}
		return e
	}
	peerOfA, peerOfB := b.Name, "tests"
	if a != nil {
		peerOfB = a.Name
	}
	testns.Veth(t, end(a, peerOfA, addresses[0]), end(b, peerOfB, addresses[1]))
}

// gateway gives the machine a default route, as every machine has one. It leads into a namespace that forwards nothing.
func (m *Machine) gateway(t testing.TB, via string) {
	t.Helper()
	err := m.ns.Do(func() error { return netlink.RouteAdd(&netlink.Route{Gw: net.ParseIP(via)}) })
	if err != nil {
		t.Fatalf("default route of %s via %s: %v", m.Name, via, err)
	}
}

func copyFile(to, from string, mode os.FileMode) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, mode)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}
