package store

import (
	"context"
	"errors"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
)

// compactAll lets etcd drop history older than Config.Compact: every interval, what was present an interval ago. Several
// servers on one etcd need not agree: each only drops what is old by its own clock, and a second request for the same
// revision is harmless.
func (s *Store) compactAll(ctx context.Context) error {
	select {
	case <-s.ready:
	case <-ctx.Done():
		return nil
	}
	for before := s.Applied(); s.sleep(ctx, s.c.Compact) == nil; {
		now := s.Applied()
		s.compact(ctx, before)
		before = now
	}
	return nil
}

const compactTimeout = 30 * time.Second

func (s *Store) compact(ctx context.Context, rev int64) {
	ctx, cancel := context.WithTimeout(ctx, compactTimeout)
	defer cancel()
	_, err := s.c.Etcd.Compact(ctx, rev)
	if err != nil && !errors.Is(err, rpctypes.ErrCompacted) && ctx.Err() == nil {
		s.c.Log.Warn("cannot compact etcd's history; it grows until this works", "revision", rev, "error", err)
	}
	for _, r := range *s.routes.Load() {
		r.past.Store(nil) // kept for a burst of watchers that come back, not for long
	}
}
