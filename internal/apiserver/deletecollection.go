package apiserver

import (
	"context"
	"slices"
	"sync"

	"canopus/internal/store"

	"golang.org/x/sync/errgroup"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// deleteWorkers is how many objects of a collection are deleted at once.
const deleteWorkers = 16

// deleteCollection deletes every object that a list with the same parameters would show, each as if alone.
func (s *Server) deleteCollection(rq *request, ep *endpoint) error {
	f, err := rq.negotiate(ep, false)
	if err != nil {
		return err
	}
	lo, sel, err := rq.listOptions(ep)
	if err != nil {
		return err
	}
	ro, err := readOptions(lo)
	if err != nil {
		return err
	}
	ro.Selector = sel
	o, err := rq.deleteOptions()
	if err != nil {
		return err
	}
	l, err := ep.res.List(rq.Context(), ro)
	if err != nil {
		return readError(ep, "", err)
	}
	deleted := make([]*store.Entry, len(l.Entries))
	var mu sync.Mutex // of rq's warnings
	g, ctx := errgroup.WithContext(rq.Context())
	g.SetLimit(deleteWorkers)
	for i, e := range l.Entries {
		g.Go(func() error {
			one := rq.part(ctx, &mu)
			out, err := s.run(one, one.deletion(ep, e.Namespace, e.Name, o))
			if apierrors.IsNotFound(err) {
				return nil
			}
			if err == nil {
				deleted[i] = out.entry
			}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	l.Entries = slices.DeleteFunc(deleted, func(e *store.Entry) bool { return e == nil })
	return s.writeList(rq, ep, &l, f)
}

// part is the request as one of several goroutines serves it: warnings go to the whole, one at a time.
func (rq *request) part(ctx context.Context, mu *sync.Mutex) *request {
	one := *rq
	one.Request = rq.WithContext(ctx)
	one.warns = func(text string) {
		mu.Lock()
		defer mu.Unlock()
		rq.warn(text)
	}
	return &one
}
