package volume

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"

	corev1 "k8s.io/api/core/v1"
)

// setGroup gives everything below dir to the pod's fsGroup, readable and (unless readOnly) writable for it; new files
// in directories inherit the group. Containers may be at work in dir meanwhile: no link of theirs leads out of it.
func setGroup(dir string, pod *corev1.Pod, readOnly bool) error {
	if pod.Spec.SecurityContext == nil || pod.Spec.SecurityContext.FSGroup == nil {
		return nil
	}
	gid := int(*pod.Spec.SecurityContext.FSGroup)
	if p := pod.Spec.SecurityContext.FSGroupChangePolicy; p != nil && *p == corev1.FSGroupChangeOnRootMismatch && matches(dir, gid, readOnly) {
		return nil
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("give %s to group %d: %w", dir, gid, err)
	}
	defer root.Close()
	err = fs.WalkDir(root.FS(), ".", func(p string, d fs.DirEntry, err error) error {
		if err == nil {
			err = own(root, p, d, gid, readOnly)
		}
		if p != "." && errors.Is(err, fs.ErrNotExist) {
			return nil // it went away meanwhile
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("give %s to group %d: %w", dir, gid, err)
	}
	return nil
}

func own(root *os.Root, p string, d fs.DirEntry, gid int, readOnly bool) error {
	if err := root.Lchown(p, -1, gid); err != nil {
		return err
	}
	if d.Type()&fs.ModeSymlink != 0 {
		return nil
	}
	info, err := root.Lstat(p)
	if err != nil || info.Mode()&fs.ModeSymlink != 0 {
		return err
	}
	return root.Chmod(p, groupMode(info.Mode(), readOnly))
}

func groupMode(m os.FileMode, readOnly bool) os.FileMode {
	out := m | 0o440
	if !readOnly {
		out |= 0o660
	}
	if m.IsDir() {
		out |= os.ModeSetgid | 0o110
	}
	return out
}

func matches(dir string, gid int, readOnly bool) bool {
	info, err := os.Stat(dir)
	if err != nil {
		return false
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(st.Gid) == gid && info.Mode() == groupMode(info.Mode(), readOnly)
}
