package volume

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// dataLink is the symlink that names the current set of files; swapping it changes all of them at once.
const dataLink = "..data"

// file is one file of an atomically written volume.
type file struct {
	data []byte
	mode os.FileMode
}

// writeAtomic makes dir show exactly files: it writes them into a new directory, turns the ..data symlink to it in one
// rename, and keeps one symlink per top-level name that points through ..data. It reports whether anything changed.
func writeAtomic(dir string, files map[string]file, own func(path string) error, now time.Time) (bool, error) {
	for name := range files {
		if err := checkName(name); err != nil {
			return false, err
		}
	}
	old, _ := os.Readlink(filepath.Join(dir, dataLink))
	if old != "" && sameFiles(filepath.Join(dir, old), files) {
		return false, nil
	}
	stamp, err := os.MkdirTemp(dir, now.UTC().Format("..2006_01_02_15_04_05."))
	if err != nil {
		return false, fmt.Errorf("volume %s: %w", dir, err)
	}
	if err := fill(stamp, files, own); err != nil {
		_ = os.RemoveAll(stamp)
		return false, err
	}
	tmp := filepath.Join(dir, "..data_tmp")
	_ = os.Remove(tmp)
	if err := os.Symlink(filepath.Base(stamp), tmp); err != nil {
		return false, fmt.Errorf("volume %s: %w", dir, err)
	}
	if err := os.Rename(tmp, filepath.Join(dir, dataLink)); err != nil {
		return false, fmt.Errorf("volume %s: %w", dir, err)
	}
	if err := linkNames(dir, files); err != nil {
		return false, err
	}
	if old != "" {
		_ = os.RemoveAll(filepath.Join(dir, old))
	}
	return true, nil
}

// checkName refuses paths that leave the volume or clash with what the writer keeps there.
func checkName(name string) error {
	if name == "" || filepath.IsAbs(name) {
		return fmt.Errorf("invalid path %q in a volume: it must be relative", name)
	}
	for _, part := range strings.Split(name, "/") {
		if part == ".." || part == "" {
			return fmt.Errorf("invalid path %q in a volume: it must not contain '..' or empty parts", name)
		}
	}
	if strings.HasPrefix(name, "..") {
		return fmt.Errorf("invalid path %q in a volume: it must not start with '..'", name)
	}
	return nil
}

func fill(dir string, files map[string]file, own func(string) error) error {
	if err := os.Chmod(dir, 0o755); err != nil {
		return fmt.Errorf("volume directory: %w", err)
	}
	for name, f := range files {
		p := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			return fmt.Errorf("volume file %s: %w", name, err)
		}
		if err := os.WriteFile(p, f.data, f.mode); err != nil {
			return fmt.Errorf("volume file %s: %w", name, err)
		}
		// Again, as the umask took its part of the first.
		if err := os.Chmod(p, f.mode); err != nil {
			return fmt.Errorf("volume file %s: %w", name, err)
		}
	}
	if own == nil {
		return nil
	}
	return own(dir)
}

// sameFiles says whether dir holds exactly files.
func sameFiles(dir string, files map[string]file) bool {
	n := 0
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		n++
		name, err := filepath.Rel(dir, p)
		if err != nil {
			return err
		}
		f, ok := files[name]
		info, err := d.Info()
		// The group's bits are left out: fsGroup may have added some.
		if err != nil || !ok || info.Mode().Perm()&^0o060 != f.mode.Perm()&^0o060 {
			return errors.Join(fs.ErrExist, err)
		}
		b, err := os.ReadFile(p)
		if err != nil || !bytes.Equal(b, f.data) {
			return errors.Join(fs.ErrExist, err)
		}
		return nil
	})
	return err == nil && n == len(files)
}

// linkNames keeps one symlink per top-level name and removes those of names that are gone.
func linkNames(dir string, files map[string]file) error {
	want := map[string]bool{}
	for name := range files {
		top, _, _ := strings.Cut(name, "/")
		want[top] = true
	}
	for name := range want {
		link := filepath.Join(dir, name)
		if _, err := os.Lstat(link); err == nil {
			continue
		}
		if err := os.Symlink(filepath.Join(dataLink, name), link); err != nil {
			return fmt.Errorf("volume file %s: %w", name, err)
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("volume %s: %w", dir, err)
	}
	for _, e := range entries {
		if !want[e.Name()] && !strings.HasPrefix(e.Name(), "..") {
			if err := os.Remove(filepath.Join(dir, e.Name())); err != nil {
				return fmt.Errorf("volume file %s: %w", e.Name(), err)
			}
		}
	}
	return nil
}
