package controllers

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/record"

	"canopus/internal/controllers/reconcile"
)

// again is the pause before a controller that failed is started again.
const again = time.Second

// Set is the controllers of one process.
type Set struct {
	c      Config
	queues *reconcile.Queues
}

// New checks the configuration by making every controller once. Nothing runs before Run.
func New(c Config) (*Set, error) {
	if err := c.complete(); err != nil {
		return nil, err
	}
	s := &Set{c: c, queues: reconcile.NewQueues()}
	for _, controller := range All() {
		if _, err := s.make(controller, &record.FakeRecorder{}); err != nil {
			return nil, err
		}
	}
	return s, s.show()
}

// show lets the figures be asked for.
func (s *Set) show() error {
	if s.c.Metrics == nil {
		return nil
	}
	for _, figures := range []prometheus.Collector{s.queues, s.c.claims, s.c.running} {
		if err := s.c.Metrics.Register(figures); err != nil {
			return fmt.Errorf("show the figures of the controllers: %w", err)
		}
	}
	return nil
}

func (s *Set) make(controller Controller, events record.EventRecorder) (Runner, error) {
	client, meta, err := s.c.Client(controller.Identity)
	if err != nil {
		return nil, fmt.Errorf("client for %s: %w", controller.Name, err)
	}
	r, err := controller.New(s.c, Parts{
		Deps:     reconcile.Deps{Client: client, Informers: s.c.Informers, Events: events, Clock: s.c.Clock, Log: s.c.Log, Queues: s.queues, Metrics: s.c.Metrics},
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
	return s.c.Election.Run(ctx, s.term)
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
	if _, idles := r.(idle); !idles {
		works := s.c.running.WithLabelValues(shownAs(controller.Name), manager)
		works.Set(1)
		defer works.Set(0)
	}
	return r.Run(ctx)
}

// manager is the component that upstream's controllers run in.
const manager = "kube-controller-manager"

// shownAs is how figures call a controller: by its name, but for one that upstream's figures call differently.
func shownAs(name string) string {
	if name == "cidrAllocator" {
		return "nodeipam"
	}
	return name
}

// idle stands for a controller that lacks what this process was not given.
type idle struct {
	log *slog.Logger
	why string
}

// Run says so once and waits.
func (i idle) Run(ctx context.Context) error {
	i.log.Info(i.why)
	<-ctx.Done()
	return nil
}

func pause(ctx context.Context, c Config) {
	select {
	case <-ctx.Done():
	case <-c.Clock.After(again):
	}
}
