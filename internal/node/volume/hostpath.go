package volume

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// hostPath is a path of the node, checked or made as its type says.
type hostPath struct {
	path string
	kind *corev1.HostPathType
}

func (h *hostPath) SetUp(context.Context) (string, error) {
	kind := corev1.HostPathUnset
	if h.kind != nil {
		kind = *h.kind
	}
	if err := h.create(kind); err != nil {
		return "", err
	}
	return h.path, h.check(kind)
}

func (h *hostPath) create(kind corev1.HostPathType) error {
	switch kind {
	case corev1.HostPathDirectoryOrCreate, corev1.HostPathUnset:
		// With no type nothing is checked, but the runtime cannot bind what is not there: a directory is made.
		if _, err := os.Lstat(h.path); errors.Is(err, fs.ErrNotExist) {
			if err := os.MkdirAll(h.path, 0o755); err != nil {
				return fmt.Errorf("hostPath %s: %w", h.path, err)
			}
		}
	case corev1.HostPathFileOrCreate:
		f, err := os.OpenFile(h.path, os.O_CREATE|os.O_RDONLY, 0o644)
		if err != nil {
			return fmt.Errorf("hostPath type check failed: %s: %w", h.path, err)
		}
		return f.Close()
	}
	return nil
}

func (h *hostPath) check(kind corev1.HostPathType) error {
	if kind == corev1.HostPathUnset {
		return nil
	}
	info, err := os.Stat(h.path)
	if err != nil {
		info = nil
	}
	m := os.FileMode(0)
	if info != nil {
		m = info.Mode()
	}
	var ok bool
	var what string
	switch kind {
	case corev1.HostPathDirectory, corev1.HostPathDirectoryOrCreate:
		ok, what = m.IsDir(), "directory"
	case corev1.HostPathFile, corev1.HostPathFileOrCreate:
		ok, what = info != nil && m.IsRegular(), "file"
	case corev1.HostPathSocket:
		ok, what = m&os.ModeSocket != 0, "socket file"
	case corev1.HostPathCharDev:
		ok, what = m&os.ModeCharDevice != 0, "character device"
	case corev1.HostPathBlockDev:
		ok, what = m&os.ModeDevice != 0 && m&os.ModeCharDevice == 0, "block device"
	default:
		return fmt.Errorf("%s is an invalid volume type", kind)
	}
	if !ok {
		return fmt.Errorf("hostPath type check failed: %s is not a %s", filepath.Clean(h.path), what)
	}
	return nil
}

func (h *hostPath) Refresh() time.Time { return time.Time{} }

func (h *hostPath) TearDown() error { return nil }
