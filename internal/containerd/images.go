package containerd

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// archive is one image archive on disk.
type archive struct {
	path   string
	pinned bool
	size   int64
	mtime  time.Time
}

// receipt remembers what an archive held when it was loaded, so that it is not read again at the next start.
type receipt struct {
	Size   int64     `json:"size"`
	Mtime  time.Time `json:"mtime"`
	Images []string  `json:"images"` // full names
}

// receipts is the file in which they are kept, by path. It lies beside the images it speaks of and vanishes with them.
type receipts struct {
	Version  int                `json:"version"`
	Archives map[string]receipt `json:"archives"`
}

func (c Config) receiptFile() string { return filepath.Join(c.Root, "canopus-loaded.json") }

// preload loads every archive that is not yet loaded. Only a bundled one that cannot be loaded is an error: a damaged
// archive of the user's is reported and passed over.
func (c Config) preload(ctx context.Context, snapshotter string) error {
	archives, err := c.archives()
	if err != nil {
		return err
	}
	known := c.readReceipts()
	present, err := c.present(ctx)
	if err != nil {
		return err
	}
	changed := known.forget(archives)
	for _, a := range missing(archives, known, present) {
		began := c.Clock.Now()
		images, err := c.load(ctx, a, snapshotter)
		if err != nil && (a.pinned || ctx.Err() != nil) {
			return err
		}
		if err != nil {
			c.Log.Error("image archive not loaded", "archive", a.path, "error", err)
			continue
		}
		c.Log.Info("image archive loaded", "archive", a.path, "images", strings.Join(images, " "), "took", c.Clock.Since(began).Round(time.Millisecond))
		known.Archives[a.path] = receipt{Size: a.size, Mtime: a.mtime, Images: images}
		changed = true
	}
	if !changed {
		return nil
	}
	data, err := json.Marshal(known)
	if err != nil {
		return err
	}
	if err := writeFile(c.receiptFile(), data); err != nil {
		return fmt.Errorf("remember the loaded image archives: %w", err)
	}
	return nil
}

// forget drops the receipts of archives that are not there any more.
func (r receipts) forget(archives []archive) bool {
	before := len(r.Archives)
	maps.DeleteFunc(r.Archives, func(path string, _ receipt) bool {
		return !slices.ContainsFunc(archives, func(a archive) bool { return a.path == path })
	})
	return len(r.Archives) != before
}

// missing returns the archives whose receipt is absent or outdated, or of whose images one is not present any more.
func missing(archives []archive, known receipts, present map[string]bool) []archive {
	return slices.DeleteFunc(slices.Clone(archives), func(a archive) bool {
		r, ok := known.Archives[a.path]
		if !ok || r.Size != a.size || !r.Mtime.Equal(a.mtime) {
			return false
		}
		return !slices.ContainsFunc(r.Images, func(name string) bool { return !present[name] })
	})
}

// archives lists the bundled archives, then those of ImageDirs, each directory in order of name.
func (c Config) archives() ([]archive, error) {
	found, err := archivesIn(c.Bundled, true)
	if err != nil {
		return nil, fmt.Errorf("list the bundled images: %w", err)
	}
	for _, dir := range c.ImageDirs {
		more, err := archivesIn(dir, false)
		if err != nil {
			return nil, fmt.Errorf("list the image archives: %w", err)
		}
		found = append(found, more...)
	}
	return found, nil
}

func archivesIn(dir string, pinned bool) ([]archive, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) && !pinned {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	// The bundle's directory changes its name with every version; what lies in it is known by where it really is.
	if dir, err = filepath.EvalSymlinks(dir); err != nil {
		return nil, err
	}
	var found []archive
	for _, e := range entries {
		if !isArchive(e.Name()) {
			continue
		}
		info, err := os.Stat(filepath.Join(dir, e.Name()))
		if err != nil {
			return nil, err
		}
		found = append(found, archive{path: filepath.Join(dir, e.Name()), pinned: pinned, size: info.Size(), mtime: info.ModTime()})
	}
	return found, nil
}

func isArchive(name string) bool {
	for _, ending := range []string{".tar", ".tar.gz", ".tgz", ".tar.zst"} {
		if strings.HasSuffix(name, ending) {
			return true
		}
	}
	return false
}

// readReceipts returns no receipts when the file is absent or unreadable: loading again is harmless.
func (c Config) readReceipts() receipts {
	empty := receipts{Version: 1, Archives: map[string]receipt{}}
	data, err := os.ReadFile(c.receiptFile())
	if err != nil {
		return empty
	}
	var known receipts
	if json.Unmarshal(data, &known) != nil || known.Version != 1 || known.Archives == nil {
		return empty
	}
	return known
}

// present returns the names of all images that CRI knows.
func (c Config) present(ctx context.Context) (map[string]bool, error) {
	conn, err := c.dial()
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	_, images := services(conn)
	list, err := images.ListImages(ctx, &runtimev1.ListImagesRequest{})
	if err != nil {
		return nil, fmt.Errorf("list images: %w", err)
	}
	names := map[string]bool{}
	for _, img := range list.Images {
		for _, tag := range img.RepoTags {
			names[tag] = true
		}
	}
	return names, nil
}

// load runs containerd's import-images and returns the names of what it loaded. The work is done in a process of its own
// because it takes memory that this one would keep.
func (c Config) load(ctx context.Context, a archive, snapshotter string) ([]string, error) {
	args := []string{"import-images", "--socket", c.Socket(), "--namespace", namespace, "--snapshotter", snapshotter}
	if a.pinned {
		args = append(args, "--pinned")
	}
	cmd := exec.CommandContext(ctx, c.program("containerd"), append(args, a.path)...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("load images from %s: %w: %s", a.path, err, bytes.TrimSpace(stderr.Bytes()))
	}
	var names []string
	for line := range strings.Lines(stdout.String()) {
		name, _, _ := strings.Cut(line, " ")
		names = append(names, name)
	}
	return names, nil
}
