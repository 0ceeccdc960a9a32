package apiserver

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/pprof"
	"slices"
	"strings"

	"canopus/internal/apiserver/discovery"
	"canopus/internal/auth"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// page serves a path that is no resource.
type page func(rq *request) error

// Check is one thing that health pages look at.
type Check struct {
	Name  string
	Live  bool // a failure means that the process is beyond hope: /livez looks at it too
	Probe func(ctx context.Context) error
}

// anonymousPath says whether everybody may see a path: health and version, nothing else.
func anonymousPath(path string) bool {
	switch strings.TrimSuffix(path, "/") {
	case "/healthz", "/livez", "/readyz", "/version":
		return true
	}
	return false
}

// makePages lists the paths that are no resources.
func (s *Server) makePages() map[string]page {
	checks := append([]Check{{Name: "ping", Live: true, Probe: func(context.Context) error { return nil }},
		{Name: "etcd", Live: false, Probe: s.probeStore}}, s.cfg.Checks...)
	pages := map[string]page{
		"/version": s.version,
		"/metrics": asPage(promhttp.HandlerFor(prometheus.Gatherers{s.cfg.Metrics}, promhttp.HandlerOpts{})),
	}
	for _, path := range []string{"/healthz", "/livez", "/readyz"} {
		looked := slices.DeleteFunc(slices.Clone(checks), func(c Check) bool { return path == "/livez" && !c.Live })
		pages[path] = s.healthPage(strings.TrimPrefix(path, "/"), looked)
		pages[path+"/"] = s.oneCheckPage(strings.TrimPrefix(path, "/"), looked)
	}
	pages["/openapi/"] = func(rq *request) error {
		s.served.Load().openapi.ServeHTTP(rq.w, rq.Request)
		return nil
	}
	maps.Copy(pages, profiles())
	for path, h := range s.cfg.Pages {
		pages[path] = asPage(h)
	}
	return pages
}

// profiles are what `go tool pprof` reads; who may is decided as for any path.
func profiles() map[string]page {
	return map[string]page{
		"/debug/pprof/":        asPage(http.HandlerFunc(pprof.Index)),
		"/debug/pprof/profile": asPage(http.HandlerFunc(pprof.Profile)),
		"/debug/pprof/trace":   asPage(http.HandlerFunc(pprof.Trace)),
		"/debug/pprof/symbol":  asPage(http.HandlerFunc(pprof.Symbol)),
	}
}

func asPage(h http.Handler) page {
	return func(rq *request) error {
		h.ServeHTTP(rq.w, rq.Request)
		return nil
	}
}

// servePage answers a path that is no resource: the page itself, or that of the tree it is in.
func (s *Server) servePage(rq *request) error {
	path := rq.URL.Path
	if p := s.pages[path]; p != nil {
		return p(rq)
	}
	if path == "/api" || path == "/apis" || strings.HasPrefix(path, "/api/") || strings.HasPrefix(path, "/apis/") {
		return s.discovery(rq)
	}
	for dir := path; dir != ""; {
		i := strings.LastIndexByte(strings.TrimSuffix(dir, "/"), '/')
		if i < 0 {
			break
		}
		dir = dir[:i+1]
		if p := s.pages[dir]; p != nil && dir != "/" {
			return p(rq)
		}
	}
	if path == "/" {
		return s.index(rq)
	}
	if p := s.pages[strings.TrimSuffix(path, "/")]; p != nil {
		return p(rq)
	}
	return errNoPage()
}

// index lists the paths there are.
func (s *Server) index(rq *request) error {
	paths := []string{"/api", "/apis"}
	for gv := range s.served.Load().groups {
		paths = append(paths, discovery.Path(gv))
	}
	for path := range s.pages {
		paths = append(paths, strings.TrimSuffix(path, "/"))
	}
	slices.Sort(paths)
	return rq.writeJSON(map[string]any{"paths": slices.Compact(paths)})
}

func (rq *request) writeJSON(v any) error {
	body, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Errorf("encode answer: %w", err)
	}
	rq.writeBody(http.StatusOK, typeJSON, body)
	return nil
}

func (s *Server) version(rq *request) error { return rq.writeJSON(s.cfg.Version) }

// discovery answers what is served.
func (s *Server) discovery(rq *request) error {
	if rq.Method != http.MethodGet && rq.Method != http.MethodHead {
		return errMethod()
	}
	p := s.served.Load().documents.Page(rq.URL.Path)
	if p == nil {
		return errNoPage()
	}
	p.ServeHTTP(rq.w, rq.Request)
	return nil
}

func (s *Server) probeStore(ctx context.Context) error {
	select {
	case <-s.cfg.Store.Ready():
	default:
		return fmt.Errorf("the store is not loaded yet")
	}
	if _, err := s.cfg.Store.Revision(ctx); err != nil {
		return fmt.Errorf("etcd does not answer: %w", err)
	}
	return nil
}

// healthPage runs all checks but those excluded by the query.
func (s *Server) healthPage(name string, checks []Check) page {
	return func(rq *request) error {
		excluded := rq.query["exclude"]
		var b strings.Builder
		failed := false
		for _, c := range checks {
			if slices.Contains(excluded, c.Name) {
				fmt.Fprintf(&b, "[+]%s excluded: ok\n", c.Name)
				continue
			}
			switch err := s.probe(rq, name, c); {
			case err != nil:
				failed = true
				fmt.Fprintf(&b, "[-]%s failed: %s\n", c.Name, reasonFor(rq, err))
			default:
				fmt.Fprintf(&b, "[+]%s ok\n", c.Name)
			}
		}
		if failed {
			return plainError{http.StatusInternalServerError, b.String() + name + " check failed"}
		}
		text := "ok"
		if _, verbose := rq.query["verbose"]; verbose {
			text = b.String() + name + " check passed\n"
		}
		rq.w.Header().Set("X-Content-Type-Options", "nosniff")
		rq.writeBody(http.StatusOK, "text/plain; charset=utf-8", []byte(text))
		return nil
	}
}

// probe looks at one thing for the page with this name.
func (s *Server) probe(rq *request, page string, c Check) error {
	err := c.Probe(rq.Context())
	s.metrics.checked(page, c.Name, err)
	return err
}

// reasonFor keeps what went wrong from those who sent no credentials.
func reasonFor(rq *request, err error) string {
	if rq.user == nil || rq.user.InGroup(auth.UnauthenticatedGroup) {
		return "reason withheld"
	}
	return err.Error()
}

// oneCheckPage runs one check, named by the rest of the path.
func (s *Server) oneCheckPage(page string, checks []Check) page {
	return func(rq *request) error {
		name := strings.TrimPrefix(rq.URL.Path, "/"+page+"/")
		for _, c := range checks {
			if c.Name != name {
				continue
			}
			if err := s.probe(rq, page, c); err != nil {
				return plainError{http.StatusInternalServerError, "internal server error: " + reasonFor(rq, err)}
			}
			rq.writeBody(http.StatusOK, "text/plain; charset=utf-8", []byte("ok"))
			return nil
		}
		return errNoPage()
	}
}
