// Package auth says who sends a request and what they may do: the types every check shares. Authenticators live in
// auth/authn, authorizers in auth/rbac and auth/node. It knows nothing of HTTP routing.
package auth

import (
	"context"
	"net/http"

	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
)

// User is an authenticated sender. Immutable once made: one value is shared by all requests of a connection.
type User struct {
	Name   string
	UID    string
	Groups []string
	Extra  map[string][]string
}

// Names that upstream gives special users and groups.
const (
	AnonymousUser        = "system:anonymous"
	APIServerUser        = "system:apiserver"
	AuthenticatedGroup   = "system:authenticated"
	UnauthenticatedGroup = "system:unauthenticated"
	MastersGroup         = "system:masters"
	NodesGroup           = "system:nodes"
	NodeUserPrefix       = "system:node:"
)

// InGroup says whether u is in the group.
func (u *User) InGroup(group string) bool {
	for _, g := range u.Groups {
		if g == group {
			return true
		}
	}
	return false
}

// Authenticator finds the sender of a request. It returns nil and no error when the request carries none of the credentials it
// knows, and an error (answered with 401) when it carries them and they are wrong.
type Authenticator interface {
	Authenticate(r *http.Request) (*User, error)
}

// Attributes is what an authorizer decides on.
type Attributes struct {
	User        *User
	Verb        string // get list watch create update patch delete deletecollection …, or the lower-case HTTP method for paths
	IsResource  bool   // false: Path alone counts
	Group       string
	Version     string
	Resource    string
	Subresource string
	Namespace   string
	Name        string
	Path        string
	// Fields and Labels are what a list, watch or deletecollection is restricted to; nil when it is not, or not understood.
	Fields fields.Requirements
	Labels labels.Requirements
}

// Decision is an authorizer's verdict.
type Decision int

// NoOpinion leaves the decision to the next authorizer; a request that nobody allows is refused.
const (
	NoOpinion Decision = iota
	Allow
	Deny
)

// Authorizer decides whether a request may pass. The reason is shown to the client.
type Authorizer interface {
	Authorize(ctx context.Context, a *Attributes) (Decision, string, error)
}
