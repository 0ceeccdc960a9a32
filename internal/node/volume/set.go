package volume

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"

	"canopus/internal/node/env"
)

// Set is the prepared volumes of one pod. Its methods may be called from any goroutine, SetUp by one at a time.
type Set struct {
	host *Host
	mu   sync.Mutex
	vols map[string]Volume
	dirs map[string]string
}

// NewSet returns the empty set of a pod.
func NewSet(h *Host) *Set {
	return &Set{host: h, vols: map[string]Volume{}, dirs: map[string]string{}}
}

// Failure is a volume that could not be made available.
type Failure struct {
	Volume string
	Err    error
}

// SetUp makes every volume of the pod available, or brings it up to date, and reports those that could not be.
func (s *Set) SetUp(ctx context.Context, pod *corev1.Pod, objects env.Objects) []Failure {
	var failed []Failure
	for i := range pod.Spec.Volumes {
		v := &pod.Spec.Volumes[i]
		if err := s.setUp(ctx, Source{Pod: pod, Volume: v, Objects: objects, Host: s.host}); err != nil {
			failed = append(failed, Failure{v.Name, err})
		}
	}
	return failed
}

func (s *Set) setUp(ctx context.Context, src Source) error {
	s.mu.Lock()
	vol := s.vols[src.Volume.Name]
	s.mu.Unlock()
	fresh, err := New(src)
	if err != nil {
		return err
	}
	// A written volume keeps its tokens; everything else has no state of its own.
	if w, ok := vol.(*written); ok {
		if f, ok := fresh.(*written); ok {
			f.tokens = w.tokens
		}
	}
	dir, err := fresh.SetUp(ctx)
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.vols[src.Volume.Name], s.dirs[src.Volume.Name] = fresh, dir
	s.mu.Unlock()
	return nil
}

// Dir returns where a volume is on the node.
func (s *Set) Dir(name string) (string, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d, ok := s.dirs[name]
	return d, ok
}

// Refresh returns when SetUp should be called again; zero means only after a change.
func (s *Set) Refresh() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	var at time.Time
	for _, v := range s.vols {
		if t := v.Refresh(); !t.IsZero() && (at.IsZero() || t.Before(at)) {
			at = t
		}
	}
	return at
}

// TearDown undoes every volume, whether or not it was prepared by this process, and removes the pod's directory.
func (s *Set) TearDown(ctx context.Context, pod *corev1.Pod) error {
	var errs []error
	for i := range pod.Spec.Volumes {
		v, err := New(Source{Pod: pod, Volume: &pod.Spec.Volumes[i], Host: s.host})
		if err != nil {
			continue // was never set up
		}
		if err := v.TearDown(); err != nil {
			errs = append(errs, fmt.Errorf("volume %s: %w", pod.Spec.Volumes[i].Name, err))
		}
	}
	errs = append(errs, RemovePodDir(ctx, s.host.Mounter, s.host.Root, pod.UID))
	return errors.Join(errs...)
}
