package harness

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// Topology says as which processes, on which machines, Canopus runs.
type Topology string

// The topologies. OneProcess is one machine with `canopus server`. Separate is one machine with API server, scheduler and
// controllers, each a process, and another with the agent: everything meets over HTTPS. TwoNodes is OneProcess and another
// machine with `canopus agent`; pods of both reach each other.
const (
	OneProcess Topology = "one-process"
	Separate   Topology = "separate-processes"
	TwoNodes   Topology = "two-nodes"
)

// The names of nodes. SecondNode is only there in TwoNodes.
const (
	NodeName   = "node-1"
	SecondNode = "node-2"
)

// Image is a busybox that every cluster has.
const Image = "canopus.local/test:1"

// dnsAddress is that of the cluster's name server, which keep holds the sockets of.
const dnsAddress = "10.96.0.10:53"

// Cluster is a running Canopus.
type Cluster struct {
	Topology  Topology
	Control   *Machine   // where the API server is
	Node      *Machine   // where pods are; the same as Control unless the topology is Separate
	Nodes     []*Machine // every machine that runs pods; Node is the first
	Config    *rest.Config
	Client    kubernetes.Interface
	Processes []*Process

	binary string
	tool   []string // the kubectl to use: program and first arguments
}

// Start starts Canopus and returns when its nodes are Ready. Everything ends with t.
func Start(t *testing.T, topology Topology) *Cluster {
	t.Helper()
	Require(t)
	c := newCluster(t, topology)
	began := time.Now()
	switch topology {
	case OneProcess:
		c.startOne(t)
	case Separate:
		c.startSeparate(t)
	case TwoNodes:
		c.startTwo(t)
	default:
		t.Fatalf("unknown topology %q", topology)
	}
	c.connectClient(t)
	c.awaitNodes(t)
	t.Logf("nodes Ready %.1f s after the first process was started", time.Since(began).Seconds())
	return c
}

// newCluster makes a cluster without machines.
func newCluster(t *testing.T, topology Topology) *Cluster {
	c := &Cluster{Topology: topology, binary: filepath.Join(filesDir(runName()), "canopus")}
	if _, err := os.Stat(c.binary); err != nil { // one copy per run: a build in between must not change it
		if err := os.MkdirAll(filepath.Dir(c.binary), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := copyFile(c.binary, Binary(), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	c.tool = []string{c.binary, "kubectl"}
	t.Cleanup(func() { c.end(t) })
	return c
}

// Bare makes a machine on which nothing of Canopus was ever started.
func Bare(t *testing.T) *Cluster {
	t.Helper()
	Require(t)
	c := newCluster(t, "bare")
	m := newMachine(t, "bare", NodeName)
	c.Control, c.Node, c.Nodes = m, m, []*Machine{m}
	m.Address = "192.168.52.2"
	connect(t, nil, m, [2]string{"192.168.52.1/24", "192.168.52.2/24"})
	m.gateway(t, "192.168.52.1")
	m.write(t, nil)
	return c
}

func (c *Cluster) startOne(t *testing.T) {
	m := newMachine(t, string(c.Topology), NodeName)
	c.Control, c.Node, c.Nodes = m, m, []*Machine{m}
	m.Address = "192.168.50.2"
	connect(t, nil, m, [2]string{"192.168.50.1/24", "192.168.50.2/24"})
	m.gateway(t, "192.168.50.1")
	m.write(t, nil)
	c.prepareNode(t, m)
	c.keep(t, m, "server", dnsAddress, "server")
}

func (c *Cluster) startTwo(t *testing.T) {
	first, second := newMachine(t, string(c.Topology), NodeName), newMachine(t, string(c.Topology), SecondNode)
	c.Control, c.Node, c.Nodes = first, first, []*Machine{first, second}
	first.Address, second.Address = "192.168.60.1", "192.168.60.2"
	connect(t, first, second, [2]string{"192.168.60.1/24", "192.168.60.2/24"})
	connect(t, nil, first, [2]string{"192.168.50.1/24", "192.168.50.2/24"})
	connect(t, nil, second, [2]string{"192.168.51.1/24", "192.168.51.2/24"})
	first.gateway(t, "192.168.50.1")
	second.gateway(t, "192.168.51.1")
	first.write(t, nil)
	c.prepareNode(t, first)
	c.prepareNode(t, second)
	c.keep(t, first, "server", dnsAddress, "server")
	c.awaitFile(t, first.Kubeconfig())
	c.startAgent(t, second)
}

func (c *Cluster) startSeparate(t *testing.T) {
	c.Control, c.Node = newMachine(t, string(c.Topology), "control"), newMachine(t, string(c.Topology), NodeName)
	c.Nodes = []*Machine{c.Node}
	c.Control.Address, c.Node.Address = "192.168.60.1", "192.168.60.2"
	connect(t, c.Control, c.Node, [2]string{"192.168.60.1/24", "192.168.60.2/24"})
	connect(t, nil, c.Control, [2]string{"192.168.51.1/24", "192.168.51.2/24"})
	connect(t, nil, c.Node, [2]string{"192.168.50.1/24", "192.168.50.2/24"})
	c.Control.gateway(t, "192.168.51.1")
	c.Node.gateway(t, "192.168.50.1")
	c.Control.write(t, nil)
	c.unpack(t, c.Control)
	c.prepareNode(t, c.Node)
	c.keep(t, c.Control, "apiserver", "", "server", "--no-agent", "--no-workers")
	credentials := filepath.Join(c.Control.Dir, "data", "kubeconfig")
	for _, file := range []string{"scheduler.conf", "controller-manager.conf"} {
		c.awaitFile(t, filepath.Join(credentials, file))
	}
	c.keep(t, c.Control, "scheduler", "", "scheduler", "--kubeconfig", filepath.Join(credentials, "scheduler.conf"))
	c.keep(t, c.Control, "controllers", "", "controllers", "--kubeconfig", filepath.Join(credentials, "controller-manager.conf"))
	c.startAgent(t, c.Node)
}

// startAgent makes m a node of the cluster, with credentials that the control plane issues.
func (c *Cluster) startAgent(t *testing.T, m *Machine) {
	out, err := c.Control.Output(t.Context(), c.binary, "issue-node", m.Name, "--address", m.Address,
		"--server", "https://"+c.Control.Address+":6443", "--out", m.path("etc"))
	if err != nil {
		t.Fatalf("issue-node: %v\n%s", err, out)
	}
	m.write(t, map[string]any{"kubeconfig": m.path("etc", "kubelet.conf")})
	c.keep(t, m, "agent", dnsAddress, "agent")
}

// awaitFile waits for what the server writes when it starts.
func (c *Cluster) awaitFile(t *testing.T, path string) {
	Until(t, 30*time.Second, path+" from the server", func() error { _, err := os.Stat(path); return err })
}

// unpack lays out what canopus carries, of which keep is needed before canopus itself runs.
func (c *Cluster) unpack(t *testing.T, m *Machine) {
	if out, err := m.Output(t.Context(), c.binary, "unpack", m.path("data", "bin")); err != nil {
		t.Fatalf("unpack: %v\n%s", err, out)
	}
}

func (c *Cluster) prepareNode(t *testing.T, m *Machine) {
	c.unpack(t, m)
	if err := copyFile(m.path("data", "images", "test.tar"), testImage(), 0o644); err != nil {
		t.Fatal(err)
	}
}

// connectClient makes a client like any other machine's: with the admin's kubeconfig, over HTTPS.
func (c *Cluster) connectClient(t *testing.T) {
	c.awaitFile(t, c.Control.Kubeconfig())
	config, err := clientcmd.BuildConfigFromFlags("", c.Control.Kubeconfig())
	if err != nil {
		t.Fatal(err)
	}
	config.QPS = -1
	config.Dial = c.Control.Dial
	c.Config = config
	if c.Client, err = kubernetes.NewForConfig(config); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if h, err := rest.HTTPClientFor(config); err == nil {
			h.CloseIdleConnections()
		}
	})
}

func (c *Cluster) awaitNodes(t *testing.T) {
	for _, m := range c.Nodes {
		Until(t, time.Minute, m.Name+" to be Ready", func() error {
			for _, p := range c.Processes {
				if err := p.ended(); err != nil {
					t.Fatalf("%v\n%s", err, tail(p.Log, 30))
				}
			}
			return c.nodeReady(t.Context(), m.Name)
		})
	}
}

// HTTP is a client whose requests start on machine m, or in the tests' own namespace when m is nil. Each request opens a
// connection, as a Service spreads connections and not requests.
func (c *Cluster) HTTP(m *Machine) *http.Client {
	transport := &http.Transport{DisableKeepAlives: true, Proxy: nil}
	if m != nil {
		transport.DialContext = m.Dial
	}
	return &http.Client{Transport: transport, Timeout: 5 * time.Second}
}

// Get returns the body of a 200 answer.
func (c *Cluster) Get(m *Machine, address string) (string, error) {
	u := url.URL{Scheme: "http", Host: address, Path: "/"}
	if host, path, ok := strings.Cut(address, "/"); ok {
		u.Host, u.Path = host, "/"+path
	}
	resp, err := c.HTTP(m).Get(u.String())
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return "", err
	}
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("%s: %s: %s", u.String(), resp.Status, body)
	}
	return string(body), nil
}

// Canopus is the command `canopus ARGS` on machine m.
func (c *Cluster) Canopus(t testing.TB, m *Machine, args ...string) *exec.Cmd {
	return m.Command(t.Context(), c.binary, args...)
}
