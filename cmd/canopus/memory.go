package main

import (
	"context"
	"log/slog"
	"os"

	"canopus/internal/heap"
	"canopus/internal/run"

	"k8s.io/utils/clock"
)

// runParts runs parts, and beside them what paces the garbage collector, unless the environment sets GOGC: whoever does wants it so.
func runParts(ctx context.Context, log *slog.Logger, parts ...run.Part) error {
	if os.Getenv("GOGC") == "" {
		pacer, err := heap.New(clock.RealClock{})
		if err != nil {
			return err
		}
		parts = append([]run.Part{{Name: "memory", Run: pacer.Run}}, parts...)
	}
	return run.All(ctx, log, parts...)
}
