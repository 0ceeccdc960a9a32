package client

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strconv"

	"canopus/internal/store"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
)

// source is a ListerWatcher over one resource of the store. What it yields are the store's own objects: no socket, no
// encoding, no copy. object is an empty object of the resource's type.
type source struct {
	local  *Local
	object runtime.Object
}

var errNoContext = errors.New("the store is read with a context: use ListWithContext and WatchWithContext")

// List implements cache.Lister. Reflectors stream instead; it is there for those that fall back.
func (s *source) List(metav1.ListOptions) (runtime.Object, error) {
	return nil, errNoContext
}

// Watch implements cache.Watcher.
func (s *source) Watch(metav1.ListOptions) (watch.Interface, error) {
	return nil, errNoContext
}

// ListWithContext implements cache.ListerWithContext.
func (s *source) ListWithContext(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
	selector, err := selectorOf(o)
	if err != nil {
		return nil, err
	}
	resource, err := s.local.resource(s.object)
	if err != nil {
		return nil, err
	}
	page, err := resource.List(ctx, store.ListOptions{Selector: selector})
	if err != nil {
		return nil, statusOf(err)
	}
	out := &metav1.List{ListMeta: metav1.ListMeta{ResourceVersion: strconv.FormatInt(page.Revision, 10)}}
	for _, e := range page.Entries {
		object, err := e.Object()
		if err != nil {
			return nil, apierrors.NewInternalError(err)
		}
		out.Items = append(out.Items, runtime.RawExtension{Object: object})
	}
	return out, nil
}

// WatchWithContext implements cache.WatcherWithContext.
func (s *source) WatchWithContext(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
	options, err := watchOptionsOf(o)
	if err != nil {
		return nil, err
	}
	resource, err := s.local.resource(s.object)
	if err != nil {
		return nil, err
	}
	return watchStore(ctx, resource, options, shape{
		of: (*store.Entry).Object,
		empty: func() runtime.Object {
			return reflect.New(reflect.TypeOf(s.object).Elem()).Interface().(runtime.Object)
		},
	})
}

func selectorOf(o metav1.ListOptions) (store.Selector, error) {
	var out store.Selector
	var err error
	if o.LabelSelector != "" {
		if out.Labels, err = labels.Parse(o.LabelSelector); err != nil {
			return out, apierrors.NewBadRequest(err.Error())
		}
	}
	if o.FieldSelector != "" {
		if out.Fields, err = fields.ParseSelector(o.FieldSelector); err != nil {
			return out, apierrors.NewBadRequest(err.Error())
		}
	}
	return out, nil
}

func watchOptionsOf(o metav1.ListOptions) (store.WatchOptions, error) {
	selector, err := selectorOf(o)
	if err != nil {
		return store.WatchOptions{}, err
	}
	options := store.WatchOptions{Selector: selector, Bookmarks: o.AllowWatchBookmarks}
	if o.ResourceVersion != "" {
		if options.Revision, err = strconv.ParseInt(o.ResourceVersion, 10, 64); err != nil {
			return options, apierrors.NewBadRequest(fmt.Sprintf("resourceVersion %q is not a number", o.ResourceVersion))
		}
	}
	if o.SendInitialEvents != nil && *o.SendInitialEvents {
		options.InitialEvents = true
		options.Consistent = o.ResourceVersion == ""
	}
	return options, nil
}

// statusOf turns the store's errors into what the API would answer, so that reflectors list again when they must.
func statusOf(err error) error {
	var expired *store.Expired
	if errors.As(err, &expired) || errors.Is(err, store.ErrOvertaken) {
		return apierrors.NewResourceExpired(err.Error())
	}
	var future *store.TooLargeRevision
	if errors.As(err, &future) { // the reflector then reads without a revision
		timeout := apierrors.NewTimeoutError(err.Error(), 1)
		timeout.ErrStatus.Details.Causes = []metav1.StatusCause{{Type: metav1.CauseTypeResourceVersionTooLarge, Message: "Too large resource version"}}
		return timeout
	}
	return err
}

// shape is what a watch shows of the store's entries.
type shape struct {
	of    func(*store.Entry) (runtime.Object, error)
	empty func() runtime.Object // for bookmarks
}

// stream is a watch.Interface over a store.Watcher.
type stream struct {
	shape
	watcher *store.Watcher
	cancel  context.CancelFunc
	events  chan watch.Event
}

func watchStore(ctx context.Context, resource *store.Resource, o store.WatchOptions, shape shape) (watch.Interface, error) {
	w, err := resource.Watch(ctx, o)
	if err != nil {
		return nil, statusOf(err)
	}
	ctx, cancel := context.WithCancel(ctx)
	s := &stream{shape: shape, watcher: w, cancel: cancel, events: make(chan watch.Event, 64)}
	go s.run(ctx)
	return s, nil
}

// ResultChan implements watch.Interface.
func (s *stream) ResultChan() <-chan watch.Event { return s.events }

// Stop implements watch.Interface.
func (s *stream) Stop() { s.cancel() }

func (s *stream) run(ctx context.Context) {
	defer close(s.events)
	defer s.watcher.Close()
	for {
		batch, err := s.watcher.Next(ctx)
		if err != nil {
			if ctx.Err() == nil {
				s.send(ctx, failure(statusOf(err)))
			}
			return
		}
		for i := range batch {
			event, err := s.event(&batch[i])
			if err != nil {
				s.send(ctx, failure(apierrors.NewInternalError(err)))
				return
			}
			if !s.send(ctx, event) {
				return
			}
		}
	}
}

func (s *stream) send(ctx context.Context, e watch.Event) bool {
	select {
	case s.events <- e:
		return true
	case <-ctx.Done():
		return false
	}
}

func failure(err error) watch.Event {
	var status apierrors.APIStatus
	if !errors.As(err, &status) {
		status = apierrors.NewInternalError(err)
	}
	answer := status.Status()
	return watch.Event{Type: watch.Error, Object: &answer}
}

func (s *stream) event(e *store.Event) (watch.Event, error) {
	if e.Type != watch.Bookmark {
		object, err := s.of(e.Entry)
		return watch.Event{Type: e.Type, Object: object}, err
	}
	object := s.empty()
	accessor, err := meta.Accessor(object)
	if err != nil {
		return watch.Event{}, err
	}
	accessor.SetResourceVersion(strconv.FormatInt(e.Revision, 10))
	if e.Initial {
		accessor.SetAnnotations(map[string]string{metav1.InitialEventsAnnotationKey: "true"})
	}
	return watch.Event{Type: watch.Bookmark, Object: object}, nil
}
