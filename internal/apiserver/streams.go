package apiserver

import (
	"context"
	"sync"
)

// streams knows how to end every watch that is under way.
type streams struct {
	mu    sync.Mutex
	ended bool
	open  map[*context.CancelFunc]bool
}

// add notes a watch; the caller runs the returned function when the watch is over.
func (s *streams) add(cancel context.CancelFunc) (remove func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		cancel()
		return func() {}
	}
	if s.open == nil {
		s.open = map[*context.CancelFunc]bool{}
	}
	key := &cancel
	s.open[key] = true
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.open, key)
	}
}

// end ends all watches, and those that still come.
func (s *streams) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
	for cancel := range s.open {
		(*cancel)()
	}
}
