package proxy

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/knftables"
)

// TestDifferencesAddUp walks through random states. After each step the kernel's twin, which got only differences, must
// hold what a fresh one gets as a whole; and no transaction may refer to what is not there (the twin refuses that).
func TestDifferencesAddUp(t *testing.T) {
	t.Parallel()
	for seed := range uint64(40) {
		random := rand.New(rand.NewPCG(seed, 1))
		w := newWorld()
		step := knftables.NewFake(knftables.IPv4Family, DefaultTable)
		run(t, step, full(newTable(), w.clusterCIDR))
		last := newTable()
		for i := range 30 {
			w.disturb(t, random)
			now := w.plan().table
			run(t, step, diff(last, now))
			last = now
			whole := knftables.NewFake(knftables.IPv4Family, DefaultTable)
			run(t, whole, full(now, w.clusterCIDR))
			if got, want := dump(step), dump(whole); got != want {
				t.Fatalf("seed %d, step %d: differences led to\n%s\nthe whole is\n%s", seed, i, got, want)
			}
		}
	}
}

func run(t *testing.T, nft *knftables.Fake, ops []op) {
	t.Helper()
	tx := nft.NewTransaction()
	fill(tx, ops)
	if err := nft.Run(t.Context(), tx); err != nil {
		t.Fatalf("%v in\n%s", err, tx)
	}
}

// dump is the twin's content without what depends on the way there.
func dump(nft *knftables.Fake) string {
	lines := strings.Split(nft.Dump(), "\n")
	var sortable []string
	for i, line := range lines {
		// Rules keep their order within their chain.
		if strings.HasPrefix(line, "add rule") {
			line = fmt.Sprintf("%s #%06d", chainOf(line), i)
			line += " " + lines[i]
		}
		sortable = append(sortable, line)
	}
	slices.Sort(sortable)
	return regexp.MustCompile(`#\d{6} `).ReplaceAllString(strings.Join(sortable, "\n"), "")
}

func chainOf(rule string) string { return strings.Join(strings.Fields(rule)[:5], " ") }

// disturb makes a few random changes.
func (w *world) disturb(t *testing.T, random *rand.Rand) {
	t.Helper()
	for range 1 + random.IntN(4) {
		n := random.IntN(5)
		name := fmt.Sprintf("ns/s%d", n)
		switch random.IntN(6) {
		case 0:
			w.command(t, []string{"delete", name})
		case 1, 2:
			words := []string{"service", name, fmt.Sprintf("clusterIP=10.96.1.%d", n), "port=80"}
			for _, extra := range []string{"type=NodePort", "nodePort=30080", "affinity=60", "affinity=90", "external=Local", "internal=Local", "externalIP=203.0.113.9", "lb=203.0.113.10", "ranges=198.51.100.0/24"} {
				if random.IntN(3) == 0 {
					words = append(words, extra)
				}
			}
			w.command(t, words)
		default:
			words := []string{"endpoint", name, fmt.Sprintf("10.244.0.%d:80", random.IntN(6)), []string{"node=here", "node=there"}[random.IntN(2)]}
			if state := []string{"", "notready", "terminating", "gone"}[random.IntN(4)]; state != "" {
				words = append(words, state)
			}
			w.command(t, words)
		}
	}
}

// TestEveryAddressIsAnswered: each address of each port of each service is either served or refused, never both.
func TestEveryAddressIsAnswered(t *testing.T) {
	t.Parallel()
	for seed := range uint64(200) {
		random := rand.New(rand.NewPCG(seed, 2))
		w := newWorld()
		for range 10 {
			w.disturb(t, random)
		}
		got := w.plan().table
		for name, svc := range w.services {
			key := svc.Spec.ClusterIP + " . tcp . 80"
			chain, served := got.elements[mapServices][key]
			_, refused := got.elements[mapRefused][key]
			if served == refused {
				t.Fatalf("seed %d: %s served %v and refused %v", seed, name, served, refused)
			}
			if served && got.chains[strings.TrimPrefix(chain, "goto ")] == nil {
				t.Fatalf("seed %d: %s leads to %s, which is not there", seed, name, chain)
			}
		}
		for chain, rules := range got.chains {
			if len(rules) == 0 {
				t.Fatalf("seed %d: chain %s is empty", seed, chain)
			}
		}
	}
}

func TestStale(t *testing.T) {
	t.Parallel()
	at := netip.MustParseAddrPort
	s := staleFlows{
		udp: map[netip.AddrPort][]endpoint{
			at("10.96.0.20:53"): {{ip: netip.MustParseAddr("10.244.0.5"), port: 5353}},
			at("0.0.0.0:30053"): {},
		},
		local: map[netip.Addr]bool{netip.MustParseAddr("192.168.0.1"): true},
	}
	for _, test := range []struct {
		to, server string
		want       bool
	}{
		{"10.96.0.20:53", "10.244.0.5:5353", false},
		{"10.96.0.20:53", "10.244.0.6:5353", true},
		{"10.96.0.20:53", "10.96.0.20:53", true}, // began while there was no endpoint
		{"192.168.0.1:30053", "10.244.0.6:5353", true},
		{"8.8.8.8:30053", "8.8.8.8:30053", false}, // somebody else's
		{"10.96.0.20:54", "10.244.0.6:5353", false},
	} {
		if got := s.stale(at(test.to), at(test.server)); got != test.want {
			t.Errorf("%s answered by %s: %v", test.to, test.server, got)
		}
	}
}

func TestHealth(t *testing.T) {
	t.Parallel()
	w := newWorld()
	w.command(t, strings.Fields("service ns/web clusterIP=10.96.0.20 port=80 lb=203.0.113.5 external=Local health=32000"))
	w.command(t, strings.Fields("endpoint ns/web 10.244.0.5:80 node=here"))
	w.command(t, strings.Fields("endpoint ns/web 10.244.0.6:80 node=here terminating"))
	w.command(t, strings.Fields("endpoint ns/web 10.244.1.5:80 node=there"))
	want := map[uint16]health{32000: {service: parseName("ns/web"), local: 1}}
	if got := w.plan().health; !maps.Equal(got, want) {
		t.Errorf("got %v", got)
	}
}
