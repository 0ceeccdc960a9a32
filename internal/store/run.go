package store

import (
	"context"
	"errors"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc/metadata"
)

var errWatchEnded = errors.New("etcd ended the watch")

// retryEvery is the pause between attempts to reach an etcd that does not answer.
const retryEvery = 500 * time.Millisecond

// Run loads what is registered and follows etcd until ctx ends. It may be called once.
func (s *Store) Run(ctx context.Context) error {
	defer close(s.progress.stopped)
	s.mu.Lock()
	s.running = true
	s.mu.Unlock()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return s.readRevisions(ctx) })
	g.Go(func() error { return s.applyAll(ctx) })
	g.Go(func() error { return s.loadLate(ctx) })
	g.Go(func() error { return s.compactAll(ctx) })
	err := g.Wait()
	for _, r := range *s.routes.Load() {
		r.endWatches(ErrClosed)
	}
	return err
}

// applyAll is the applier: the only goroutine that changes states and rings.
func (s *Store) applyAll(ctx context.Context) error {
	from, err := s.retry(ctx, "load from etcd", s.loadFirst)
	if err != nil {
		return nil // ctx ended
	}
	close(s.ready)
	for {
		err := s.follow(ctx, from)
		if ctx.Err() != nil {
			return nil
		}
		from = s.Applied()
		if errors.Is(err, rpctypes.ErrCompacted) {
			s.c.Log.Warn("etcd has compacted history not yet seen; comparing all resources with it", "applied", from)
			if from, err = s.retry(ctx, "compare with etcd", s.resync); err != nil {
				return nil
			}
			continue
		}
		s.c.Log.Warn("watch on etcd broke, starting it again", "applied", from, "error", err)
		if s.sleep(ctx, retryEvery) != nil {
			return nil
		}
	}
}

// retry calls f until it succeeds. Its only error is ctx's.
func (s *Store) retry(ctx context.Context, what string, f func(context.Context) (int64, error)) (int64, error) {
	for {
		rev, err := f(ctx)
		if err == nil {
			return rev, nil
		}
		if ctx.Err() != nil {
			return 0, ctx.Err()
		}
		s.c.Log.Warn("cannot "+what+", trying again", "error", err)
		if err := s.sleep(ctx, retryEvery); err != nil {
			return 0, err
		}
	}
}

func (s *Store) sleep(ctx context.Context, d time.Duration) error {
	t := s.c.Clock.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C():
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// streamContext gives a watch an etcd stream of its own. Progress can then be requested for it alone: etcd's client finds
// the stream by the context's metadata.
func streamContext(ctx context.Context, name string) context.Context {
	return metadata.AppendToOutgoingContext(ctx, "canopus-stream", name)
}
