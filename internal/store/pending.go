package store

import (
	"bytes"
	"sync"
	"sync/atomic"

	"k8s.io/apimachinery/pkg/runtime"
)

// pending is what a writer leaves for the applier, so that nothing is decoded that was just encoded. It is found by
// key and stored bytes: the revision is not known yet when the event may already come, and equal bytes are an equal object.
type pending struct {
	key    string
	value  []byte
	served []byte
	object runtime.Object
	entry  *Entry      // a draft until taken
	taken  atomic.Bool // by the applier, which has completed entry
}

// pendingSet holds the writes under way.
type pendingSet struct {
	mu    sync.Mutex
	byKey map[string][]*pending
}

func (s *pendingSet) add(writes []*pending) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.byKey == nil {
		s.byKey = map[string][]*pending{}
	}
	for _, p := range writes {
		if p != nil {
			s.byKey[p.key] = append(s.byKey[p.key], p)
		}
	}
}

// take returns the entry a writer left for this value, completed with its revision; nil when there is none.
func (s *pendingSet) take(key string, value []byte, rev int64) *Entry {
	s.mu.Lock()
	var found *pending
	for _, p := range s.byKey[key] {
		if bytes.Equal(p.value, value) && p.taken.CompareAndSwap(false, true) {
			found = p
			break
		}
	}
	s.mu.Unlock()
	if found == nil {
		return nil
	}
	if err := found.entry.complete(found.served, found.object, rev); err != nil {
		found.taken.Store(false)
		return nil
	}
	return found.entry
}

func (s *pendingSet) drop(writes []*pending) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range writes {
		if p == nil {
			continue
		}
		list := s.byKey[p.key]
		for i := range list {
			if list[i] == p {
				list = append(list[:i], list[i+1:]...)
				break
			}
		}
		if len(list) == 0 {
			delete(s.byKey, p.key)
		} else {
			s.byKey[p.key] = list
		}
	}
}

// independent makes the entry anew, touching nothing that the applier may have.
func (p *pending) independent(rev int64) (*Entry, error) {
	r := p.entry.resource
	obj, err := r.c.Codec.Parse(p.served)
	if err != nil {
		return nil, err
	}
	e, err := r.draft(p.entry.key, obj)
	if err != nil {
		return nil, err
	}
	return e, e.complete(p.served, obj, rev)
}
