// Package store keeps every registered resource in memory, in step with etcd, and is the only way to etcd. Reads, lists and
// watches are answered from memory; a write is one etcd transaction whose result comes back through the one etcd watch that
// feeds everything. DESIGN.md says how and why.
//
// In reading order: api.go (the types), commit.go (writes), apply.go (from etcd into memory), tree.go and ring.go (what is
// kept there), list.go, exact.go and watch.go (reads), load.go and past.go (start, resync, history of the time before).
//
// The store knows nothing of HTTP, of admission, or of what an object means: a Codec and a Transformer are handed to it.
package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Store keeps every registered resource in memory, in step with etcd.
type Store struct {
	c        Config
	progress progress
	history  history
	json     jsonCache
	pending  pendingSet
	leases   leases
	labels   labelSets
	space    space
	newest   revisionReader
	streams  streams

	ready    chan struct{}
	control  chan func() // run by the applier between events
	toLoad   chan struct{}
	gap      int64 // events up to here may have been missed by backlogs; owned by the applier
	routes   atomic.Pointer[routes]
	mu       sync.Mutex  // guards what follows, and replacing routes
	waiting  []*Resource // registered while Run is under way, not yet loaded
	running  bool
	watchCtx context.Context // identifies the applier's etcd watch stream, for progress requests; nil before
}

// routes maps "<prefix>" below Config.Prefix to the resource. Replaced, never changed.
type routes map[string]*Resource

// New checks c and returns a store that does nothing until Run.
func New(c Config) (*Store, error) {
	switch {
	case c.Etcd == nil:
		return nil, errors.New("store: Config.Etcd is required")
	case c.Log == nil:
		return nil, errors.New("store: Config.Log is required")
	case c.Clock == nil:
		return nil, errors.New("store: Config.Clock is required")
	case c.Compact < 0 || c.HistoryByte < 0 || c.JSONByte < 0:
		return nil, errors.New("store: Compact, HistoryByte and JSONByte must not be negative")
	}
	c.Prefix = cmp.Or(c.Prefix, "/registry/")
	if !strings.HasSuffix(c.Prefix, "/") {
		return nil, fmt.Errorf("store: prefix %q must end in a slash", c.Prefix)
	}
	c.HistoryByte = cmp.Or(c.HistoryByte, 32<<20)
	c.JSONByte = cmp.Or(c.JSONByte, 16<<20)
	c.Compact = cmp.Or(c.Compact, 5*time.Minute)
	c.Reserve = cmp.Or(c.Reserve, 256<<20)
	s := &Store{
		c:       c,
		history: history{limit: c.HistoryByte},
		json:    jsonCache{limit: c.JSONByte},
		labels:  labelSets{seed: maphash.MakeSeed()},
		ready:   make(chan struct{}),
		control: make(chan func()),
		toLoad:  make(chan struct{}, 1),
	}
	s.progress.stopped = make(chan struct{})
	s.newest.work = make(chan struct{}, 1)
	s.leases.init(c.Etcd, c.Clock)
	s.space.init(c)
	s.routes.Store(&routes{})
	return s, nil
}

// Ready is closed when everything registered before Run is loaded.
func (s *Store) Ready() <-chan struct{} { return s.ready }

// Applied returns the revision up to which memory follows etcd.
func (s *Store) Applied() int64 { return s.progress.applied.Load() }

// Register adds a resource. While Run is under way it is loaded in the background; reads of it wait until it is.
func (s *Store) Register(c ResourceConfig) (*Resource, error) {
	switch {
	case c.Name.Resource == "" || c.Codec == nil:
		return nil, fmt.Errorf("store: register %q: Name and Codec are required", c.Name)
	case !validPrefix(c.Prefix):
		return nil, fmt.Errorf("store: register %s: prefix %q must be one or two path segments with a trailing slash", c.Name, c.Prefix)
	}
	r := &Resource{
		c: c, store: s, prefix: s.c.Prefix + c.Prefix,
		loaded: make(chan struct{}), gone: make(chan struct{}),
		broken: map[string]*Corrupt{}, filling: make(chan struct{}, 1),
	}
	r.state.Store(&state{})
	s.mu.Lock()
	defer s.mu.Unlock()
	if old := (*s.routes.Load())[c.Prefix]; old != nil {
		return nil, fmt.Errorf("store: register %s: prefix %q belongs to %s", c.Name, c.Prefix, old.c.Name)
	}
	s.reroute(func(m routes) { m[c.Prefix] = r })
	if s.running {
		s.waiting = append(s.waiting, r)
		signal(s.toLoad)
	}
	return r, nil
}

// Unregister ends all watches of a resource and forgets it. Its keys stay in etcd.
func (s *Store) Unregister(r *Resource) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if (*s.routes.Load())[r.c.Prefix] != r {
		return
	}
	s.reroute(func(m routes) { delete(m, r.c.Prefix) })
	close(r.gone)
	r.endWatches(ErrUnregistered)
	// Its records leave the history when their turn to be dropped comes.
}

// reroute replaces the routes by a changed copy. s.mu is held.
func (s *Store) reroute(change func(routes)) {
	old := *s.routes.Load()
	next := make(routes, len(old)+1)
	for k, v := range old {
		next[k] = v
	}
	change(next)
	s.routes.Store(&next)
}

func validPrefix(p string) bool {
	parts := strings.Split(p, "/")
	n := len(parts) - 1
	if n < 1 || n > 2 || parts[n] != "" {
		return false
	}
	for _, part := range parts[:n] {
		if part == "" {
			return false
		}
	}
	return true
}

// route finds the resource of an etcd key and the key below the resource's prefix.
func (s *Store) route(key string) (*Resource, string) {
	below, ok := strings.CutPrefix(key, s.c.Prefix)
	if !ok {
		return nil, ""
	}
	m := *s.routes.Load()
	i := strings.IndexByte(below, '/') + 1
	if i == 0 {
		return nil, ""
	}
	if j := strings.IndexByte(below[i:], '/') + 1; j > 0 {
		if r := m[below[:i+j]]; r != nil {
			return r, below[i+j:]
		}
	}
	return m[below[:i]], below[i:]
}

// signal wakes whoever waits on c; a signal that nobody took yet is enough for many.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
