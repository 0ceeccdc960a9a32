package auth

import "context"

type userKey struct{}

// WithUser returns a context that carries the sender of a request. In-process clients set it instead of credentials.
func WithUser(ctx context.Context, u *User) context.Context {
	return context.WithValue(ctx, userKey{}, u)
}

// UserFrom returns the sender that ctx carries, or nil.
func UserFrom(ctx context.Context) *User {
	u, _ := ctx.Value(userKey{}).(*User)
	return u
}
