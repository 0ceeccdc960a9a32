package volume

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	resourcehelper "k8s.io/component-helpers/resource"
	"k8s.io/mount-utils"
)

// emptyDir is a directory, or a tmpfs, that lives as long as the pod.
type emptyDir struct{ Source }

func (e *emptyDir) path() string { return e.dir("kubernetes.io~empty-dir") }

func (e *emptyDir) SetUp(context.Context) (string, error) {
	p := e.path()
	if err := os.MkdirAll(p, 0o777); err != nil {
		return "", fmt.Errorf("emptyDir %s: %w", e.Volume.Name, err)
	}
	src := e.Volume.EmptyDir
	if src == nil {
		src = &corev1.EmptyDirVolumeSource{}
	}
	switch {
	case src.Medium == corev1.StorageMediumMemory:
		if err := e.mountMemory(p, src); err != nil {
			return "", err
		}
	case src.Medium == corev1.StorageMediumDefault:
	default:
		return "", fmt.Errorf("emptyDir %s: medium %q is not supported by this node", e.Volume.Name, src.Medium)
	}
	if err := os.Chmod(p, 0o777); err != nil {
		return "", fmt.Errorf("emptyDir %s: %w", e.Volume.Name, err)
	}
	return p, setGroup(p, e.Pod, false)
}

// mountMemory mounts a tmpfs, bounded by the size limit or else by the pod's memory limit.
func (e *emptyDir) mountMemory(p string, src *corev1.EmptyDirVolumeSource) error {
	mounted, err := e.Host.Mounter.IsMountPoint(p)
	if err != nil {
		return fmt.Errorf("emptyDir %s: %w", e.Volume.Name, err)
	}
	if mounted {
		return nil
	}
	var size int64
	limits := resourcehelper.PodLimits(e.Pod, resourcehelper.PodResourcesOptions{})
	if mem := limits.Memory(); !mem.IsZero() {
		size = mem.Value()
	}
	if src.SizeLimit != nil && !src.SizeLimit.IsZero() && (size == 0 || src.SizeLimit.Value() < size) {
		size = src.SizeLimit.Value()
	}
	var opts []string
	if size > 0 {
		opts = append(opts, "size="+strconv.FormatInt(size, 10))
	}
	if err := e.Host.Mounter.Mount("tmpfs", p, "tmpfs", opts); err != nil {
		return fmt.Errorf("emptyDir %s: mount tmpfs: %w", e.Volume.Name, err)
	}
	return nil
}

func (e *emptyDir) Refresh() time.Time { return time.Time{} }

func (e *emptyDir) TearDown() error { return unmount(e.Host.Mounter, e.path()) }

// unmount unmounts dir if it is a mount point. RemovePodDir removes it.
func unmount(m mount.Interface, dir string) error {
	mounted, err := m.IsMountPoint(dir)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !mounted {
		return nil
	}
	if err == nil {
		err = m.Unmount(dir)
	}
	if err != nil {
		return fmt.Errorf("unmount %s: %w", dir, err)
	}
	return nil
}
