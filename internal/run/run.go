// Package run runs the parts of a process: started in order, stopped in the reverse order, one failure ends all.
package run

import (
	"context"
	"fmt"
	"log/slog"
)

// Part is something that runs until its context ends. Run returns when all its goroutines have; an error before that is a
// failure of the process.
type Part struct {
	Name string
	Run  func(ctx context.Context) error
}

// All starts the parts in order and waits until ctx ends or one fails, then stops them in the reverse order, each when the one
// started after it has returned. It returns the first failure.
func All(ctx context.Context, log *slog.Logger, parts ...Part) error {
	type running struct {
		cancel context.CancelFunc
		done   chan struct{}
	}
	failed := make(chan error, len(parts))
	started := make([]running, 0, len(parts))
	for _, p := range parts {
		own, cancel := context.WithCancel(context.WithoutCancel(ctx))
		r := running{cancel: cancel, done: make(chan struct{})}
		started = append(started, r)
		go func() {
			defer close(r.done)
			if err := p.Run(own); err != nil && own.Err() == nil {
				failed <- fmt.Errorf("%s: %w", p.Name, err)
			}
		}()
	}
	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
		log.Error("a part has failed, stopping", "error", err)
	}
	for i := len(started) - 1; i >= 0; i-- {
		started[i].cancel()
		<-started[i].done
	}
	return err
}
