package reconcile

import (
	"context"
	"slices"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// inFlight bounds how many writes of one batch wait for the server at once: more only makes them queue there.
const inFlight = 64

// SlowStart calls do n times in batches of 1, 2, 4, … and stops after the first batch in which a call failed: what the
// server refuses once (a quota, say) is not asked for a thousand times. It returns how many calls succeeded, and the first failure;
// none when what was refused is new content of a namespace that goes, and the owner with it.
func SlowStart(ctx context.Context, n int, do func(ctx context.Context) error) (int, error) {
	done := 0
	for batch := 1; done < n && ctx.Err() == nil; batch *= 2 {
		size := min(batch, n-done)
		failed := Parallel(ctx, size, func(ctx context.Context, _ int) error { return do(ctx) })
		done += size - len(failed)
		if i := slices.IndexFunc(failed, func(err error) bool { return !Terminating(err) }); i >= 0 {
			return done, failed[i]
		}
		if len(failed) > 0 {
			return done, nil
		}
	}
	return done, ctx.Err()
}

// Terminating says whether the server refused err's write because the namespace is being deleted.
func Terminating(err error) bool {
	return apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause)
}

// Parallel calls do for 0 … n-1, several at once, and returns the errors of those that failed.
func Parallel(ctx context.Context, n int, do func(ctx context.Context, i int) error) []error {
	errs := make([]error, n)
	var g errgroup.Group
	g.SetLimit(inFlight)
	for i := range n {
		g.Go(func() error {
			errs[i] = do(ctx, i)
			return nil
		})
	}
	_ = g.Wait() // the calls keep their own errors
	failed := errs[:0]
	for _, err := range errs {
		if err != nil {
			failed = append(failed, err)
		}
	}
	return failed
}
