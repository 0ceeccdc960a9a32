// Package admission changes or refuses writes on their way in. Each plugin is a package or file of its own; Chain runs them in
// upstream's order. A plugin reads other objects through listers handed to it, never through the API server's insides.
package admission

import (
	"cmp"
	"context"

	"canopus/internal/auth"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Operation is what a request does to an object.
type Operation string

// The operations admission sees, named as in admission.k8s.io/v1.
const (
	Create  Operation = "CREATE"
	Update  Operation = "UPDATE"
	Delete  Operation = "DELETE"
	Connect Operation = "CONNECT"
)

// Request is one write, in the hub version of its kind. A Mutator may change Object; nobody else changes anything.
type Request struct {
	Operation   Operation
	Kind        schema.GroupVersionKind
	Resource    schema.GroupVersionResource
	Subresource string
	Namespace   string
	Name        string
	Object      runtime.Object // nil for Delete
	Old         runtime.Object // nil for Create and Connect; shared, never changed
	Options     runtime.Object // CreateOptions, UpdateOptions, DeleteOptions or the connect options
	DryRun      bool
	User        *auth.User
	Warn        func(text string) // adds a Warning header; never nil
}

// Called is the object's name for messages: before the server completes a name, the beginning of it.
func (r *Request) Called() string {
	if r.Name != "" || r.Object == nil {
		return r.Name
	}
	o, err := meta.Accessor(r.Object)
	if err != nil {
		return ""
	}
	return cmp.Or(o.GetName(), o.GetGenerateName())
}

// Mutator changes objects. Its error, an *apierrors.StatusError as a rule, refuses the write.
type Mutator interface {
	Admit(ctx context.Context, r *Request) error
}

// Validator refuses objects. It runs after all mutators and after validation.
type Validator interface {
	Validate(ctx context.Context, r *Request) error
}

// Plugin is a Mutator, a Validator, or both.
type Plugin interface {
	Name() string // upstream's name: "NamespaceLifecycle"
	Handles(r *Request) bool
}
