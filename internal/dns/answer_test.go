package dns

import (
	"flag"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	mdns "github.com/miekg/dns"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

var update = flag.Bool("update", false, "write the answers of this run into testdata")

func ptr[T any](v T) *T { return &v }

func svc(name string, spec corev1.ServiceSpec) *corev1.Service {
	namespace, name, _ := strings.Cut(name, "/")
	return &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}, Spec: spec}
}

func slice(name string, endpoints ...discoveryv1.Endpoint) *discoveryv1.EndpointSlice {
	return &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{Name: name}, Endpoints: endpoints,
		Ports: []discoveryv1.EndpointPort{{Name: ptr("http"), Port: ptr(int32(8080)), Protocol: ptr(corev1.ProtocolTCP)}},
	}
}

// sample is the cluster that testdata/answers.txt asks about.
func sample() *records {
	r := newRecords()
	for _, s := range []*service{
		toRecord(svc("default/web", corev1.ServiceSpec{ClusterIP: "10.96.0.20", ClusterIPs: []string{"10.96.0.20", "fd00::20"}, Ports: []corev1.ServicePort{
			{Name: "http", Port: 80}, {Name: "dns", Port: 53, Protocol: corev1.ProtocolUDP}}}), nil),
		toRecord(svc("default/out", corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, ExternalName: "Example.COM"}), nil),
		toRecord(svc("default/unnamed", corev1.ServiceSpec{ClusterIP: "10.96.0.21", Ports: []corev1.ServicePort{{Port: 80}}}), nil),
		toRecord(svc("db/main", corev1.ServiceSpec{ClusterIP: "None", Ports: []corev1.ServicePort{{Name: "http", Port: 80}}}), []*discoveryv1.EndpointSlice{
			slice("a",
				discoveryv1.Endpoint{Addresses: []string{"10.244.0.5"}, Hostname: ptr("main-0")},
				discoveryv1.Endpoint{Addresses: []string{"10.244.1.6"}},
				discoveryv1.Endpoint{Addresses: []string{"10.244.1.7"}, Hostname: ptr("main-2"), Conditions: discoveryv1.EndpointConditions{Ready: ptr(false)}}),
			slice("b", discoveryv1.Endpoint{Addresses: []string{"10.244.0.5"}, Hostname: ptr("main-0")}),
		}),
		toRecord(svc("db/empty", corev1.ServiceSpec{ClusterIP: "None"}), nil),
	} {
		r.put(s)
	}
	return r
}

// TestAnswers asks the questions of testdata/answers.txt, "TYPE NAME", and compares what is said.
func TestAnswers(t *testing.T) {
	t.Parallel()
	const file = "testdata/answers.txt"
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	z := zone{apex: "cluster.local.", ttl: 30, self: netip.MustParseAddr("10.96.0.10")}
	r := sample()
	var out strings.Builder
	answering := false
	for line := range strings.Lines(string(data)) {
		line = strings.TrimSuffix(line, "\n")
		switch {
		case answering && line != "":
			continue
		case line == "----":
			answering = true
			continue
		}
		answering = false
		out.WriteString(line + "\n")
		if qtype, name, ok := strings.Cut(line, " "); ok && !strings.HasPrefix(line, "#") {
			out.WriteString("----\n" + render(z.answer(r, mdns.Question{Name: mdns.Fqdn(name), Qtype: mdns.StringToType[qtype], Qclass: mdns.ClassINET})))
		}
	}
	if *update {
		if err := os.WriteFile(file, []byte(out.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if out.String() != string(data) {
		t.Errorf("answers differ; run with -update and read the difference. Got:\n%s", out.String())
	}
}

func render(a answer, ours bool) string {
	if !ours {
		return "not ours\n"
	}
	var out strings.Builder
	out.WriteString(mdns.RcodeToString[a.rcode] + "\n")
	for _, section := range []struct {
		name string
		rrs  []mdns.RR
	}{{"answer", a.answer}, {"authority", a.authority}, {"extra", a.extra}} {
		for _, rr := range section.rrs {
			out.WriteString(section.name + " " + strings.ReplaceAll(rr.String(), "\t", " ") + "\n")
		}
	}
	if a.follow != "" {
		out.WriteString("follow " + a.follow + "\n")
	}
	return out.String()
}

func TestRecordsChange(t *testing.T) {
	t.Parallel()
	r := sample()
	ip := netip.MustParseAddr("10.244.0.5")
	r.put(toRecord(svc("db/second", corev1.ServiceSpec{ClusterIP: "None"}), []*discoveryv1.EndpointSlice{slice("a", discoveryv1.Endpoint{Addresses: []string{"10.244.0.5"}})}))
	if got := r.reversed(ip); !slices.Equal(got, []string{"10-244-0-5.second.db", "main-0.main.db"}) {
		t.Errorf("names of %s: %v", ip, got)
	}
	r.put(toRecord(svc("db/main", corev1.ServiceSpec{ClusterIP: "None"}), nil))
	if got := r.reversed(ip); !slices.Equal(got, []string{"10-244-0-5.second.db"}) {
		t.Errorf("after a change: %v", got)
	}
	r.keepOnly(map[types.NamespacedName]bool{{Namespace: "default", Name: "web"}: true})
	if list, _ := r.all(); len(list) != 1 || r.hasNamespace("db") || len(r.byIP) != 2 {
		t.Errorf("left %v, addresses %v", list, r.byIP)
	}
	if got := toRecord(svc("a/pending", corev1.ServiceSpec{}), nil); got != nil {
		t.Errorf("a service without address: %v", got)
	}
}

func FuzzAnswer(f *testing.F) {
	for _, name := range []string{"web.default.svc.cluster.local.", "_http._tcp.main.db.svc.cluster.local.", `a\.b.svc.cluster.local.`, "5.0.244.10.in-addr.arpa.", "1-2-3-4.x.pod.cluster.local.", ".", ""} {
		f.Add(name, mdns.TypeA)
	}
	z := zone{apex: "cluster.local.", ttl: 30, self: netip.MustParseAddr("10.96.0.10")}
	r := sample()
	f.Fuzz(func(t *testing.T, name string, qtype uint16) {
		a, ours := z.answer(r, mdns.Question{Name: name, Qtype: qtype, Qclass: mdns.ClassINET})
		if ours && a.rcode == mdns.RcodeSuccess && len(a.answer) == 0 && len(a.authority) == 0 {
			t.Errorf("%q %d: an empty answer without SOA would not be cached", name, qtype)
		}
	})
}
