package images

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"syscall"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/utils/clock"

	"canopus/internal/node/cri"
)

// GCConfig says when images are removed.
type GCConfig struct {
	Client       *cri.Client
	Clock        clock.Clock
	Log          *slog.Logger
	InUse        func() map[string]bool // image IDs that containers use
	Period       time.Duration          // 5 min unless set
	High, Low    int                    // percent of the disk: collect above High until Low; 85 and 80 unless set
	MinAge       time.Duration          // images first seen later than this stay; 2 min unless set
	FilesystemOf func(path string) (total, free uint64, err error)
}

// Collector removes unused images when the disk fills up.
type Collector struct {
	cfg  GCConfig
	seen map[string]time.Time // image ID to first and last use; owned by Run
	used map[string]time.Time
}

// NewCollector checks the configuration.
func NewCollector(cfg GCConfig) (*Collector, error) {
	if cfg.Client == nil || cfg.Clock == nil || cfg.Log == nil || cfg.InUse == nil {
		return nil, fmt.Errorf("image collector: Client, Clock, Log and InUse are required")
	}
	if cfg.Period == 0 {
		cfg.Period = 5 * time.Minute
	}
	if cfg.High == 0 {
		cfg.High, cfg.Low = 85, 80
	}
	if cfg.MinAge == 0 {
		cfg.MinAge = 2 * time.Minute
	}
	if cfg.FilesystemOf == nil {
		cfg.FilesystemOf = statfs
	}
	return &Collector{cfg: cfg, seen: map[string]time.Time{}, used: map[string]time.Time{}}, nil
}

// Run collects until ctx ends.
func (c *Collector) Run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-c.cfg.Clock.After(c.cfg.Period):
			if err := c.collect(ctx); err != nil && ctx.Err() == nil {
				c.cfg.Log.Warn("collecting unused images", "error", err)
			}
		}
	}
}

func (c *Collector) collect(ctx context.Context) error {
	list, err := c.cfg.Client.Images.ListImages(ctx, &runtimeapi.ListImagesRequest{})
	if err != nil {
		return fmt.Errorf("list images: %w", err)
	}
	c.track(list.GetImages())
	fsinfo, err := c.cfg.Client.Images.ImageFsInfo(ctx, &runtimeapi.ImageFsInfoRequest{})
	if err != nil {
		return fmt.Errorf("where images are stored: %w", err)
	}
	for _, fs := range fsinfo.GetImageFilesystems() {
		total, free, err := c.cfg.FilesystemOf(fs.GetFsId().GetMountpoint())
		if err != nil {
			return fmt.Errorf("disk of %s: %w", fs.GetFsId().GetMountpoint(), err)
		}
		if total == 0 || int(100-free*100/total) < c.cfg.High {
			continue
		}
		need := int64(total)*int64(100-c.cfg.Low)/100 - int64(free)
		for _, img := range Victims(list.GetImages(), c.cfg.InUse(), c.idleSince(), need) {
			if _, err := c.cfg.Client.Images.RemoveImage(ctx, &runtimeapi.RemoveImageRequest{Image: &runtimeapi.ImageSpec{Image: img.GetId()}}); err != nil {
				c.cfg.Log.Warn("removing an unused image", "image", img.GetId(), "error", err)
			}
		}
	}
	return nil
}

// track remembers when images were first seen and last used.
func (c *Collector) track(images []*runtimeapi.Image) {
	now, inUse := c.cfg.Clock.Now(), c.cfg.InUse()
	have := map[string]bool{}
	for _, img := range images {
		have[img.GetId()] = true
		if _, ok := c.seen[img.GetId()]; !ok {
			c.seen[img.GetId()] = now
		}
		if inUse[img.GetId()] {
			c.used[img.GetId()] = now
		}
	}
	for id := range c.seen {
		if !have[id] {
			delete(c.seen, id)
			delete(c.used, id)
		}
	}
}

// idleSince returns, for images old enough to go, when each was last of use.
func (c *Collector) idleSince() map[string]time.Time {
	out := map[string]time.Time{}
	for id, first := range c.seen {
		if c.cfg.Clock.Since(first) < c.cfg.MinAge {
			continue
		}
		out[id] = first
		if u, ok := c.used[id]; ok {
			out[id] = u
		}
	}
	return out
}

// Victims returns the images to remove to free need bytes: unused, not pinned, the longest idle first.
func Victims(images []*runtimeapi.Image, inUse map[string]bool, idle map[string]time.Time, need int64) []*runtimeapi.Image {
	var cand []*runtimeapi.Image
	for _, img := range images {
		if _, old := idle[img.GetId()]; old && !inUse[img.GetId()] && !img.GetPinned() {
			cand = append(cand, img)
		}
	}
	slices.SortStableFunc(cand, func(a, b *runtimeapi.Image) int { return idle[a.GetId()].Compare(idle[b.GetId()]) })
	for i, img := range cand {
		if need <= 0 {
			return cand[:i]
		}
		need -= int64(img.GetSize())
	}
	return cand
}

func statfs(path string) (total, free uint64, err error) {
	var st syscall.Statfs_t
	if err := syscall.Statfs(path, &st); err != nil {
		return 0, 0, fmt.Errorf("statfs %s: %w", path, err)
	}
	return st.Blocks * uint64(st.Bsize), st.Bavail * uint64(st.Bsize), nil
}
