package apiserver

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"canopus/internal/admission"
	"canopus/internal/apiserver/patch"
	"canopus/internal/auth"
	"canopus/internal/kinds"
	"canopus/internal/store"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/version"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/utils/clock"
)

// Config says what a Server is made of. Kinds, Store, Authenticator, Authorizer, Version, Clock and Log are required; Listener and TLS
// are for Run only.
type Config struct {
	Kinds *kinds.Set
	Store *store.Store // not yet running: New registers the kinds with it

	Listener net.Listener
	TLS      *tls.Config // with certificates; client certificates are asked for if ClientAuth says so

	Authenticator auth.Authenticator
	Authorizer    auth.Authorizer
	Admission     Admission               // nil: everything passes
	Claims        Claims                  // nil: no write claims anything beside its object
	Quota         Quota                   // nil: nothing is limited
	Tokens        Tokens                  // nil: serviceaccounts/token answers 501
	Reviewer      TokenReviewer           // nil: TokenReview answers 501
	Rules         Rules                   // nil: SelfSubjectRulesReview answers that it cannot tell
	Audit         func(*AuditEvent)       // nil: nobody listens
	ConnContext   ConnContext             // nil: nothing is kept per connection
	Nodes         Nodes                   // how to reach nodes and pods
	Checks        []Check                 // what /readyz and its friends look at, besides the store
	Address       string                  // host:port that discovery tells clients; the listener's unless set
	Pages         map[string]http.Handler // further paths, authorized by path: "/openid/v1/jwks"; a trailing slash takes the tree

	// Computed answers reads of kinds that are never stored; one without an entry answers 501.
	Computed map[schema.GroupResource]Computed
	// Transformer returns how a resource is encrypted at rest; nil, or nil for a resource: stored in plain.
	Transformer func(schema.GroupResource) store.Transformer
	// Informed says which resources in-process informers read: their decoded objects are kept. nil: none.
	Informed func(schema.GroupResource) bool

	Version        version.Info
	Metrics        *prometheus.Registry // nil: one of its own
	RequestTimeout time.Duration        // 60 s unless set
	MaxReads       int                  // reads served at once; 400 unless set
	MaxWrites      int                  // writes served at once; 200 unless set
	Clock          clock.Clock
	Log            *slog.Logger
}

// ConnContext gives each connection a place for what is found out about it once, such as who its certificate names.
type ConnContext func(ctx context.Context, c net.Conn) context.Context

// Admission changes or refuses writes; the chain of package admission meets it.
type Admission interface {
	Admit(ctx context.Context, r *admission.Request) error
	Validate(ctx context.Context, r *admission.Request) error
}

// Server answers API requests. Make it with New; its handler works once the store is ready.
type Server struct {
	cfg     Config
	clock   clock.Clock
	log     *slog.Logger
	served  atomic.Pointer[catalog]
	reads   *gate
	writes  *gate
	metrics *metrics
	pages   map[string]page
	buffers buffers // for what is long
	singles buffers // for an object
	proxies *proxies
	ready   chan struct{}
	schemas *patch.Schemas
	streams streams // watches under way, which end when Run does
}

// New checks c, registers its kinds with the store and returns a server that does not listen yet.
func New(c Config) (*Server, error) {
	if err := c.complete(); err != nil {
		return nil, err
	}
	s := &Server{cfg: c, clock: c.Clock, log: c.Log, reads: newGate(c.MaxReads), writes: newGate(c.MaxWrites),
		buffers: buffers{size: chunk}, singles: buffers{size: single},
		schemas: patch.NewSchemas(scheme.Scheme), ready: make(chan struct{})}
	s.metrics = newMetrics(c.Metrics, s)
	s.proxies = newProxies(s)
	if err := s.SetKinds(c.Kinds); err != nil {
		return nil, err
	}
	s.pages = s.makePages()
	return s, nil
}

func (c *Config) complete() error {
	if c.Kinds == nil || c.Store == nil || c.Authenticator == nil || c.Authorizer == nil || c.Clock == nil || c.Log == nil {
		return errors.New("apiserver: kinds, store, authenticator, authorizer, clock and log are required")
	}
	if c.Version.GitVersion == "" {
		return errors.New("apiserver: a version is required, it is what /version answers")
	}
	if c.RequestTimeout == 0 {
		c.RequestTimeout = time.Minute
	}
	if c.MaxReads == 0 {
		c.MaxReads = 400
	}
	if c.MaxWrites == 0 {
		c.MaxWrites = 200
	}
	if c.RequestTimeout < 0 || c.MaxReads < 0 || c.MaxWrites < 0 {
		return errors.New("apiserver: request timeout and limits must be positive")
	}
	if c.Metrics == nil {
		c.Metrics = prometheus.NewRegistry()
	}
	return nil
}

// Handler serves requests without a listener, to clients in this process. They carry their identity in the context.
func (s *Server) Handler() http.Handler { return s }

// Ready is closed once the server listens and the store is loaded.
func (s *Server) Ready() <-chan struct{} { return s.ready }

// Resource returns the store's side of a served resource, or nil.
func (s *Server) Resource(gr schema.GroupResource) *store.Resource {
	return s.served.Load().stored[gr].resource()
}

func (s *Server) address() string {
	if s.cfg.Address == "" && s.cfg.Listener != nil {
		return s.cfg.Listener.Addr().String()
	}
	return s.cfg.Address
}

// ResourceFor returns the store's side of the kind that is served as gvk, or nil. Only the stored version has one: other
// versions would have to be converted.
func (s *Server) ResourceFor(gvk schema.GroupVersionKind) *store.Resource {
	c := s.served.Load()
	v, ok := c.set.Kind(gvk)
	if !ok || !v.Hub() {
		return nil
	}
	return c.stored[v.Kind.GroupResource()].resource()
}

// Kinds returns what is served now.
func (s *Server) Kinds() *kinds.Set { return s.served.Load().set }

// The limits of one connection.
const (
	headerTimeout  = 30 * time.Second
	idleTimeout    = 3 * time.Minute
	maxHeaderBytes = 1 << 20
	maxStreams     = 1000 // concurrent requests of one connection; every watch is one
	drainTime      = 10 * time.Second
)

// Run listens until ctx ends, then lets short requests finish.
func (s *Server) Run(ctx context.Context) error {
	if s.cfg.Listener == nil || s.cfg.TLS == nil {
		return errors.New("apiserver: a listener and a TLS configuration are required to run")
	}
	hs := s.httpServer()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		err := hs.ServeTLS(s.cfg.Listener, "", "")
		if errors.Is(err, http.ErrServerClosed) {
			return nil
		}
		return fmt.Errorf("serve API on %s: %w", s.cfg.Listener.Addr(), err)
	})
	g.Go(func() error {
		select {
		case <-s.cfg.Store.Ready():
			close(s.ready)
		case <-ctx.Done():
		}
		return nil
	})
	g.Go(func() error {
		<-ctx.Done()
		s.streams.end()
		return shutDown(ctx, hs)
	})
	return g.Wait()
}

// shutDown waits a while for the requests under way, then cuts the rest.
func shutDown(ctx context.Context, hs *http.Server) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTime)
	defer cancel()
	if err := hs.Shutdown(ctx); err != nil {
		return hs.Close()
	}
	return nil
}

func (s *Server) httpServer() *http.Server {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	hs := &http.Server{
		Handler:           s,
		TLSConfig:         s.cfg.TLS.Clone(),
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		Protocols:         protocols,
		HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: maxStreams, MaxReadFrameSize: 1 << 20},
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	if s.cfg.ConnContext != nil {
		hs.ConnContext = s.cfg.ConnContext
	}
	return hs
}
