package devices

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"

	resourcev1 "k8s.io/api/resource/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/kubernetes"
	"k8s.io/utils/clock"
)

// cleanRetry is the pause after the API refused to delete slices, or to list them.
const cleanRetry = 5 * time.Second

// CleanerConfig is what a Cleaner needs; all of it is required.
type CleanerConfig struct {
	Client   kubernetes.Interface
	Registry *Registry
	NodeName string
	Grace    time.Duration // upstream's is 30 seconds: enough for a driver to be replaced
	Clock    clock.Clock
	Log      *slog.Logger
}

// Cleaner deletes what drivers published for this node when they are gone: nobody is to be given their devices.
type Cleaner struct{ cfg CleanerConfig }

// NewCleaner checks the configuration and starts nothing.
func NewCleaner(cfg CleanerConfig) (*Cleaner, error) {
	if cfg.Client == nil || cfg.Registry == nil || cfg.NodeName == "" || cfg.Grace <= 0 || cfg.Clock == nil || cfg.Log == nil {
		return nil, fmt.Errorf("device drivers: every field of the cleaner's configuration is required")
	}
	return &Cleaner{cfg}, nil
}

// Run works until ctx ends. A driver that has slices from before and does not come back is gone, too.
func (c *Cleaner) Run(ctx context.Context) error {
	due, ok := c.published(ctx)
	var known []string
	for ok && ctx.Err() == nil {
		now := c.cfg.Clock.Now()
		names := c.cfg.Registry.names()
		for _, name := range known {
			due[name] = now.Add(c.cfg.Grace) // unless it is still there
		}
		for _, name := range names {
			delete(due, name)
		}
		known = names
		for name, at := range due {
			if at.After(now) {
				continue
			}
			delete(due, name)
			if err := c.clean(ctx, name); err != nil && ctx.Err() == nil {
				c.cfg.Log.Warn("deleting what a device driver published", "driver", name, "error", err)
				due[name] = now.Add(cleanRetry)
			}
		}
		c.sleep(ctx, due)
	}
	return nil
}

// sleep waits for the next moment that is due, or for drivers to come or go.
func (c *Cleaner) sleep(ctx context.Context, due map[string]time.Time) {
	var alarm <-chan time.Time
	if len(due) > 0 {
		next := slices.MinFunc(slices.Collect(maps.Values(due)), time.Time.Compare)
		timer := c.cfg.Clock.NewTimer(max(next.Sub(c.cfg.Clock.Now()), time.Millisecond))
		defer timer.Stop()
		alarm = timer.C()
	}
	select {
	case <-ctx.Done():
	case <-alarm:
	case <-c.cfg.Registry.changed:
	}
}

// published are the drivers that have slices of this node, and when each is taken to be gone. It is false when ctx ended first.
func (c *Cleaner) published(ctx context.Context) (map[string]time.Time, bool) {
	for {
		list, err := c.cfg.Client.ResourceV1().ResourceSlices().List(ctx, metav1.ListOptions{FieldSelector: c.selector("")})
		if err == nil {
			due := map[string]time.Time{}
			for i := range list.Items {
				due[list.Items[i].Spec.Driver] = c.cfg.Clock.Now().Add(c.cfg.Grace)
			}
			return due, true
		}
		if ctx.Err() == nil {
			c.cfg.Log.Debug("what device drivers published is not known yet", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil, false
		case <-c.cfg.Clock.After(cleanRetry):
		}
	}
}

// clean deletes the slices of a driver.
func (c *Cleaner) clean(ctx context.Context, driver string) error {
	c.cfg.Log.Info("device driver did not come back, what it published is deleted", "driver", driver)
	return c.cfg.Client.ResourceV1().ResourceSlices().DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{FieldSelector: c.selector(driver)})
}

// selector means this node's slices, of one driver or of all.
func (c *Cleaner) selector(driver string) string {
	set := fields.Set{resourcev1.ResourceSliceSelectorNodeName: c.cfg.NodeName}
	if driver != "" {
		set[resourcev1.ResourceSliceSelectorDriver] = driver
	}
	return set.AsSelector().String()
}
