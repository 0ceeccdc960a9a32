package apiserver

import (
	"time"

	"canopus/internal/auth"
)

// AuditEvent says who did what, and with which answer. It holds nothing of bodies, headers or credentials.
type AuditEvent struct {
	ID           string
	User         *auth.User // who the request acted as; nil if authentication failed
	Impersonator *auth.User // who sent it, if that was somebody else
	Verb         string
	Path         string
	Attributes   *auth.Attributes // of resource requests
	Peer         string
	UserAgent    string
	Began        time.Time
	Took         time.Duration
	Code         int
}

// audit arranges for an event when the request ends.
func (s *Server) audit(rq *request) error {
	if s.cfg.Audit == nil {
		return nil
	}
	rq.ends = append(rq.ends, func() {
		s.cfg.Audit(&AuditEvent{
			ID: rq.id, User: rq.user, Impersonator: rq.from, Verb: rq.route.verb, Path: rq.URL.Path,
			Attributes: rq.attributes(), Peer: rq.RemoteAddr, UserAgent: rq.UserAgent(),
			Began: rq.began, Took: s.clock.Since(rq.began), Code: rq.w.code,
		})
	})
	return nil
}
