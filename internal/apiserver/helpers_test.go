package apiserver_test

import (
	"context"
	"net"

	"canopus/internal/auth"
)

type authorizerFunc func(a *auth.Attributes) auth.Decision

func (f authorizerFunc) Authorize(_ context.Context, a *auth.Attributes) (auth.Decision, string, error) {
	return f(a), "", nil
}

func dialTo(address string) func(context.Context, string) (net.Conn, error) {
	return func(ctx context.Context, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "tcp", address)
	}
}
