package proxy

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// healthServers answers on the health check ports of Services with externalTrafficPolicy Local: 200 where there is a
// ready endpoint, 503 elsewhere, so that an outside load balancer sends only to nodes that have one.
type healthServers struct {
	log     *slog.Logger
	servers map[uint16]*healthServer // owned by the proxy's goroutine
}

type healthServer struct {
	answer atomic.Pointer[health]
	server *http.Server
	done   sync.WaitGroup
}

func newHealthServers(log *slog.Logger) *healthServers {
	return &healthServers{log: log, servers: map[uint16]*healthServer{}}
}

// serve opens, updates and closes ports until exactly those in want answer.
func (h *healthServers) serve(want map[uint16]health) error {
	for port, s := range h.servers {
		if _, ok := want[port]; !ok {
			s.close()
			delete(h.servers, port)
		}
	}
	var errs []error
	for port, answer := range want {
		s := h.servers[port]
		if s == nil {
			s = &healthServer{}
			s.answer.Store(&answer)
			if err := s.listen(port, h.log); err != nil {
				errs = append(errs, fmt.Errorf("open the health check port of service %s (is it taken by another program?): %w", answer.service, err))
				continue
			}
			h.servers[port] = s
		}
		s.answer.Store(&answer)
	}
	return errors.Join(errs...)
}

func (h *healthServers) close() {
	for port, s := range h.servers {
		s.close()
		delete(h.servers, port)
	}
}

func (s *healthServer) listen(port uint16, log *slog.Logger) error {
	listener, err := net.Listen("tcp4", net.JoinHostPort("", strconv.Itoa(int(port))))
	if err != nil {
		return err
	}
	s.server = &http.Server{Handler: s, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute}
	s.done.Go(func() {
		if err := s.server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			log.Error("a health check port closed", "port", port, "error", err)
		}
	})
	return nil
}

func (s *healthServer) close() {
	_ = s.server.Close()
	s.done.Wait()
}

// ServeHTTP answers with upstream's fields, which load balancers' checks may look at.
func (s *healthServer) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	a := s.answer.Load()
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("X-Load-Balancing-Endpoint-Weight", strconv.Itoa(a.local))
	if a.local == 0 {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	_ = json.NewEncoder(w).Encode(map[string]any{
		"service":             map[string]string{"namespace": a.service.Namespace, "name": a.service.Name},
		"localEndpoints":      a.local,
		"serviceProxyHealthy": true,
	})
}
