package dns

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"canopus/internal/testns"

	mdns "github.com/miekg/dns"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/utils/clock"
	clocktesting "k8s.io/utils/clock/testing"
)

func TestMain(m *testing.M) { os.Exit(testns.Run(m)) }

// config is that of a server on a free port of the loopback address.
func config(t *testing.T, objects ...runtime.Object) Config {
	t.Helper()
	sockets, err := Open(t.Context(), netip.MustParseAddrPort("127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	return Config{
		Domain: "cluster.local", Sockets: sockets, Informers: informers.NewSharedInformerFactory(fake.NewClientset(objects...), 0),
		ResolvConf: filepath.Join(dir, "resolv.conf"), Snapshot: filepath.Join(dir, "state", "dns.json"),
		Log: slog.New(slog.NewTextHandler(t.Output(), nil)), Clock: clock.RealClock{},
	}
}

// run runs a server until the returned function is called. Unless started its informers never sync.
func run(t *testing.T, c Config, started bool) (s *Server, stop func()) {
	t.Helper()
	s, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	if started {
		c.Informers.Start(ctx.Done())
	}
	select {
	case <-s.Ready():
	case err := <-done:
		t.Fatalf("run: %v", err)
	case <-time.After(20 * time.Second):
		t.Fatal("not ready after 20 s")
	}
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
	})
	t.Cleanup(stop)
	return s, stop
}

func ask(t *testing.T, network string, to netip.AddrPort, q *mdns.Msg) (*mdns.Msg, error) {
	t.Helper()
	client := mdns.Client{Net: network, Timeout: 10 * time.Second, UDPSize: 4096}
	msg, _, err := client.ExchangeContext(t.Context(), q, to.String())
	return msg, err
}

func lookup(t *testing.T, to netip.AddrPort, name string, qtype uint16) *mdns.Msg {
	t.Helper()
	q := new(mdns.Msg)
	q.SetQuestion(name, qtype)
	msg, err := ask(t, "udp", to, q)
	if err != nil {
		t.Fatalf("ask for %s: %v", name, err)
	}
	return msg
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
			t.Fatalf("%s: %v", what, err)
		}
	}
}

func web(ip string) *corev1.Service {
	return svc("default/web", corev1.ServiceSpec{ClusterIP: ip, ClusterIPs: []string{ip}})
}

func TestServer(t *testing.T) {
	t.Parallel()
	c := config(t, web("10.96.0.20"))
	client := fake.NewClientset(web("10.96.0.20"))
	c.Informers = informers.NewSharedInformerFactory(client, 0)
	run(t, c, true)
	to := c.Sockets.Address()
	const name = "web.default.svc.cluster.local."
	for _, network := range []string{"udp", "tcp"} {
		q := new(mdns.Msg)
		q.SetQuestion(name, mdns.TypeA)
		q.SetEdns0(1400, false)
		msg, err := ask(t, network, to, q)
		if err != nil || len(msg.Answer) != 1 || !msg.Authoritative || !msg.RecursionAvailable || msg.IsEdns0() == nil {
			t.Errorf("%s: %v, %v", network, msg, err)
		}
	}
	changed := web("10.96.0.21")
	if _, err := client.CoreV1().Services("default").Update(t.Context(), changed, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	until(t, "a change is answered", func() error {
		msg := lookup(t, to, name, mdns.TypeA)
		if len(msg.Answer) != 1 || msg.Answer[0].(*mdns.A).A.String() != "10.96.0.21" {
			return fmt.Errorf("answer %v", msg.Answer)
		}
		return nil
	})
	if err := client.CoreV1().Services("default").Delete(t.Context(), "web", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	until(t, "a deleted service is unknown", func() error {
		if msg := lookup(t, to, name, mdns.TypeA); msg.Rcode != mdns.RcodeNameError {
			return fmt.Errorf("answer %v", msg)
		}
		return nil
	})
	if msg := lookup(t, to, "example.com.", mdns.TypeA); msg.Rcode != mdns.RcodeServerFailure {
		t.Errorf("without a resolver: %v", msg)
	}
}

// TestOddQuestions sends what no honest client sends.
func TestOddQuestions(t *testing.T) {
	t.Parallel()
	c := config(t)
	run(t, c, true)
	for name, test := range map[string]struct {
		spoil func(q *mdns.Msg)
		want  int
	}{
		"no question":   {func(q *mdns.Msg) { q.Question = nil }, mdns.RcodeFormatError},
		"notify":        {func(q *mdns.Msg) { q.Opcode = mdns.OpcodeNotify }, mdns.RcodeNotImplemented},
		"another class": {func(q *mdns.Msg) { q.Question[0].Qclass = mdns.ClassCHAOS }, mdns.RcodeRefused},
		"zone transfer": {func(q *mdns.Msg) { q.Question[0].Qtype = mdns.TypeAXFR }, mdns.RcodeRefused},
		"unknown EDNS":  {func(q *mdns.Msg) { q.SetEdns0(1232, false); q.IsEdns0().SetVersion(1) }, mdns.RcodeBadVers},
		"no recursion":  {func(q *mdns.Msg) { q.SetQuestion("example.com.", mdns.TypeA); q.RecursionDesired = false }, mdns.RcodeRefused},
	} {
		q := new(mdns.Msg)
		q.SetQuestion("cluster.local.", mdns.TypeSOA)
		test.spoil(q)
		msg, err := ask(t, "tcp", c.Sockets.Address(), q)
		if err != nil || msg.Rcode != test.want {
			t.Errorf("%s: %v, %v", name, msg, err)
		}
	}
}

// TestTruncation asks for more addresses than a packet holds.
func TestTruncation(t *testing.T) {
	t.Parallel()
	c := config(t)
	s, _ := run(t, c, true)
	many := &service{Namespace: "default", Name: "many"}
	for i := range 200 {
		many.Endpoints = append(many.Endpoints, endpoint{Host: fmt.Sprint(i), IP: netip.AddrFrom4([4]byte{10, 244, 1, byte(i)})})
	}
	s.records.put(many)
	q := new(mdns.Msg)
	q.SetQuestion("many.default.svc.cluster.local.", mdns.TypeA)
	small, err := ask(t, "udp", c.Sockets.Address(), q)
	small.Compress = true // for Len
	if err != nil || !small.Truncated || small.Len() > mdns.MinMsgSize {
		t.Errorf("plain UDP: truncated %v, %d bytes, %v", small.Truncated, small.Len(), err)
	}
	q.SetEdns0(4096, false)
	large, err := ask(t, "udp", c.Sockets.Address(), q)
	if err != nil || !large.Truncated || len(large.Answer) <= len(small.Answer) {
		t.Errorf("EDNS: truncated %v, %d answers after %d, %v", large.Truncated, len(large.Answer), len(small.Answer), err)
	}
	whole, err := ask(t, "tcp", c.Sockets.Address(), q)
	if err != nil || whole.Truncated || len(whole.Answer) != 200 {
		t.Errorf("TCP: truncated %v, %d answers, %v", whole.Truncated, len(whole.Answer), err)
	}
}

// TestRestart hands the sockets down, as a respawner does: a question asked while no server runs is answered by the next
// one, from the snapshot, before its informers have synced.
func TestRestart(t *testing.T) {
	t.Parallel()
	c := config(t, web("10.96.0.20"))
	files, err := c.Sockets.Files()
	if err != nil {
		t.Fatal(err)
	}
	to := c.Sockets.Address()
	_, stop := run(t, c, true)
	until(t, "the snapshot is written", func() error { _, err := os.Stat(c.Snapshot); return err })
	stop()

	type result struct {
		msg *mdns.Msg
		err error
	}
	results := make(chan result, 2)
	for _, network := range []string{"udp", "tcp"} {
		go func() {
			q := new(mdns.Msg)
			q.SetQuestion("web.default.svc.cluster.local.", mdns.TypeA)
			msg, err := ask(t, network, to, q)
			results <- result{msg, err}
		}()
	}
	select {
	case r := <-results:
		t.Fatalf("without a server: %v, %v", r.msg, r.err)
	case <-time.After(100 * time.Millisecond):
	}
	if c.Sockets, err = Inherit(files); err != nil {
		t.Fatal(err)
	}
	c.Informers = informers.NewSharedInformerFactory(fake.NewClientset(), 0)
	run(t, c, false)
	for range 2 {
		if r := <-results; r.err != nil || len(r.msg.Answer) != 1 {
			t.Errorf("asked in the gap: %v, %v", r.msg, r.err)
		}
	}
	// Once the informers have synced, what is gone is forgotten.
	c.Informers.Start(t.Context().Done())
	until(t, "the service that is gone is forgotten", func() error {
		if msg := lookup(t, to, "web.default.svc.cluster.local.", mdns.TypeA); msg.Rcode != mdns.RcodeNameError {
			return fmt.Errorf("answer %v", msg)
		}
		return nil
	})
}

func TestDamagedSnapshot(t *testing.T) {
	t.Parallel()
	c := config(t, web("10.96.0.20"))
	if err := os.MkdirAll(filepath.Dir(c.Snapshot), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(c.Snapshot, []byte(`{"version":1,"services":[nu`), 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, c, true)
	if msg := lookup(t, c.Sockets.Address(), "web.default.svc.cluster.local.", mdns.TypeA); len(msg.Answer) != 1 {
		t.Errorf("answer %v", msg)
	}
}

// upstream is a name server of the world outside on port 53 of a loopback address of the test's own network.
func upstream(t *testing.T, ip string, handler mdns.HandlerFunc) {
	t.Helper()
	testns.Require(t)
	for _, network := range []string{"udp", "tcp"} {
		started := make(chan struct{})
		server := &mdns.Server{Addr: ip + ":53", Net: network, Handler: handler, NotifyStartedFunc: func() { close(started) }}
		done := make(chan error, 1)
		go func() { done <- server.ListenAndServe() }()
		select {
		case <-started:
		case err := <-done:
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = server.Shutdown() })
	}
}

func txt(name string, ttl uint32, text ...string) mdns.RR {
	return &mdns.TXT{Hdr: header(name, mdns.TypeTXT, ttl), Txt: text}
}

// TestForward asks through two resolvers: the first fails, the second answers.
func TestForward(t *testing.T) {
	t.Parallel()
	var asked atomic.Int64
	release := make(chan struct{})
	upstream(t, "127.0.0.2", func(w mdns.ResponseWriter, q *mdns.Msg) {
		_ = w.WriteMsg(new(mdns.Msg).SetRcode(q, mdns.RcodeServerFailure))
	})
	upstream(t, "127.0.0.3", func(w mdns.ResponseWriter, q *mdns.Msg) {
		asked.Add(1)
		reply := new(mdns.Msg)
		reply.SetReply(q)
		name := q.Question[0].Name
		switch strings.ToLower(name) {
		case "slow.example.com.":
			<-release
			reply.Answer = []mdns.RR{txt("slow.example.com.", 60, "here")}
		case "big.example.com.":
			for i := range 60 {
				reply.Answer = append(reply.Answer, txt(name, 60, strings.Repeat(fmt.Sprint(i%10), 100)))
			}
			if w.RemoteAddr().Network() == "udp" {
				reply.Truncate(mdns.MinMsgSize)
			}
		case "missing.example.com.":
			reply.Rcode = mdns.RcodeNameError
			reply.Ns = []mdns.RR{&mdns.SOA{Hdr: header("example.com.", mdns.TypeSOA, 60), Ns: "ns.example.com.", Mbox: "x.example.com.", Minttl: 60}}
		case "example.com.":
			if q.Question[0].Qtype == mdns.TypeA {
				reply.Answer = []mdns.RR{&mdns.A{Hdr: header(name, mdns.TypeA, 60), A: []byte{192, 0, 2, 1}}}
			}
		}
		_ = w.WriteMsg(reply)
	})
	c := config(t, svc("default/out", corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, ExternalName: "example.com"}))
	conf := "# comment\nnameserver 127.0.0.1\nnameserver 127.0.0.2\nnameserver 127.0.0.3\noptions ndots:5\n"
	if err := os.WriteFile(c.ResolvConf, []byte(conf), 0o644); err != nil {
		t.Fatal(err)
	}
	run(t, c, true)
	to := c.Sockets.Address()

	if msg := lookup(t, to, "missing.example.com.", mdns.TypeTXT); msg.Rcode != mdns.RcodeNameError || msg.Authoritative {
		t.Errorf("a name that does not exist: %v", msg)
	}
	before := asked.Load()
	lookup(t, to, "missing.example.com.", mdns.TypeTXT)
	if asked.Load() != before {
		t.Error("a negative answer was not kept")
	}
	if msg := lookup(t, to, "out.default.svc.cluster.local.", mdns.TypeA); len(msg.Answer) != 2 || msg.Answer[1].(*mdns.A).A.String() != "192.0.2.1" {
		t.Errorf("an ExternalName service: %v", msg)
	}
	q := new(mdns.Msg)
	q.SetQuestion("big.example.com.", mdns.TypeTXT)
	if msg, err := ask(t, "tcp", to, q); err != nil || len(msg.Answer) != 60 {
		t.Errorf("an answer that needs TCP: %v", err)
	}
	if msg, err := ask(t, "udp", to, q); err != nil || !msg.Truncated {
		t.Errorf("the same over UDP: %v", err)
	}

	before = asked.Load()
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			msg := lookup(t, to, "SLOW.example.com.", mdns.TypeTXT)
			if len(msg.Answer) != 1 || msg.Answer[0].Header().Name != "SLOW.example.com." {
				t.Errorf("asked together: %v", msg)
			}
		})
	}
	until(t, "the question arrives", func() error {
		if asked.Load() == before {
			return errors.New("not yet")
		}
		return nil
	})
	close(release)
	wg.Wait()
	if got := asked.Load() - before; got != 1 {
		t.Errorf("20 equal questions were asked %d times", got)
	}
}

func TestCache(t *testing.T) {
	t.Parallel()
	now := clocktesting.NewFakeClock(time.Unix(1000, 0))
	c := newAnswers()
	q := new(mdns.Msg)
	q.SetQuestion("Example.com.", mdns.TypeTXT)
	reply := new(mdns.Msg)
	reply.SetReply(q)
	reply.Answer = []mdns.RR{txt("example.com.", 20, "x")}
	c.put(keyOf(q), reply, now.Now())
	now.Step(15 * time.Second)
	if got := c.get(keyOf(q), now.Now()); got == nil || got.Answer[0].Header().Ttl != 5 {
		t.Errorf("after 15 of 20 seconds: %v", got)
	}
	now.Step(5 * time.Second)
	if got := c.get(keyOf(q), now.Now()); got != nil {
		t.Errorf("after 20 of 20 seconds: %v", got)
	}
	for i := range cacheSize + 10 {
		c.put(cacheKey{name: fmt.Sprint(i)}, reply, now.Now())
	}
	if len(c.entries) != cacheSize {
		t.Errorf("%d entries", len(c.entries))
	}
	failed := new(mdns.Msg).SetRcode(q, mdns.RcodeServerFailure)
	if got := lifetime(failed); got != 0 {
		t.Errorf("a failure is kept for %s", got)
	}
}

func TestNameServers(t *testing.T) {
	t.Parallel()
	conf := "nameserver 10.96.0.10\nsearch x\nnameserver 192.0.2.1\nnameserver 192.0.2.1\n;nameserver 192.0.2.9\nnameserver nonsense\nnameserver fd00::1\nnameserver 127.0.0.53\nnameserver 192.0.2.3\n"
	got := nameServers(conf, netip.MustParseAddr("10.96.0.10"))
	if want := "192.0.2.1:53 [fd00::1]:53 127.0.0.53:53"; strings.Join(got, " ") != want {
		t.Errorf("got %v, want %s", got, want)
	}
}

// TestAddress puts the address on the loopback interface and takes it off again.
func TestAddress(t *testing.T) {
	t.Parallel()
	testns.Require(t)
	address := netip.MustParseAddrPort("10.96.0.10:53")
	for range 2 { // the second time it is there already
		s, err := Open(t.Context(), address)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		if err := Reset(address.Addr()); err != nil {
			t.Fatal(err)
		}
	}
}
