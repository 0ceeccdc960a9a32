package scheduler

import (
	"maps"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/dynamic-resource-allocation/resourceclaim"
)

// inbox collects what informers and binders report until the scheduling goroutine takes it. It never blocks its senders.
type inbox struct {
	mu     sync.Mutex
	items  []func(*Scheduler)
	signal chan struct{} // one token while items wait
}

func newInbox() *inbox { return &inbox{signal: make(chan struct{}, 1)} }

func (b *inbox) send(item func(*Scheduler)) {
	b.mu.Lock()
	b.items = append(b.items, item)
	b.mu.Unlock()
	select {
	case b.signal <- struct{}{}:
	default:
	}
}

func (b *inbox) take() []func(*Scheduler) {
	b.mu.Lock()
	defer b.mu.Unlock()
	items := b.items
	b.items = nil
	return items
}

// podHandler turns informer events into inbox items; updates that no rule reads stop here.
func (s *Scheduler) podHandler() cache.ResourceEventHandler {
	send := func(o any) {
		if pod, ok := o.(*corev1.Pod); ok {
			s.inbox.send(func(s *Scheduler) { s.observePod(pod) })
		}
	}
	return cache.ResourceEventHandlerFuncs{
		AddFunc: send,
		UpdateFunc: func(old, now any) {
			if podMatters(old.(*corev1.Pod), now.(*corev1.Pod)) {
				send(now)
			}
		},
		DeleteFunc: func(o any) {
			if gone, ok := o.(cache.DeletedFinalStateUnknown); ok {
				o = gone.Obj
			}
			if pod, ok := o.(*corev1.Pod); ok {
				s.inbox.send(func(s *Scheduler) { s.forgetPod(pod) })
			}
		},
	}
}

// podMatters reports whether an update can change a decision. Every change of a pod's spec changes its generation, save
// those of gates and node name, which are compared themselves; status counts by phase and by allocated resources.
func podMatters(old, now *corev1.Pod) bool {
	return old.UID != now.UID ||
		old.Spec.NodeName != now.Spec.NodeName ||
		old.Generation != now.Generation ||
		len(old.Spec.SchedulingGates) != len(now.Spec.SchedulingGates) ||
		finished(old) != finished(now) ||
		(old.DeletionTimestamp == nil) != (now.DeletionTimestamp == nil) ||
		!maps.Equal(old.Labels, now.Labels) ||
		!resourceclaim.PodStatusEqual(old.Status.ResourceClaimStatuses, now.Status.ResourceClaimStatuses) ||
		resized(old, now)
}

func resized(old, now *corev1.Pod) bool {
	if len(old.Status.ContainerStatuses) != len(now.Status.ContainerStatuses) {
		return false
	}
	for i := range now.Status.ContainerStatuses {
		a, b := old.Status.ContainerStatuses[i].AllocatedResources, now.Status.ContainerStatuses[i].AllocatedResources
		for name, q := range b {
			if was, ok := a[name]; ok && was.Cmp(q) != 0 {
				return true
			}
		}
	}
	return false
}

func finished(pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
}

// handle makes an event handler that has changed run for objects that came or changed, and gone for those deleted, both by
// the scheduling goroutine.
func handle[T any](b *inbox, changed, gone func(*Scheduler, T)) cache.ResourceEventHandler {
	send := func(o any) {
		if object, ok := o.(T); ok {
			b.send(func(s *Scheduler) { changed(s, object) })
		}
	}
	return cache.ResourceEventHandlerFuncs{
		AddFunc:    send,
		UpdateFunc: func(_, now any) { send(now) },
		DeleteFunc: func(o any) {
			if last, ok := o.(cache.DeletedFinalStateUnknown); ok {
				o = last.Obj
			}
			if object, ok := o.(T); ok {
				b.send(func(s *Scheduler) { gone(s, object) })
			}
		},
	}
}
