package server

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"canopus/internal/node/cri"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// metrics serves the agent's own metrics.
func metrics(more prometheus.Gatherer) http.Handler {
	reg := prometheus.NewRegistry()
	reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	all := prometheus.Gatherers{reg}
	if more != nil {
		all = append(all, more)
	}
	return promhttp.HandlerFor(all, promhttp.HandlerOpts{})
}

// usage is what a container uses now.
type usage struct {
	pod       *corev1.Pod
	container string
	started   time.Time
	stats     *runtimeapi.ContainerStats
}

// usages asks the runtime about all running containers of the node's pods.
func (s *Server) usages(ctx context.Context) ([]usage, error) {
	resp, err := s.cfg.Runtime.ListContainerStats(ctx, &runtimeapi.ListContainerStatsRequest{})
	if err != nil {
		return nil, fmt.Errorf("container statistics: %w", err)
	}
	var out []usage
	for _, st := range resp.GetStats() {
		l := st.GetAttributes().GetLabels()
		obj, found, err := s.cfg.Pods.GetByKey(l[cri.LabelPodNamespace] + "/" + l[cri.LabelPodName])
		pod, ok := obj.(*corev1.Pod)
		if err != nil || !found || !ok || string(pod.UID) != l[cri.LabelPodUID] {
			continue
		}
		c := s.cfg.Cache.Get(pod.UID).ByID(st.GetAttributes().GetId())
		if c == nil || !c.Running() {
			continue
		}
		out = append(out, usage{pod, c.Name(), time.Unix(0, c.GetStartedAt()), st})
	}
	return out, nil
}

// recent is how long one reading of the runtime answers everybody who asks.
const recent = 2 * time.Second

// readings is the last reading of all containers. Callers that ask while one is under way wait for that one.
type readings struct {
	mu   sync.Mutex
	last *reading
}

// reading is done when it is closed; the other fields are set before that.
type reading struct {
	done chan struct{}
	at   time.Time
	all  []usage
	err  error
}

// recentUsages is usages, from memory if they were read a moment ago.
func (s *Server) recentUsages(ctx context.Context) ([]usage, error) {
	s.readings.mu.Lock()
	r := s.readings.last
	mine := r == nil || s.cfg.Clock.Since(r.at) >= recent
	if mine {
		r = &reading{done: make(chan struct{}), at: s.cfg.Clock.Now()}
		s.readings.last = r
	}
	s.readings.mu.Unlock()
	if mine {
		// Others wait for it, so it does not end with this request.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), readTimeout)
		defer cancel()
		r.all, r.err = s.usages(ctx)
		close(r.done)
		return r.all, r.err
	}
	select {
	case <-r.done:
		return r.all, r.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// readTimeout is how long the runtime may take to tell of all containers.
const readTimeout = 10 * time.Second
