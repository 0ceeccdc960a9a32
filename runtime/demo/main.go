// Command demo is the web server of the demo image: one page that says which pod answered, so that a reload through a
// Service shows that requests are spread. It ends cleanly: after SIGTERM it stays ready to finish what it has begun.
package main

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"html/template"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

//go:embed page.html
var page string

// drain is how long requests are still accepted after SIGTERM, while proxies learn that this pod is going.
const drain = 2 * time.Second

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	if err := run(ctx, ":"+orElse(os.Getenv("PORT"), "8080")); err != nil {
		slog.Error("demo", "error", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, address string) error {
	h, err := newHandler(os.Getenv, os.Hostname)
	if err != nil {
		return err
	}
	server := &http.Server{Addr: address, Handler: h, ReadHeaderTimeout: 10 * time.Second}
	failed := make(chan error, 1)
	go func() { failed <- server.ListenAndServe() }()
	slog.Info("serving", "address", address)
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	h.leaving.Store(true)
	last := time.NewTimer(drain)
	defer last.Stop()
	select {
	case err := <-failed:
		return err
	case <-last.C:
	}
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	if err := server.Shutdown(end); err != nil {
		return err
	}
	if err := <-failed; !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// handler serves the page, /hostname and /healthz.
type handler struct {
	mux     *http.ServeMux
	page    *template.Template
	view    view
	served  atomic.Int64
	leaving atomic.Bool
}

// view is what the page shows.
type view struct {
	Message, Host, Pod, Namespace, Node, IP string
	Client                                  string
	Served                                  int64
}

func newHandler(env func(string) string, hostname func() (string, error)) (*handler, error) {
	host, err := hostname()
	if err != nil {
		return nil, err
	}
	parsed, err := template.New("page").Parse(page)
	if err != nil {
		return nil, err
	}
	h := &handler{mux: http.NewServeMux(), page: parsed, view: view{
		Message: orElse(env("MESSAGE"), "Hello from Canopus"), Host: host,
		Pod: orElse(env("POD_NAME"), host), Namespace: env("POD_NAMESPACE"), Node: env("NODE_NAME"), IP: env("POD_IP"),
	}}
	h.mux.HandleFunc("GET /{$}", h.index)
	h.mux.HandleFunc("GET /hostname", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, host) })
	h.mux.HandleFunc("GET /healthz", h.health)
	return h, nil
}

func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) { h.mux.ServeHTTP(w, r) }

// index answers browsers with the page and everybody else (curl, wget) with one line.
func (h *handler) index(w http.ResponseWriter, r *http.Request) {
	v := h.view
	v.Served = h.served.Add(1)
	v.Client, _, _ = net.SplitHostPort(r.RemoteAddr)
	if !strings.Contains(r.Header.Get("Accept"), "text/html") {
		fmt.Fprintf(w, "%s: pod %s answered you (%s), its request number %d\n", v.Message, v.Pod, v.Client, v.Served)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	if err := h.page.Execute(w, v); err != nil {
		slog.Warn("page not sent", "error", err)
	}
}

// health fails once the process is leaving, so that a readiness probe takes the pod out of its Services.
func (h *handler) health(w http.ResponseWriter, _ *http.Request) {
	if h.leaving.Load() {
		http.Error(w, "shutting down", http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, "ok")
}

func orElse(s, fallback string) string {
	if s == "" {
		return fallback
	}
	return s
}
