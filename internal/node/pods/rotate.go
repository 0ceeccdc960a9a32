package pods

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/utils/clock"

	"canopus/internal/node/cri"
)

// rotatePeriod is how often the sizes of logs are looked at.
const rotatePeriod = 10 * time.Second

// Rotator keeps container logs from filling the disk: a log over MaxSize is set aside and the runtime begins a new one.
type Rotator struct {
	Cache    *cri.Cache
	Runtime  *cri.Client
	Clock    clock.Clock
	Log      *slog.Logger
	MaxSize  int64
	MaxFiles int // the current one included
}

// Run rotates until ctx ends.
func (r *Rotator) Run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-r.Clock.After(rotatePeriod):
		}
		for _, p := range r.Cache.All() {
			for _, st := range p.Containers {
				if !st.Running() {
					continue
				}
				if err := r.rotate(ctx, st); err != nil && ctx.Err() == nil {
					r.Log.Warn("rotating a container's log", "pod", p.Namespace+"/"+p.Name, "container", st.Name(), "error", err)
				}
			}
		}
	}
}

func (r *Rotator) rotate(ctx context.Context, st *cri.Container) error {
	path := st.GetLogPath()
	info, err := os.Stat(path)
	if err != nil || info.Size() < r.MaxSize {
		return nil // no log yet, or a small one
	}
	aside := path + "." + r.Clock.Now().Format("20060102-150405")
	if err := os.Rename(path, aside); err != nil {
		return fmt.Errorf("set the log aside: %w", err)
	}
	if _, err := r.Runtime.ReopenContainerLog(ctx, &runtimeapi.ReopenContainerLogRequest{ContainerId: st.GetId()}); err != nil {
		// The runtime still writes to the old file; give it its name back so that nothing is lost.
		return fmt.Errorf("reopen the log: %w", joinRename(err, os.Rename(aside, path)))
	}
	old, err := filepath.Glob(path + ".*")
	if err != nil {
		return fmt.Errorf("list rotated logs: %w", err)
	}
	slices.Sort(old)
	for len(old) > r.MaxFiles-1 {
		if err := os.Remove(old[0]); err != nil {
			return fmt.Errorf("remove a rotated log: %w", err)
		}
		old = old[1:]
	}
	return nil
}

func joinRename(err, rename error) error {
	if rename != nil {
		return fmt.Errorf("%w (and renaming it back: %w)", err, rename)
	}
	return err
}
