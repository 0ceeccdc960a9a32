package controllers

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/record"
	"k8s.io/utils/clock"

	"canopus/internal/apiserver/apitest"
	"canopus/internal/controllers/reconcile"
)

// fault says with which write a process ends.
type fault struct {
	at     int  // 0: never
	landed bool // the server carries the last write out, and nobody learns of it
}

func (f fault) String() string {
	if f.landed {
		return fmt.Sprintf("write %d landed", f.at)
	}
	return fmt.Sprintf("write %d lost", f.at)
}

// ending carries a process's writes out up to its fault. What it tries later never reaches the server.
type ending struct {
	fault  fault
	stop   func()
	writes *atomic.Int64
	next   http.RoundTripper
}

var errStopped = errors.New("the process has ended")

// RoundTrip implements http.RoundTripper.
func (e ending) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Method == http.MethodGet {
		return e.next.RoundTrip(r)
	}
	n := int(e.writes.Add(1))
	switch {
	case e.fault.at == 0:
		return e.next.RoundTrip(r)
	case n < e.fault.at: // done with when the next process begins, even if this one ends meanwhile
		return e.next.RoundTrip(r.WithContext(context.WithoutCancel(r.Context())))
	case n == e.fault.at && e.fault.landed:
		answer, err := e.next.RoundTrip(r.WithContext(context.WithoutCancel(r.Context())))
		if err == nil {
			_, _ = io.Copy(io.Discard, answer.Body)
			_ = answer.Body.Close()
		}
	}
	e.stop()
	return nil, fmt.Errorf("%s %s: %w", r.Method, r.URL.Path, errStopped)
}

// rushed is a clock that is fast.
type rushed struct {
	clock.RealClock
	start  time.Time
	by     time.Duration // ahead at the start
	faster int           // times as fast
}

// Now implements clock.PassiveClock.
func (c rushed) Now() time.Time {
	return c.start.Add(c.by + time.Since(c.start)*time.Duration(c.faster))
}

// Since implements clock.PassiveClock.
func (c rushed) Since(t time.Time) time.Duration { return c.Now().Sub(t) }

// NewTimer implements clock.Clock.
func (c rushed) NewTimer(d time.Duration) clock.Timer {
	return c.RealClock.NewTimer(d / time.Duration(c.faster))
}

// NewTicker implements clock.WithTicker.
func (c rushed) NewTicker(d time.Duration) clock.Ticker {
	return c.RealClock.NewTicker(d / time.Duration(c.faster))
}

// process is one life of the controllers named.
type process struct {
	t      *testing.T
	server *apitest.Server
	names  []string
	later  time.Duration
	faster int
	tune   func(*Config)
	queues *reconcile.Queues
	// informers stay when the process's controllers end, as those of one that waits to lead again; nil: it has its own.
	informers informers.SharedInformerFactory
}

// run works until ctx or, with its fault, the process ends. It reports whether that happened.
func (p *process) run(ctx context.Context, f fault) (stopped bool, err error) {
	reading := ctx
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var hit atomic.Bool
	var writes atomic.Int64
	config := protobuf(p.server)
	config.Wrap(func(next http.RoundTripper) http.RoundTripper {
		return ending{fault: f, writes: &writes, next: next, stop: func() { hit.Store(true); cancel() }}
	})
	c, err := p.config(config)
	if err != nil {
		return false, err
	}
	if p.informers != nil {
		c.Informers = p.informers
	} else {
		reading = ctx
		defer func() { // they end when ctx does
			cancel()
			c.Informers.Shutdown()
		}()
	}
	set := &Set{c: *c, queues: p.queues}
	var running sync.WaitGroup
	defer running.Wait()
	for _, controller := range All() {
		if !slices.Contains(p.names, controller.Name) {
			continue
		}
		r, err := set.make(controller, &record.FakeRecorder{})
		if err != nil {
			cancel()
			return false, err
		}
		running.Go(func() {
			if err := r.Run(ctx); err != nil && ctx.Err() == nil {
				p.t.Errorf("%s: %v", controller.Name, err)
			}
		})
	}
	c.Informers.StartWithContext(reading)
	running.Wait()
	return hit.Load(), nil
}

// protobuf is a client of server that speaks as the parts of a process do.
func protobuf(server *apitest.Server) *rest.Config {
	config := rest.CopyConfig(server.Admin)
	config.WarningHandler = rest.NoWarnings{}
	config.ContentType, config.AcceptContentTypes = "application/vnd.kubernetes.protobuf", "application/vnd.kubernetes.protobuf,application/json"
	return config
}

// config is what the controllers work with.
func (p *process) config(client *rest.Config) (*Config, error) {
	reader, err := kubernetes.NewForConfig(client)
	if err != nil {
		return nil, err
	}
	c := &Config{
		Client:    func(string) (kubernetes.Interface, metadata.Interface, error) { return clientsOf(client) },
		Informers: informers.NewSharedInformerFactory(reader, 0), Reader: reader, Clock: rushed{start: time.Now(), by: p.later, faster: max(p.faster, 1)},
		Log:    slog.New(slog.NewTextHandler(logWriter{p.t}, &slog.HandlerOptions{Level: slog.LevelWarn})),
		RootCA: []byte("-----BEGIN CERTIFICATE-----\n"), ClusterCIDRs: []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16")},
	}
	if p.tune != nil {
		p.tune(c)
	}
	return c, c.complete()
}
