package allocate

import (
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"canopus/internal/admission"
	"canopus/internal/kinds"
	"canopus/internal/kinds/networking"
	"canopus/internal/store"
	"canopus/internal/store/etcdtest"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/utils/clock"
)

// bench is an allocator on a real store, with what it takes to write Services beside it.
type bench struct {
	*Allocator
	store *store.Store
}

func start(t *testing.T, cidr string, ports Ports) *bench {
	t.Helper()
	s, err := store.New(store.Config{Etcd: etcdtest.Start(t), Log: slog.New(slog.DiscardHandler), Clock: clock.RealClock{}})
	if err != nil {
		t.Fatal(err)
	}
	addresses, err := s.Register(store.ResourceConfig{
		Name: schema.GroupResource{Group: "networking.k8s.io", Resource: "ipaddresses"}, Prefix: "ipaddresses/", Codec: kinds.NewCodec(networking.IPAddress()),
	})
	if err != nil {
		t.Fatal(err)
	}
	ranges, err := RegisterRanges(s)
	if err != nil {
		t.Fatal(err)
	}
	a, err := New(Config{CIDR: netip.MustParsePrefix(cidr), Ports: ports, Ranges: ranges, Clock: clock.RealClock{}, Addresses: func() *store.Resource { return addresses }})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	done := make(chan struct{})
	wg.Go(func() {
		if err := s.Run(t.Context()); err != nil && t.Context().Err() == nil {
			t.Error(err)
		}
		close(done)
	})
	t.Cleanup(wg.Wait)
	select {
	case <-s.Ready():
	case <-done:
		t.Fatal("the store ended")
	}
	return &bench{a, s}
}

// write claims and commits as a write of the API server does, again when something was taken meanwhile.
func (b *bench) write(t *testing.T, op admission.Operation, now, old *corev1.Service) error {
	t.Helper()
	for {
		var next *corev1.Service
		if now != nil {
			next = now.DeepCopy()
		}
		changes, err := b.Claim(t.Context(), op, next, old)
		if err != nil {
			return err
		}
		if len(changes) > 0 {
			_, err = b.store.Commit(t.Context(), changes...)
		}
		var conflict *store.Conflict
		if errors.As(err, &conflict) {
			continue
		}
		if err == nil && now != nil {
			*now = *next
		}
		return err
	}
}

func service(name string, kind corev1.ServiceType, ip string, ports ...corev1.ServicePort) *corev1.Service {
	if len(ports) == 0 {
		ports = []corev1.ServicePort{{Port: 80, Protocol: corev1.ProtocolTCP}}
	}
	return &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "apps", Name: name}, Spec: corev1.ServiceSpec{Type: kind, ClusterIP: ip, Ports: ports}}
}

// taken returns the addresses and node ports that are recorded.
func (b *bench) taken(t *testing.T) (ips map[string]string, ports map[int]bool) {
	t.Helper()
	list, err := b.addresses().List(t.Context(), store.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	ips, ports = map[string]string{}, map[int]bool{}
	for _, e := range list.Entries {
		o, err := e.Object()
		if err != nil {
			t.Fatal(err)
		}
		ip := o.(*networkingv1.IPAddress)
		if ip.UID == "" || ip.CreationTimestamp.IsZero() || ip.Labels["ipaddress.kubernetes.io/managed-by"] != "ipallocator.k8s.io" || ip.Labels["ipaddress.kubernetes.io/ip-family"] != "IPv4" {
			t.Errorf("incomplete: %+v", ip.ObjectMeta)
		}
		ips[ip.Name] = ip.Spec.ParentRef.Resource + "/" + ip.Spec.ParentRef.Namespace + "/" + ip.Spec.ParentRef.Name
	}
	_, bits, err := b.bitmap(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for i := range bits.BitLen() {
		if bits.Bit(i) == 1 {
			ports[int(b.ports.First)+i] = true
		}
	}
	return ips, ports
}

func (b *bench) mustWrite(t *testing.T, op admission.Operation, now, old *corev1.Service) {
	t.Helper()
	if err := b.write(t, op, now, old); err != nil {
		t.Fatal(err)
	}
}

func TestLifeOfAService(t *testing.T) {
	t.Parallel()
	b := start(t, "10.96.0.0/12", Ports{30000, 32767})
	s := service("web", corev1.ServiceTypeClusterIP, "")
	b.mustWrite(t, admission.Create, s, nil)
	ip := netip.MustParseAddr(s.Spec.ClusterIP)
	if !b.cidr.Contains(ip) || ip.Less(netip.MustParseAddr("10.96.1.1")) || len(s.Spec.ClusterIPs) != 1 || s.Spec.IPFamilies[0] != corev1.IPv4Protocol || *s.Spec.IPFamilyPolicy != corev1.IPFamilyPolicySingleStack {
		t.Errorf("got %+v", s.Spec)
	}
	expect := func(step string, owner string, wantPorts int) {
		t.Helper()
		ips, ports := b.taken(t)
		if ips[ip.String()] != owner || len(ports) != wantPorts || owner == "" && len(ips) != 0 {
			t.Errorf("%s: %v, %v", step, ips, ports)
		}
		for _, p := range s.Spec.Ports {
			if p.NodePort != 0 && !ports[int(p.NodePort)] {
				t.Errorf("%s: node port %d is not recorded", step, p.NodePort)
			}
		}
	}
	expect("created", "services/apps/web", 0)
	change := func(step string, f func(*corev1.Service)) *corev1.Service {
		t.Helper()
		old := s.DeepCopy()
		f(s)
		b.mustWrite(t, admission.Update, s, old)
		return old
	}
	change("NodePort", func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeNodePort })
	first := s.Spec.Ports[0].NodePort
	if first < 30086 {
		t.Errorf("node port %d is of the part that is kept for others", first)
	}
	expect("NodePort", "services/apps/web", 1)
	change("client forgets what it was given", func(s *corev1.Service) {
		s.Spec.ClusterIP, s.Spec.ClusterIPs, s.Spec.Ports[0].NodePort = "", nil, 0
	})
	if s.Spec.ClusterIP != ip.String() || s.Spec.Ports[0].NodePort != first {
		t.Errorf("the update gave %s and %d", s.Spec.ClusterIP, s.Spec.Ports[0].NodePort)
	}
	change("another port", func(s *corev1.Service) {
		s.Spec.Ports[0].NodePort = 30001
		s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{Port: 81, Protocol: corev1.ProtocolTCP})
	})
	expect("two ports", "services/apps/web", 2)
	change("ClusterIP", func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeClusterIP })
	if s.Spec.Ports[0].NodePort != 0 || s.Spec.Ports[1].NodePort != 0 {
		t.Errorf("node ports stay: %+v", s.Spec.Ports)
	}
	expect("ClusterIP again", "services/apps/web", 0)
	change("local LoadBalancer", func(s *corev1.Service) {
		s.Spec.Type, s.Spec.ExternalTrafficPolicy = corev1.ServiceTypeLoadBalancer, corev1.ServiceExternalTrafficPolicyLocal
	})
	if s.Spec.HealthCheckNodePort == 0 {
		t.Error("no health check port")
	}
	expect("LoadBalancer", "services/apps/web", 3)
	change("ExternalName", func(s *corev1.Service) {
		s.Spec.Type, s.Spec.ExternalName = corev1.ServiceTypeExternalName, "example.com"
	})
	if s.Spec.ClusterIP != "" || s.Spec.ClusterIPs != nil || s.Spec.HealthCheckNodePort != 0 {
		t.Errorf("got %+v", s.Spec)
	}
	expect("ExternalName", "", 0)
	change("back", func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeNodePort })
	ip = netip.MustParseAddr(s.Spec.ClusterIP)
	expect("back", "services/apps/web", 2)
	b.mustWrite(t, admission.Delete, nil, s)
	if ips, ports := b.taken(t); len(ips)+len(ports) != 0 {
		t.Errorf("deleted: %v %v stay", ips, ports)
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	b := start(t, "10.96.0.0/12", Ports{30000, 32767})
	tcp := func(port, node int32) corev1.ServicePort {
		return corev1.ServicePort{Port: port, NodePort: node, Protocol: corev1.ProtocolTCP}
	}
	b.mustWrite(t, admission.Create, service("first", corev1.ServiceTypeNodePort, "10.96.0.10", tcp(80, 30080)), nil)
	dual := service("dual", corev1.ServiceTypeClusterIP, "")
	both := corev1.IPFamilyPolicyRequireDualStack
	dual.Spec.IPFamilyPolicy = &both
	six := service("six", corev1.ServiceTypeClusterIP, "")
	six.Spec.IPFamilies = []corev1.IPFamily{corev1.IPv6Protocol}
	for name, c := range map[string]struct {
		s    *corev1.Service
		text string
	}{
		"taken address":     {service("x", corev1.ServiceTypeClusterIP, "10.96.0.10"), `Service "x" is invalid: spec.clusterIPs: Invalid value: ["10.96.0.10"]: failed to allocate IP 10.96.0.10: provided IP is already allocated`},
		"foreign address":   {service("x", corev1.ServiceTypeClusterIP, "192.0.2.1"), "failed to allocate IP 192.0.2.1: provided IP is not in the valid range. The range of valid IPs is 10.96.0.0/12"},
		"network address":   {service("x", corev1.ServiceTypeClusterIP, "10.96.0.0"), "not in the valid range"},
		"broadcast address": {service("x", corev1.ServiceTypeClusterIP, "10.111.255.255"), "not in the valid range"},
		"last address":      {service("last", corev1.ServiceTypeClusterIP, "10.111.255.254"), ""},
		"taken port":        {service("x", corev1.ServiceTypeNodePort, "", tcp(80, 30080)), "spec.ports[0].nodePort: Invalid value: 30080: provided port is already allocated"},
		"foreign port":      {service("x", corev1.ServiceTypeNodePort, "", tcp(80, 80)), "spec.ports[0].nodePort: Invalid value: 80: provided port is not in the valid range. The range of valid ports is 30000-32767"},
		"dual stack":        {dual, "this cluster is not configured for dual-stack services"},
		"IPv6":              {six, "not configured on this cluster"},
		"headless":          {service("h", corev1.ServiceTypeClusterIP, "None"), ""},
		"no address at all": {service("n", corev1.ServiceTypeClusterIP, "bogus"), ""}, // validation's to refuse
	} {
		err := b.write(t, admission.Create, c.s, nil)
		if (err == nil) != (c.text == "") || err != nil && !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestProtocolsShareANodePort(t *testing.T) {
	t.Parallel()
	b := start(t, "10.96.0.0/12", Ports{30000, 32767})
	s := service("dns", corev1.ServiceTypeNodePort, "",
		corev1.ServicePort{Name: "u", Port: 53, Protocol: corev1.ProtocolUDP}, corev1.ServicePort{Name: "t", Port: 53, Protocol: corev1.ProtocolTCP},
		corev1.ServicePort{Name: "m", Port: 9153, Protocol: corev1.ProtocolTCP})
	b.mustWrite(t, admission.Create, s, nil)
	p := s.Spec.Ports
	if p[0].NodePort == 0 || p[0].NodePort != p[1].NodePort || p[2].NodePort == p[0].NodePort {
		t.Errorf("got %+v", p)
	}
	if _, ports := b.taken(t); len(ports) != 2 {
		t.Errorf("got %v", ports)
	}
}

// TestManyAtOnce has writers take all of a small range; each address and port goes to one of them, and the one too many is refused.
func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	const n = 30 // a /27 has 30 hosts
	b := start(t, "10.0.0.0/27", Ports{30000, 30029})
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			s := service(fmt.Sprint("s", i), corev1.ServiceTypeNodePort, "")
			if err := b.write(t, admission.Create, s, nil); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if ips, ports := b.taken(t); len(ips) != n || len(ports) != n {
		t.Errorf("%d addresses and %d ports are taken", len(ips), len(ports))
	}
	if err := b.write(t, admission.Create, service("more", corev1.ServiceTypeClusterIP, ""), nil); err == nil || !strings.Contains(err.Error(), "range is full") {
		t.Errorf("got %v", err)
	}
}

func TestChangedPortRange(t *testing.T) {
	t.Parallel()
	b := start(t, "10.96.0.0/12", Ports{30000, 32767})
	had := new(big.Int).SetBit(new(big.Int).SetBit(new(big.Int), 5, 1), 105, 1)
	b.ports = Ports{30100, 30200}
	got, err := b.move(&corev1.RangeAllocation{Range: "30000-32767", Data: had.Bytes()})
	if err != nil || got.Bit(5) != 1 || got.BitLen() != 6 {
		t.Errorf("%v, %v", got, err)
	}
	if _, err := b.move(&corev1.RangeAllocation{Range: "x"}); err == nil {
		t.Error("a broken range is accepted")
	}
}

func TestStaticBands(t *testing.T) {
	t.Parallel()
	for cidr, want := range map[string]uint64{"10.96.0.0/12": 256, "10.0.0.0/24": 16, "10.0.0.0/20": 256, "10.0.0.0/27": 16, "10.0.0.0/28": 0, "fd00::/64": 256} {
		if got := addressBand(netip.MustParsePrefix(cidr)).static; got != want {
			t.Errorf("%s: %d, want %d", cidr, got, want)
		}
	}
	if got := portBand(Ports{30000, 32767}).static; got != 86 {
		t.Errorf("ports: %d", got)
	}
}

func TestFurtherRanges(t *testing.T) {
	t.Parallel()
	b := start(t, "10.9.0.0/29", Ports{30000, 30010})
	var more []netip.Prefix
	b.more = func() []netip.Prefix { return more }
	full := 0
	for ; full < 10; full++ {
		if b.write(t, admission.Create, service(fmt.Sprint("s", full), corev1.ServiceTypeClusterIP, ""), nil) != nil {
			break
		}
	}
	if full != 6 {
		t.Fatalf("a range of 6 addresses gave out %d", full)
	}
	outside := service("outside", corev1.ServiceTypeClusterIP, "10.10.0.5")
	if err := b.write(t, admission.Create, outside, nil); err == nil || !strings.Contains(err.Error(), "The range of valid IPs is 10.9.0.0/29") {
		t.Errorf("got %v", err)
	}
	more = []netip.Prefix{netip.MustParsePrefix("fd00::/112"), netip.MustParsePrefix("10.9.0.0/29"), netip.MustParsePrefix("10.10.0.0/28")}
	b.mustWrite(t, admission.Create, outside, nil)
	next := service("next", corev1.ServiceTypeClusterIP, "")
	b.mustWrite(t, admission.Create, next, nil)
	if ip := netip.MustParseAddr(next.Spec.ClusterIP); !more[2].Contains(ip) || ip.String() == "10.10.0.5" {
		t.Errorf("got %s", ip)
	}
	more = nil
	b.mustWrite(t, admission.Delete, nil, next)
	if ips, _ := b.taken(t); len(ips) != 7 {
		t.Errorf("an address of a range that is gone is not released: %v", ips)
	}
}
