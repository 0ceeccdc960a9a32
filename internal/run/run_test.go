package run

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"testing"
)

func TestAllStopsInReverseOrder(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var stopped []string
	part := func(name string) Part {
		return Part{name, func(ctx context.Context) error {
			<-ctx.Done()
			mu.Lock()
			defer mu.Unlock()
			stopped = append(stopped, name)
			return nil
		}}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := All(ctx, slog.New(slog.DiscardHandler), part("a"), part("b"), part("c")); err != nil {
		t.Fatal(err)
	}
	if want := []string{"c", "b", "a"}; !slices.Equal(stopped, want) {
		t.Errorf("stopped in the order %v, want %v", stopped, want)
	}
}

func TestAllEndsWithTheFirstFailure(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	other := false
	err := All(t.Context(), slog.New(slog.DiscardHandler),
		Part{"waits", func(ctx context.Context) error { <-ctx.Done(); other = true; return nil }},
		Part{"fails", func(context.Context) error { return broken }})
	if !errors.Is(err, broken) || err.Error() != "fails: broken" {
		t.Errorf("got %v", err)
	}
	if !other {
		t.Error("the other part was not stopped")
	}
}
