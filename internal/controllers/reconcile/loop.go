// Package reconcile is the shell around every controller's decision: a queue of keys, workers that take them, back-off
// for what fails, and the small pieces that shells share (owner references, our own writes that the cache does not show
// yet, slow-start batches, periodic work).
//
// A controller declares its Sources (which change in which informer concerns which keys) and one function that brings a
// single key to its wanted state. It is level-triggered: the function never learns which event woke it.
package reconcile

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/utils/clock"
)

// Back-off of a key that fails: doubled from the first to the last with every failure in a row. The last is what people wait for who
// have mended the reason, a quota for instance, that no event tells of.
const (
	firstBackoff = 5 * time.Millisecond
	lastBackoff  = 30 * time.Second
)

// Func brings key to its wanted state. A positive duration asks to be called again after it, however the world changes.
// An error asks to be called again with back-off, unless it is Terminal.
type Func[K comparable] func(ctx context.Context, key K) (time.Duration, error)

// Config says what a Loop runs. Sources and Caches may be empty.
type Config[K comparable] struct {
	Name      string // of the queue, as in upstream's workqueue metrics
	Workers   int
	Sources   []Source[K]
	Reconcile Func[K]
	Clock     clock.WithTicker
	Log       *slog.Logger
	Queues    *Queues // measures the queue; nil: nobody does
	// Caches must be synced before the first reconcile, besides those of Sources.
	Caches []cache.SharedIndexInformer
}

// Loop calls a Func for every key that its sources name, never twice at once for the same key.
type Loop[K comparable] struct {
	c Config[K]

	mu    sync.Mutex
	queue workqueue.TypedRateLimitingInterface[K] // made by Run, because a queue has goroutines
	meter *meter[K]                               // made with queue
	early []K                                     // added before Run
}

// New checks c. Nothing is watched before Run. A Loop runs once.
func New[K comparable](c Config[K]) (*Loop[K], error) {
	switch {
	case c.Name == "":
		return nil, errors.New("a reconcile loop needs a name")
	case c.Workers < 1:
		return nil, fmt.Errorf("reconcile loop %s: %d workers, want at least 1", c.Name, c.Workers)
	case c.Reconcile == nil, c.Clock == nil, c.Log == nil:
		return nil, fmt.Errorf("reconcile loop %s: a reconcile function, a clock and a log are required", c.Name)
	}
	if c.Queues == nil {
		c.Queues = NewQueues()
	}
	return &Loop[K]{c: c}, nil
}

// Add queues key now, or at the start of Run.
func (l *Loop[K]) Add(key K) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.queue == nil {
		l.early = append(l.early, key)
		return
	}
	l.queue.Add(key)
}

func (l *Loop[K]) open() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.meter = meterOf[K](l.c.Queues, l.c.Name, l.c.Clock)
	inner := workqueue.NewTypedWithConfig(workqueue.TypedQueueConfig[K]{Queue: l.meter, Clock: l.c.Clock})
	l.queue = workqueue.NewTypedRateLimitingQueueWithConfig(
		workqueue.NewTypedItemExponentialFailureRateLimiter[K](firstBackoff, lastBackoff),
		workqueue.TypedRateLimitingQueueConfig[K]{
			Clock:         l.c.Clock,
			DelayingQueue: workqueue.NewTypedDelayingQueueWithConfig(workqueue.TypedDelayingQueueConfig[K]{Queue: inner, Clock: l.c.Clock}),
		},
	)
	for _, key := range l.early {
		l.queue.Add(key)
	}
	l.early = nil
}

// Run watches the sources, waits for their caches and works until ctx ends.
func (l *Loop[K]) Run(ctx context.Context) error {
	l.open()
	defer l.queue.ShutDown()
	synced := make([]cache.InformerSynced, 0, len(l.c.Sources)+len(l.c.Caches))
	for _, s := range l.c.Sources {
		registration, err := s.Informer.AddEventHandler(s.handler(l.Add))
		if err != nil {
			return fmt.Errorf("controller %s cannot watch: %w", l.c.Name, err)
		}
		// RemoveEventHandler fails only for a registration that is not the informer's own.
		defer func() { _ = s.Informer.RemoveEventHandler(registration) }()
		synced = append(synced, registration.HasSynced)
	}
	for _, informer := range l.c.Caches {
		synced = append(synced, informer.HasSynced)
	}
	if !cache.WaitForCacheSync(ctx.Done(), synced...) {
		return nil // ctx ended first
	}
	l.meter.fill()
	var workers sync.WaitGroup
	for range l.c.Workers {
		workers.Go(func() {
			for l.next(ctx) {
			}
		})
	}
	<-ctx.Done()
	l.queue.ShutDown()
	workers.Wait()
	return nil
}

// next takes one key and reports whether there may be another.
func (l *Loop[K]) next(ctx context.Context) bool {
	key, down := l.queue.Get()
	if down || ctx.Err() != nil {
		return false
	}
	defer l.meter.release(key, l.queue.Done)
	after, err := l.guarded(ctx, key)
	switch {
	case err == nil:
		l.queue.Forget(key)
	case ctx.Err() != nil:
		return false
	case IsTerminal(err):
		l.queue.Forget(key)
		l.c.Log.Error("reconcile ended, a retry cannot help", "controller", l.c.Name, "key", key, "error", err)
		return true
	default:
		l.meter.retries.Inc()
		l.queue.AddRateLimited(key)
		l.c.Log.Log(ctx, level(err), "reconcile will be retried", "controller", l.c.Name, "key", key,
			"failures", l.queue.NumRequeues(key), "error", err)
	}
	if after > 0 {
		l.meter.retries.Inc()
		l.queue.AddAfter(key, after)
	}
	return true
}

// guarded turns a panic of the decision into an error: one odd object must not take the process with it.
func (l *Loop[K]) guarded(ctx context.Context, key K) (after time.Duration, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic while reconciling %v: %v\n%s", key, r, debug.Stack())
		}
	}()
	return l.c.Reconcile(ctx, key)
}

// level is quiet about what happens all the time: a write from a cache that is a moment behind.
func level(err error) slog.Level {
	if apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err) {
		return slog.LevelDebug
	}
	return slog.LevelWarn
}

// Every calls do at once and then each period until ctx ends.
func Every(ctx context.Context, c clock.WithTicker, period time.Duration, do func(context.Context)) {
	ticker := c.NewTicker(period)
	defer ticker.Stop()
	for ctx.Err() == nil {
		do(ctx)
		select {
		case <-ctx.Done():
		case <-ticker.C():
		}
	}
}
