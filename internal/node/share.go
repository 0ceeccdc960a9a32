package node

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// shareMounts makes root part of a shared mount, so that what is mounted below it later (a tmpfs, a CSI volume) reaches
// running containers, and what a container with bidirectional propagation mounts reaches the node. Without systemd the
// machine's mounts are private.
func shareMounts(root string) error {
	if err := os.MkdirAll(root, 0o755); err != nil {
		return fmt.Errorf("node agent: %w", err)
	}
	root, err := filepath.EvalSymlinks(root)
	if err != nil {
		return fmt.Errorf("node agent: %w", err)
	}
	mounts, err := mountinfo.GetMounts(mountinfo.ParentsFilter(root))
	if err != nil {
		return fmt.Errorf("node agent: mounts above %s: %w", root, err)
	}
	var on *mountinfo.Info // the one that root lies on: the longest, and of equal ones the last
	for _, m := range mounts {
		if on == nil || len(m.Mountpoint) >= len(on.Mountpoint) {
			on = m
		}
	}
	if on != nil && shared(on.Optional) {
		return nil
	}
	if on == nil || on.Mountpoint != root {
		if err := unix.Mount(root, root, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
			return fmt.Errorf("node agent: bind %s to itself: %w", root, err)
		}
	}
	if err := unix.Mount("", root, "", unix.MS_SHARED|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("node agent: make the mount of %s shared: %w", root, err)
	}
	return nil
}

// shared reads the optional fields of a mountinfo line: "shared:12 master:3".
func shared(optional string) bool {
	for _, f := range strings.Fields(optional) {
		if strings.HasPrefix(f, "shared:") {
			return true
		}
	}
	return false
}
