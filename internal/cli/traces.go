package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// MountsBelow lists what is mounted below dirs, in the order in which it was mounted, and those dirs that are mounted on
// themselves, as the node agent does to share mounts with containers. A dir that is the top of a file system is not listed:
// somebody gave it to us.
func MountsBelow(dirs ...string) ([]string, error) {
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("list mounts: %w", err)
	}
	return mountsBelow(string(data), dirs), nil
}

func mountsBelow(mountinfo string, dirs []string) []string {
	escapes := strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)
	var points []string
	for line := range strings.Lines(mountinfo) {
		fields := strings.Fields(line)
		if len(fields) < 5 {
			continue
		}
		root, point := escapes.Replace(fields[3]), escapes.Replace(fields[4])
		for _, dir := range dirs {
			itself := point == dir && root != "/" && strings.HasSuffix(point, root)
			if itself || strings.HasPrefix(point, strings.TrimSuffix(dir, "/")+"/") {
				points = append(points, point)
				break
			}
		}
	}
	return points
}

// Unmount takes off everything that MountsBelow lists, last first. What is still open there goes when it is closed.
func Unmount(dirs ...string) error {
	points, err := MountsBelow(dirs...)
	if err != nil {
		return err
	}
	for _, p := range slices.Backward(points) {
		if err := unix.Unmount(p, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil && !errors.Is(err, unix.EINVAL) {
			return fmt.Errorf("unmount %s: %w", p, err)
		}
	}
	return nil
}

// Pods returns the UIDs of the pods that a node agent with this root directory has had.
func Pods(kubeletDir string) ([]string, error) {
	entries, err := os.ReadDir(filepath.Join(kubeletDir, "pods"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var uids []string
	for _, e := range entries {
		uids = append(uids, e.Name())
	}
	return uids, nil
}

// PodLogs returns the log directories of the pods: NAMESPACE_NAME_UID.
func PodLogs(dir string, uids []string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var found []string
	for _, e := range entries {
		if i := strings.LastIndexByte(e.Name(), '_'); i > 0 && slices.Contains(uids, e.Name()[i+1:]) {
			found = append(found, filepath.Join(dir, e.Name()))
		}
	}
	return found, nil
}

// LogLinks returns the links in dir that lead into one of the log directories.
func LogLinks(dir string, logs []string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var found []string
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		target, err := os.Readlink(path)
		if err != nil {
			continue // not a link
		}
		for _, l := range logs {
			if strings.HasPrefix(target, l+"/") {
				found = append(found, path)
				break
			}
		}
	}
	return found, nil
}

// Cgroups returns the cgroups of the pods in every mounted hierarchy, below root.
func Cgroups(root string, uids []string) ([]string, error) {
	mounts, err := cgroupMounts()
	if err != nil {
		return nil, err
	}
	var found []string
	for _, m := range mounts {
		for _, class := range []string{"", "burstable", "besteffort"} {
			for _, uid := range uids {
				dir := filepath.Join(m, root, "kubepods", class, "pod"+uid)
				if _, err := os.Stat(dir); err == nil {
					found = append(found, dir)
				}
			}
		}
	}
	return found, nil
}

func cgroupMounts() ([]string, error) {
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	var found []string
	for line := range strings.Lines(string(data)) {
		before, after, ok := strings.Cut(line, " - ")
		left := strings.Fields(before)
		if ok && len(left) >= 5 && strings.HasPrefix(after, "cgroup") {
			found = append(found, left[4])
		}
	}
	return found, nil
}

// RemoveEmptyClasses removes kubepods below root in every hierarchy if no pod of anybody is in it.
func RemoveEmptyClasses(root string) error {
	mounts, err := cgroupMounts()
	if err != nil {
		return err
	}
	for _, m := range mounts {
		base := filepath.Join(m, root, "kubepods")
		for _, dir := range []string{filepath.Join(base, "burstable"), filepath.Join(base, "besteffort"), base} {
			err := os.Remove(dir)
			switch {
			case err == nil, errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.EBUSY), errors.Is(err, unix.ENOTEMPTY):
			default:
				return fmt.Errorf("remove cgroup %s: %w", dir, err)
			}
		}
	}
	return nil
}

// dataEntries are the files and directories that Canopus makes in its data directory.
func dataEntries() []string {
	return []string{"bin", "cni", "containerd", "dns.snapshot", "encryption.yaml", "etcd", "format", "kubeconfig", "log", "pki", settingsFile, "volumes"}
}

// RemoveData removes what Canopus made in its data directory, and the directory if nothing else is in it. It returns what
// else there is.
func RemoveData(dir string) (foreign []string, err error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var errs []error
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		if slices.Contains(dataEntries(), e.Name()) {
			errs = append(errs, os.RemoveAll(path))
			continue
		}
		foreign = append(foreign, path)
	}
	if len(foreign) == 0 {
		errs = append(errs, RemoveIfEmpty(dir))
	}
	return foreign, errors.Join(errs...)
}

// RemoveIfEmpty removes directories that are empty. Others, and mount points, stay.
func RemoveIfEmpty(dirs ...string) error {
	var errs []error
	for _, dir := range dirs {
		err := os.Remove(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ENOTEMPTY) && !errors.Is(err, unix.EBUSY) && !errors.Is(err, unix.ENOTDIR) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// Size returns how many bytes the files below dir take on disk.
func Size(dir string) int64 {
	var total int64
	_ = filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err != nil {
			return nil //nolint:nilerr // it went away meanwhile; the size is for people
		}
		if info, err := e.Info(); err == nil {
			if s, ok := info.Sys().(*syscall.Stat_t); ok {
				total += s.Blocks * 512
			}
		}
		return nil
	})
	return total
}
