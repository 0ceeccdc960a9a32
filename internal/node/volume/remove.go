package volume

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

const (
	maxDepth  = 64   // of directories held open; what lies deeper is first moved to the top
	batchSize = 1024 // names read at once
)

// RemoveTree removes dir and all below it, whatever somebody hostile has put there: it follows no link, crosses no mount
// point (but fails on it: what is mounted there is not dir's) and needs neither memory nor descriptors for depth or number.
func RemoveTree(ctx context.Context, dir string) error {
	parent, err := unix.Open(filepath.Dir(dir), unix.O_DIRECTORY|unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("remove %s: %w", dir, err)
	}
	defer unix.Close(parent)
	name := filepath.Base(dir)
	top, err := openDir(parent, name)
	switch {
	case errors.Is(err, unix.ENOENT):
		return nil
	case errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.ELOOP):
		err = unix.Unlinkat(parent, name, 0)
	case err == nil:
		r := &remover{ctx: ctx, top: top}
		err = r.empty(top, 0)
		_ = top.Close()
		if err == nil {
			err = unix.Unlinkat(parent, name, unix.AT_REMOVEDIR)
		}
	}
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("remove %s: %w", dir, err)
	}
	return nil
}

// openDir opens the directory name in parent if it is one, on the same mount.
func openDir(parent int, name string) (*os.File, error) {
	fd, err := unix.Openat2(parent, name, &unix.OpenHow{
		Flags:   unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_XDEV,
	})
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil
}

// remover empties one tree.
type remover struct {
	ctx   context.Context
	top   *os.File
	moved int
}

// empty removes all that is in dir. It reads again until it finds nothing: reading while removing may skip names.
func (r *remover) empty(dir *os.File, depth int) error {
	for {
		if _, err := dir.Seek(0, io.SeekStart); err != nil {
			return err
		}
		found := false
		for {
			names, err := dir.Readdirnames(batchSize)
			for _, name := range names {
				found = true
				if err := r.remove(dir, name, depth); err != nil {
					return err
				}
			}
			if errors.Is(err, io.EOF) || err == nil && len(names) == 0 {
				break
			}
			if err != nil {
				return err
			}
		}
		if !found {
			return nil
		}
	}
}

func (r *remover) remove(dir *os.File, name string, depth int) error {
	if err := r.ctx.Err(); err != nil {
		return err
	}
	parent := int(dir.Fd())
	err := unix.Unlinkat(parent, name, 0)
	if !errors.Is(err, unix.EISDIR) && !errors.Is(err, unix.EPERM) && !errors.Is(err, unix.EBUSY) {
		return gone(name, err)
	}
	if depth >= maxDepth {
		return gone(name, r.raise(parent, name))
	}
	sub, err := openDir(parent, name)
	if errors.Is(err, unix.EXDEV) {
		return fmt.Errorf("%q is a mount point: unmount it first: %w", name, err)
	}
	if err != nil {
		return gone(name, err)
	}
	defer sub.Close()
	if err := r.empty(sub, depth+1); err != nil {
		return err
	}
	return gone(name, unix.Unlinkat(parent, name, unix.AT_REMOVEDIR))
}

// raise moves a directory to the top, under a name that is free.
func (r *remover) raise(parent int, name string) error {
	for {
		r.moved++
		err := unix.Renameat2(parent, name, int(r.top.Fd()), ".removing-"+strconv.Itoa(r.moved), unix.RENAME_NOREPLACE)
		if !errors.Is(err, unix.EEXIST) {
			return err
		}
	}
}

// gone returns nil when the error says that there is nothing any more.
func gone(name string, err error) error {
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return fmt.Errorf("%q: %w", name, err)
}
