package dns

import (
	"net/netip"
	"slices"
	"strings"

	mdns "github.com/miekg/dns"
)

// zone knows how to answer for the cluster domain. It is immutable.
type zone struct {
	apex string // "cluster.local."
	ttl  uint32
	self netip.Addr // our own address
}

// negativeTTL is how long a client may remember that a name does not exist: briefly, because it may soon.
const negativeTTL = 5

// specification is the version of the Kubernetes DNS specification that is answered by.
const specification = "1.1.0"

// answer is what is said to one question.
type answer struct {
	rcode                    int
	answer, authority, extra []mdns.RR
	follow                   string // the target of a CNAME whose addresses complete the answer
}

// source is where answers come from; records, in earnest.
type source interface {
	get(namespace, name string) *service
	hasNamespace(name string) bool
	reversed(ip netip.Addr) []string
}

// question is one question being answered.
type question struct {
	zone
	source
	owner string // the name as it was asked, whose case answers repeat
	qtype uint16
}

// answer answers q; false if q is not about the cluster and has to be asked elsewhere. It depends on its arguments alone.
func (z zone) answer(from source, q mdns.Question) (answer, bool) {
	ask := question{zone: z, source: from, owner: q.Name, qtype: q.Qtype}
	name := strings.ToLower(q.Name)
	if ip, ok := reverseAddress(name); ok {
		return ask.ptr(ip)
	}
	rest, ok := strings.CutSuffix(name, z.apex)
	if !ok || rest != "" && !strings.HasSuffix(rest, ".") {
		return answer{}, false
	}
	labels := mdns.SplitDomainName(rest)
	slices.Reverse(labels) // from the top down: svc, default, web
	a := ask.below(labels)
	if a.rcode == mdns.RcodeNameError || len(a.answer) == 0 && a.rcode == mdns.RcodeSuccess {
		a.authority = []mdns.RR{z.soa(negativeTTL)}
	}
	return a, true
}

func exists(rrs ...mdns.RR) answer { return answer{answer: rrs} }

func missing() answer { return answer{rcode: mdns.RcodeNameError} }

// below answers for the labels under the apex, the topmost first.
func (q question) below(labels []string) answer {
	if len(labels) == 0 {
		return q.atApex()
	}
	switch labels[0] {
	case "svc":
		return q.underSvc(labels[1:])
	case "pod":
		return q.underPod(labels[1:])
	case "dns-version":
		if len(labels) == 1 && q.wants(mdns.TypeTXT) {
			return exists(&mdns.TXT{Hdr: q.header(mdns.TypeTXT), Txt: []string{specification}})
		}
		return existsOnly(len(labels) == 1)
	case "dns":
		switch {
		case len(labels) == 2 && labels[1] == "ns":
			return exists(q.addresses(q.owner, []netip.Addr{q.self})...)
		}
		return existsOnly(len(labels) == 1)
	}
	return missing()
}

// existsOnly is the answer at a name without records of its own, or at none at all.
func existsOnly(there bool) answer {
	if there {
		return exists()
	}
	return missing()
}

func (q question) atApex() answer {
	switch q.qtype {
	case mdns.TypeSOA:
		return exists(q.soa(q.ttl))
	case mdns.TypeNS:
		a := exists(&mdns.NS{Hdr: q.header(mdns.TypeNS), Ns: q.nameServer()})
		a.extra = addressesFor(q.nameServer(), q.ttl, []netip.Addr{q.self}, 0)
		return a
	}
	return exists()
}

// underSvc answers namespace, service, and what is below a service.
func (q question) underSvc(labels []string) answer {
	switch len(labels) {
	case 0:
		return exists()
	case 1:
		return existsOnly(q.hasNamespace(labels[0]))
	}
	s := q.get(labels[0], labels[1])
	if s == nil {
		return missing()
	}
	switch below := labels[2:]; {
	case len(below) == 0:
		return q.service(s)
	case s.External != "":
		return missing()
	case len(below) == 1 && strings.HasPrefix(below[0], "_"):
		return existsOnly(len(q.srv(s, "", strings.TrimPrefix(below[0], "_")).answer) > 0)
	case len(below) == 1:
		return q.host(s, below[0])
	case len(below) == 2 && strings.HasPrefix(below[0], "_") && strings.HasPrefix(below[1], "_"):
		a := q.srv(s, below[1][1:], below[0][1:])
		if len(a.answer) == 0 {
			return missing()
		}
		if !q.wants(mdns.TypeSRV) {
			return exists()
		}
		return a
	}
	return missing()
}

// service answers at a service's own name.
func (q question) service(s *service) answer {
	if s.External != "" {
		a := exists(&mdns.CNAME{Hdr: q.header(mdns.TypeCNAME), Target: s.External})
		if q.qtype != mdns.TypeCNAME {
			a.follow = s.External
		}
		return a
	}
	if q.qtype == mdns.TypeSRV {
		return q.srv(s, "", "")
	}
	ips := s.IPs
	for _, e := range s.Endpoints {
		if !slices.Contains(ips, e.IP) {
			ips = append(slices.Clip(ips), e.IP)
		}
	}
	return exists(q.addresses(q.owner, ips)...)
}

// host answers at the name of one endpoint of a headless service.
func (q question) host(s *service, host string) answer {
	var ips []netip.Addr
	for _, e := range s.Endpoints {
		if e.Host == host && !slices.Contains(ips, e.IP) {
			ips = append(ips, e.IP)
		}
	}
	if len(ips) == 0 {
		return missing()
	}
	return exists(q.addresses(q.owner, ips)...)
}

// srv answers for the named port and protocol of s; empty stands for all.
func (q question) srv(s *service, name, protocol string) answer {
	var a answer
	domain := s.Name + "." + s.Namespace + ".svc." + q.apex
	fits := func(p port) bool {
		return (name == "" || p.Name == name) && (protocol == "" || p.Protocol == protocol) && p.Name != ""
	}
	if !s.headless() {
		for _, p := range s.Ports {
			if fits(p) {
				a.answer = append(a.answer, q.srvRecord(p.Number, domain))
			}
		}
		if len(a.answer) > 0 {
			a.extra = addressesFor(domain, q.ttl, s.IPs, 0)
		}
		return a
	}
	for _, e := range s.Endpoints {
		target := e.Host + "." + domain
		before := len(a.answer)
		for _, p := range e.Ports {
			if fits(p) {
				a.answer = append(a.answer, q.srvRecord(p.Number, target))
			}
		}
		if len(a.answer) > before {
			a.extra = append(a.extra, addressesFor(target, q.ttl, []netip.Addr{e.IP}, 0)...)
		}
	}
	return a
}

func (q question) srvRecord(number uint16, target string) mdns.RR {
	return &mdns.SRV{Hdr: q.header(mdns.TypeSRV), Priority: 0, Weight: 100, Port: number, Target: target}
}

// underPod answers names made of a pod's address: 10-244-0-5.default.pod.
func (q question) underPod(labels []string) answer {
	if len(labels) < 2 {
		return exists()
	}
	if len(labels) > 2 {
		return missing()
	}
	ip, ok := dashed(labels[1])
	if !ok {
		return missing()
	}
	return exists(q.addresses(q.owner, []netip.Addr{ip})...)
}

// dashed reads an address whose dots or colons are dashes.
func dashed(s string) (netip.Addr, bool) {
	if ip, err := netip.ParseAddr(strings.ReplaceAll(s, "-", ".")); err == nil {
		return ip, true
	}
	ip, err := netip.ParseAddr(strings.ReplaceAll(s, "-", ":"))
	return ip, err == nil
}

// ptr answers for addresses of services and of endpoints of headless ones; false for all others.
func (q question) ptr(ip netip.Addr) (answer, bool) {
	names := q.reversed(ip)
	if len(names) == 0 {
		return answer{}, false
	}
	if !q.wants(mdns.TypePTR) {
		return answer{authority: []mdns.RR{q.soa(negativeTTL)}}, true
	}
	var a answer
	for _, n := range names {
		a.answer = append(a.answer, &mdns.PTR{Hdr: q.header(mdns.TypePTR), Ptr: host(n) + q.apex})
	}
	return a, true
}

func host(name string) string { return name + ".svc." }

// reverseAddress reads 5.0.244.10.in-addr.arpa. and the like for IPv6.
func reverseAddress(name string) (netip.Addr, bool) {
	if rest, ok := strings.CutSuffix(name, ".in-addr.arpa."); ok {
		parts := strings.Split(rest, ".")
		slices.Reverse(parts)
		ip, err := netip.ParseAddr(strings.Join(parts, "."))
		return ip, err == nil && ip.Is4()
	}
	rest, ok := strings.CutSuffix(name, ".ip6.arpa.")
	nibbles := strings.Split(rest, ".")
	if !ok || len(nibbles) != 32 {
		return netip.Addr{}, false
	}
	slices.Reverse(nibbles)
	var text strings.Builder
	for i, n := range nibbles {
		if i > 0 && i%4 == 0 {
			text.WriteByte(':')
		}
		text.WriteString(n)
	}
	ip, err := netip.ParseAddr(text.String())
	return ip, err == nil
}

func (q question) wants(t uint16) bool { return q.qtype == t || q.qtype == mdns.TypeANY }

func (q question) header(t uint16) mdns.RR_Header { return header(q.owner, t, q.ttl) }

func header(name string, t uint16, ttl uint32) mdns.RR_Header {
	return mdns.RR_Header{Name: name, Rrtype: t, Class: mdns.ClassINET, Ttl: ttl}
}

// addresses returns the records of ips that were asked for.
func (q question) addresses(name string, ips []netip.Addr) []mdns.RR {
	switch q.qtype {
	case mdns.TypeA, mdns.TypeAAAA:
		return addressesFor(name, q.ttl, ips, q.qtype)
	case mdns.TypeANY:
		return addressesFor(name, q.ttl, ips, 0)
	}
	return nil
}

// addressesFor returns A and AAAA records; only those of type t unless it is zero.
func addressesFor(name string, ttl uint32, ips []netip.Addr, t uint16) []mdns.RR {
	var rrs []mdns.RR
	for _, ip := range ips {
		switch {
		case ip.Is4() && (t == mdns.TypeA || t == 0):
			rrs = append(rrs, &mdns.A{Hdr: header(name, mdns.TypeA, ttl), A: ip.AsSlice()})
		case ip.Is6() && (t == mdns.TypeAAAA || t == 0):
			rrs = append(rrs, &mdns.AAAA{Hdr: header(name, mdns.TypeAAAA, ttl), AAAA: ip.AsSlice()})
		}
	}
	return rrs
}

func (z zone) nameServer() string { return "ns.dns." + z.apex }

// soa has a constant serial number: nobody may transfer the zone.
func (z zone) soa(ttl uint32) mdns.RR {
	return &mdns.SOA{
		Hdr: header(z.apex, mdns.TypeSOA, ttl), Ns: z.nameServer(), Mbox: "hostmaster." + z.apex,
		Serial: 1, Refresh: 7200, Retry: 1800, Expire: 86400, Minttl: negativeTTL,
	}
}
