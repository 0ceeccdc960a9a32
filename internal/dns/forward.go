package dns

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"time"

	mdns "github.com/miekg/dns"
	"k8s.io/utils/clock"
)

const (
	forwardLimit = 5 * time.Second // for one question, over all servers
	tryLimit     = 2 * time.Second // for one server
	maxInFlight  = 512             // different questions at once
)

// forwarder asks the machine's resolvers. Equal questions that arrive together are asked once. That also ends loops: if a
// resolver asks us back, it waits for its own answer until both give up, and the loop costs no more than that.
type forwarder struct {
	resolvers *resolvers
	cache     *answers
	clock     clock.PassiveClock
	log       *slog.Logger

	mu      sync.Mutex
	flights map[cacheKey]*flight
}

// flight is a question on its way.
type flight struct {
	done chan struct{}
	msg  *mdns.Msg // set before done is closed; nil: no answer
}

func newForwarder(resolvConf string, self netip.Addr, c clock.PassiveClock, log *slog.Logger) *forwarder {
	return &forwarder{
		resolvers: &resolvers{path: resolvConf, self: self, clock: c}, cache: newAnswers(), clock: c, log: log,
		flights: map[cacheKey]*flight{},
	}
}

// ask fills reply with the answer to q; with SERVFAIL if nobody has one.
func (f *forwarder) ask(ctx context.Context, q, reply *mdns.Msg) {
	if !q.RecursionDesired {
		reply.Rcode = mdns.RcodeRefused
		return
	}
	found := f.lookup(ctx, q)
	if found == nil {
		reply.Rcode = mdns.RcodeServerFailure
		return
	}
	reply.Rcode, reply.AuthenticatedData = found.Rcode, found.AuthenticatedData
	reply.Answer, reply.Ns = found.Answer, found.Ns
	for _, rr := range found.Extra {
		if rr.Header().Rrtype != mdns.TypeOPT { // our own says what we can do
			reply.Extra = append(reply.Extra, rr)
		}
	}
	restoreCase(reply)
}

// restoreCase spells the name in the answer as it was asked: some clients compare it byte by byte.
func restoreCase(reply *mdns.Msg) {
	asked := reply.Question[0].Name
	for _, rr := range reply.Answer {
		if h := rr.Header(); strings.EqualFold(h.Name, asked) {
			h.Name = asked
		}
	}
}

// lookup returns a message of the caller's own, from the cache, from a flight it joins or from one it starts.
func (f *forwarder) lookup(ctx context.Context, q *mdns.Msg) *mdns.Msg {
	key := keyOf(q)
	if msg := f.cache.get(key, f.clock.Now()); msg != nil {
		return msg
	}
	f.mu.Lock()
	fl, joined := f.flights[key]
	if !joined && len(f.flights) >= maxInFlight {
		f.mu.Unlock()
		return nil
	}
	if !joined {
		fl = &flight{done: make(chan struct{})}
		f.flights[key] = fl
	}
	f.mu.Unlock()
	if !joined {
		fl.msg = f.exchange(ctx, q, key)
		f.mu.Lock()
		delete(f.flights, key)
		f.mu.Unlock()
		close(fl.done)
	}
	select {
	case <-ctx.Done():
		return nil
	case <-fl.done:
	}
	if fl.msg == nil {
		return nil
	}
	return fl.msg.Copy()
}

// exchange asks one server after the other, twice around, and remembers what it learns.
func (f *forwarder) exchange(ctx context.Context, q *mdns.Msg, key cacheKey) *mdns.Msg {
	servers, err := f.resolvers.servers()
	if err != nil {
		f.log.Warn("names outside the cluster cannot be looked up", "error", err)
		return nil
	}
	if len(servers) == 0 {
		f.log.Debug("name not looked up: resolv.conf names no server that could be asked", "name", key.name)
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, forwardLimit)
	defer cancel()
	var last *mdns.Msg
	var errs []error
	for i := range 2 * len(servers) {
		if ctx.Err() != nil {
			break
		}
		msg, err := askOne(ctx, servers[i%len(servers)], q)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if msg.Rcode == mdns.RcodeSuccess || msg.Rcode == mdns.RcodeNameError {
			f.cache.put(key, msg, f.clock.Now())
			return msg
		}
		last = msg // this server refuses or fails; another may know
	}
	if last == nil {
		f.log.Debug("name not looked up", "name", key.name, "error", errors.Join(errs...))
	}
	return last
}

// askOne asks one server over UDP, and over TCP what does not fit.
func askOne(ctx context.Context, server string, q *mdns.Msg) (*mdns.Msg, error) {
	out := new(mdns.Msg)
	out.SetQuestion(q.Question[0].Name, q.Question[0].Qtype)
	out.CheckingDisabled, out.AuthenticatedData = q.CheckingDisabled, q.AuthenticatedData
	opt := q.IsEdns0()
	out.SetEdns0(maxUDP, opt != nil && opt.Do())
	for _, network := range []string{"udp", "tcp"} {
		client := &mdns.Client{Net: network, Timeout: tryLimit, UDPSize: maxUDP}
		msg, _, err := client.ExchangeContext(ctx, out, server)
		if err != nil {
			return nil, fmt.Errorf("ask %s over %s: %w", server, network, err)
		}
		if len(msg.Question) != 1 || !strings.EqualFold(msg.Question[0].Name, out.Question[0].Name) || msg.Question[0].Qtype != out.Question[0].Qtype {
			return nil, fmt.Errorf("ask %s over %s: it answered another question", server, network)
		}
		if !msg.Truncated {
			return msg, nil
		}
	}
	return nil, fmt.Errorf("ask %s: its answer is cut off even over TCP", server)
}
