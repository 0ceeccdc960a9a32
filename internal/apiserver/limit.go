package apiserver

import (
	"context"
	"sync/atomic"
	"time"

	"canopus/internal/auth"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// gate lets a bounded number of requests through at once. A bounded number more wait a while for their turn.
type gate struct {
	slots   chan struct{}
	waiting atomic.Int64
}

// maxWait is how long a request waits for its turn before it is told to come back.
const maxWait = 15 * time.Second

func newGate(n int) *gate { return &gate{slots: make(chan struct{}, n)} }

func (g *gate) inFlight() int { return len(g.slots) }

// enter returns true once there is room; the caller must leave.
func (g *gate) enter(ctx context.Context) bool {
	select {
	case g.slots <- struct{}{}:
		return true
	default:
	}
	defer g.waiting.Add(-1)
	if g.waiting.Add(1) > int64(10*cap(g.slots)) {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, maxWait)
	defer cancel()
	select {
	case g.slots <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

func (g *gate) leave() { <-g.slots }

// limit bounds how many requests are served at once, reads and writes apart. Long-running requests and cluster
// administrators pass freely, so that a person can always see what goes on.
func (s *Server) limit(rq *request) error {
	if rq.longRunning() || !rq.route.resource || rq.user.InGroup(auth.MastersGroup) {
		return nil
	}
	g := s.reads
	switch rq.route.verb {
	case "get", "list":
	default:
		g = s.writes
	}
	if !g.enter(rq.Context()) {
		return apierrors.NewTooManyRequests("too many requests, please try again later", 1)
	}
	rq.ends = append(rq.ends, g.leave)
	return nil
}
