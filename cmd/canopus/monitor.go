package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"canopus/internal/auth/delegate"
	"canopus/internal/client"
	"canopus/internal/scheduler"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/util/cert"
	"k8s.io/utils/clock"
)

// monitorGrace is how long open requests get when the process ends.
const monitorGrace = time.Second

// monitor is the HTTPS server of a part that runs as a process of its own. Health is told to everybody, the other pages to
// whom the API server lets read them. It shows a certificate that it makes itself: nothing is sent to it that would need
// another.
type monitor struct {
	host     string
	port     int // 0: nobody can ask
	registry *prometheus.Registry
	pages    map[string]http.Handler
	log      *slog.Logger
}

func newMonitor(host string, port int, log *slog.Logger) *monitor {
	m := &monitor{host: host, port: port, registry: prometheus.NewRegistry(), log: log}
	m.registry.MustRegister(buildInfo(), collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{})) // the first ones
	m.pages = map[string]http.Handler{"/metrics": promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})}
	return m
}

// run serves with the trust and the rights of access until ctx ends.
func (m *monitor) run(ctx context.Context, access *client.Access) error {
	if m.port == 0 {
		<-ctx.Done()
		return nil
	}
	handler, err := m.handler(access)
	if err != nil {
		return err
	}
	certificate, key, err := cert.GenerateSelfSignedCertKey("localhost", nil, nil)
	if err != nil {
		return fmt.Errorf("make a certificate: %w", err)
	}
	pair, err := tls.X509KeyPair(certificate, key)
	if err != nil {
		return fmt.Errorf("make a certificate: %w", err)
	}
	l, err := net.Listen("tcp", net.JoinHostPort(m.host, strconv.Itoa(m.port)))
	if err != nil {
		return fmt.Errorf("serve metrics: %w: --scheduler-port or --controllers-port takes a different port, 0 none", err)
	}
	srv := &http.Server{
		Handler: handler,
		// Client certificates are verified by the gate and not by TLS: a caller with a token need not have one of this authority.
		TLSConfig:         &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12, ClientAuth: tls.RequestClientCert},
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ErrorLog:          slog.NewLogLogger(m.log.Handler(), slog.LevelDebug),
	}
	done := make(chan error, 1)
	go func() { done <- srv.ServeTLS(l, "", "") }()
	select {
	case err := <-done:
		return fmt.Errorf("serve metrics on %s: %w", l.Addr(), err)
	case <-ctx.Done():
	}
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), monitorGrace)
	defer cancel()
	if err := srv.Shutdown(end); err != nil {
		_ = srv.Close()
	}
	<-done
	return nil
}

func (m *monitor) handler(access *client.Access) (http.Handler, error) {
	var roots *x509.CertPool
	if len(access.Config.CAData) > 0 {
		roots = x509.NewCertPool()
		if !roots.AppendCertsFromPEM(access.Config.CAData) {
			return nil, errors.New("the kubeconfig's certificate-authority-data holds no certificate")
		}
	}
	gate, err := delegate.New(delegate.Config{Client: access.Client, ClientCA: roots, Question: delegate.Paths, Clock: clock.RealClock{}})
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	for _, path := range []string{"/healthz", "/livez", "/readyz"} {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ok")) }) // a client that has gone
	}
	guarded := http.NewServeMux()
	for path, page := range m.pages {
		guarded.Handle("GET "+path, page)
	}
	mux.Handle("/", gate.Wrap(guarded))
	return mux, nil
}

// demandPage is the page about the pods that the scheduler of the moment sees. Until there is one it is empty.
type demandPage struct{ page atomic.Pointer[http.Handler] }

// see makes f's pods those of the page.
func (d *demandPage) see(f informers.SharedInformerFactory) {
	page := scheduler.ResourceMetrics(f.Core().V1().Pods().Lister())
	d.page.Store(&page)
}

// ServeHTTP implements http.Handler.
func (d *demandPage) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if page := d.page.Load(); page != nil {
		(*page).ServeHTTP(w, r)
	}
}
