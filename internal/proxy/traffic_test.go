package proxy

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"canopus/internal/testns"

	"github.com/vishvananda/netlink"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/utils/clock"
	"sigs.k8s.io/knftables"
)

func TestMain(m *testing.M) { os.Exit(testns.Run(m)) }

// lab is a node (the namespace the tests run in) with a bridge of pods and a client outside the cluster.
type lab struct {
	pods    map[string]*testns.NS // by address
	outside *testns.NS
	client  kubernetes.Interface
	proxy   *Proxy
}

const (
	podA, podB = "10.244.0.5", "10.244.0.6"
	nodeIP     = "192.168.77.1"
	outsideIP  = "192.168.77.2"
	gateway    = "10.244.0.1"
	testBridge = "labbr"
	serviceIP  = "10.96.0.20"
)

func newLab(t *testing.T) *lab {
	t.Helper()
	testns.Require(t)
	// Labs take turns: there is one node, and its interfaces go with the namespaces at their other ends.
	l := &lab{pods: map[string]*testns.NS{}, outside: testns.New(t), client: fake.NewClientset()}
	for _, setting := range []string{"ipv4/ip_forward", "bridge/bridge-nf-call-iptables"} {
		if err := os.WriteFile("/proc/sys/net/"+setting, []byte("1"), 0); err != nil {
			t.Fatal(err)
		}
	}
	testns.Veth(t, testns.End{Name: "out0", Address: nodeIP + "/24"}, testns.End{NS: l.outside, Name: "eth0", Address: outsideIP + "/24"})
	attrs := netlink.NewLinkAttrs()
	attrs.Name = testBridge
	bridge := &netlink.Bridge{LinkAttrs: attrs}
	addr, err := netlink.ParseAddr(gateway + "/24")
	must(t, err, netlink.LinkAdd(bridge), netlink.AddrAdd(bridge, addr), netlink.LinkSetUp(bridge))
	t.Cleanup(func() { _ = netlink.LinkDel(bridge) })
	for i, ip := range []string{podA, podB} {
		l.addPod(t, bridge, fmt.Sprintf("pod%d", i), ip)
	}
	// A default route, so that packets for service addresses leave this machine's own sockets at all.
	must(t, addRoute("0.0.0.0/0", outsideIP), l.outside.Do(func() error { return addRoute("0.0.0.0/0", nodeIP) }))
	return l
}

func addRoute(to, via string) error {
	_, dst, err := net.ParseCIDR(to)
	if err != nil {
		return err
	}
	return netlink.RouteReplace(&netlink.Route{Dst: dst, Gw: net.ParseIP(via)})
}

func must(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

func (l *lab) addPod(t *testing.T, bridge netlink.Link, name, ip string) {
	t.Helper()
	ns := testns.New(t)
	l.pods[ip] = ns
	testns.Veth(t, testns.End{Name: name}, testns.End{NS: ns, Name: "eth0", Address: ip + "/24"})
	port, err := netlink.LinkByName(name)
	must(t, err, netlink.LinkSetMaster(port, bridge), netlink.LinkSetHairpin(port, true), ns.Do(func() error { return addRoute("0.0.0.0/0", gateway) }))
	must(t, ns.Do(func() error { return serveTCP(t, ip) }), ns.Do(func() error { return serveUDP(t, ip) }))
}

// serveTCP answers each connection with our address and the client's, as the pod sees it.
func serveTCP(t *testing.T, ip string) error {
	listener, err := net.Listen("tcp", net.JoinHostPort(ip, "8080"))
	if err != nil {
		return err
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			host, _, _ := net.SplitHostPort(conn.RemoteAddr().String())
			fmt.Fprintf(conn, "%s %s\n", ip, host)
			conn.Close()
		}
	}()
	return nil
}

func serveUDP(t *testing.T, ip string) error {
	conn, err := net.ListenPacket("udp", net.JoinHostPort(ip, "8080"))
	if err != nil {
		return err
	}
	t.Cleanup(func() { conn.Close() })
	go func() {
		for buf := make([]byte, 64); ; {
			_, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			_, _ = conn.WriteTo([]byte(ip), from)
		}
	}()
	return nil
}

// start runs a proxy until the test ends.
func (l *lab) start(t *testing.T) {
	t.Helper()
	factory := informers.NewSharedInformerFactory(l.client, 0)
	p, err := New(Config{
		NodeName: "here", ClusterCIDR: netip.MustParsePrefix("10.244.0.0/16"), Informers: factory,
		Except: []netip.Addr{netip.MustParseAddr("10.96.0.10")}, Log: slog.New(slog.NewTextHandler(t.Output(), nil)), Clock: clock.RealClock{},
	})
	must(t, err)
	l.proxy = p
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	factory.Start(ctx.Done())
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if err := p.Reset(context.WithoutCancel(ctx)); err != nil {
			t.Error(err)
		}
	})
	select {
	case <-p.Ready():
	case <-time.After(20 * time.Second):
		t.Fatal("the proxy does not become ready")
	}
}

// service makes or changes a Service and its endpoints.
func (l *lab) service(t *testing.T, name string, change func(*corev1.Service), endpoints ...string) {
	t.Helper()
	svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name}}
	svc.Spec.Ports = []corev1.ServicePort{{Port: 80, Protocol: corev1.ProtocolTCP}}
	svc.Spec.Type = corev1.ServiceTypeClusterIP
	change(svc)
	node, protocol, port, empty := "here", svc.Spec.Ports[0].Protocol, int32(8080), ""
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Namespace: "ns", Name: name, Labels: map[string]string{discoveryv1.LabelServiceName: name}},
		AddressType: discoveryv1.AddressTypeIPv4, Ports: []discoveryv1.EndpointPort{{Name: &empty, Port: &port, Protocol: &protocol}},
	}
	for _, ip := range endpoints {
		slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{Addresses: []string{ip}, NodeName: &node})
	}
	services, slices := l.client.CoreV1().Services("ns"), l.client.DiscoveryV1().EndpointSlices("ns")
	if _, err := services.Get(t.Context(), name, metav1.GetOptions{}); err == nil {
		_, err := services.Update(t.Context(), svc, metav1.UpdateOptions{})
		_, err2 := slices.Update(t.Context(), slice, metav1.UpdateOptions{})
		must(t, err, err2)
		return
	}
	_, err := services.Create(t.Context(), svc, metav1.CreateOptions{})
	_, err2 := slices.Create(t.Context(), slice, metav1.CreateOptions{})
	must(t, err, err2)
}

// ask connects from ns (nil: the node) and returns the pod that answered and the client's address as it saw it.
func ask(ns *testns.NS, address string) (pod, client string, err error) {
	dial := func() error {
		conn, err := net.DialTimeout("tcp", address, time.Second)
		if err != nil {
			return err
		}
		defer conn.Close()
		line, err := bufio.NewReader(conn).ReadString('\n')
		if err != nil {
			return err
		}
		pod, client, _ = strings.Cut(strings.TrimSpace(line), " ")
		return nil
	}
	if ns == nil {
		err = dial()
	} else {
		err = ns.Do(dial)
	}
	return pod, client, err
}

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
			out, _ := exec.Command("nft", "list", "ruleset").CombinedOutput()
			t.Fatalf("%s: %v\n%s", what, err, out)
		}
	}
}

// expect waits until a connection from ns to address is answered by pod, which sees client. "" is anything.
func expect(t *testing.T, what string, ns *testns.NS, address, pod, client string) {
	t.Helper()
	until(t, what, func() error {
		gotPod, gotClient, err := ask(ns, address)
		if err == nil && (pod != "" && gotPod != pod || client != "" && gotClient != client) {
			err = fmt.Errorf("answered by %s, which saw %s", gotPod, gotClient)
		}
		return err
	})
}

// TestTraffic sends packets through the kernel with each kind of Service.
func TestTraffic(t *testing.T) {
	l := newLab(t)
	l.start(t)
	cluster := func(s *corev1.Service) { s.Spec.ClusterIP = serviceIP }

	l.service(t, "web", cluster)
	until(t, "a service without endpoints refuses", func() error {
		_, _, err := ask(nil, serviceIP+":80")
		if !errors.Is(err, syscall.ECONNREFUSED) {
			return fmt.Errorf("got %w", err)
		}
		return nil
	})
	l.service(t, "web", cluster, podA)
	expect(t, "from the node", nil, serviceIP+":80", podA, "")
	expect(t, "from another pod, whose address is kept", l.pods[podB], serviceIP+":80", podA, podB)
	expect(t, "from itself, masqueraded", l.pods[podA], serviceIP+":80", podA, gateway)
	if _, _, err := ask(l.pods[podB], serviceIP+":81"); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("a port that the service does not have: %v", err)
	}
	l.service(t, "web", cluster, podA, podB)
	seen := map[string]bool{}
	until(t, "both endpoints are used", func() error {
		pod, _, err := ask(l.pods[podB], serviceIP+":80")
		seen[pod] = err == nil
		if !seen[podA] || !seen[podB] {
			return fmt.Errorf("only %v, %w", seen, err)
		}
		return nil
	})
	l.externalTraffic(t)
	l.affinityTraffic(t)
	l.egress(t)
}

func (l *lab) externalTraffic(t *testing.T) {
	nodePort := func(s *corev1.Service) {
		s.Spec.ClusterIP, s.Spec.Type = "10.96.0.21", corev1.ServiceTypeLoadBalancer
		s.Spec.Ports[0].NodePort = 30080
		s.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyCluster
	}
	l.service(t, "np", nodePort, podA)
	expect(t, "node port from outside, masqueraded", l.outside, nodeIP+":30080", podA, gateway)
	expect(t, "node port from the node", nil, nodeIP+":30080", podA, "")
	expect(t, "node port from a pod", l.pods[podB], nodeIP+":30080", podA, "")
	local := func(s *corev1.Service) {
		nodePort(s)
		s.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
		s.Spec.HealthCheckNodePort = 32080
		s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "203.0.113.5"}}
	}
	l.service(t, "np", local, podA)
	expect(t, "policy Local keeps the client's address", l.outside, nodeIP+":30080", podA, outsideIP)
	expect(t, "load balancer address", l.outside, "203.0.113.5:80", podA, outsideIP)
	until(t, "the health check port answers", func() error { return healthz(l.outside, http.StatusOK, `"localEndpoints":1`) })
	l.service(t, "np", func(s *corev1.Service) { local(s); s.Spec.LoadBalancerSourceRanges = []string{"198.51.100.0/24"} }, podA)
	until(t, "clients outside the source ranges are dropped", func() error {
		if _, _, err := ask(l.outside, "203.0.113.5:80"); err == nil {
			return errors.New("answered")
		}
		return nil
	})
	l.service(t, "np", func(s *corev1.Service) { local(s); s.Spec.LoadBalancerSourceRanges = []string{outsideIP + "/32"} }, podA)
	expect(t, "clients inside them are not", l.outside, "203.0.113.5:80", podA, outsideIP)
	l.service(t, "np", local)
	until(t, "the health check port says that nobody is here", func() error { return healthz(l.outside, http.StatusServiceUnavailable, `"localEndpoints":0`) })
}

func healthz(ns *testns.NS, code int, part string) error {
	return ns.Do(func() error {
		conn, err := net.DialTimeout("tcp", nodeIP+":32080", time.Second)
		if err != nil {
			return err
		}
		defer conn.Close()
		if _, err := io.WriteString(conn, "GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"); err != nil {
			return err
		}
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err == nil && (resp.StatusCode != code || !strings.Contains(string(body), part)) {
			err = fmt.Errorf("%d %s", resp.StatusCode, body)
		}
		return err
	})
}

func (l *lab) affinityTraffic(t *testing.T) {
	l.service(t, "sticky", func(s *corev1.Service) {
		s.Spec.ClusterIP, s.Spec.SessionAffinity = "10.96.0.22", corev1.ServiceAffinityClientIP
	}, podA, podB)
	expect(t, "a sticky service", nil, "10.96.0.22:80", "", "")
	first, _, err := ask(nil, "10.96.0.22:80")
	must(t, err)
	for range 20 {
		if pod, _, err := ask(nil, "10.96.0.22:80"); err != nil || pod != first {
			t.Fatalf("a client of %s was sent to %s, %v", first, pod, err)
		}
	}
}

// egress checks that what pods send out of the cluster comes from the node's address.
func (l *lab) egress(t *testing.T) {
	must(t, l.outside.Do(func() error { return serveTCP(t, outsideIP) }))
	expect(t, "a pod that leaves the cluster is masqueraded", l.pods[podA], outsideIP+":8080", outsideIP, nodeIP)
}

// TestUDPMovesOn keeps one socket sending while the only endpoint is replaced by another.
func TestUDPMovesOn(t *testing.T) {
	l := newLab(t)
	l.start(t)
	udp := func(s *corev1.Service) {
		s.Spec.ClusterIP = serviceIP
		s.Spec.Ports[0].Protocol = corev1.ProtocolUDP
	}
	l.service(t, "dns", udp)
	var conn net.Conn
	must(t, l.pods[podB].Do(func() (err error) { conn, err = net.Dial("udp", serviceIP+":80"); return err }))
	defer conn.Close()
	answeredBy := func(want string) func() error {
		return func() error {
			must(t, conn.SetDeadline(time.Now().Add(200*time.Millisecond)))
			buf := make([]byte, 64)
			if _, err := conn.Write([]byte("?")); err != nil {
				return err
			}
			n, err := conn.Read(buf)
			if err == nil && string(buf[:n]) != want {
				err = fmt.Errorf("answered by %s", buf[:n])
			}
			return err
		}
	}
	until(t, "without endpoints it is refused", func() error {
		if err := answeredBy("")(); !errors.Is(err, syscall.ECONNREFUSED) {
			return fmt.Errorf("got %w", err)
		}
		return nil
	})
	l.service(t, "dns", udp, podA)
	until(t, "the first endpoint answers", answeredBy(podA))
	l.service(t, "dns", udp, podB)
	until(t, "the second one takes over", answeredBy(podB))
}

// TestDrift damages the table in several ways. The proxy's loop does not run: the test calls its parts.
func TestDrift(t *testing.T) {
	l := newLab(t)
	l.service(t, "web", func(s *corev1.Service) { s.Spec.ClusterIP = serviceIP }, podA)
	factory := informers.NewSharedInformerFactory(l.client, 0)
	p, err := New(Config{
		NodeName: "here", ClusterCIDR: netip.MustParsePrefix("10.244.0.0/16"), Informers: factory,
		Log: slog.New(slog.NewTextHandler(t.Output(), nil)), Clock: clock.RealClock{},
	})
	must(t, err)
	factory.Start(t.Context().Done())
	factory.WaitForCacheSync(t.Context().Done())
	p.nft, err = knftables.New(knftables.IPv4Family, DefaultTable)
	must(t, err, p.sync(t.Context()))
	expect(t, "before", nil, serviceIP+":80", podA, "")
	if p.drifted(t.Context()) {
		t.Error("drift without any change")
	}
	nft(t, "add table ip other; delete table ip other")
	if p.drifted(t.Context()) {
		t.Error("a change of another table is taken for ours")
	}
	for _, damage := range []string{
		"delete table ip canopus",
		"flush chain ip canopus dispatch",
		"delete element ip canopus services { " + serviceIP + " . tcp . 80 }",
		"add element ip canopus cluster-ips { 10.96.0.99 }",
		"add chain ip canopus foreign; add rule ip canopus foreign accept",
	} {
		nft(t, damage)
		if !p.drifted(t.Context()) {
			t.Errorf("%s: not noticed", damage)
		}
		must(t, p.sync(t.Context()))
		expect(t, "after "+damage, nil, serviceIP+":80", podA, "")
		if p.drifted(t.Context()) {
			t.Errorf("%s: the repair is taken for drift", damage)
		}
	}
	// A difference that the kernel refuses, because what it speaks of is gone, leads to a whole table.
	nft(t, "delete table ip canopus")
	l.service(t, "web", func(s *corev1.Service) { s.Spec.ClusterIP = serviceIP }, podB)
	until(t, "a refused difference is healed", func() error {
		must(t, p.sync(t.Context()))
		pod, _, err := ask(nil, serviceIP+":80")
		if err == nil && pod != podB {
			err = fmt.Errorf("answered by %s", pod)
		}
		return err
	})
	must(t, p.Reset(t.Context()))
	if err := exec.Command("nft", "list", "table", "ip", DefaultTable).Run(); err == nil {
		t.Error("the table is left after a reset")
	}
}

func nft(t *testing.T, script string) {
	t.Helper()
	if out, err := exec.Command("nft", script).CombinedOutput(); err != nil {
		t.Fatalf("nft %s: %v: %s", script, err, out)
	}
}
