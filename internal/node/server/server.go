// Package server is the node agent's HTTPS server, by convention on port 10250. The API server comes here for logs, exec,
// attach and port-forward, monitoring for metrics and statistics. Every caller is authenticated (client certificate, or a
// token that the API server reviews) and every request authorized by a SubjectAccessReview about the node.
package server

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/utils/clock"

	"canopus/internal/auth/delegate"
	"canopus/internal/node/cri"
	"canopus/internal/node/nodestatus"

	"github.com/prometheus/client_golang/prometheus"
)

// shutdownGrace is how long open requests get when the agent ends.
const shutdownGrace = time.Second

// Config is what a Server needs. All of it is required but ClientCA and Metrics.
type Config struct {
	Client   kubernetes.Interface
	NodeName string
	Address  string
	TLS      *tls.Config
	ClientCA *x509.CertPool // nil: only tokens are accepted
	Runtime  *cri.Client
	Cache    *cri.Cache
	Pods     cache.Store // of *corev1.Pod, keyed by namespace/name
	PodLogs  string
	Machine  nodestatus.Machine
	Metrics  prometheus.Gatherer // of the agent's other parts; nil: there are none
	Clock    clock.Clock
	Log      *slog.Logger
}

// Server serves the node's endpoints.
type Server struct {
	cfg  Config
	auth *delegate.Gate

	readings readings
}

// New checks the configuration.
func New(cfg Config) (*Server, error) {
	if cfg.Client == nil || cfg.NodeName == "" || cfg.Address == "" || cfg.TLS == nil || cfg.Runtime == nil || cfg.Cache == nil ||
		cfg.Pods == nil || cfg.Clock == nil || cfg.Log == nil {
		return nil, errors.New("node server: every field of the configuration but ClientCA and Metrics is required")
	}
	gate, err := delegate.New(delegate.Config{Client: cfg.Client, ClientCA: cfg.ClientCA, Question: question(cfg.NodeName), Clock: cfg.Clock})
	if err != nil {
		return nil, err
	}
	return &Server{cfg: cfg, auth: gate}, nil
}

// Run serves until ctx ends.
func (s *Server) Run(ctx context.Context) error {
	l, err := net.Listen("tcp", s.cfg.Address)
	if err != nil {
		return fmt.Errorf("node server: listen on %s: %w", s.cfg.Address, err)
	}
	return s.Serve(ctx, l)
}

// Serve serves on l until ctx ends.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	conf := s.cfg.TLS.Clone()
	conf.MinVersion = max(conf.MinVersion, tls.VersionTLS12)
	if s.cfg.ClientCA != nil {
		// Verified here and not by TLS, so that a caller with a token need not have a certificate of this CA.
		conf.ClientAuth = tls.RequestClientCert
	}
	srv := &http.Server{
		Handler:           s.auth.Wrap(s.mux()),
		TLSConfig:         conf,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ErrorLog:          slog.NewLogLogger(s.cfg.Log.Handler(), slog.LevelDebug),
	}
	done := make(chan error, 1)
	go func() { done <- srv.ServeTLS(l, "", "") }()
	select {
	case err := <-done:
		return fmt.Errorf("node server on %s: %w", s.cfg.Address, err)
	case <-ctx.Done():
	}
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownGrace)
	defer cancel()
	if err := srv.Shutdown(end); err != nil {
		_ = srv.Close()
	}
	<-done
	return nil
}

// mux lists every endpoint.
func (s *Server) mux() http.Handler {
	m := http.NewServeMux()
	m.HandleFunc("GET /healthz", s.health)
	m.HandleFunc("GET /pods", s.pods)
	m.HandleFunc("GET /runningpods/", s.runningPods)
	m.HandleFunc("GET /containerLogs/{namespace}/{pod}/{container}", s.containerLogs)
	for _, method := range []string{"GET", "POST"} {
		m.HandleFunc(method+" /exec/{namespace}/{pod}/{container}", s.exec)
		m.HandleFunc(method+" /exec/{namespace}/{pod}/{uid}/{container}", s.exec)
		m.HandleFunc(method+" /attach/{namespace}/{pod}/{container}", s.attach)
		m.HandleFunc(method+" /attach/{namespace}/{pod}/{uid}/{container}", s.attach)
		m.HandleFunc(method+" /portForward/{namespace}/{pod}", s.portForward)
		m.HandleFunc(method+" /portForward/{namespace}/{pod}/{uid}", s.portForward)
	}
	m.HandleFunc("POST /run/{namespace}/{pod}/{container}", s.run)
	m.HandleFunc("GET /stats/summary", s.summary)
	m.HandleFunc("GET /metrics/resource", s.resourceMetrics)
	m.Handle("GET /metrics", metrics(s.cfg.Metrics))
	return m
}

// health answers ok while the runtime does.
func (s *Server) health(w http.ResponseWriter, r *http.Request) {
	if _, _, _, err := s.cfg.Runtime.Conditions(r.Context()); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	_, _ = w.Write([]byte("ok"))
}

// pods lists the pods that are bound to the node.
func (s *Server) pods(w http.ResponseWriter, _ *http.Request) {
	list := corev1.PodList{TypeMeta: metav1.TypeMeta{Kind: "PodList", APIVersion: "v1"}, Items: []corev1.Pod{}}
	for _, o := range s.cfg.Pods.List() {
		if p, ok := o.(*corev1.Pod); ok {
			list.Items = append(list.Items, *p)
		}
	}
	writeJSON(w, list)
}

// runningPods lists what the runtime runs.
func (s *Server) runningPods(w http.ResponseWriter, _ *http.Request) {
	list := corev1.PodList{TypeMeta: metav1.TypeMeta{Kind: "PodList", APIVersion: "v1"}, Items: []corev1.Pod{}}
	for _, p := range s.cfg.Cache.All() {
		pod := corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: p.Name, Namespace: p.Namespace, UID: p.UID}}
		for _, c := range p.Containers {
			if c.Running() {
				pod.Spec.Containers = append(pod.Spec.Containers, corev1.Container{Name: c.Name(), Image: c.GetImageRef()})
			}
		}
		if len(pod.Spec.Containers) > 0 {
			list.Items = append(list.Items, pod)
		}
	}
	writeJSON(w, list)
}

func writeJSON(w http.ResponseWriter, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(b)
}
