package auth

import (
	"context"
	"errors"
	"time"

	"k8s.io/utils/clock"
)

// ErrNotReady says that nobody can decide yet. It is answered with 503, never with a refusal: a client takes a refusal for the
// last word.
var ErrNotReady = errors.New("the server is still reading its authorization rules: try again in a moment; if it stays so, its log and /readyz say what is wrong")

// Gate lets requests wait until Open is closed, but no longer than Patience. An authorizer that has not read its rules yet would
// refuse what they allow: after a restart a client shall get its answer a moment later instead.
type Gate struct {
	Open       <-chan struct{}
	Authorizer Authorizer
	Patience   time.Duration
	Clock      clock.Clock
}

// Authorize implements Authorizer. It has no opinion when the request or the patience ends first.
func (g Gate) Authorize(ctx context.Context, a *Attributes) (Decision, string, error) {
	select {
	case <-g.Open:
		return g.Authorizer.Authorize(ctx, a)
	default:
	}
	timer := g.Clock.NewTimer(g.Patience)
	defer timer.Stop()
	select {
	case <-g.Open:
		return g.Authorizer.Authorize(ctx, a)
	case <-timer.C():
		return NoOpinion, "", ErrNotReady
	case <-ctx.Done():
		return NoOpinion, "", errors.Join(ErrNotReady, ctx.Err())
	}
}
