// Package leader lets several processes agree, by a Lease, on the one that works.
package leader

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	"k8s.io/utils/clock"
)

// Election is a Lease in kube-system that only one process holds at a time. Client, Identity, Name, Clock and Log are required.
type Election struct {
	Client   kubernetes.Interface
	Identity string        // of this process, unique in the cluster
	Name     string        // of the Lease
	Duration time.Duration // after which a silent holder has lost it; 15 s unless set
	Renew    time.Duration // deadline for the holder's own renewals; 10 s unless set
	Retry    time.Duration // 2 s unless set
	Clock    clock.Clock
	Log      *slog.Logger
}

// again is the pause before standing again after a lost election.
const again = time.Second

func (e *Election) complete() error {
	if e.Client == nil || e.Identity == "" || e.Name == "" || e.Clock == nil || e.Log == nil {
		return errors.New("leader election: client, identity of this process, name of the lease, clock and log are required")
	}
	for _, d := range []struct {
		value *time.Duration
		unset time.Duration
	}{{&e.Duration, 15 * time.Second}, {&e.Renew, 10 * time.Second}, {&e.Retry, 2 * time.Second}} {
		if *d.value == 0 {
			*d.value = d.unset
		}
	}
	return nil
}

// Run calls term whenever this process is the leader, with a context that ends when it is no longer. Two terms never overlap.
// It returns when ctx ends; losing the lead ends the term, not Run.
func (e Election) Run(ctx context.Context, term func(context.Context)) error {
	if err := e.complete(); err != nil {
		return err
	}
	for ctx.Err() == nil {
		if err := e.stand(ctx, term); err != nil {
			return err
		}
		if ctx.Err() == nil {
			e.Log.Warn("lost the lead, standing for election again", "lease", e.Name)
			select {
			case <-ctx.Done():
			case <-e.Clock.After(again):
			}
		}
	}
	return nil
}

// stand takes part in one election and returns when the lead, if it came, is lost again.
func (e *Election) stand(ctx context.Context, term func(context.Context)) error {
	lock := &watchedLock{LeaseLock: &resourcelock.LeaseLock{
		LeaseMeta:  metav1.ObjectMeta{Namespace: metav1.NamespaceSystem, Name: e.Name},
		Client:     e.Client.CoordinationV1(),
		LockConfig: resourcelock.ResourceLockConfig{Identity: e.Identity},
	}}
	ended := make(chan struct{})
	elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
		Lock: lock, Name: e.Name, LeaseDuration: e.Duration, RenewDeadline: e.Renew, RetryPeriod: e.Retry, ReleaseOnCancel: true,
		Callbacks: leaderelection.LeaderCallbacks{
			OnStartedLeading: func(leading context.Context) {
				defer close(ended)
				e.Log.Info("leading", "lease", e.Name, "identity", e.Identity)
				term(leading)
			},
			OnStoppedLeading: func() {},
		},
	})
	if err != nil {
		return fmt.Errorf("leader election: %w", err)
	}
	elector.Run(ctx)
	if lock.led {
		<-ended // the elector does not wait for it
	}
	return nil
}

// watchedLock notices that the lead was won: the elector says so to its lock before it starts the term in a goroutine.
type watchedLock struct {
	*resourcelock.LeaseLock
	led bool
}

// RecordEvent is told "became leader" and "stopped leading" by the elector.
func (l *watchedLock) RecordEvent(what string) {
	l.led = l.led || what == "became leader"
	l.LeaseLock.RecordEvent(what)
}
