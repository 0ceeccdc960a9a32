package volume

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/mount-utils"
)

// SubPath names one subPath mount of a container.
type SubPath struct {
	Root      string // the agent's root directory
	UID       types.UID
	Volume    string
	Container string
	Index     int // of the mount in the container
}

func (s SubPath) target() string {
	return filepath.Join(PodDir(s.Root, s.UID), "volume-subpaths", s.Volume, s.Container, strconv.Itoa(s.Index))
}

// Bind makes sub, a path inside the volume at base, available at a path that no process of the pod can redirect: the
// kernel resolves it beneath base, and what was opened is bound, not what the name may mean later.
func (s SubPath) Bind(m mount.Interface, base, sub string) (string, error) {
	if filepath.IsAbs(sub) || slices.Contains(strings.Split(sub, "/"), "..") {
		return "", fmt.Errorf("subPath %q must be relative and must not contain '..'", sub)
	}
	fd, isDir, err := openBeneath(base, sub)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	target := s.target()
	if mounted, err := m.IsMountPoint(target); err == nil && mounted {
		if err := m.Unmount(target); err != nil {
			return "", fmt.Errorf("subPath %q: unmount the previous one: %w", sub, err)
		}
	}
	if err := makeTarget(target, isDir); err != nil {
		return "", fmt.Errorf("subPath %q: %w", sub, err)
	}
	if err := unix.Mount(fmt.Sprintf("/proc/self/fd/%d", fd), target, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return "", fmt.Errorf("subPath %q: bind: %w", sub, err)
	}
	return target, nil
}

func makeTarget(target string, isDir bool) error {
	if isDir {
		return os.MkdirAll(target, 0o750)
	}
	if err := os.MkdirAll(filepath.Dir(target), 0o750); err != nil {
		return err
	}
	f, err := os.OpenFile(target, os.O_CREATE, 0o640)
	if err != nil {
		return err
	}
	return f.Close()
}

// openBeneath opens base/sub without ever leaving base, making missing directories on the way.
func openBeneath(base, sub string) (fd int, isDir bool, err error) {
	root, err := unix.Open(base, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, false, fmt.Errorf("volume %s: %w", base, err)
	}
	defer unix.Close(root)
	how := &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_MAGICLINKS}
	fd, err = unix.Openat2(root, sub, how)
	if errors.Is(err, unix.ENOENT) {
		if err := makeBeneath(root, sub); err != nil {
			return -1, false, fmt.Errorf("subPath %q: %w", sub, err)
		}
		fd, err = unix.Openat2(root, sub, how)
	}
	if errors.Is(err, unix.EXDEV) {
		return -1, false, fmt.Errorf("subPath %q leads out of its volume: %w", sub, err)
	}
	if err != nil {
		return -1, false, fmt.Errorf("subPath %q: %w", sub, err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		_ = unix.Close(fd)
		return -1, false, fmt.Errorf("subPath %q: %w", sub, err)
	}
	return fd, st.Mode&unix.S_IFMT == unix.S_IFDIR, nil
}

// makeBeneath makes the directories of sub below root one by one, each opened without leaving root.
func makeBeneath(root int, sub string) error {
	how := &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_MAGICLINKS}
	var st unix.Stat_t
	if err := unix.Fstat(root, &st); err != nil {
		return err
	}
	done := "."
	for _, part := range strings.Split(filepath.Clean(sub), "/") {
		parent, err := unix.Openat2(root, done, how)
		if err != nil {
			return err
		}
		err = unix.Mkdirat(parent, part, 0o750)
		if err == nil {
			// The new directory is as open as the volume that holds it.
			err = chmodNew(parent, part, &st)
		}
		_ = unix.Close(parent)
		if err != nil && !errors.Is(err, unix.EEXIST) {
			return err
		}
		done = filepath.Join(done, part)
	}
	return nil
}

func chmodNew(parent int, name string, like *unix.Stat_t) error {
	fd, err := unix.Openat(parent, name, unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.Fchown(fd, int(like.Uid), int(like.Gid)); err != nil {
		return err
	}
	return unix.Fchmod(fd, like.Mode&0o7777)
}

// RemovePodDir unmounts everything mounted below the pod's directory and removes it.
func RemovePodDir(ctx context.Context, m mount.Interface, root string, uid types.UID) error {
	dir := PodDir(root, uid)
	if _, err := os.Lstat(dir); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	points, err := m.List()
	if err != nil {
		return fmt.Errorf("list mounts: %w", err)
	}
	// Later mounts may sit on earlier ones.
	for i := len(points) - 1; i >= 0; i-- {
		if !strings.HasPrefix(points[i].Path, dir+"/") {
			continue
		}
		if err := unix.Unmount(points[i].Path, 0); err != nil {
			if err := unix.Unmount(points[i].Path, unix.MNT_DETACH); err != nil {
				return fmt.Errorf("unmount %s: %w", points[i].Path, err)
			}
		}
	}
	// A mount that was missed stops this: what is mounted there may be somebody's data.
	if err := RemoveTree(ctx, dir); err != nil {
		return fmt.Errorf("remove pod directory: %w", err)
	}
	return nil
}
