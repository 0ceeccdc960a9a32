// Package dns is the cluster's name server, one on each node: it answers for Services as the Kubernetes DNS specification
// 1.1.0 says, from what its informers hold, and forwards everything else to the resolvers of the machine.
//
// Reading order: records.go (what is known of a Service), answer.go (a question and the records in, an answer out),
// forward.go with cache.go and resolvconf.go (everybody else's names), sockets.go (where it listens), snapshot.go (how it
// answers right after a restart). This file ties them together.
package dns

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"time"

	mdns "github.com/miekg/dns"
	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/informers"
	"k8s.io/utils/clock"
)

// Config says what to answer. Snapshot may be empty: then a restart answers only once the informers have synced.
type Config struct {
	Domain     string // the cluster domain: cluster.local
	Sockets    *Sockets
	Informers  informers.SharedInformerFactory
	ResolvConf string // the machine's /etc/resolv.conf
	Snapshot   string // file that the last known records are kept in
	TTL        time.Duration
	Log        *slog.Logger
	Clock      clock.WithTicker
}

// DefaultTTL is how long clients may keep the address of a Service.
const DefaultTTL = 30 * time.Second

// Server answers on one node.
type Server struct {
	Config
	zone    zone
	records *records
	forward *forwarder
	watch   *watcher
	ready   chan struct{}
}

// New checks c and asks the factory for what the server reads. It starts nothing.
func New(c Config) (*Server, error) {
	if c.Sockets == nil || c.Informers == nil || c.Log == nil || c.Clock == nil || c.ResolvConf == "" {
		return nil, errors.New("dns: Sockets, Informers, ResolvConf, Log and Clock are required")
	}
	if _, ok := mdns.IsDomainName(c.Domain); !ok || c.Domain == "" {
		return nil, fmt.Errorf("dns: cluster domain %q is not a domain name", c.Domain)
	}
	if c.TTL == 0 {
		c.TTL = DefaultTTL
	}
	if c.TTL < 0 || c.TTL > time.Hour {
		return nil, fmt.Errorf("dns: TTL %s is not between 0 and an hour", c.TTL)
	}
	z := zone{apex: strings.ToLower(mdns.Fqdn(c.Domain)), ttl: uint32(c.TTL.Seconds()), self: c.Sockets.Address().Addr()}
	r := newRecords()
	w, err := newWatcher(c.Informers, r)
	if err != nil {
		return nil, err
	}
	return &Server{
		Config: c, zone: z, records: r, watch: w,
		forward: newForwarder(c.ResolvConf, z.self, c.Clock, c.Log), ready: make(chan struct{}),
	}, nil
}

// Ready is closed once questions are answered.
func (s *Server) Ready() <-chan struct{} { return s.ready }

// Run answers until ctx ends. Questions that arrive before it has anything to answer with wait in the sockets.
func (s *Server) Run(ctx context.Context) error {
	known, err := s.restore()
	if err != nil {
		s.Log.Warn("names are not answered until the API server was reached: the records of the last run cannot be read", "error", err)
	}
	g, ctx := errgroup.WithContext(ctx)
	synced := make(chan struct{})
	g.Go(func() error { return s.watch.run(ctx, synced) })
	g.Go(func() error { return s.keep(ctx, synced) })
	g.Go(func() error {
		if !known {
			select {
			case <-ctx.Done():
				return nil
			case <-synced:
			}
		}
		return s.serve(ctx)
	})
	return g.Wait()
}

// serve answers on both sockets until ctx ends.
func (s *Server) serve(ctx context.Context) error {
	handler := mdns.HandlerFunc(func(w mdns.ResponseWriter, q *mdns.Msg) { s.handle(ctx, w, q) })
	servers := []*mdns.Server{
		{PacketConn: s.Sockets.udp, Handler: handler, UDPSize: maxUDP},
		{Listener: s.Sockets.tcp, Handler: handler, ReadTimeout: 5 * time.Second, MaxTCPQueries: 1024},
	}
	g, ctx := errgroup.WithContext(ctx)
	for _, server := range servers {
		started, ended := make(chan struct{}), make(chan struct{})
		server.NotifyStartedFunc = func() { close(started) }
		g.Go(func() error {
			defer close(ended)
			if err := server.ActivateAndServe(); err != nil && ctx.Err() == nil {
				return fmt.Errorf("dns: answer on %s: %w", s.Sockets.Address(), err)
			}
			return nil
		})
		g.Go(func() error {
			<-ctx.Done()
			select {
			case <-started:
			case <-ended:
				return nil
			}
			end, cancel := context.WithTimeout(context.WithoutCancel(ctx), forwardLimit)
			defer cancel()
			return server.ShutdownContext(end)
		})
	}
	close(s.ready)
	s.Log.Info("cluster DNS is ready", "address", s.Sockets.Address())
	return g.Wait()
}

// maxUDP is the largest answer sent over UDP: what fits every path without fragments.
const maxUDP = 1232

// handle answers one question.
func (s *Server) handle(ctx context.Context, w mdns.ResponseWriter, q *mdns.Msg) {
	reply := s.reply(ctx, q)
	if reply == nil {
		return
	}
	size := mdns.MaxMsgSize
	if w.RemoteAddr().Network() == "udp" {
		size = mdns.MinMsgSize
		if opt := q.IsEdns0(); opt != nil {
			size = max(size, min(int(opt.UDPSize()), maxUDP))
		}
	}
	reply.Compress = true
	reply.Truncate(size)
	if err := w.WriteMsg(reply); err != nil {
		s.Log.Debug("answer not sent", "client", w.RemoteAddr(), "error", err)
	}
}

// reply returns the answer to q; nil for what deserves none.
func (s *Server) reply(ctx context.Context, q *mdns.Msg) *mdns.Msg {
	reply := new(mdns.Msg)
	reply.SetReply(q)
	reply.RecursionAvailable = true
	opt := q.IsEdns0()
	if opt != nil {
		reply.SetEdns0(maxUDP, opt.Do())
	}
	switch {
	case q.Response:
		return nil
	case q.Opcode != mdns.OpcodeQuery:
		reply.Rcode = mdns.RcodeNotImplemented
		return reply
	case len(q.Question) != 1:
		reply.Rcode = mdns.RcodeFormatError
		return reply
	case opt != nil && opt.Version() != 0:
		reply.Rcode = mdns.RcodeBadVers
		return reply
	}
	question := q.Question[0]
	if question.Qclass != mdns.ClassINET || question.Qtype == mdns.TypeAXFR || question.Qtype == mdns.TypeIXFR {
		reply.Rcode = mdns.RcodeRefused
		return reply
	}
	a, ours := s.zone.answer(s.records, question)
	if !ours {
		s.forward.ask(ctx, q, reply)
		return reply
	}
	reply.Authoritative = true
	reply.Rcode, reply.Answer, reply.Ns = a.rcode, a.answer, a.authority
	reply.Extra = append(a.extra, reply.Extra...)
	if a.follow != "" {
		s.chase(ctx, q, reply, a.follow)
	}
	shuffle(reply.Answer)
	return reply
}

// chase completes the answer about an ExternalName Service with the addresses of the name it points to.
func (s *Server) chase(ctx context.Context, q, reply *mdns.Msg, target string) {
	next := new(mdns.Msg)
	next.SetQuestion(target, q.Question[0].Qtype)
	if opt := q.IsEdns0(); opt != nil {
		next.SetEdns0(maxUDP, opt.Do())
	}
	if a, ours := s.zone.answer(s.records, next.Question[0]); ours {
		if a.follow == "" { // an ExternalName that points to an ExternalName is left to the client
			reply.Answer = append(reply.Answer, a.answer...)
		}
		return
	}
	found := new(mdns.Msg)
	found.SetReply(next)
	s.forward.ask(ctx, next, found)
	reply.Answer = append(reply.Answer, found.Answer...)
}

// shuffle spreads clients that take the first address over all of them. Records of other types keep their places.
func shuffle(answer []mdns.RR) {
	var at []int
	for i, rr := range answer {
		if t := rr.Header().Rrtype; t == mdns.TypeA || t == mdns.TypeAAAA {
			at = append(at, i)
		}
	}
	rand.Shuffle(len(at), func(i, j int) { answer[at[i]], answer[at[j]] = answer[at[j]], answer[at[i]] })
}
