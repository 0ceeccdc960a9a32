package apiserver

import (
	"context"

	"canopus/internal/admission"
	"canopus/internal/store"
)

// Quota charges a write to what its namespace may use. It is asked last of all: after it only the transaction can fail.
type Quota interface {
	// Charge returns changes to be committed with the write, or not at all, or refuses it. release is called when the write is
	// over, however it ended; it is never nil.
	Charge(ctx context.Context, r *admission.Request) (changes []store.Change, release func(), err error)
}

func (s *Server) charge(ctx context.Context, r *admission.Request) ([]store.Change, func(), error) {
	if s.cfg.Quota == nil {
		return nil, func() {}, nil
	}
	return s.cfg.Quota.Charge(ctx, r)
}
