package client

import (
	"context"
	"errors"
	"fmt"

	"canopus/internal/auth"
	"canopus/internal/kinds"
	"canopus/internal/store"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/metadata"
)

// localMetadata is a metadata client whose watches of stored kinds show the metadata of the store's own objects: the garbage
// collector watches everything, and would otherwise have every change encoded and decoded once more. All else goes to the API
// server's handler.
type localMetadata struct {
	metadata.Interface
	local *Local
	user  *auth.User
}

// Resource implements metadata.Interface.
func (m *localMetadata) Resource(r schema.GroupVersionResource) metadata.Getter {
	getter := m.Interface.Resource(r)
	return &metadataOf{ResourceInterface: getter, all: getter, client: m, resource: r}
}

// metadataOf is localMetadata of one resource, in one namespace unless that is empty.
type metadataOf struct {
	metadata.ResourceInterface
	all       metadata.Getter
	client    *localMetadata
	resource  schema.GroupVersionResource
	namespace string
}

// Namespace implements metadata.Getter.
func (m *metadataOf) Namespace(namespace string) metadata.ResourceInterface {
	return &metadataOf{ResourceInterface: m.all.Namespace(namespace), all: m.all, client: m.client, resource: m.resource, namespace: namespace}
}

// Watch implements metadata.ResourceInterface.
func (m *metadataOf) Watch(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
	resource := m.client.local.Named(m.resource.GroupResource())
	if resource == nil {
		return m.ResourceInterface.Watch(ctx, o)
	}
	options, err := watchOptionsOf(o)
	if err != nil {
		return nil, err
	}
	options.Namespace = m.namespace
	if err := m.allowed(ctx, options.Selector); err != nil {
		return nil, err
	}
	return watchStore(ctx, resource, options, shape{
		of: metadataOfEntry, empty: func() runtime.Object { return &metav1.PartialObjectMetadata{} },
	})
}

// allowed asks what the API server's pipeline would ask.
func (m *metadataOf) allowed(ctx context.Context, s store.Selector) error {
	at := &auth.Attributes{
		User: m.client.user, Verb: "watch", IsResource: true,
		Group: m.resource.Group, Version: m.resource.Version, Resource: m.resource.Resource, Namespace: m.namespace,
	}
	if s.Fields != nil {
		at.Fields = s.Fields.Requirements()
	}
	if s.Labels != nil {
		at.Labels, _ = s.Labels.Requirements()
	}
	decision, reason, err := m.client.local.Authorizer.Authorize(ctx, at)
	if err != nil {
		return apierrors.NewInternalError(fmt.Errorf("authorize a watch of %s: %w", m.resource.GroupResource(), err))
	}
	if decision != auth.Allow {
		if reason == "" {
			reason = fmt.Sprintf("User %q cannot watch resource %q in API group %q", m.client.user.Name, m.resource.Resource, m.resource.Group)
		}
		return apierrors.NewForbidden(m.resource.GroupResource(), "", errors.New(reason))
	}
	return nil
}

func metadataOfEntry(e *store.Entry) (runtime.Object, error) {
	object, err := e.Object()
	if err != nil {
		return nil, err
	}
	o, ok := object.(metav1.Object)
	if !ok {
		return nil, fmt.Errorf("a %T has no metadata", object)
	}
	return kinds.Metadata(o), nil
}
