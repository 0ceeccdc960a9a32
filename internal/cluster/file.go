package cluster

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// formatVersion is that of the data directory's layout; a directory with a greater one is refused.
const formatVersion = 1

// WriteFile puts data at path so that after a crash there is the old content or the new, never a part. A file that already has
// the content is left alone. Directories are made, for root only.
func WriteFile(path string, data []byte, mode os.FileMode) error {
	if have, err := os.ReadFile(path); err == nil && bytes.Equal(have, data) {
		return os.Chmod(path, mode)
	}
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make the directory of %s: %w", path, err)
	}
	f, err := os.CreateTemp(dir, "."+filepath.Base(path)+"-*")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	defer func() { _ = os.Remove(f.Name()) }() // gone already when all went well
	_, err = f.Write(data)
	err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return syncDir(dir)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("sync directory: %w", err)
	}
	if err := errors.Join(d.Sync(), d.Close()); err != nil {
		return fmt.Errorf("sync directory %s: %w", dir, err)
	}
	return nil
}

// checkFormat refuses a data directory of a later release and marks a new one.
func checkFormat(l Layout) error {
	const prefix = "canopus-data "
	raw, err := os.ReadFile(l.Format())
	if errors.Is(err, os.ErrNotExist) {
		return WriteFile(l.Format(), []byte(prefix+strconv.Itoa(formatVersion)+"\n"), 0o600)
	}
	if err != nil {
		return fmt.Errorf("read the format of the data directory: %w", err)
	}
	text, ok := strings.CutPrefix(strings.TrimSpace(string(raw)), prefix)
	n, err := strconv.Atoi(text)
	switch {
	case !ok || err != nil:
		return fmt.Errorf("%s does not say a format: it should read %q; check that %s is Canopus' data directory", l.Format(), prefix+strconv.Itoa(formatVersion), l.Data)
	case n > formatVersion:
		return fmt.Errorf("data directory %s has format %d, this release reads up to %d: run the newer release again", l.Data, n, formatVersion)
	}
	return nil
}
