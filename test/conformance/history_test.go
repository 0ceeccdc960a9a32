package conformance

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
)

// history is every change of some pods, in order. What must never have been is looked for in it, not in samples.
type history struct {
	mu     sync.Mutex
	events []podEvent
	err    error // the watch ended early
}

type podEvent struct {
	what watch.EventType
	pod  *corev1.Pod
}

// record keeps the history of the pods that a selector picks, from now until t ends.
func (s *space) record(t testing.TB, selector map[string]string) *history {
	t.Helper()
	options := metav1.ListOptions{LabelSelector: labels.SelectorFromSet(selector).String()}
	list := must(s.Client.CoreV1().Pods(s.ns).List(t.Context(), options))(t)
	h := &history{}
	for i := range list.Items {
		h.events = append(h.events, podEvent{watch.Added, &list.Items[i]})
	}
	options.ResourceVersion = list.ResourceVersion
	w := must(s.Client.CoreV1().Pods(s.ns).Watch(t.Context(), options))(t)
	done := make(chan struct{})
	stopped := make(chan struct{})
	go func() {
		defer close(done)
		h.follow(w, stopped)
	}()
	t.Cleanup(func() { close(stopped); w.Stop(); <-done })
	return h
}

func (h *history) follow(w watch.Interface, stopped <-chan struct{}) {
	for e := range w.ResultChan() {
		h.mu.Lock()
		if pod, ok := e.Object.(*corev1.Pod); ok {
			h.events = append(h.events, podEvent{e.Type, pod})
		} else {
			h.err = fmt.Errorf("the watch of the pods got %s: %v", e.Type, e.Object)
		}
		h.mu.Unlock()
	}
	select {
	case <-stopped:
	default:
		h.mu.Lock()
		h.err = errors.Join(h.err, errors.New("the watch of the pods ended"))
		h.mu.Unlock()
	}
}

// soFar is what has been seen, once it includes the present state of pods.
func (h *history) soFar(t testing.TB, pods []corev1.Pod) []podEvent {
	t.Helper()
	var events []podEvent
	until(t, "the watch to catch up", func() error {
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.err != nil {
			t.Fatal(h.err)
		}
		last := map[types.UID]string{}
		for _, e := range h.events {
			last[e.pod.UID] = e.pod.ResourceVersion
		}
		for i := range pods {
			if last[pods[i].UID] != pods[i].ResourceVersion {
				return fmt.Errorf("no event yet of %s at %s", pods[i].Name, pods[i].ResourceVersion)
			}
		}
		events = h.events[:len(h.events):len(h.events)]
		return nil
	})
	return events
}

// states calls look after every change with the change and all pods that there were then.
func states(events []podEvent, look func(e podEvent, pods map[types.UID]*corev1.Pod)) {
	pods := map[types.UID]*corev1.Pod{}
	for _, e := range events {
		if e.what == watch.Deleted {
			delete(pods, e.pod.UID)
		} else {
			pods[e.pod.UID] = e.pod
		}
		look(e, pods)
	}
}

// count is how many of pods are so.
func count(pods map[types.UID]*corev1.Pod, so func(*corev1.Pod) bool) int {
	n := 0
	for _, p := range pods {
		if so(p) {
			n++
		}
	}
	return n
}

// staying reports whether a pod has not ended and is not on its way out.
func staying(p *corev1.Pod) bool { return p.DeletionTimestamp == nil && !ended(p) }

// awaitEvent waits for an event of a watch.
func awaitEvent(t testing.TB, w watch.Interface, what string, is func(watch.Event) bool) {
	t.Helper()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for {
		select {
		case e, ok := <-w.ResultChan():
			switch {
			case !ok || e.Type == watch.Error:
				t.Fatalf("the watch ended before %s: %v", what, e.Object)
			case is(e):
				return
			}
		case <-timer.C:
			t.Fatalf("waited %v in vain for an event: %s", patience, what)
		}
	}
}
