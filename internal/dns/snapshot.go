package dns

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// snapshot is the file from which a restarted server answers until its informers have synced.
type snapshot struct {
	Version  int        `json:"version"`
	Services []*service `json:"services"`
}

const (
	snapshotVersion = 1
	// saveEvery bounds how often the file is written, and how far it may lag behind.
	saveEvery = 2 * time.Second
)

// restore reads the file; false if there is none.
func (s *Server) restore() (bool, error) {
	if s.Snapshot == "" {
		return false, nil
	}
	data, err := os.ReadFile(s.Snapshot)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	var saved snapshot
	if err := json.Unmarshal(data, &saved); err != nil {
		return false, fmt.Errorf("%s: %w", s.Snapshot, err)
	}
	if saved.Version != snapshotVersion {
		return false, fmt.Errorf("%s has version %d, this canopus knows %d", s.Snapshot, saved.Version, snapshotVersion)
	}
	for _, one := range saved.Services {
		if one != nil {
			s.records.put(one)
		}
	}
	return true, nil
}

// keep writes the file when records have changed, from the first sync until ctx ends.
func (s *Server) keep(ctx context.Context, synced <-chan struct{}) error {
	if s.Snapshot == "" {
		return nil
	}
	select {
	case <-ctx.Done():
		return nil
	case <-synced:
	}
	tick := s.Clock.NewTicker(saveEvery)
	defer tick.Stop()
	var saved uint64
	for {
		services, changes := s.records.all()
		if changes != saved {
			if err := save(s.Snapshot, services); err != nil {
				s.Log.Warn("records for the next start not written", "error", err)
			}
			saved = changes
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C():
		}
	}
}

// save writes the file whole or not at all. It is not flushed to disk: after a crash of the machine there are no pods to
// answer.
func save(path string, services []*service) error {
	data, err := json.Marshal(snapshot{Version: snapshotVersion, Services: services})
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(path+".new", data, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}
