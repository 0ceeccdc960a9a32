package conformance

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"
)

// sharedDir is a directory that pods on every node see at the same path: the machines of a run share the file system.
func sharedDir(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	check(t, os.Chmod(dir, 0o777))
	return dir
}

// withMarks mounts a shared directory at /marks.
func withMarks(spec corev1.PodSpec, dir string) corev1.PodSpec {
	spec.Volumes = append(spec.Volumes, corev1.Volume{Name: "marks", VolumeSource: corev1.VolumeSource{
		HostPath: &corev1.HostPathVolumeSource{Path: dir, Type: ptr.To(corev1.HostPathDirectory)},
	}})
	spec.Containers[0].VolumeMounts = append(spec.Containers[0].VolumeMounts, corev1.VolumeMount{Name: "marks", MountPath: "/marks"})
	return spec
}

// awaitMarks waits for files that pods make in a shared directory.
func awaitMarks(t testing.TB, dir string, names ...string) {
	t.Helper()
	until(t, fmt.Sprintf("the marks %v", names), func() error {
		for _, name := range names {
			if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
				return err
			}
		}
		return nil
	})
}

// mark makes a file in a shared directory, for pods that wait for it.
func mark(t testing.TB, dir, name string) {
	t.Helper()
	check(t, os.WriteFile(filepath.Join(dir, name), nil, 0o666))
}

// readMark is the line that a pod wrote.
func readMark(t testing.TB, dir, name string) string {
	t.Helper()
	return strings.TrimSpace(string(must(os.ReadFile(filepath.Join(dir, name)))(t)))
}
