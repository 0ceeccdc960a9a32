package controllers

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
)

// eventSink writes events until ctx ends; later ones are dropped. client-go's own sink would go on writing, and failing,
// after the server of this process is gone.
type eventSink struct {
	ctx    context.Context //nolint:containedctx // record.EventSink has no context parameter
	client typedcorev1.EventsGetter
}

// Create implements record.EventSink.
func (s eventSink) Create(e *corev1.Event) (*corev1.Event, error) {
	out, err := s.client.Events(e.Namespace).CreateWithEventNamespaceWithContext(s.ctx, e)
	return s.unlessEnded(e, out, err)
}

// Update implements record.EventSink.
func (s eventSink) Update(e *corev1.Event) (*corev1.Event, error) {
	out, err := s.client.Events(e.Namespace).UpdateWithEventNamespaceWithContext(s.ctx, e)
	return s.unlessEnded(e, out, err)
}

// Patch implements record.EventSink.
func (s eventSink) Patch(e *corev1.Event, patch []byte) (*corev1.Event, error) {
	out, err := s.client.Events(e.Namespace).PatchWithEventNamespaceWithContext(s.ctx, e, patch)
	return s.unlessEnded(e, out, err)
}

func (s eventSink) unlessEnded(e, out *corev1.Event, err error) (*corev1.Event, error) {
	if err != nil && s.ctx.Err() != nil {
		return e, nil
	}
	return out, err
}
