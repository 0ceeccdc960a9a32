package store

import (
	"context"

	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Store keeps every registered resource in memory, in step with etcd.
type Store struct {
	json *jsonCache
}

// Resource is one registered resource of a Store.
type Resource struct {
	c     ResourceConfig
	store *Store
}

// Freshness says how recent a Get must be; the fields mean what they mean in ListOptions.
type Freshness struct {
	Match    Match
	Revision int64
}

// New checks c and returns a store that does nothing until Run.
func New(c Config) (*Store, error) { panic("todo") }

// Run loads what is registered and follows etcd until ctx ends.
func (s *Store) Run(ctx context.Context) error { panic("todo") }

// Ready is closed when everything registered before Run is loaded.
func (s *Store) Ready() <-chan struct{} { panic("todo") }

// Register adds a resource. While Run is under way it is loaded in the background; reads of it wait until it is.
func (s *Store) Register(c ResourceConfig) (*Resource, error) { panic("todo") }

// Unregister ends all watches of a resource and forgets it. Its keys stay in etcd.
func (s *Store) Unregister(r *Resource) { panic("todo") }

// Revision returns a revision at least as new as every write acknowledged before the call, once it is applied.
func (s *Store) Revision(ctx context.Context) (int64, error) { panic("todo") }

// Applied returns the revision up to which memory follows etcd.
func (s *Store) Applied() int64 { panic("todo") }

// Commit writes all changes in one etcd transaction, or none. It returns when the result is applied: one entry per
// change (of a delete, the last state with the delete's revision). A change that would store the same bytes is only
// compared, not written: its entry is the old one. Errors: *Conflict, *TooLarge, *NoSpace; any other error leaves the outcome unknown.
func (s *Store) Commit(ctx context.Context, changes ...Change) ([]*Entry, error) { panic("todo") }

// Name is the resource's name.
func (r *Resource) Name() schema.GroupResource { return r.c.Name }

// Get returns one object. Errors: ErrNotFound, *Corrupt, *TooLargeRevision, *Expired (Exact only).
func (r *Resource) Get(ctx context.Context, namespace, name string, f Freshness) (*Entry, error) {
	panic("todo")
}

// List returns one page in key order. Errors: *TooLargeRevision, *Expired, *InvalidContinue.
func (r *Resource) List(ctx context.Context, o ListOptions) (List, error) { panic("todo") }

// Watch starts a watch; see WatchOptions. Close it when done. Errors: *TooLargeRevision, *Expired.
func (r *Resource) Watch(ctx context.Context, o WatchOptions) (*Watcher, error) { panic("todo") }

// Count returns the number of objects in memory.
func (r *Resource) Count() int { panic("todo") }

// Watcher is a cursor in a resource's history. For one goroutine, but for Close.
type Watcher struct{}

// Next blocks until there is something to tell and returns it in order, at least one event. The slice is valid until the
// next call. Errors end the watch: ErrOvertaken, *Expired (its history is compacted away), ErrUnregistered, ErrClosed, ctx's.
func (w *Watcher) Next(ctx context.Context) ([]Event, error) { panic("todo") }

// Bookmark returns a bookmark event at the watcher's position, to send before a watch is ended for its time-out.
// Only between calls of Next.
func (w *Watcher) Bookmark() Event { panic("todo") }

// Close ends the watch. It may be called at any time, more than once.
func (w *Watcher) Close() { panic("todo") }

// corrupt says that e's own bytes cannot be read.
func (r *Resource) corrupt(e *Entry, err error) error { panic("todo") }

type jsonCell struct{}

func (c *jsonCell) load() []byte { return nil }

type jsonCache struct{}

func (c *jsonCache) keep(b []byte) *jsonCell { return nil }
