// Package token issues and checks ServiceAccount tokens: signed JWTs with upstream's claims, bound to an account and
// optionally to a pod, secret or node. It knows nothing of HTTP; auth/authn takes tokens out of requests.
//
// Read keys.go (what signs and what is trusted), issue.go (TokenRequest), verify.go (a token becomes a user) and
// discovery.go (what others need to check our tokens).
package token

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/go-jose/go-jose/v4/jwt"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/clock"
)

// DefaultIssuer is the issuer of a cluster with the domain cluster.local.
const DefaultIssuer = "https://kubernetes.default.svc.cluster.local"

// Names of what the authenticator tells of a token's bindings, as User.Extra keys.
const (
	PodNameKey      = "authentication.kubernetes.io/pod-name"
	PodUIDKey       = "authentication.kubernetes.io/pod-uid"
	NodeNameKey     = "authentication.kubernetes.io/node-name"
	NodeUIDKey      = "authentication.kubernetes.io/node-uid"
	CredentialIDKey = "authentication.kubernetes.io/credential-id"
)

// Object is what binding needs to know of an object. UID and DeletionTimestamp are used.
type Object = metav1.Object

// Objects looks up what tokens are bound to. A missing object is an apierrors.IsNotFound error. fresh asks for a state that
// includes every write acknowledged before the call; otherwise a cache may answer.
type Objects interface {
	ServiceAccount(ctx context.Context, namespace, name string, fresh bool) (Object, error)
	Pod(ctx context.Context, namespace, name string, fresh bool) (PodObject, error)
	Secret(ctx context.Context, namespace, name string, fresh bool) (Object, error)
	Node(ctx context.Context, name string, fresh bool) (Object, error)
}

// PodObject is a pod as far as tokens care.
type PodObject struct {
	Object
	ServiceAccount string
	Node           string
}

// Config is what tokens are made from and checked against. Keys, Objects and Clock are required.
type Config struct {
	Issuer    string   // DefaultIssuer unless set
	Audiences []string // what the API server answers to; the issuer unless set
	Keys      *Keys
	Objects   Objects
	Clock     clock.PassiveClock
	// NoExtension turns off the year of extra life that pod tokens of 3607 seconds get (upstream's
	// --service-account-extend-token-expiration=false).
	NoExtension bool
}

// Authority issues and verifies the cluster's ServiceAccount tokens. Safe for concurrent use.
type Authority struct {
	issuer    string
	audiences []string
	keys      *Keys
	objects   Objects
	clock     clock.PassiveClock
	extend    bool
	verdicts  verdicts
}

// New checks c and makes an Authority.
func New(c Config) (*Authority, error) {
	if c.Keys == nil || c.Objects == nil || c.Clock == nil {
		return nil, errors.New("token authority: keys, objects and clock are required")
	}
	if c.Issuer == "" {
		c.Issuer = DefaultIssuer
	}
	if u, err := url.Parse(c.Issuer); err != nil || (u.Scheme != "" && u.Scheme != "https") {
		return nil, fmt.Errorf("service account issuer %q must be a https URL or a plain string", c.Issuer)
	}
	if len(c.Audiences) == 0 {
		c.Audiences = []string{c.Issuer}
	}
	return &Authority{
		issuer: c.Issuer, audiences: c.Audiences, keys: c.Keys, objects: c.Objects, clock: c.Clock,
		extend: !c.NoExtension, verdicts: verdicts{ttl: verdictTTL, limit: verdictLimit},
	}, nil
}

// Audiences are what the API server answers to.
func (a *Authority) Audiences() []string { return a.audiences }

// claims is the whole body of a token.
type claims struct {
	jwt.Claims
	// Audience hides the embedded one, which encodes a single audience as a string; clients of ours expect a list.
	Audience   []string `json:"aud,omitempty"`
	Kubernetes *private `json:"kubernetes.io,omitempty"`
}

// private is the claim "kubernetes.io": what the token is bound to.
type private struct {
	Namespace      string           `json:"namespace,omitempty"`
	Node           *ref             `json:"node,omitempty"`
	Pod            *ref             `json:"pod,omitempty"`
	Secret         *ref             `json:"secret,omitempty"`
	ServiceAccount ref              `json:"serviceaccount,omitempty"`
	WarnAfter      *jwt.NumericDate `json:"warnafter,omitempty"`
}

type ref struct {
	Name string `json:"name,omitempty"`
	UID  string `json:"uid,omitempty"`
}

const (
	verdictTTL   = 10 * time.Second
	verdictLimit = 8192
)
