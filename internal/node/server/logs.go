package server

import (
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"canopus/internal/node/cri"
	"canopus/internal/node/logs"
)

// containerLogs writes a container's log.
func (s *Server) containerLogs(w http.ResponseWriter, r *http.Request) {
	o, previous, err := logOptions(r.URL.Query(), s.cfg.Clock.Now())
	if err != nil {
		http.Error(w, err.Error(), http.StatusUnprocessableEntity)
		return
	}
	ns, pod, container := r.PathValue("namespace"), r.PathValue("pod"), r.PathValue("container")
	obj, found, err := s.cfg.Pods.GetByKey(ns + "/" + pod)
	p, ok := obj.(*corev1.Pod)
	if err != nil || !found || !ok {
		http.Error(w, fmt.Sprintf("pod %q does not exist", pod), http.StatusNotFound)
		return
	}
	st := s.cfg.Cache.Get(p.UID).Newest(container)
	if previous {
		st = s.cfg.Cache.Get(p.UID).Previous(container)
	}
	if st == nil {
		http.Error(w, noLog(p, container, previous), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "text/plain")
	w.WriteHeader(http.StatusOK)
	out := flushing(w)
	src := logs.Source{Path: st.GetLogPath(), Clock: s.cfg.Clock, Running: s.running(p.UID, st.GetId())}
	if err := logs.Copy(r.Context(), out, src, o); err != nil && r.Context().Err() == nil {
		_, _ = fmt.Fprintf(w, "%v\n", err)
	}
}

// running returns a function that says whether a container may still write.
func (s *Server) running(uid types.UID, id string) func() bool {
	return func() bool {
		st := s.cfg.Cache.Get(uid).ByID(id)
		return st != nil && !st.Exited()
	}
}

// noLog says why a container has no log.
func noLog(p *corev1.Pod, container string, previous bool) string {
	if previous {
		return fmt.Sprintf("previous terminated container %q in pod %q not found", container, p.Name)
	}
	for _, list := range [][]corev1.ContainerStatus{p.Status.ContainerStatuses, p.Status.InitContainerStatuses, p.Status.EphemeralContainerStatuses} {
		for _, c := range list {
			if c.Name == container && c.State.Waiting != nil {
				return fmt.Sprintf("container %q in pod %q is waiting to start: %s", container, p.Name, waitingWords(c.State.Waiting.Reason))
			}
		}
	}
	return fmt.Sprintf("container %q in pod %q is not available", container, p.Name)
}

func waitingWords(reason string) string {
	switch reason {
	case "ErrImagePull":
		return "image can't be pulled"
	case "ImagePullBackOff":
		return "trying and failing to pull image"
	}
	return reason
}

func logOptions(q url.Values, now time.Time) (o logs.Options, previous bool, err error) {
	o = logs.Options{Tail: -1, LimitBytes: -1}
	flag := func(name string) bool {
		v, perr := strconv.ParseBool(q.Get(name))
		if q.Has(name) && perr != nil {
			err = fmt.Errorf("%s: %q is not a boolean", name, q.Get(name))
		}
		return v
	}
	number := func(name string, least int64) (int64, bool) {
		if q.Get(name) == "" {
			return 0, false
		}
		n, perr := strconv.ParseInt(q.Get(name), 10, 64)
		if perr != nil || n < least {
			err = fmt.Errorf("%s: %q must be a number of at least %d", name, q.Get(name), least)
		}
		return n, true
	}
	o.Follow, o.Timestamps, previous = flag("follow"), flag("timestamps"), flag("previous")
	if n, ok := number("tailLines", 0); ok {
		o.Tail = n
	}
	if n, ok := number("limitBytes", 1); ok {
		o.LimitBytes = n
	}
	if n, ok := number("sinceSeconds", 1); ok {
		o.Since = now.Add(-time.Duration(n) * time.Second)
	}
	if v := q.Get("sinceTime"); v != "" {
		t, perr := time.Parse(time.RFC3339, v)
		if perr != nil {
			err = fmt.Errorf("sinceTime: %q is not a time of RFC 3339", v)
		}
		o.Since = t
	}
	switch v := q.Get("stream"); v {
	case "", "All":
	case "Stdout":
		o.Stream = "stdout"
	case "Stderr":
		o.Stream = "stderr"
	default:
		err = fmt.Errorf("stream: %q must be All, Stdout or Stderr", v)
	}
	return o, previous, err
}

// flushWriter sends every write at once, as somebody may be watching.
type flushWriter struct {
	w  http.ResponseWriter
	rc *http.ResponseController
}

func flushing(w http.ResponseWriter) *flushWriter {
	f := &flushWriter{w, http.NewResponseController(w)}
	_ = f.rc.Flush()
	return f
}

func (f *flushWriter) Write(b []byte) (int, error) {
	n, err := f.w.Write(b)
	if err != nil {
		return n, err
	}
	return n, f.rc.Flush()
}

// container finds a running container by the names in the request's path.
func (s *Server) container(r *http.Request) (*cri.Pod, *cri.Container, error) {
	rt, err := s.pod(r)
	if err != nil {
		return nil, nil, err
	}
	name := r.PathValue("container")
	st := rt.Newest(name)
	if st == nil || !st.Running() {
		return nil, nil, fmt.Errorf("container not found (%q): it is not running", name)
	}
	return rt, st, nil
}

// pod finds what the runtime has of the pod in the request's path.
func (s *Server) pod(r *http.Request) (*cri.Pod, error) {
	ns, name := r.PathValue("namespace"), r.PathValue("pod")
	obj, found, err := s.cfg.Pods.GetByKey(ns + "/" + name)
	p, ok := obj.(*corev1.Pod)
	if err != nil || !found || !ok {
		return nil, fmt.Errorf("pod %q does not exist", name)
	}
	if uid := r.PathValue("uid"); uid != "" && uid != string(p.UID) {
		return nil, fmt.Errorf("pod %q has another uid than %s", name, uid)
	}
	return s.cfg.Cache.Get(p.UID), nil
}
