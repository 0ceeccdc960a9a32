package proxy

import (
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/knftables"
)

var update = flag.Bool("update", false, "write the answers of this run into the scenario files")

// TestScenarios runs testdata/*.txt. A file is a list of steps: commands, a line of dashes, the answer, a blank line.
//
//	service NS/NAME clusterIP=IP port=[NAME:]NUMBER[/PROTOCOL] [nodePort=N] [type=T] [affinity=SECONDS] [external=Local]
//	        [internal=Local] [externalIP=IP] [lb=IP] [ranges=CIDR,CIDR] [health=N]
//	endpoint NS/NAME IP:PORT [node=N] [port=NAME/PROTOCOL] [notready] [terminating] [gone] [zone=Z] [fornode=N]
//	delete NS/NAME
//	sync     print the transaction from the last state to the present one
//	full     print the whole table
//	doubts   print the contradictions
func TestScenarios(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scenarios: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			t.Parallel()
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := newWorld().play(t, string(data))
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			} else if got != string(data) {
				t.Errorf("answers differ; run with -update and read the difference. Got:\n%s", got)
			}
		})
	}
}

// world is what a scenario builds up.
type world struct {
	observed
	services map[types.NamespacedName]*corev1.Service
	last     *table
}

func newWorld() *world {
	return &world{
		observed: observed{
			here: place{node: "here", zone: "a"}, clusterCIDR: netip.MustParsePrefix("10.244.0.0/16"),
			except: []netip.Addr{netip.MustParseAddr("10.96.0.10")}, slices: map[types.NamespacedName][]*discoveryv1.EndpointSlice{},
		},
		services: map[types.NamespacedName]*corev1.Service{}, last: newTable(),
	}
}

// play returns script with its answers made anew.
func (w *world) play(t *testing.T, script string) string {
	t.Helper()
	var out strings.Builder
	answering := false
	var answer strings.Builder
	for line := range strings.Lines(script) {
		line = strings.TrimSuffix(line, "\n")
		switch {
		case answering && line == "":
			answering = false
			out.WriteString("\n")
		case answering:
		case line == "----":
			out.WriteString("----\n" + answer.String())
			answer.Reset()
			answering = true
		default:
			out.WriteString(line + "\n")
			if line != "" && !strings.HasPrefix(line, "#") {
				answer.WriteString(w.command(t, strings.Fields(line)))
			}
		}
	}
	return out.String()
}

func (w *world) command(t *testing.T, words []string) string {
	t.Helper()
	switch words[0] {
	case "service":
		svc := parseService(t, words[1:])
		w.services[types.NamespacedName{Namespace: svc.Namespace, Name: svc.Name}] = svc
	case "endpoint":
		w.endpoint(t, words[1:])
	case "delete":
		delete(w.services, parseName(words[1]))
		delete(w.slices, parseName(words[1]))
	case "sync":
		now := w.plan().table
		ops := diff(w.last, now)
		w.last = now
		return script(ops)
	case "full":
		w.last = w.plan().table
		return script(full(w.last, w.clusterCIDR))
	case "doubts":
		return strings.Join(w.plan().doubt, "\n") + "\n"
	default:
		t.Fatalf("unknown command %v", words)
	}
	return ""
}

func (w *world) plan() wanted {
	o := w.observed
	for _, svc := range w.services {
		o.services = append(o.services, svc)
	}
	return plan(o)
}

// script is ops as nft reads them.
func script(ops []op) string {
	tx := knftables.NewFake(knftables.IPv4Family, DefaultTable).NewTransaction()
	fill(tx, ops)
	return tx.String()
}

func parseName(s string) types.NamespacedName {
	namespace, name, _ := strings.Cut(s, "/")
	return types.NamespacedName{Namespace: namespace, Name: name}
}

func parseService(t *testing.T, words []string) *corev1.Service {
	t.Helper()
	name := parseName(words[0])
	svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: name.Namespace, Name: name.Name}}
	svc.Spec.Type = corev1.ServiceTypeClusterIP
	svc.Spec.Ports = []corev1.ServicePort{{}}
	port := &svc.Spec.Ports[0]
	for _, word := range words[1:] {
		key, value, _ := strings.Cut(word, "=")
		switch key {
		case "clusterIP":
			svc.Spec.ClusterIP, svc.Spec.ClusterIPs = value, []string{value}
		case "port":
			parsePort(t, port, value)
		case "type":
			svc.Spec.Type = corev1.ServiceType(value)
		case "nodePort":
			port.NodePort = number(t, value)
		case "health":
			svc.Spec.HealthCheckNodePort = number(t, value)
		case "affinity":
			seconds := number(t, value)
			svc.Spec.SessionAffinity = corev1.ServiceAffinityClientIP
			svc.Spec.SessionAffinityConfig = &corev1.SessionAffinityConfig{ClientIP: &corev1.ClientIPConfig{TimeoutSeconds: &seconds}}
		case "external":
			svc.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicy(value)
		case "internal":
			policy := corev1.ServiceInternalTrafficPolicy(value)
			svc.Spec.InternalTrafficPolicy = &policy
		case "externalIP":
			svc.Spec.ExternalIPs = append(svc.Spec.ExternalIPs, value)
		case "lb":
			svc.Spec.Type = corev1.ServiceTypeLoadBalancer
			svc.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: value}}
		case "ranges":
			svc.Spec.LoadBalancerSourceRanges = strings.Split(value, ",")
		default:
			t.Fatalf("unknown word %q", word)
		}
	}
	return svc
}

// parsePort reads [NAME:]NUMBER[/PROTOCOL].
func parsePort(t *testing.T, port *corev1.ServicePort, s string) {
	t.Helper()
	if name, rest, ok := strings.Cut(s, ":"); ok {
		port.Name, s = name, rest
	}
	s, protocol, _ := strings.Cut(s, "/")
	port.Protocol, port.Port = corev1.Protocol(strings.ToUpper(protocol)), number(t, s)
}

func number(t *testing.T, s string) int32 {
	t.Helper()
	n, err := strconv.ParseInt(s, 10, 32)
	if err != nil {
		t.Fatal(err)
	}
	return int32(n)
}

// endpoint adds or replaces one endpoint, in a slice of its own.
func (w *world) endpoint(t *testing.T, words []string) {
	t.Helper()
	service := parseName(words[0])
	addrPort := netip.MustParseAddrPort(words[1])
	port := int32(addrPort.Port())
	name, protocol, yes, no := "", corev1.ProtocolTCP, true, false
	e := discoveryv1.Endpoint{Addresses: []string{addrPort.Addr().String()}, Hints: &discoveryv1.EndpointHints{}}
	gone := false
	for _, word := range words[2:] {
		key, value, _ := strings.Cut(word, "=")
		switch key {
		case "node":
			e.NodeName = &value
		case "port":
			n, p, _ := strings.Cut(value, "/")
			name, protocol = n, corev1.Protocol(strings.ToUpper(p))
		case "notready":
			e.Conditions.Ready = &no
		case "terminating":
			e.Conditions.Ready, e.Conditions.Serving, e.Conditions.Terminating = &no, &yes, &yes
		case "gone":
			gone = true
		case "zone":
			e.Hints.ForZones = append(e.Hints.ForZones, discoveryv1.ForZone{Name: value})
		case "fornode":
			e.Hints.ForNodes = append(e.Hints.ForNodes, discoveryv1.ForNode{Name: value})
		default:
			t.Fatalf("unknown word %q", word)
		}
	}
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{Name: words[1]}, AddressType: discoveryv1.AddressTypeIPv4,
		Endpoints: []discoveryv1.Endpoint{e}, Ports: []discoveryv1.EndpointPort{{Name: &name, Protocol: &protocol, Port: &port}},
	}
	var kept []*discoveryv1.EndpointSlice
	for _, s := range w.slices[service] {
		if s.Name != slice.Name {
			kept = append(kept, s)
		}
	}
	if !gone {
		kept = append(kept, slice)
	}
	w.slices[service] = kept
}
