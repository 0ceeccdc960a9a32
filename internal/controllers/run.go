package controllers

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	"k8s.io/client-go/tools/record"

	"canopus/internal/controllers/reconcile"
)

// again is the pause before a controller that failed, or an election that was lost, is tried again.
const again = time.Second

// Election is a Lease that only one process holds at a time.
type Election struct {
	Client   kubernetes.Interface // as system:kube-controller-manager
	Identity string               // of this process, unique in the cluster
	Name     string               // of the Lease in kube-system; kube-controller-manager unless set
	Duration time.Duration        // after which a silent holder has lost it; 15 s unless set
	Renew    time.Duration        // deadline for the holder's own renewals; 10 s unless set
	Retry    time.Duration        // 2 s unless set
}

func (e *Election) complete() error {
	if e == nil {
		return nil
	}
	if e.Client == nil || e.Identity == "" {
		return errors.New("leader election needs a client and an identity of this process")
	}
	orDefault(&e.Name, "kube-controller-manager")
	orDefault(&e.Duration, 15*time.Second)
	orDefault(&e.Renew, 10*time.Second)
	orDefault(&e.Retry, 2*time.Second)
	return nil
}

// Set is the controllers of one process.
type Set struct {
	c Config
}

// New checks the configuration by making every controller once. Nothing runs before Run.
func New(c Config) (*Set, error) {
	if err := c.complete(); err != nil {
		return nil, err
	}
	s := &Set{c: c}
	for _, controller := range All() {
		if _, err := s.make(controller, &record.FakeRecorder{}); err != nil {
			return nil, err
		}
	}
	return s, nil
}

func (s *Set) make(controller Controller, events record.EventRecorder) (Runner, error) {
	client, meta, err := s.c.Client(controller.Identity)
	if err != nil {
		return nil, fmt.Errorf("client for %s: %w", controller.Name, err)
	}
	r, err := controller.New(s.c, Parts{
		Deps:     reconcile.Deps{Client: client, Informers: s.c.Informers, Events: events, Clock: s.c.Clock, Log: s.c.Log},
		Metadata: meta,
	})
	if err != nil {
		return nil, fmt.Errorf("make %s: %w", controller.Name, err)
	}
	return r, nil
}

// Run works, with an Election whenever this process is the leader, until ctx ends. Losing the lead stops the controllers,
// not Run: it stands for election again. Informers keep running in between, so that a new leader is quick.
func (s *Set) Run(ctx context.Context) error {
	s.c.Informers.StartWithContext(ctx)
	if s.c.Election == nil {
		s.term(ctx)
		return nil
	}
	for ctx.Err() == nil {
		if err := s.stand(ctx); err != nil {
			return err
		}
		if ctx.Err() == nil {
			s.c.Log.Warn("lost the lead, standing for election again", "lease", s.c.Election.Name)
			pause(ctx, s.c)
		}
	}
	return nil
}

// stand takes part in one election and returns when the lead, if it came, is lost again.
func (s *Set) stand(ctx context.Context) error {
	e := s.c.Election
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
				s.c.Log.Info("leading the controllers", "lease", e.Name, "identity", e.Identity)
				s.term(leading)
			},
			OnStoppedLeading: func() {},
		},
	})
	if err != nil {
		return fmt.Errorf("leader election: %w", err)
	}
	elector.Run(ctx)
	if lock.led {
		<-ended // the elector does not wait for it, and two terms must not overlap
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

// term runs every controller until ctx ends.
func (s *Set) term(ctx context.Context) {
	var running sync.WaitGroup
	for _, controller := range All() {
		running.Go(func() {
			for ctx.Err() == nil {
				if err := s.run(ctx, controller); err != nil && ctx.Err() == nil {
					s.c.Log.Error("controller ended, starting it again", "controller", controller.Name, "error", err)
					pause(ctx, s.c)
				}
			}
		})
	}
	running.Wait()
}

// run makes a controller with its own event recorder and works until ctx ends.
func (s *Set) run(ctx context.Context, controller Controller) error {
	client, _, err := s.c.Client(controller.Identity)
	if err != nil {
		return fmt.Errorf("client for the events of %s: %w", controller.Name, err)
	}
	broadcaster := record.NewBroadcaster(record.WithContext(ctx))
	defer broadcaster.Shutdown()
	broadcaster.StartRecordingToSink(eventSink{ctx, client.CoreV1()})
	r, err := s.make(controller, broadcaster.NewRecorder(scheme.Scheme, corev1.EventSource{Component: controller.Name}))
	if err != nil {
		return err
	}
	s.c.Informers.StartWithContext(ctx) // nothing new unless the list changed since Run
	return r.Run(ctx)
}

func pause(ctx context.Context, c Config) {
	select {
	case <-ctx.Done():
	case <-c.Clock.After(again):
	}
}
