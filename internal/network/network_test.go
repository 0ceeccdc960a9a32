package network_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"canopus/internal/bundle"
	"canopus/internal/network"
	"canopus/internal/testns"

	"github.com/vishvananda/netlink"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/utils/clock"
)

func TestMain(m *testing.M) { os.Exit(testns.Run(m)) }

func node(name, cidr, address string) *corev1.Node {
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       corev1.NodeSpec{PodCIDR: cidr, PodCIDRs: []string{cidr}},
		Status:     corev1.NodeStatus{Addresses: []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: address}}},
	}
}

// until calls check until it returns nil.
func until(t *testing.T, what string, check func() error) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(20 * time.Second)
	for {
		err := check()
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("%s: %v", what, err)
		}
	}
}

// TestNetwork is this machine as node a and another network namespace as node b, joined by a cable.
func TestNetwork(t *testing.T) {
	t.Parallel()
	testns.Require(t)
	b := testns.New(t)
	testns.Veth(t, testns.End{Name: "nodea", Address: "192.168.50.1/24"}, testns.End{NS: b, Name: "nodeb", Address: "192.168.50.2/24"})
	listener := podOfB(t, b)

	client := fake.NewClientset(node("a", "10.244.0.0/24", "192.168.50.1"), node("b", "10.244.1.0/24", "192.168.50.2"))
	factory := informers.NewSharedInformerFactory(client, 0)
	dir := t.TempDir()
	n, err := network.New(network.Config{
		NodeName: "a", Nodes: factory.Core().V1().Nodes(), CNIConf: filepath.Join(dir, "net.d"), State: filepath.Join(dir, "state"),
		Bridge: "testbr0", Log: slog.New(slog.NewTextHandler(t.Output(), nil)), Clock: clock.RealClock{},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- n.Run(ctx) }()
	factory.Start(ctx.Done())
	select {
	case <-n.Ready():
	case <-time.After(20 * time.Second):
		t.Fatal("the network does not become ready")
	}

	reach := func() error {
		conn, err := net.DialTimeout("tcp", listener, 300*time.Millisecond)
		if err == nil {
			conn.Close()
		}
		return err
	}
	until(t, "a pod of node b is reached", reach)
	addPod(t, filepath.Join(dir, "net.d", "10-canopus.conflist"))
	if err := client.CoreV1().Nodes().Delete(ctx, "b", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	until(t, "the route to a deleted node goes", func() error {
		if reach() == nil {
			return errors.New("it is still reached")
		}
		return nil
	})
	for _, file := range []string{"/proc/sys/net/ipv4/ip_forward", "/proc/sys/net/bridge/bridge-nf-call-iptables"} {
		if data, err := os.ReadFile(file); err != nil || strings.TrimSpace(string(data)) != "1" {
			t.Errorf("%s is %q, %v", file, data, err)
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if err := n.Reset(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := netlink.LinkByName("testbr0"); err == nil {
		t.Error("the bridge is left after a reset")
	}
	if _, err := os.Stat(filepath.Join(dir, "state")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("state is left after a reset: %v", err)
	}
}

// podOfB gives node b an address of its pod CIDR, a way back, and a listener.
func podOfB(t *testing.T, b *testns.NS) string {
	t.Helper()
	var listener net.Listener
	err := b.Do(func() error {
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			return err
		}
		addr, err := netlink.ParseAddr("10.244.1.7/32")
		if err != nil {
			return err
		}
		if err := netlink.AddrAdd(lo, addr); err != nil {
			return err
		}
		listener, err = net.Listen("tcp", "10.244.1.7:0")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	return listener.Addr().String()
}

// addPod hands the first plugin of the configuration to the real bridge plugin and looks at the pod it makes.
func addPod(t *testing.T, conflist string) {
	t.Helper()
	packed, err := bundle.Embedded()
	if err != nil {
		t.Fatal(err)
	}
	bin := t.TempDir()
	if err := packed.Unpack(bin); errors.Is(err, bundle.ErrMissing) {
		t.Logf("no pod is made: %v", err)
		return
	} else if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(conflist)
	if err != nil {
		t.Fatal(err)
	}
	var list struct {
		CNIVersion string           `json:"cniVersion"`
		Name       string           `json:"name"`
		Plugins    []map[string]any `json:"plugins"`
	}
	if err := json.Unmarshal(data, &list); err != nil {
		t.Fatal(err)
	}
	config := list.Plugins[0]
	config["cniVersion"], config["name"] = list.CNIVersion, list.Name
	stdin, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	pod := testns.New(t)
	cmd := exec.Command(filepath.Join(bundle.Current(bin), config["type"].(string)))
	cmd.Env = append(os.Environ(), "CNI_COMMAND=ADD", "CNI_CONTAINERID=pod1", "CNI_IFNAME=eth0", "CNI_PATH="+bundle.Current(bin), fmt.Sprintf("CNI_NETNS=/proc/%d/fd/%d", os.Getpid(), pod.Fd()))
	cmd.Stdin = bytes.NewReader(stdin)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("bridge plugin: %v: %s", err, out)
	}
	var listener net.Listener
	if err := pod.Do(func() (err error) { listener, err = net.Listen("tcp", "10.244.0.2:80"); return err }); err != nil {
		t.Fatalf("the pod does not have the first address of the node's pod CIDR: %v", err)
	}
	defer listener.Close()
	until(t, "the node reaches the pod", func() error {
		conn, err := net.DialTimeout("tcp", "10.244.0.2:80", time.Second)
		if err == nil {
			conn.Close()
		}
		return err
	})
}
