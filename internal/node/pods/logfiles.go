package pods

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"canopus/internal/node/cri"
	"canopus/internal/node/logs"
)

// logLink is where log collectors look for a container's log.
func (w *worker) logLink(podName, namespace, container, id string) string {
	return filepath.Join(w.m.cfg.ContainerLogs, fmt.Sprintf("%s_%s_%s-%s.log", podName, namespace, container, id))
}

func (w *worker) linkLog(pod *corev1.Pod, container string, attempt int, id string) {
	target := filepath.Join(w.m.cfg.Paths.PodLogDir(pod), container, fmt.Sprintf("%d.log", attempt))
	err := os.Symlink(target, w.logLink(pod.Name, pod.Namespace, container, id))
	if err != nil && !errors.Is(err, fs.ErrExist) {
		w.m.cfg.Log.Warn("linking a container's log", "pod", w.String(), "container", container, "error", err)
	}
}

func (w *worker) unlinkLog(st *cri.Container) {
	l := st.GetLabels()
	_ = os.Remove(w.logLink(l[cri.LabelPodName], l[cri.LabelPodNamespace], st.Name(), st.GetId()))
}

// readTail returns at most n bytes of a file: its beginning, or its end. What cannot be read is empty, as a message
// from a container is never worth failing over.
func readTail(path string, n int64, end bool) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	if st, err := f.Stat(); err != nil || !st.Mode().IsRegular() {
		return ""
	} else if end && st.Size() > n {
		if _, err := f.Seek(-n, io.SeekEnd); err != nil {
			return ""
		}
	}
	b, err := io.ReadAll(io.LimitReader(f, n))
	if err != nil {
		return ""
	}
	return string(b)
}

// logTail returns the text of the last lines of a container's log.
func logTail(path string) string {
	// Records are longer than their text; four times is enough to have the text whole.
	raw := strings.SplitAfter(readTail(path, 4*maxLogMessage, true), "\n")
	var out []string
	for _, r := range raw {
		if l, err := logs.ParseLine([]byte(r)); err == nil {
			out = append(out, string(l.Text))
		}
	}
	if len(out) > maxMessageLines {
		out = out[len(out)-maxMessageLines:]
	}
	s := strings.Join(out, "")
	if len(s) > maxLogMessage {
		s = s[len(s)-maxLogMessage:]
	}
	return s
}
