package scale

import (
	"context"
	"fmt"
	"time"

	"canopus/test/plane"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
)

// watcher begins a watch.
type watcher func(context.Context, metav1.ListOptions) (watch.Interface, error)

// account is where one kind's events go. Both are called by one goroutine, in the order of the watch; client-go's informers
// would reorder events of different objects.
type account struct {
	now  func(o runtime.Object, live bool) error
	gone func(uid types.UID, name string)
}

// feed is one kind's way into the ledger.
type feed struct {
	begin   watcher
	account account

	version string               // to resume from; "": from the whole state
	there   map[types.UID]string // all objects, by name
	fresh   map[types.UID]bool   // those that initial events have shown; nil once they are complete
}

func (l *Ledger) feeds(k kubernetes.Interface) []*feed {
	pods := &feed{begin: k.CoreV1().Pods("").Watch, account: account{
		now: func(o runtime.Object, live bool) error {
			p, ok := o.(*corev1.Pod)
			if !ok {
				return fmt.Errorf("a watch of pods sent a %T", o)
			}
			l.pod(p, time.Now(), live)
			return nil
		},
		gone: func(uid types.UID, _ string) { l.podGone(uid) },
	}}
	nodes := &feed{begin: k.CoreV1().Nodes().Watch, account: account{
		now: func(o runtime.Object, _ bool) error {
			n, ok := o.(*corev1.Node)
			if !ok {
				return fmt.Errorf("a watch of nodes sent a %T", o)
			}
			l.nodeNow(n)
			return nil
		},
		gone: func(_ types.UID, name string) { l.nodeGone(name) },
	}}
	return []*feed{pods, nodes}
}

// follow feeds the ledger until ctx ends. A watch that ends, as the server may end it at any time, is resumed where it was.
func (f *feed) follow(ctx context.Context) error {
	f.there = map[types.UID]string{}
	for ctx.Err() == nil {
		if err := f.once(ctx); err != nil {
			return err
		}
		if plane.Pause(ctx, 100*time.Millisecond) != nil {
			return nil
		}
	}
	return nil
}

func (f *feed) once(ctx context.Context) error {
	options := metav1.ListOptions{AllowWatchBookmarks: true, ResourceVersion: f.version}
	if f.fresh = nil; f.version == "" {
		yes := true
		options.SendInitialEvents, options.ResourceVersionMatch = &yes, metav1.ResourceVersionMatchNotOlderThan
		f.fresh = map[types.UID]bool{}
	}
	w, err := f.begin(ctx, options)
	if err != nil {
		f.refused(err)
		return nil
	}
	defer w.Stop()
	for e := range w.ResultChan() {
		if e.Type == watch.Error {
			f.refused(apierrors.FromObject(e.Object))
			return nil
		}
		if err := f.take(e); err != nil {
			return err
		}
	}
	return nil
}

// refused forgets the place in history if that is too long ago. Any other refusal may be over the next time.
func (f *feed) refused(err error) {
	if apierrors.IsGone(err) || apierrors.IsResourceExpired(err) {
		f.version = ""
	}
}

func (f *feed) take(e watch.Event) error {
	o, err := meta.Accessor(e.Object)
	if err != nil {
		return err
	}
	switch e.Type {
	case watch.Bookmark:
		if f.fresh != nil && o.GetAnnotations()[metav1.InitialEventsAnnotationKey] == "true" {
			f.settle()
		}
	case watch.Deleted:
		delete(f.there, o.GetUID())
		f.account.gone(o.GetUID(), o.GetName())
	default:
		live := f.fresh == nil
		if !live {
			f.fresh[o.GetUID()] = true
		}
		f.there[o.GetUID()] = o.GetName()
		if err := f.account.now(e.Object, live); err != nil {
			return err
		}
	}
	if f.fresh == nil { // a part of the whole state is nothing to resume from
		f.version = o.GetResourceVersion()
	}
	return nil
}

// settle ends the initial events: what they did not show went away while nobody watched.
func (f *feed) settle() {
	for uid, name := range f.there {
		if !f.fresh[uid] {
			delete(f.there, uid)
			f.account.gone(uid, name)
		}
	}
	f.fresh = nil
}
