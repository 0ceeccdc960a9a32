package volume

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"canopus/internal/localvolume"
)

// localPlugin is the folder of a pod's mounts of local volumes. A mount there is what tells that a volume is in use,
// whichever process made it.
const localPlugin = "kubernetes.io~local-volume"

// local is a directory of this node that a PersistentVolume names, bound into the pod's own directory.
type local struct {
	Source
	pv *corev1.PersistentVolume
}

func (l *local) target() string {
	return filepath.Join(PodDir(l.Host.Root, l.Pod.UID), "volumes", localPlugin, l.pv.Name)
}

// SetUp binds the directory once and then gives it to the pod's group: what runs there must not be interfered with later.
func (l *local) SetUp(context.Context) (string, error) {
	target := l.target()
	mounted, err := l.Host.Mounter.IsMountPoint(target)
	if err == nil && mounted {
		return target, nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("local volume %s: %w", l.pv.Name, err)
	}
	follow := 0
	if localvolume.BelongsTo(l.pv, l.Host.Node, l.Host.LocalVolumes) {
		if err := makeLocal(l.Host.LocalVolumes, l.pv.Name); err != nil {
			return "", fmt.Errorf("local volume %s: %w", l.pv.Name, err)
		}
		follow = unix.O_NOFOLLOW // what we made is no link
	}
	source := l.pv.Spec.Local.Path
	fd, err := unix.Open(source, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC|follow, 0)
	if errors.Is(err, unix.ENOENT) {
		return "", fmt.Errorf("path %q does not exist: make the directory, or correct spec.local.path of persistent volume %s", source, l.pv.Name)
	}
	if errors.Is(err, unix.ENOTDIR) {
		return "", fmt.Errorf("path %q of persistent volume %s is not a directory; block devices and files are not supported", source, l.pv.Name)
	}
	if err != nil {
		return "", fmt.Errorf("path %q of persistent volume %s: %w", source, l.pv.Name, err)
	}
	defer unix.Close(fd)
	if err := os.MkdirAll(target, 0o750); err != nil {
		return "", fmt.Errorf("local volume %s: %w", l.pv.Name, err)
	}
	if err := l.bind(fd, source, target); err != nil {
		return "", fmt.Errorf("local volume %s: bind %s: %w", l.pv.Name, source, err)
	}
	if readOnlyClaim(l.Volume) {
		return target, nil
	}
	if err := setGroup(target, l.Pod, false); err != nil {
		// Unmounted, so that the next attempt begins anew.
		return "", errors.Join(err, unix.Unmount(target, 0))
	}
	return target, nil
}

// bind mounts the open directory on target, by name only where mount options leave no other way.
func (l *local) bind(fd int, source, target string) error {
	if opts := l.pv.Spec.MountOptions; len(opts) > 0 {
		return l.Host.Mounter.Mount(source, target, "", append([]string{"bind"}, opts...))
	}
	return unix.Mount(fmt.Sprintf("/proc/self/fd/%d", fd), target, "", unix.MS_BIND, "")
}

// Refresh implements Volume.
func (l *local) Refresh() time.Time { return time.Time{} }

// TearDown implements Volume: RemovePodDir unmounts.
func (l *local) TearDown() error { return nil }

// makeLocal makes the directory of a provisioned volume. Any user may write to it, because a pod runs as any user; nobody
// but root gets past the directory above it.
func makeLocal(root, name string) error {
	if err := os.MkdirAll(root, 0o700); err != nil {
		return err
	}
	dir := localvolume.Dir(root, name)
	if _, err := os.Lstat(dir); err == nil {
		return nil
	}
	// Made beside its name, so that it never has the mode that the umask left.
	fresh, err := os.MkdirTemp(root, ".new-")
	if err != nil {
		return err
	}
	if err := errors.Join(os.Chmod(fresh, 0o777), os.Rename(fresh, dir)); err != nil {
		return errors.Join(err, os.Remove(fresh))
	}
	return nil
}

// LocalInUse says whether a pod of this node still has the local volume mounted, or did when its agent was last seen.
func LocalInUse(root, volume string) (types.UID, bool, error) {
	pods, err := os.ReadDir(filepath.Join(root, "pods"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", false, fmt.Errorf("look for pods that use volume %s: %w", volume, err)
	}
	for _, pod := range pods {
		_, err := os.Lstat(filepath.Join(root, "pods", pod.Name(), "volumes", localPlugin, volume))
		if err == nil {
			return types.UID(pod.Name()), true, nil
		}
		if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ENOTDIR) {
			return "", false, fmt.Errorf("look for pods that use volume %s: %w", volume, err)
		}
	}
	return "", false, nil
}
