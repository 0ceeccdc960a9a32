package auth

import (
	"context"
	"errors"
)

// Gate lets requests wait until Open is closed. An authorizer that has not read its rules yet would refuse what they allow,
// and a client takes a refusal for the last word: after a restart it shall get its answer a moment later instead.
type Gate struct {
	Open       <-chan struct{}
	Authorizer Authorizer
}

// Authorize implements Authorizer. It has no opinion when the request ends first.
func (g Gate) Authorize(ctx context.Context, a *Attributes) (Decision, string, error) {
	select {
	case <-g.Open:
		return g.Authorizer.Authorize(ctx, a)
	default:
	}
	select {
	case <-g.Open:
		return g.Authorizer.Authorize(ctx, a)
	case <-ctx.Done():
		return NoOpinion, "", errors.Join(errors.New("the server is still reading its authorization rules: try again in a moment"), ctx.Err())
	}
}
