package scheduler

import (
	"context"
	"fmt"
	"slices"
	"sync"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// outbox holds requests until a binder has time; it never blocks the scheduling goroutine.
type outbox struct {
	mu    sync.Mutex
	items []func(context.Context)
	more  chan struct{} // one token while items wait
	slow  sync.WaitGroup
}

func newOutbox() *outbox { return &outbox{more: make(chan struct{}, 1)} }

func (o *outbox) send(item func(context.Context)) {
	o.mu.Lock()
	o.items = append(o.items, item)
	o.mu.Unlock()
	o.token()
}

func (o *outbox) token() {
	select {
	case o.more <- struct{}{}:
	default:
	}
}

// sendSlow is send for an item that may wait long for others: it does not take a binder's time.
func (o *outbox) sendSlow(item func(context.Context)) {
	o.send(func(ctx context.Context) { o.slow.Go(func() { item(ctx) }) })
}

// run sends requests until ctx ends.
func (o *outbox) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-o.more:
		}
		for item := o.take(); item != nil; item = o.take() {
			item(ctx)
		}
	}
}

// take returns the oldest item, and wakes another binder when there are more.
func (o *outbox) take() func(context.Context) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.items) == 0 {
		return nil
	}
	item := o.items[0]
	o.items[0] = nil
	o.items = o.items[1:]
	if len(o.items) > 0 {
		o.token()
	}
	return item
}

// reservations are what rules have set aside for one pod.
type reservations []reservation

// prebind does what must be done before the pod is bound.
func (r reservations) prebind(ctx context.Context) error {
	for _, one := range r {
		if one.prebind == nil {
			continue
		}
		if err := one.prebind(ctx); err != nil {
			return err
		}
	}
	return nil
}

// waits reports whether prebind may wait for others.
func (r reservations) waits() bool {
	return slices.ContainsFunc(r, func(one reservation) bool { return one.prebind != nil })
}

// undo gives everything back, the last first.
func (r reservations) undo(c *cluster) {
	for _, one := range slices.Backward(r) {
		if one.undo != nil {
			one.undo(c)
		}
	}
}

// bind writes the decision. A pod that could not be bound is uncounted and tried again, unless it is gone or bound by another.
func (s *Scheduler) bind(ctx context.Context, w *queued, node string, set reservations) {
	pod := w.info.pod
	s.metrics.binding(1)
	defer s.metrics.binding(-1)
	began := s.Clock.Now()
	err := set.prebind(ctx)
	if err == nil {
		if err = s.writeBinding(ctx, pod, node); err != nil {
			err = fmt.Errorf("binding to node %s failed: %w", node, err)
		}
	}
	now := s.Clock.Now()
	s.metrics.point("Bind", err == nil, now.Sub(began))
	if err == nil {
		s.metrics.attempt(resultScheduled, now.Sub(w.tried))
		s.metrics.bound(w.attempts, now.Sub(w.since))
		s.announcer.bound(pod, node)
		return
	}
	if ctx.Err() != nil {
		return
	}
	s.metrics.attempt(resultError, s.Clock.Since(w.tried))
	s.inbox.send(func(s *Scheduler) { s.unassume(w, set, lost(err)) })
	if lost(err) {
		s.Log.Debug("pod is no longer ours to bind", "pod", w.info.key, "node", node, "error", err)
		return
	}
	s.Log.Warn("binding failed, will try again", "pod", w.info.key, "node", node, "error", err)
	s.explain(ctx, refusalNote{pod: pod, reason: corev1.PodReasonSchedulerError, message: err.Error()})
}

func (s *Scheduler) writeBinding(ctx context.Context, pod *corev1.Pod, node string) error {
	if e := s.binderOf(pod); e != nil {
		return e.bind(ctx, pod, node)
	}
	return s.Client.CoreV1().Pods(pod.Namespace).Bind(ctx, &corev1.Binding{
		ObjectMeta: metav1.ObjectMeta{Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID},
		Target:     corev1.ObjectReference{Kind: "Node", Name: node},
	}, metav1.CreateOptions{})
}

// unassume takes back a decision whose binding failed. What informers said meanwhile wins.
func (s *Scheduler) unassume(w *queued, set reservations, lost bool) {
	uid := w.info.pod.UID
	at := s.cluster.placed[uid]
	if at != nil && !at.assumed {
		return // bound after all
	}
	set.undo(s.cluster)
	if at == nil {
		return // deleted
	}
	s.unplace(uid)
	if !lost {
		s.queue.retry(w, s.Clock.Now())
		return
	}
	// The informer may have spoken while the pod was assumed, and was not listened to; take its word now.
	if current, err := s.Informers.Core().V1().Pods().Lister().Pods(w.info.key.Namespace).Get(w.info.key.Name); err == nil && current.UID == uid {
		s.observePod(current)
	}
}
