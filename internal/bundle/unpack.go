package bundle

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"
)

// Ensure makes root hold this bundle and returns at once if it does. Otherwise it runs command, which must end up in
// Unpack(root): the same executable with its hidden unpack command.
func (b Bundle) Ensure(ctx context.Context, root string, command ...string) error {
	done, err := b.unpacked(root)
	if err != nil || done {
		return err
	}
	if len(command) == 0 {
		return errors.New("unpack the bundle: no command to do it with")
	}
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("unpack runtime programs into %s: %w: %s", root, err, bytes.TrimSpace(stderr.Bytes()))
	}
	if done, err = b.unpacked(root); err == nil && !done {
		err = fmt.Errorf("unpack runtime programs into %s: %s reported success but left them incomplete", root, command[0])
	}
	return err
}

// Unpack makes root hold this bundle and removes older ones that no process runs from. Several processes may call it for
// one root at once. It is for a process of its own: see Ensure.
func (b Bundle) Unpack(root string) error {
	digest, err := b.Digest()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(root, 0o755); err != nil {
		return fmt.Errorf("make the directory for runtime programs: %w", err)
	}
	release, err := lock(filepath.Join(root, ".lock"))
	if err != nil {
		return err
	}
	defer release()
	dir := filepath.Join(root, dirName(digest))
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		if err := b.unpackInto(dir, digest); err != nil {
			return err
		}
	} else if err != nil {
		return fmt.Errorf("look for unpacked programs: %w", err)
	}
	if err := point(Current(root), dirName(digest)); err != nil {
		return err
	}
	return collect(root, dirName(digest))
}

// lock takes the exclusive lock on path, waiting for whoever has it.
func lock(path string) (release func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return func() { f.Close() }, nil
}

// unpackInto makes dir, which must not exist, appear whole: the files are written beside it, flushed to disk and renamed.
func (b Bundle) unpackInto(dir, digest string) error {
	temp, err := os.MkdirTemp(filepath.Dir(dir), ".unpack-")
	if err != nil {
		return fmt.Errorf("unpack runtime programs: %w", err)
	}
	defer os.RemoveAll(temp)
	if err := b.extract(temp, digest); err != nil {
		return fmt.Errorf("unpack runtime programs into %s (is the disk full?): %w", temp, err)
	}
	if err := os.Chmod(temp, 0o755); err != nil {
		return err
	}
	if err := syncFS(temp); err != nil {
		return err
	}
	if err := os.Rename(temp, dir); err != nil {
		return fmt.Errorf("unpack runtime programs: %w", err)
	}
	return syncFS(filepath.Dir(dir))
}

// extract writes the archive's files below dir and checks the archive against digest.
func (b Bundle) extract(dir, digest string) error {
	packed, err := b.files.Open(archiveFile)
	if err != nil {
		return err
	}
	defer packed.Close()
	sum := sha256.New()
	hashed := io.TeeReader(packed, sum)
	plain, err := zstd.NewReader(hashed, zstd.WithDecoderConcurrency(1))
	if err != nil {
		return err
	}
	defer plain.Close()
	for tr := tar.NewReader(plain); ; {
		h, err := tr.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		if err := writeFile(dir, h, tr); err != nil {
			return err
		}
	}
	if _, err := io.Copy(io.Discard, hashed); err != nil {
		return err
	}
	if got := hex.EncodeToString(sum.Sum(nil)); got != digest {
		return fmt.Errorf("the archive's digest is %s, not %s: this executable is damaged, build or download it again", got, digest)
	}
	return nil
}

func writeFile(dir string, h *tar.Header, content io.Reader) error {
	if !filepath.IsLocal(h.Name) || h.Typeflag != tar.TypeReg {
		return fmt.Errorf("unexpected entry %q in the bundle", h.Name)
	}
	path := filepath.Join(dir, h.Name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, os.FileMode(h.Mode).Perm())
	if err != nil {
		return err
	}
	_, err = io.Copy(f, content)
	return errors.Join(err, f.Close())
}

func syncFS(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.Syncfs(int(f.Fd())); err != nil {
		return fmt.Errorf("flush %s: %w", dir, err)
	}
	return nil
}

// point makes link a symbolic link to target, replacing an older one without a moment in which there is none.
func point(link, target string) error {
	if now, err := os.Readlink(link); err == nil && now == target {
		return nil
	}
	temp := link + ".new"
	if err := os.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Symlink(target, temp); err != nil {
		return err
	}
	return os.Rename(temp, link)
}

// collect removes the bundles under root that are neither keep nor run by any process.
func collect(root, keep string) error {
	entries, err := os.ReadDir(root)
	if err != nil {
		return err
	}
	var names []string
	for _, e := range entries {
		if e.IsDir() && dirForm.MatchString(e.Name()) && e.Name() != keep {
			names = append(names, e.Name())
		}
	}
	if len(names) == 0 {
		return nil
	}
	running, err := executables()
	if err != nil {
		return err
	}
	for _, name := range unused(root, names, running) {
		if err := os.RemoveAll(filepath.Join(root, name)); err != nil {
			return fmt.Errorf("remove older runtime programs: %w", err)
		}
	}
	return nil
}

// unused returns those of names below root from which none of the running executables was started.
func unused(root string, names, running []string) []string {
	var free []string
next:
	for _, name := range names {
		for _, exe := range running {
			if strings.HasPrefix(exe, filepath.Join(root, name)+"/") {
				continue next
			}
		}
		free = append(free, name)
	}
	return free
}

// executables returns the paths of the executables of all processes.
func executables() ([]string, error) {
	procs, err := filepath.Glob("/proc/[0-9]*/exe")
	if err != nil {
		return nil, err
	}
	var found []string
	for _, p := range procs {
		if exe, err := os.Readlink(p); err == nil { // a kernel thread has none, and processes end at any time
			found = append(found, exe)
		}
	}
	return found, nil
}
