package store

import (
	"sync"
	"time"

	"k8s.io/utils/clock"
)

// space refuses writes before etcd meets a full disk. It asks for the free space at most once a second.
type space struct {
	free    func() (uint64, error)
	reserve uint64
	clock   clock.Clock
	mu      sync.Mutex
	asked   time.Time
	verdict error
}

func (s *space) init(c Config) { s.free, s.reserve, s.clock = c.FreeSpace, c.Reserve, c.Clock }

func (s *space) check() error {
	if s.free == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.clock.Now()
	if !s.asked.IsZero() && now.Sub(s.asked) < time.Second {
		return s.verdict
	}
	s.asked = now
	free, err := s.free()
	switch {
	case err != nil: // not knowing is no reason to stop the cluster
		s.verdict = nil
	case free < s.reserve:
		s.verdict = &NoSpace{Free: free, Reserve: s.reserve}
	default:
		s.verdict = nil
	}
	return s.verdict
}
