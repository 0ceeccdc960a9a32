package dns

import (
	"strings"
	"sync"
	"time"

	mdns "github.com/miekg/dns"
)

// What the cache of forwarded answers keeps, and for how long at most.
const (
	cacheSize   = 4096
	maxPositive = 30 * time.Second
	maxNegative = 10 * time.Second
)

// cacheKey is what an answer depends on.
type cacheKey struct {
	name              string // lower case
	qtype             uint16
	dnssec, unchecked bool // DO and CD
}

func keyOf(q *mdns.Msg) cacheKey {
	k := cacheKey{name: strings.ToLower(q.Question[0].Name), qtype: q.Question[0].Qtype, unchecked: q.CheckingDisabled}
	if opt := q.IsEdns0(); opt != nil {
		k.dnssec = opt.Do()
	}
	return k
}

// answers is a bounded cache. Safe for concurrent use; a stored message is never changed.
type answers struct {
	mu      sync.Mutex
	entries map[cacheKey]cached
}

type cached struct {
	msg     *mdns.Msg
	stored  time.Time
	expires time.Time
}

func newAnswers() *answers { return &answers{entries: map[cacheKey]cached{}} }

// get returns a copy of what was stored, its times to live reduced by its age; nil if there is nothing fresh.
func (c *answers) get(k cacheKey, now time.Time) *mdns.Msg {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.entries[k]
	if !ok {
		return nil
	}
	if !now.Before(e.expires) {
		delete(c.entries, k)
		return nil
	}
	age := uint32(now.Sub(e.stored).Seconds())
	msg := e.msg.Copy()
	for _, rr := range records3(msg) {
		rr.Header().Ttl -= min(age, rr.Header().Ttl)
	}
	return msg
}

func (c *answers) put(k cacheKey, msg *mdns.Msg, now time.Time) {
	keep := lifetime(msg)
	if keep <= 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for old := range c.entries { // in random order: whichever comes first makes room
		if len(c.entries) < cacheSize {
			break
		}
		delete(c.entries, old)
	}
	c.entries[k] = cached{msg: msg, stored: now, expires: now.Add(keep)}
}

// records3 returns the records of all sections but the pseudo record of EDNS.
func records3(m *mdns.Msg) []mdns.RR {
	var all []mdns.RR
	for _, section := range [][]mdns.RR{m.Answer, m.Ns, m.Extra} {
		for _, rr := range section {
			if rr.Header().Rrtype != mdns.TypeOPT {
				all = append(all, rr)
			}
		}
	}
	return all
}

// lifetime is how long m may be kept: as long as the record that lives shortest; for negative answers as RFC 2308 says;
// failures not at all.
func lifetime(m *mdns.Msg) time.Duration {
	if m.Truncated || m.Rcode != mdns.RcodeSuccess && m.Rcode != mdns.RcodeNameError {
		return 0
	}
	keep := maxPositive
	if len(m.Answer) == 0 || m.Rcode == mdns.RcodeNameError {
		keep = 0
		for _, rr := range m.Ns {
			if soa, ok := rr.(*mdns.SOA); ok {
				keep = min(maxNegative, time.Duration(min(soa.Minttl, soa.Hdr.Ttl))*time.Second)
			}
		}
	}
	for _, rr := range records3(m) {
		keep = min(keep, time.Duration(rr.Header().Ttl)*time.Second)
	}
	return keep
}
