package store

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Freshness says how recent a Get must be; the fields mean what they mean in ListOptions.
type Freshness struct {
	Match    Match
	Revision int64
}

// Resource is one registered resource of a Store.
type Resource struct {
	c      ResourceConfig
	store  *Store
	prefix string        // in etcd
	loaded chan struct{} // closed when state holds what etcd has
	gone   chan struct{} // closed by Unregister

	// state is replaced by the applier alone. Reading Store.Applied first and state second gives a state that holds at
	// max(applied, state.rev): everything up to applied is in it, and nothing newer than state.rev.
	state atomic.Pointer[state]

	// Owned by the applier.
	backlog  []change // events that came before the resource was loaded
	loadedAt int64    // the revision it was loaded at: older events change nothing
	staged   staged   // records of the batch being applied

	mu       sync.Mutex // guards what follows; held for moments, never over I/O
	ring     ring
	floor    int64 // every change after this revision is in the ring
	watchers watcherIndex
	broken   map[string]*Corrupt // keys whose value cannot be read
	roots    roots               // states some pages of a list have been read from

	filling chan struct{} // semaphore: one reader of etcd's history at a time
	past    atomic.Pointer[segment]
}

// state is a resource at a revision.
type state struct {
	tree tree
	rev  int64 // of the newest change in tree
}

// Name is the resource's name.
func (r *Resource) Name() schema.GroupResource { return r.c.Name }

// Count returns the number of objects in memory.
func (r *Resource) Count() int { return r.state.Load().tree.len() }

// now is the state to answer from, and the revision it holds at.
func (r *Resource) now() (*state, int64) {
	applied := r.store.progress.applied.Load() // first: see state
	st := r.state.Load()
	return st, max(applied, st.rev)
}

func (r *Resource) key(namespace, name string) string {
	if r.c.Namespaced {
		return namespace + "/" + name
	}
	return name
}

// split is the inverse of key; ok is false for a key that is none of ours.
func (r *Resource) split(key string) (namespace, name string, ok bool) {
	if !r.c.Namespaced {
		return "", key, key != ""
	}
	namespace, name, ok = strings.Cut(key, "/")
	return namespace, name, ok && namespace != "" && name != ""
}

// waitLoaded returns when the resource can be read.
func (r *Resource) waitLoaded(ctx context.Context) error {
	select {
	case <-r.gone:
		return fmt.Errorf("%s: %w", r.c.Name, ErrUnregistered)
	default:
	}
	select {
	case <-r.loaded:
		return nil
	default:
	}
	select {
	case <-r.loaded:
		return nil
	case <-r.gone:
		return fmt.Errorf("%s: %w", r.c.Name, ErrUnregistered)
	case <-r.store.progress.stopped:
		return ErrClosed
	case <-ctx.Done():
		return fmt.Errorf("wait until %s is loaded from etcd: %w", r.c.Name, ctx.Err())
	}
}

// draft is an entry of obj without revision and body.
func (r *Resource) draft(key string, obj runtime.Object) (*Entry, error) {
	m, err := meta.Accessor(obj)
	if err != nil {
		return nil, fmt.Errorf("%T is no API object: %w", obj, err)
	}
	e := &Entry{resource: r, key: key, shared: r.store.labels.share(m.GetLabels())}
	e.Labels = e.shared.labels
	if r.c.KeepDecoded {
		shareLabels(obj, e.shared)
	}
	var ok bool
	if e.Namespace, e.Name, ok = r.split(key); !ok {
		return nil, fmt.Errorf("key %q is not that of a %s", key, r.c.Name)
	}
	if r.c.Fields != nil {
		set := r.c.Fields(obj)
		e.values = make([]fieldValue, 0, len(set))
		for name, value := range set {
			e.values = append(e.values, fieldValue{name, value})
		}
	}
	return e, nil
}

// corrupt says that e's own bytes cannot be read.
func (r *Resource) corrupt(e *Entry, err error) error {
	return &Corrupt{Key: r.prefix + e.key, Entry: e, Err: err}
}

// size is what keeping e in the history costs, roughly: bytes, decoded object, the entry itself.
func (e *Entry) size() int64 {
	if e.resource.c.KeepDecoded {
		return e.bareSize() + 3*int64(len(e.body))
	}
	return e.bareSize()
}

// bareSize is size without the decoded object.
func (e *Entry) bareSize() int64 { return int64(len(e.body)) + 256 }

// at returns e as the last state of its object, carrying the revision of the change that ended it.
func (e *Entry) at(revision int64) *Entry {
	last := &Entry{
		Namespace: e.Namespace, Name: e.Name, Revision: revision, Labels: e.Labels,
		resource: e.resource, key: e.key, shared: e.shared, values: e.values,
	}
	if e.body != nil {
		body, err := e.resource.c.Codec.WithRevision(e.body, revision)
		if err != nil { // e.body came out of the same codec: not reached, and an older resourceVersion beats no event
			body = e.body
		}
		last.body = body
	}
	return last
}
