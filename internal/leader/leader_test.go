package leader_test

import (
	"context"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"canopus/internal/apiserver/apitest"
	"canopus/internal/leader"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/utils/clock"
)

func election(api *apitest.Server, identity string) leader.Election {
	return leader.Election{
		Client: api.Client, Identity: identity, Name: "test", Duration: 3 * time.Second, Renew: 2 * time.Second, Retry: 100 * time.Millisecond,
		Clock: clock.RealClock{}, Log: slog.New(slog.DiscardHandler),
	}
}

func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	err := wait.PollUntilContextTimeout(t.Context(), 10*time.Millisecond, 30*time.Second, true, func(context.Context) (bool, error) { return ok(), nil })
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

func TestOneLeadsAndTheOtherTakesOver(t *testing.T) {
	t.Parallel()
	api := apitest.Start(t)
	var leading atomic.Int32
	var overlap atomic.Bool
	var last atomic.Value
	run := func(ctx context.Context, identity string) chan error {
		done := make(chan error, 1)
		go func() {
			done <- election(api, identity).Run(ctx, func(ctx context.Context) {
				if leading.Add(1) > 1 {
					overlap.Store(true)
				}
				last.Store(identity)
				<-ctx.Done()
				leading.Add(-1)
			})
		}()
		return done
	}
	first, stopFirst := context.WithCancel(t.Context())
	one := run(first, "one")
	await(t, "one leads", func() bool { return last.Load() == "one" })
	second, stopSecond := context.WithCancel(t.Context())
	two := run(second, "two")

	stopFirst()
	if err := <-one; err != nil {
		t.Fatal(err)
	}
	await(t, "two takes over", func() bool { return last.Load() == "two" })
	stopSecond()
	if err := <-two; err != nil {
		t.Fatal(err)
	}
	if overlap.Load() || leading.Load() != 0 {
		t.Errorf("overlapping terms: %v, still leading: %d", overlap.Load(), leading.Load())
	}
}

func TestALostLeadEndsTheTermNotRun(t *testing.T) {
	t.Parallel()
	api := apitest.Start(t)
	var terms, ended atomic.Int32
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- election(api, "one").Run(ctx, func(ctx context.Context) {
			terms.Add(1)
			<-ctx.Done()
			ended.Add(1)
		})
	}()
	await(t, "the first term", func() bool { return terms.Load() == 1 })

	// Somebody else takes the lease and then falls silent.
	leases := api.Client.CoordinationV1().Leases("kube-system")
	await(t, "the lease is taken away", func() bool {
		lease, err := leases.Get(ctx, "test", metav1.GetOptions{})
		if err != nil {
			return false
		}
		thief, now := "thief", metav1.NowMicro()
		lease.Spec.HolderIdentity, lease.Spec.RenewTime = &thief, &now
		_, err = leases.Update(ctx, lease, metav1.UpdateOptions{})
		return err == nil
	})
	await(t, "the term ends", func() bool { return ended.Load() == 1 })
	await(t, "a second term", func() bool { return terms.Load() == 2 })
	stop()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func TestRunNamesWhatIsMissing(t *testing.T) {
	t.Parallel()
	if err := (leader.Election{}).Run(t.Context(), func(context.Context) {}); err == nil {
		t.Error("an election without anything was accepted")
	}
}
